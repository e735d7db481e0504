//! The node: its shards, the disks under them, and how it dies and comes back.

use std::net::SocketAddr;

use quantum::{EndpointLimits, Now};
use shard::{Command, Shard, ShardConfig};
use statesync::{Placement, StateSync};
use wal::memory::HeapBuffer;
use wal::{Body, LogWriter, Open, RecoverError, Recovered};
use wire::sync::DocumentKind;
use wire::{Ecn, Header, Span, TicketKeyRing, Time};

use super::driver::Host;
use super::lanes::Lanes;
use super::oracle::Logged;
use super::plan::{How, Plan};
use super::{Task, World, unix_ms};
use crate::disk::{Disk, DiskError};
use crate::draw::Draw;
use crate::invariants::{Check, Invariant};
use netem::Random;

/// How long a start without a fault takes at most, microseconds.
const START_US_MAX: u64 = 5_000;
/// Calls of a disk within a recovery at most, of those in which it is killed or fails.
const RECOVERY_CALLS: u64 = 8;

pub(super) struct Node {
    pub(super) disks: Vec<Disk>,
    /// None: it is down.
    pub(super) shards: Option<Vec<Host>>,
    pub(super) lanes: Lanes,
    ticket_key: [u8; 32],
    reset_key: [u8; 32],
    /// Starts so far: what was planned for an earlier life is void.
    pub(super) life: u64,
    /// A kill waits for the next write.
    pub(super) is_kill_armed: bool,
    pub(super) is_draining: bool,
    pub(super) kills_in_recovery: u64,
    /// How long it stays down after the next crash.
    down: Span,
}

/// Why a node does not start.
enum StartError {
    Disk(DiskError),
    /// The log is not to be trusted.
    Refused(String),
}

impl Node {
    pub(super) fn new(plan: &Plan, random: &mut Random) -> Self {
        let disk = |shard: usize| Disk::new(plan.faults, Random::stream(plan.seed, 2_000 + shard as u64));
        Self {
            disks: (0..plan.shards).map(disk).collect(),
            shards: None,
            lanes: Lanes::new(plan.shards, random),
            ticket_key: random.bytes32(),
            reset_key: random.bytes32(),
            life: 0,
            is_kill_armed: false,
            is_draining: false,
            kills_in_recovery: 0,
            down: Span::from_ms(1),
        }
    }

    pub(super) fn keys(&self) -> TicketKeyRing {
        TicketKeyRing::new([(1, self.ticket_key)])
    }

    /// The next instant at which something of it is due.
    pub(super) fn wake(&self) -> Option<Time> {
        let hosts = self.shards.iter().flatten();
        hosts.filter_map(Host::wake).chain(self.lanes.wake()).min()
    }

    /// Whether all its shards serve.
    pub(super) fn is_serving(&self) -> bool {
        self.shards.as_ref().is_some_and(|hosts| hosts.iter().all(|host| host.is_open)) && !self.is_draining
    }
}

impl World {
    /// The node is started over what its disks hold.
    pub(super) fn start_node(&mut self) -> Check {
        if self.node.shards.is_some() {
            return Ok(());
        }
        let mut hosts = Vec::new();
        let mut places = vec![Vec::new(); self.plan.documents.len()];
        for number in 0..self.plan.shards {
            self.draw_interruption(number);
            match self.recover_shard(number, &mut places) {
                Ok(shard) => hosts.push(Host::new(shard)),
                Err(StartError::Refused(reason)) => return self.judge_refusal(number, &reason),
                Err(StartError::Disk(error)) => {
                    self.say_node(|| format!("does not start: disk of shard {number}: {error}"));
                    let is_kill = error == DiskError::Killed;
                    self.crash_disks(is_kill);
                    return Ok(());
                }
            }
        }
        self.oracle.on_recovered(&places)?;
        for number in 0..self.plan.shards {
            self.node.disks[number].end_recovery();
        }
        let ops: usize = places.iter().map(Vec::len).sum();
        self.starts += 1;
        self.digest.word(ops as u64);
        self.say_node(|| format!("starts, with {ops} ops in the log"));
        self.node.life += 1;
        self.node.is_draining = false;
        self.node.shards = Some(hosts);
        let after = Span::from_us(self.random.scaled_between(50, START_US_MAX));
        self.agenda.add(self.now + after, Task::Instruct { life: self.node.life });
        Ok(())
    }

    fn draw_interruption(&mut self, number: usize) {
        let calls = self.random.below(RECOVERY_CALLS);
        let kill = self.node.kills_in_recovery > 0 && self.random.percent(70);
        self.node.kills_in_recovery -= u64::from(kill);
        self.node.disks[number].begin_recovery(kill.then_some(calls));
    }

    /// Reads a shard's log back and makes the shard; notes the ops of each document.
    fn recover_shard(
        &mut self,
        number: usize,
        places: &mut [Vec<Logged>],
    ) -> Result<Shard<HeapBuffer>, StartError> {
        let Self { plan, node, oracle, .. } = self;
        let placement = Placement::single_node(number as u32, plan.shards as u32, plan.partitions);
        let mut sync = StateSync::new(plan.sync.clone(), placement, 0);
        let mut refused = None;
        let recovered = wal::recover(&mut node.disks[number], &plan.log, |record| {
            let Body::Op(op) = record.body else { return };
            let kind = DocumentKind::from_u8(op.kind).expect("the log is ours");
            if let Err(error) = sync.handle_recovered(op.document, kind, op.sequence, op.id, op.payload) {
                refused.get_or_insert_with(|| error.to_string());
            }
            if let Some(document) = plan.documents.iter().position(|known| known.name == op.document) {
                let content = oracle.recognise(document, op.payload).ok();
                places[document].push(Logged { sequence: op.sequence, op: op.id, content });
            }
        });
        let recovered = recovered.map_err(|error| match error {
            RecoverError::Log(error) => StartError::Refused(error.to_string()),
            RecoverError::Storage(error) => StartError::Disk(error),
        })?;
        if let Some(reason) = refused {
            return Err(StartError::Refused(reason));
        }
        if let Some(repair) = &recovered.repair {
            let range = repair.range.clone();
            self.say_node(|| format!("cuts a torn write of shard {number}: bytes {range:?}"));
        }
        sync.finish_recovery(recovered.position.incarnation + 1);
        Ok(self.make_shard(number, sync, &recovered))
    }

    fn make_shard(&mut self, number: usize, sync: StateSync, recovered: &Recovered) -> Shard<HeapBuffer> {
        let position = recovered.position;
        let mut log = LogWriter::recovered(self.plan.log.clone(), recovered, HeapBuffer::new)
            .expect("a drawn configuration is valid");
        let open = Open { incarnation: position.incarnation + 1, unix_ms: unix_ms(self.now) };
        log.append_open(open).expect("the log is empty");
        let config = ShardConfig {
            shard: number as u32,
            shards: self.plan.shards as u32,
            transport: self.plan.transport.clone(),
            limits: EndpointLimits::default(),
            sync: self.plan.sync.clone(),
            commit_delay_max: self.plan.commit_delay_max,
            entropy: Random::stream(self.random.next_u64(), number as u64).bytes32(),
            reset_key: self.node.reset_key,
            address: String::new(),
            start_unix_ms: unix_ms(self.now),
        };
        Shard::new(config, sync, log)
    }

    /// A start was refused: right if the disk has damaged what it had promised to keep.
    fn judge_refusal(&mut self, number: usize, reason: &str) -> Check {
        if !self.node.disks[number].is_damaged() {
            let seen = format!("shard {number} refuses a log that is as it should be: {reason}");
            return Err((Invariant::TrustedLog, seen));
        }
        self.refusals += 1;
        self.say_node(|| format!("refuses, and rightly so, the log of shard {number}: {reason}"));
        self.node.disks.iter_mut().for_each(Disk::restore);
        self.say_node(|| "gets a good copy of its data directory".to_owned());
        self.crash_disks(false);
        Ok(())
    }

    /// The agent tells the shards what they need to serve.
    pub(super) fn instruct(&mut self, life: u64) {
        if life != self.node.life || self.node.is_draining {
            return;
        }
        let now = self.node_now();
        let (shards, partitions) = (self.plan.shards as u32, self.plan.partitions);
        let key = self.node.ticket_key;
        for (number, host) in self.node.shards.iter_mut().flatten().enumerate() {
            let placement = Placement::single_node(number as u32, shards, partitions);
            host.shard.handle_command(now, Command::TicketKeys(vec![(1, key)]));
            host.shard.handle_command(now, Command::Placement(placement));
            host.is_touched = true;
        }
    }

    /// Something brings the node down.
    pub(super) fn stop(&mut self, how: How, down: Span, kills_in_recovery: u64) {
        if self.node.shards.is_none() {
            return;
        }
        self.node.down = down;
        self.node.kills_in_recovery = kills_in_recovery;
        match how {
            How::Kill => self.kill("is killed"),
            How::KillInWrite => self.node.is_kill_armed = true,
            How::Drain => {
                self.say_node(|| "is asked to go".to_owned());
                self.node.is_draining = true;
                let now = self.node_now();
                for host in self.node.shards.iter_mut().flatten() {
                    host.shard.handle_command(now, Command::Drain);
                    host.is_touched = true;
                }
            }
        }
    }

    /// The process is gone at once.
    pub(super) fn kill(&mut self, why: &str) {
        if self.node.shards.take().is_none() {
            return;
        }
        self.node.life += 1;
        self.say_node(|| why.to_owned());
        self.crash_disks(true);
    }

    /// The disks keep what they keep, and the node is started again a while later.
    pub(super) fn crash_disks(&mut self, is_kill: bool) {
        self.crashes += u64::from(is_kill);
        self.node.is_kill_armed = false;
        self.node.lanes.clear();
        for number in 0..self.node.disks.len() {
            let report = self.node.disks[number].crash();
            self.torn += u64::from(report.is_torn());
            self.digest.word((report.sectors << 32 | report.kept) as u64);
            if report.sectors > 0 {
                self.trace.say(self.now, &format!("disk {number}"), || {
                    format!("keeps {} of {} sectors under way", report.kept, report.sectors)
                });
            }
            if let Some((segment, at)) = self.node.disks[number].rot() {
                let what = || format!("changes bits in the sector at {at} of segment {segment}");
                self.trace.say(self.now, &format!("disk {number}"), what);
            }
        }
        self.agenda.add(self.now + self.node.down, Task::Start);
    }

    /// A datagram reaches the node: the shard that its connection id names.
    pub(super) fn reach_node(&mut self, from: SocketAddr, ecn: Ecn, bytes: &mut [u8]) {
        let now = self.node_now();
        let Some(hosts) = &mut self.node.shards else { return };
        let named = Header::parse(bytes).map_or(0, |(header, _)| usize::from(header.connection.shard()));
        let host = &mut hosts[named % self.plan.shards];
        if host.is_open {
            host.shard.handle_datagram(now, from, ecn, bytes);
            host.is_touched = true;
        }
    }

    pub(super) fn node_now(&self) -> Now {
        Now { mono: self.now, unix_ms: unix_ms(self.now) }
    }

    pub(super) fn say_node(&mut self, what: impl FnOnce() -> String) {
        self.trace.say(self.now, "node", what);
    }
}
