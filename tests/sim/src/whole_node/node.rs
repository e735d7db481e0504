//! The node: its shards, the disks under them, and how it dies and comes back.

use std::net::SocketAddr;

use quantum::{EndpointLimits, Now};
use shard::{Command, Shard, ShardConfig};
use statesync::{DocumentStore, Placement, RecoveredOp, RecoveryError, StateSync, StoreError};
use wal::memory::HeapBuffer;
use wal::{Body, LogWriter, Open, RecoverError, Recovered};
use wire::sync::DocumentKind;
use wire::{Ecn, Header, Span, TicketKeyRing, Time, partition_of};

use super::counts::NodeCounts;
use super::driver::Host;
use super::lanes::Lanes;
use super::mutation::Mutation;
use super::oracle::{Logged, Place};
use super::plan::{How, Plan, Point};
use super::storage::StorageThread;
use super::store::Store;
use super::{Task, World, unix_ms, yjs};
use crate::disk::{Disk, DiskError};
use crate::draw::Draw;
use crate::invariants::{Check, Invariant};
use netem::Random;

/// How long a start without a fault takes, microseconds.
const START_US_MIN: u64 = 50;
const START_US_MAX: u64 = 5_000;
/// Calls of a disk within a recovery at most, of those in which it is killed or fails.
const RECOVERY_CALLS: u64 = 8;

pub(super) struct Node {
    pub(super) disks: Vec<Disk>,
    /// While the node is down; its storage threads have them while it is up.
    stores: Vec<Option<Store>>,
    /// None: it is down.
    pub(super) shards: Option<Vec<Host>>,
    pub(super) lanes: Lanes,
    ticket_key: [u8; 32],
    reset_key: [u8; 32],
    /// Starts so far: what was planned for an earlier life is void.
    pub(super) life: u64,
    /// A kill waits for this.
    pub(super) armed: Option<Point>,
    pub(super) is_draining: bool,
    pub(super) kills_in_recovery: u64,
    /// How long it stays down after the next crash.
    down: Span,
}

/// Why a node does not start.
enum StartError {
    Disk(DiskError),
    Store(StoreError),
    /// The log is not to be trusted.
    Refused(String),
    Violation((Invariant, String)),
}

impl Node {
    pub(super) fn new(plan: &Plan, random: &mut Random) -> Self {
        let disk = |shard: usize| Disk::new(plan.faults, Random::stream(plan.seed, 2_000 + shard as u64));
        let store = |shard: usize| {
            Some(Store::new(plan.store_faults, Random::stream(plan.seed, 2_500 + shard as u64)))
        };
        Self {
            stores: (0..plan.shards).map(store).collect(),
            disks: (0..plan.shards).map(disk).collect(),
            shards: None,
            lanes: Lanes::new(plan.shards, random),
            ticket_key: random.bytes32(),
            reset_key: random.bytes32(),
            life: 0,
            armed: None,
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

    /// What the disks and stores have counted.
    pub(super) fn count(&self, counts: &mut NodeCounts) {
        for disk in &self.disks {
            let seen = disk.counts();
            counts.log_writes_stalled += seen.stalls;
            counts.log_writes_failed += seen.io_errors;
            counts.log_writes_misdirected += seen.misdirected;
            counts.log_writes_lost += seen.lost;
            counts.bit_flips += seen.rot;
            counts.log_reads_failed += seen.read_errors;
            counts.no_space += seen.no_space;
        }
        let hosts = self.shards.iter().flatten();
        for host in hosts {
            counts.add_shard(&host.shard.status());
            host.storage.peek_store().count(counts);
        }
        self.stores.iter().flatten().for_each(|store| store.count(counts));
    }

    /// The stores have no defects any more; says whether any was damaged.
    pub(super) fn heal_stores(&mut self) -> bool {
        let down = self.stores.iter_mut().flatten();
        let up = self.shards.iter_mut().flatten().map(|host| host.storage.store());
        down.chain(up).fold(false, |any, store| store.heal() | any)
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
        let is_first = self.node.life == 0;
        for store in self.node.stores.iter_mut().flatten() {
            store.hides_tombstones = self.mutation == Mutation::TombstonesUnread && !is_first;
        }
        let mut shards = Vec::new();
        let mut places = self.stored_ops()?;
        for number in 0..self.plan.shards {
            self.draw_interruption(number);
            match self.recover_shard(number, &mut places) {
                Ok(shard) => shards.push(shard),
                Err(StartError::Violation(violation)) => return Err(violation),
                Err(StartError::Refused(reason)) => return self.judge_refusal(number, &reason),
                Err(StartError::Disk(error)) => {
                    self.say_node(|| format!("does not start: disk of shard {number}: {error}"));
                    let is_kill = error == DiskError::Killed;
                    self.counts.crashes += u64::from(is_kill);
                    self.counts.crashes_in_recovery += u64::from(is_kill);
                    self.crash_disks();
                    return Ok(());
                }
                Err(StartError::Store(error)) => {
                    self.say_node(|| format!("does not start: store of shard {number}: {error}"));
                    self.crash_disks();
                    return Ok(());
                }
            }
        }
        self.oracle.on_recovered(&places)?;
        for number in 0..self.plan.shards {
            self.node.disks[number].end_recovery();
        }
        let ops: usize = places.iter().map(|place| place.ops.len()).sum();
        self.counts.starts += 1;
        self.digest.word(ops as u64);
        self.say_node(|| format!("starts, with {ops} ops in log and store"));
        self.node.life += 1;
        self.node.is_draining = false;
        let stores = self.node.stores.iter_mut().map(|store| store.take().expect("the node is down"));
        let threads = stores.map(|store| StorageThread::new(store, self.plan.worker));
        let hosts = shards.into_iter().zip(threads).map(|(shard, thread)| Host::new(shard, thread));
        self.node.shards = Some(hosts.collect());
        let start_us_max = if self.plan.is_storm { START_US_MIN } else { START_US_MAX };
        let after = Span::from_us(self.random.scaled_between(START_US_MIN, start_us_max));
        self.agenda.add(self.now + after, Task::Instruct { life: self.node.life });
        Ok(())
    }

    fn draw_interruption(&mut self, number: usize) {
        let calls = self.random.below(RECOVERY_CALLS);
        let kill = self.node.kills_in_recovery > 0 && self.random.percent(70);
        self.node.kills_in_recovery -= u64::from(kill);
        self.node.disks[number].begin_recovery(kill.then_some(calls));
    }

    /// Reads a shard's log back and makes the shard; notes the ops of each document that its store has not.
    fn recover_shard(
        &mut self,
        number: usize,
        places: &mut [Place],
    ) -> Result<Shard<HeapBuffer>, StartError> {
        let Self { plan, node, oracle, mutation, .. } = self;
        let placement = Placement::single_node(number as u32, plan.shards as u32, plan.partitions);
        let mut sync = StateSync::new(plan.sync.clone(), placement, 0);
        let store = node.stores[number].as_mut().expect("the node is down");
        let mut refused = None;
        let mut violation = None;
        let recovered = wal::recover(&mut node.disks[number], &plan.log, |record| {
            let (op, is_deletion) = match record.body {
                Body::Op(op) => (op, false),
                Body::Delete(delete) => (delete.as_op(), true),
                Body::Open(_) | Body::Segment(_) | Body::Trim(_) => return,
            };
            if let Some(document) = plan.documents.iter().position(|known| known.name == op.document) {
                let content = oracle.recognise(document, op.payload).ok();
                let logged = Logged { sequence: op.sequence, op: op.id, content };
                let place = &mut places[document];
                place.is_deleted |= is_deletion;
                if !place.is_deleted {
                    violation = violation.take().or_else(|| note(op.document, &mut place.ops, logged).err());
                }
            }
            if is_deletion && *mutation == Mutation::DeletionsUnread {
                return;
            }
            let op = RecoveredOp {
                document: op.document,
                kind: DocumentKind::from_u8(op.kind).expect("the log is ours"),
                sequence: op.sequence,
                op_id: op.id,
                lsn: record.lsn,
                unix_ms: op.unix_ms,
                payload: op.payload,
                is_deletion,
            };
            if refused.is_none() {
                refused = sync.handle_recovered(&op, &mut |document| store.head(document)).err();
            }
        });
        let recovered = recovered.map_err(|error| match error {
            RecoverError::Log(error) => StartError::Refused(error.to_string()),
            RecoverError::Storage(error) => StartError::Disk(error),
        })?;
        match refused {
            Some(RecoveryError::Store(error)) => return Err(StartError::Store(error)),
            Some(reason) => return Err(StartError::Refused(reason.to_string())),
            None => {}
        }
        if let Some(violation) = violation {
            return Err(StartError::Violation(violation));
        }
        if let Some(repair) = &recovered.repair {
            let range = repair.range.clone();
            self.say_node(|| format!("cuts a torn write of shard {number}: bytes {range:?}"));
        }
        sync.finish_recovery(recovered.position.incarnation + 1, recovered.position.lsn)
            .map_err(|error| StartError::Refused(error.to_string()))?;
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
        self.counts.starts_refused += 1;
        self.say_node(|| format!("refuses, and rightly so, the log of shard {number}: {reason}"));
        self.node.disks.iter_mut().for_each(Disk::restore);
        self.say_node(|| "gets a good copy of its data directory".to_owned());
        self.crash_disks();
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

    /// The ops that are stored, by document. What is merged must hold them all.
    fn stored_ops(&mut self) -> Result<Vec<Place>, (Invariant, String)> {
        let Self { plan, node, oracle, .. } = self;
        let mut places = vec![Place::default(); plan.documents.len()];
        for (document, known) in plan.documents.iter().enumerate() {
            let owner = partition_of(&known.name, plan.partitions) as usize % plan.shards;
            let store = node.stores[owner].as_mut().expect("the node is down");
            let (Some(head), history, versions) = store.look(&known.name) else { continue };
            let place = &mut places[document];
            place.is_deleted = head.tombstone.is_some();
            if place.is_deleted {
                continue;
            }
            place.versions = versions;
            let ops = history.iter().map(|op| Logged {
                sequence: op.sequence,
                op: op.op_id,
                content: oracle.recognise(document, &op.payload).ok(),
            });
            place.ops = ops.collect();
            let wrong = |what: &str| {
                let sequence = head.sequence;
                (Invariant::StoredWhole, format!("{} is stored up to op {sequence}: {what}", known.name))
            };
            if history.len() as u64 != head.sequence {
                return Err(wrong(&format!("{} ops are in its history", history.len())));
            }
            if known.kind == DocumentKind::Yjs {
                if head.quarantined || head.base.sequence != head.sequence {
                    return Err(wrong("it is not merged"));
                }
                let merged = yjs::letters_of(&head.base.state).unwrap_or_default();
                let mut letters = place.ops.iter().filter_map(|op| oracle.content(op.content?).letters);
                if let Some(lost) = letters.find(|letters| !letters.is_in(&merged)) {
                    return Err(wrong(&format!("{lost:?} is not in the merged state")));
                }
            }
        }
        Ok(places)
    }

    /// What is stored of documents may be damaged after a crash.
    fn rot_stores(&mut self) {
        for (number, store) in self.node.stores.iter_mut().enumerate() {
            let Some(document) = store.as_mut().and_then(Store::rot) else { continue };
            self.counts.heads_damaged += 1;
            self.oracle.on_damaged(&document);
            let what = || format!("has a damaged head of {document}");
            self.trace.say(self.now, &format!("store {number}"), what);
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
            How::KillAt(point) => self.node.armed = Some(point),
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
        if self.node.shards.is_none() {
            return;
        }
        self.counts.crashes += 1;
        let hosts = self.node.shards.iter().flatten();
        self.counts.crashes_in_write += u64::from(hosts.into_iter().any(|host| host.in_flight.is_some()));
        self.take_down(StorageThread::into_store);
        self.say_node(|| why.to_owned());
        self.crash_disks();
        if self.plan.is_storm {
            self.lose_connections();
        }
    }

    /// Kills the node if that was to happen at this point; says whether it was.
    pub(super) fn kill_at(&mut self, point: Point) -> bool {
        let is_armed = self.node.armed == Some(point);
        if is_armed {
            self.kill_for(point);
        }
        is_armed
    }

    /// Kills the node at a point that was waited for.
    pub(super) fn kill_for(&mut self, point: Point) {
        let counts = &mut self.counts;
        let (counter, why) = match point {
            Point::Write | Point::LargeWrite => return self.kill("is killed in the middle of a write"),
            Point::Durable => (&mut counts.crashes_after_durable, "is killed behind a write"),
            Point::Stored => (&mut counts.crashes_after_snapshot, "is killed behind a snapshot"),
            Point::Trimmed => (&mut counts.crashes_after_trim, "is killed before a segment is removed"),
            Point::Removed => {
                (&mut counts.crashes_after_removal, "is killed behind the removal of a segment")
            }
        };
        *counter += 1;
        self.kill(why);
    }

    /// The processes of the shards are gone; their stores stay.
    pub(super) fn take_down(&mut self, end: impl Fn(StorageThread) -> Store) {
        self.node.life += 1;
        for (number, host) in self.node.shards.take().into_iter().flatten().enumerate() {
            self.counts.add_shard(&host.shard.status());
            self.node.stores[number] = Some(end(host.storage));
        }
    }

    /// The disks keep what they keep, and the node is started again a while later.
    pub(super) fn crash_disks(&mut self) {
        self.node.armed = None;
        self.node.lanes.clear();
        let mut is_torn = false;
        for number in 0..self.node.disks.len() {
            let report = self.node.disks[number].crash();
            is_torn |= report.is_torn();
            let counts = &mut self.counts;
            let torn =
                if report.unit_sectors == 1 { &mut counts.torn_at_512 } else { &mut counts.torn_at_4096 };
            *torn += u64::from(report.is_torn());
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
        self.counts.crashes_torn += u64::from(is_torn);
        self.rot_stores();
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

/// Notes an op of the log behind those that are stored.
fn note(name: &str, places: &mut Vec<Logged>, logged: Logged) -> Check {
    match places.get(logged.sequence as usize - 1) {
        Some(stored) if *stored != logged => {
            let seen = format!("{name}: the log has {logged:?}, and the store {stored:?}");
            Err((Invariant::OrderedWhole, seen))
        }
        Some(_) => Ok(()),
        None => {
            places.push(logged);
            Ok(())
        }
    }
}
