//! One world: a node, its clients, their networks and an attacker, in virtual time.
//!
//! A turn goes to the next instant at which something happens, does all that is due there, and lets everybody send who
//! was touched. The invariants are checked along the way; the first that does not hold ends the world.

mod agenda;
mod applications;
mod attacker;
mod attempt;
mod closing;
mod inbox;
mod node;
mod taps;
mod tell;
mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;

use netem::{Path, Random};
use quantum::Connection;
use wire::{Guuid, Span, Time};

use self::agenda::Task;
use self::attacker::Attacker;
use self::attempt::Attempt;
use self::inbox::Inbox;
use self::node::Node;
use self::taps::PacketLog;
use crate::agenda::Agenda;
use crate::datagram::{Datagram, Drops};
use crate::digest::Digest;
use crate::invariants::amplification::AmplificationWatch;
use crate::invariants::timers::TimerWatch;
use crate::invariants::{Check, Invariant, Violation, progress};
use crate::life::{Life, Outcome};
use crate::scenario::{Incident, Scenario};
use crate::trace::{Line, Trace};
use crate::whole_node::NodeCounts;

/// How often progress and memory are looked at.
const INSPECTION_INTERVAL: Span = Span::from_ms(50);
/// The longest datagram, and the longest train.
const BUFFER_BYTES: usize = 64 * 1_500;

/// A client's machine and its network.
struct ClientHost {
    path: Path<Datagram>,
    /// At which of its addresses it has heard from the node.
    heard: u64,
    /// Its connections so far, by number.
    attempts: Vec<usize>,
}

pub(crate) struct World {
    scenario: Scenario,
    client_config: Arc<quantum::Config>,
    now: Time,
    agenda: Agenda<Task>,
    hosts: Vec<ClientHost>,
    attempts: Vec<Attempt>,
    /// Connections of clients that are not drained.
    live: Vec<usize>,
    /// Whose an id is that a packet carries.
    ids: BTreeMap<Guuid, usize>,
    node: Node,
    attacker: Attacker,
    random: Random,
    client_packets: Arc<PacketLog>,
    inbox: Inbox,
    buffer: Vec<u8>,
    amplification: AmplificationWatch,
    timers: TimerWatch,
    /// Something besides timers has happened in this turn.
    has_happened: bool,
    is_over: bool,
    /// Once everybody is to close: when nothing may be left.
    leftover_by: Option<Time>,
    drops: Option<Drops>,
    digest: Digest,
    datagrams: u64,
    messages: u64,
    pub(crate) trace: Trace,
}

impl Life for World {
    const TURNS_MAX: u64 = 3_000_000;

    fn turn(&mut self) -> Check {
        let result = self.take_turn();
        self.tell_drops();
        result
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
            counts: NodeCounts::default(),
        };
        (outcome, self.trace.into_lines())
    }
}

impl World {
    pub(crate) fn new(scenario: Scenario, trace: Trace) -> Self {
        let seed = scenario.seed;
        let client_packets = Arc::new(PacketLog::default());
        let client_config =
            quantum::Config { tap: Some(client_packets.clone()), ..scenario.client_config.clone() };
        let mut random = Random::stream(seed, 1);
        let host = |number: usize| ClientHost {
            path: Path::new(scenario.network.clone(), Random::stream(seed, 100 + number as u64).next_u64()),
            heard: 0,
            attempts: Vec::new(),
        };
        let mut world = Self {
            client_config: Arc::new(client_config),
            now: Time::ZERO,
            agenda: Agenda::default(),
            hosts: (0..scenario.clients.len()).map(host).collect(),
            attempts: Vec::new(),
            live: Vec::new(),
            ids: BTreeMap::new(),
            node: Node::new(&scenario, &mut random),
            attacker: Attacker::new(seed, scenario.hostility),
            random,
            client_packets,
            inbox: Inbox::default(),
            buffer: vec![0; BUFFER_BYTES],
            amplification: AmplificationWatch::default(),
            timers: TimerWatch::default(),
            has_happened: false,
            is_over: false,
            leftover_by: None,
            drops: trace.is_on().then(Drops::default),
            digest: Digest::new(seed),
            datagrams: 0,
            messages: 0,
            trace,
            scenario,
        };
        world.plan();
        world
    }

    fn plan(&mut self) {
        for (client, plan) in self.scenario.clients.iter().enumerate() {
            self.agenda.add(plan.start, Task::Connect { client });
        }
        for (number, (at, _)) in self.scenario.incidents.iter().enumerate() {
            self.agenda.add(*at, Task::Incident { number });
        }
        for at in self.attacker.forgeries(self.scenario.heal_at) {
            self.agenda.add(at, Task::ForgeInitial);
        }
        self.agenda.add(self.scenario.heal_at, Task::Heal);
        self.agenda.add(Time::ZERO + INSPECTION_INTERVAL, Task::Inspect);
    }

    fn take_turn(&mut self) -> Check {
        let Some(next) = self.next_instant() else {
            self.is_over = true;
            return Ok(());
        };
        self.now = self.now.max(next);
        self.digest.word(self.now.as_us());
        self.has_happened = false;
        while let Some(task) = self.agenda.due(self.now) {
            self.has_happened = true;
            self.do_task(task)?;
        }
        self.deliver()?;
        self.run_timers()?;
        self.flush()?;
        self.timers.on_turn(self.now, self.has_happened)
    }

    fn next_instant(&self) -> Option<Time> {
        let clients = self.live.iter().filter_map(|&attempt| self.attempts[attempt].wake);
        let paths = self.hosts.iter().filter_map(|host| host.path.poll_timeout());
        clients.chain(paths).chain(self.agenda.next()).chain(self.node.wake()).min()
    }

    fn do_task(&mut self, task: Task) -> Check {
        match task {
            Task::Connect { client } => self.connect(client),
            Task::Say { attempt, flow, tick } => self.say(attempt, flow, tick),
            Task::Eat { attempt, direction } => self.eat(attempt, direction),
            Task::End { attempt, ending } => self.end_attempt(attempt, ending),
            Task::Incident { number } => self.happen(number),
            Task::Inject(injection) => self.inject(*injection),
            Task::ForgeInitial => self.forge_initial(),
            Task::Heal => {
                self.heal();
                Ok(())
            }
            Task::Inspect => self.inspect(),
            Task::CloseAll => self.close_all(),
        }
    }

    fn heal(&mut self) {
        self.trace.say(self.now, "network", || "is healed: nothing is lost any more".to_owned());
        for client in 0..self.hosts.len() {
            let mut path = &self.scenario.network;
            for (_, incident) in self.scenario.incidents.iter().filter(|(at, _)| *at < self.scenario.heal_at)
            {
                match incident {
                    Incident::Move { client: who, to, .. } if *who == client => path = to,
                    _ => {}
                }
            }
            self.hosts[client].path.change(self.now, Scenario::healed_of(path));
        }
    }

    fn happen(&mut self, number: usize) -> Check {
        let (_, incident) = self.scenario.incidents[number].clone();
        self.trace.say(self.now, "incident", || incident.to_string());
        match incident {
            Incident::Rebind(client) => {
                self.hosts[client].path.rebind();
            }
            Incident::Move { client, to, is_told } => {
                self.hosts[client].path.rebind();
                self.hosts[client].path.change(self.now, *to);
                if is_told {
                    self.ask(client, Connection::migrate);
                }
            }
            Incident::RotateId(client) => self.ask(client, |connection, now| {
                connection.rotate_connection_id(now);
            }),
            Incident::UpdateKeys(client) => self.ask(client, |connection, _| {
                connection.update_keys();
            }),
            Incident::Restart => self.restart_node(),
        }
        Ok(())
    }

    /// Looks at memory and progress, and whether everything has been said and heard.
    fn inspect(&mut self) -> Check {
        self.check_memory()?;
        let mut is_settled = self.now > self.scenario.heal_at;
        for number in 0..self.attempts.len() {
            let attempt = &self.attempts[number];
            if attempt.is_over() {
                continue;
            }
            let missing = attempt.missing();
            if attempt.are_both_alive() {
                let since = self.scenario.heal_at.max(attempt.said_at).max(attempt.node_since);
                let bound = self.scenario.progress_bound(attempt.sent_bytes());
                progress::check(number, missing, since, self.now, bound)?;
                let is_done = missing == 0 && attempt.flows_left == 0 && attempt.endings_left == 0;
                is_settled &= is_done;
                let has_next = attempt.ordinal + 1 < self.scenario.clients[attempt.client].attempts.len();
                if is_done && has_next && self.now > self.scenario.heal_at {
                    // What was to end it has ended one before a restart.
                    self.close_client(number);
                }
            } else {
                is_settled = false;
            }
        }
        let is_begun = |(client, host): (usize, &ClientHost)| {
            host.attempts.len() == self.scenario.clients[client].attempts.len()
        };
        is_settled &= self.hosts.iter().enumerate().all(is_begun);
        let is_closing = self.leftover_by.is_some();
        if is_settled && !is_closing {
            self.agenda.add(self.now, Task::CloseAll);
        } else if !is_closing && self.now > self.settled_by() {
            return Err((Invariant::Progress, self.unsettled()));
        }
        self.agenda.add(self.now + INSPECTION_INTERVAL, Task::Inspect);
        self.check_end()
    }

    /// Asks something of the newest connection of a client.
    fn ask(&mut self, client: usize, request: impl FnOnce(&mut Connection, Time)) {
        let now = self.client_time(client);
        let Some(&newest) = self.hosts[client].attempts.last() else { return };
        self.attempts[newest].is_touched = true;
        if let Some(connection) = &mut self.attempts[newest].connection {
            request(connection, now);
        }
    }

    /// What has neither ended nor delivered everything.
    fn unsettled(&self) -> String {
        let mut words = vec!["connections neither end nor deliver what was sent".to_owned()];
        for attempt in self.attempts.iter().filter(|attempt| !attempt.is_over()) {
            words.push(format!(
                "{}: {} missing, {} flows and {} endings to come, both ends alive: {}",
                attempt.name(),
                attempt.missing(),
                attempt.flows_left,
                attempt.endings_left,
                attempt.are_both_alive()
            ));
        }
        words.join("; ")
    }

    /// A moment on a client's clock.
    fn client_time(&self, client: usize) -> Time {
        self.now + self.scenario.clients[client].clock
    }

    fn connection_of(&mut self, attempt: usize) -> Option<&mut Connection> {
        self.attempts[attempt].connection.as_mut()
    }
}
