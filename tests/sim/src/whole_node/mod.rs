//! Worlds of a whole node: shards with their documents and logs, clients over bad networks, disks that lose, tear and
//! damage what is written, crashes at any moment and restarts over what is left.
//!
//! An [`Oracle`](oracle::Oracle) knows what everybody has said, was shown and was promised, and is asked whenever
//! something could contradict it. Faults end at a moment drawn from the seed; then everybody must come to agree, and
//! the node is killed once more, to see that its logs say the same.

mod client;
mod counts;
mod driver;
mod lanes;
mod link;
mod messages;
mod mutation;
mod node;
mod oracle;
mod plan;
mod pump;
mod requests;
mod session;
mod settle;
mod storage;
mod store;
mod yjs;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use netem::{Direction, Mapping, Path, PathDelivery, Random};
use wire::{Ecn, Span, Time};

use self::client::Client;
pub use self::counts::NodeCounts;
use self::link::{Inbox, Link};
pub use self::mutation::Mutation;
use self::node::Node;
use self::oracle::Oracle;
use self::plan::{How, Plan, Point};
use crate::agenda::Agenda;
use crate::datagram::Datagram;
use crate::digest::Digest;
use crate::invariants::{Check, Invariant, Violation};
use crate::life::{Life, Outcome};
use crate::scenario::network;
use crate::trace::{Line, Trace};

/// Unix time at the start of every world, milliseconds.
const UNIX_MS: u64 = 1_700_000_000_000;
/// How often it is asked whether all agree, once the faults are over.
const SETTLE_INTERVAL: Span = Span::from_ms(50);
/// How often what the node holds is compared with its limits.
const INSPECTION_INTERVAL: Span = Span::from_ms(100);
/// The longest datagram.
const BUFFER_BYTES: usize = 1_500;
/// Clients' networks, and their first ports; each connection has the next.
const CLIENTS_NET: u8 = 10;
const PORT_BASE: u16 = 1_024;

/// What is to be done. What names a client's generation, or a node's life, is void in another one.
#[derive(Clone, Copy, Debug)]
enum Task {
    Begin { client: usize },
    Die { client: usize, returns: bool },
    Deaf { client: usize, is_deaf: bool },
    Edit { client: usize, generation: u64, part: usize, done: u32 },
    Announce { client: usize, generation: u64, part: usize },
    Ask { client: usize, generation: u64, part: usize, is_end: bool },
    Leave { client: usize, generation: u64, part: usize },
    Start,
    Instruct { life: u64 },
    Stop { number: usize },
    Kill { life: u64, point: Point },
    Heal,
    Settle,
    Inspect,
}

pub(crate) struct World {
    plan: Plan,
    mutation: Mutation,
    client_config: Arc<quantum::Config>,
    now: Time,
    agenda: Agenda<Task>,
    /// When clients look again whether they can send.
    pumps: BTreeSet<(Time, usize)>,
    clients: Vec<Client>,
    /// For each client one to each shard.
    links: Vec<Link>,
    node: Node,
    oracle: Oracle,
    random: Random,
    inbox: Inbox,
    digest: Digest,
    trace: Trace,
    is_over: bool,
    /// All have agreed: the node is killed once more, and then they must again.
    has_agreed: bool,
    settle_by: Time,
    datagrams: u64,
    messages: u64,
    counts: NodeCounts,
}

/// Lives the world of a seed, with something wrong in it.
pub(crate) fn live(seed: u64, mutation: Mutation, trace: Trace) -> (Outcome, Vec<Line>) {
    let mut world = World::new(Plan::draw(seed), mutation, trace);
    world.tell_plan();
    world.live()
}

impl Life for World {
    const TURNS_MAX: u64 = 2_000_000;

    fn turn(&mut self) -> Check {
        let links = self.links.iter().filter_map(|link| link.wake);
        let paths = self.links.iter().filter_map(|link| link.path.poll_timeout());
        let pump = self.pumps.first().map(|(at, _)| *at);
        let next = links.chain(paths).chain(pump).chain(self.agenda.next()).chain(self.node.wake()).min();
        let Some(next) = next else {
            return Err((Invariant::Progress, "nothing happens any more".to_owned()));
        };
        self.now = self.now.max(next);
        self.digest.word(self.now.as_us());
        while let Some(task) = self.agenda.due(self.now) {
            self.do_task(task)?;
        }
        while let Some(&(at, client)) = self.pumps.first().filter(|(at, _)| *at <= self.now) {
            self.pumps.remove(&(at, client));
            self.pump_client(client);
        }
        self.deliver()?;
        self.carry_lanes();
        self.flush_node()?;
        (0..self.links.len()).try_for_each(|link| self.flush_link(link))
    }

    fn is_over(&self) -> bool {
        self.is_over
    }

    fn now(&self) -> Time {
        self.now
    }

    fn trace(&mut self) -> &mut Trace {
        &mut self.trace
    }

    fn end(self, violation: Option<Violation>) -> (Outcome, Vec<Line>) {
        let outcome = Outcome {
            violation,
            digest: self.digest.value(),
            datagrams: self.datagrams,
            messages: self.messages,
            ended: self.now,
            counts: self.counted(),
        };
        (outcome, self.trace.into_lines())
    }
}

impl World {
    fn new(plan: Plan, mutation: Mutation, trace: Trace) -> Self {
        let mut random = Random::stream(plan.seed, 1_001);
        let mut links = Vec::new();
        for (client, client_plan) in plan.clients.iter().enumerate() {
            for shard in 0..plan.shards {
                let seed = Random::stream(plan.seed, 3_000 + links.len() as u64).next_u64();
                links.push(Link::new(client, shard, Path::new(client_plan.network.clone(), seed)));
            }
        }
        let mut world = Self {
            client_config: Arc::new(plan.transport.clone()),
            now: Time::ZERO,
            agenda: Agenda::default(),
            pumps: BTreeSet::new(),
            clients: plan.clients.iter().map(|_| Self::idle_client()).collect(),
            links,
            node: Node::new(&plan, &mut random),
            oracle: Oracle::new(&plan.documents),
            random,
            inbox: Inbox::default(),
            digest: Digest::new(plan.seed),
            trace,
            is_over: false,
            has_agreed: false,
            settle_by: Time::NEVER,
            datagrams: 0,
            messages: 0,
            counts: NodeCounts::default(),
            mutation,
            plan,
        };
        world.fill_agenda();
        world
    }

    fn fill_agenda(&mut self) {
        self.agenda.add(Time::ZERO, Task::Start);
        for (client, plan) in self.plan.clients.iter().enumerate() {
            self.agenda.add(plan.start, Task::Begin { client });
            if let Some((at, returns)) = plan.dies {
                self.agenda.add(at, Task::Die { client, returns });
            }
            if let Some((from, span)) = plan.deaf {
                self.agenda.add(from, Task::Deaf { client, is_deaf: true });
                self.agenda.add(from + span, Task::Deaf { client, is_deaf: false });
            }
        }
        for (number, (at, _)) in self.plan.stops.iter().enumerate() {
            self.agenda.add(*at, Task::Stop { number });
        }
        self.agenda.add(self.plan.heal_at, Task::Heal);
        self.agenda.add(Time::ZERO + INSPECTION_INTERVAL, Task::Inspect);
    }

    fn tell_plan(&mut self) {
        let plan = &self.plan;
        self.trace.say(Time::ZERO, "world", || {
            let (shards, documents, clients) = (plan.shards, plan.documents.len(), plan.clients.len());
            format!(
                "{shards} shards, {documents} documents, {clients} clients; faults until {:?}",
                plan.heal_at
            )
        });
    }

    fn deliver(&mut self) -> Check {
        for number in 0..self.links.len() {
            if self.links[number].path.poll_timeout().is_none_or(|at| at > self.now) {
                continue;
            }
            while let Some(PathDelivery { direction, mapping, payload, .. }) =
                self.links[number].path.poll_packet(self.now)
            {
                let Datagram { mut bytes, ecn, .. } = payload;
                match direction {
                    Direction::Up => self.reach_node(address_of(number, mapping), ecn, &mut bytes),
                    Direction::Down => self.reach_client(number, ecn, &mut bytes)?,
                }
            }
        }
        Ok(())
    }

    fn do_task(&mut self, task: Task) -> Check {
        match task {
            Task::Begin { client } => self.begin_client(client),
            Task::Die { client, returns } => self.end_client(client, returns),
            Task::Deaf { client, is_deaf } => self.set_deaf(client, is_deaf),
            Task::Edit { client, generation, part, done } => self.edit(client, generation, part, done),
            Task::Announce { client, generation, part } => self.announce(client, generation, part),
            Task::Ask { client, generation, part, is_end } => self.ask(client, generation, part, is_end),
            Task::Leave { client, generation, part } => self.leave(client, generation, part),
            Task::Start => return self.start_node(),
            Task::Instruct { life } => self.instruct(life),
            Task::Stop { number } => {
                let (_, stop) = self.plan.stops[number];
                self.stop(stop.how, stop.down, stop.kills_in_recovery);
            }
            Task::Kill { life, point } if life == self.node.life => self.kill_for(point),
            Task::Kill { .. } => {}
            Task::Heal => self.heal(),
            Task::Settle => return self.settle(),
            Task::Inspect => {
                self.inspect()?;
                self.agenda.add(self.now + INSPECTION_INTERVAL, Task::Inspect);
            }
        }
        Ok(())
    }

    fn set_deaf(&mut self, client: usize, is_deaf: bool) {
        self.clients[client].is_deaf = is_deaf;
        self.counts.deaf_clients += u64::from(is_deaf);
        let what = if is_deaf { "reads nothing" } else { "reads again" };
        self.say_client(client, || what.to_owned());
        if !is_deaf {
            (0..self.links.len())
                .filter(|&link| self.links[link].client == client)
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|link| self.give_credit(link));
        }
    }

    fn heal(&mut self) {
        self.trace.say(self.now, "world", || "is healed: no fault any more".to_owned());
        for link in &mut self.links {
            let network = &self.plan.clients[link.client].network;
            link.path.change(self.now, network::healed(network));
        }
        self.node.disks.iter_mut().for_each(crate::disk::Disk::heal);
        self.node.kills_in_recovery = 0;
        self.node.armed = None;
        let is_any_store_damaged = self.node.heal_stores();
        if is_any_store_damaged || self.node.disks.iter().any(crate::disk::Disk::is_damaged) {
            self.stop(How::Kill, Span::from_ms(1), 0);
        }
        self.settle_by = self.now + settle::SETTLE_SPAN;
        self.agenda.add(self.now + SETTLE_INTERVAL, Task::Settle);
    }

    /// What happened so far, that included which the disks and stores have counted.
    fn counted(&self) -> NodeCounts {
        let mut counts = self.counts;
        counts.ops_acknowledged = self.oracle.acknowledged;
        counts.deletions = self.oracle.deletions;
        counts.versions = self.oracle.versions;
        counts.pasts = self.oracle.pasts;
        self.node.count(&mut counts);
        counts
    }

    /// A datagram that goes into a network.
    fn datagram(&mut self, bytes: &[u8]) -> Datagram {
        let number = self.datagrams;
        self.datagrams += 1;
        self.digest.word(bytes.len() as u64);
        let bytes = bytes.to_vec();
        Datagram { number, bytes, sent: self.now, heard: 0, is_damaged: false, ecn: Ecn::NotEct, drops: None }
    }
}

/// Unix time at an instant of a world, milliseconds.
fn unix_ms(now: Time) -> u64 {
    UNIX_MS + now.as_us() / 1_000
}

/// Where the client's end of a link is seen.
fn address_of(link: usize, mapping: Mapping) -> SocketAddr {
    let [.., high, low] = (link as u32).to_be_bytes();
    SocketAddr::from(([CLIENTS_NET, 0, high, low], PORT_BASE + mapping.0 as u16))
}

/// The link and mapping of an address; none: it is nobody's.
fn link_at(address: SocketAddr) -> Option<(usize, Mapping)> {
    let SocketAddr::V4(address) = address else { return None };
    let [net, _, high, low] = address.ip().octets();
    let mapping = address.port().checked_sub(PORT_BASE)?;
    (net == CLIENTS_NET).then(|| (usize::from(u16::from_be_bytes([high, low])), Mapping(u32::from(mapping))))
}
