//! One connection of a client, seen from both ends.

use netem::{Direction, Random};
use quantum::{Connection, ConnectionKey, ConnectionStats};
use wire::channel::Channel;
use wire::{Guuid, Time};

use super::World;
use super::agenda::Task;
use super::node::UNIX_S;
use crate::draw::Draw;
use crate::invariants::Check;
use crate::invariants::closing::EndWatch;
use crate::invariants::delivery::Stream;
use crate::invariants::window::WindowWatch;
use crate::scenario::{AttemptPlan, Scenario};

/// A node has heard more than the first packet: the client has the node's answer.
const HEARD_OF_CLIENT_MIN: u64 = 2;

pub(super) struct Attempt {
    pub(super) client: usize,
    /// Which of the client's.
    pub(super) ordinal: usize,
    pub(super) session: Guuid,
    /// None once it is drained, or has vanished.
    pub(super) connection: Option<Connection>,
    /// When the client's timers are to be served, on the world's clock.
    pub(super) wake: Option<Time>,
    pub(super) is_touched: bool,
    pub(super) client_end: EndWatch,
    pub(super) has_vanished: bool,
    pub(super) node_key: Option<ConnectionKey>,
    pub(super) node_end: Option<EndWatch>,
    pub(super) node_since: Time,
    /// The node has restarted while the client was connected to it.
    pub(super) is_torn: bool,
    pub(super) client_window: WindowWatch,
    pub(super) node_window: WindowWatch,
    /// Datagrams that each end has taken.
    pub(super) client_heard: u64,
    pub(super) node_heard: u64,
    /// The code with which the node's application has closed it, in any of the node's lives.
    pub(super) node_said: Option<u16>,
    pub(super) client_stats: ConnectionStats,
    pub(super) node_stats: ConnectionStats,
    streams: [[Stream; Channel::COUNT]; 2],
    /// Whether a slow application is at table, by direction.
    pub(super) is_eating: [bool; 2],
    /// When the last of it was said.
    pub(super) said_at: Time,
    /// Ticks of flows, and endings, that are still to come.
    pub(super) flows_left: usize,
    pub(super) endings_left: usize,
}

impl Attempt {
    pub(super) fn plan<'a>(&self, scenario: &'a Scenario) -> &'a AttemptPlan {
        &scenario.clients[self.client].attempts[self.ordinal]
    }

    pub(super) const fn stream(&mut self, direction: Direction, channel: Channel) -> &mut Stream {
        &mut self.streams[direction as usize][channel as usize]
    }

    /// Whether the client has nothing to do with it any more.
    pub(super) const fn is_over(&self) -> bool {
        self.client_end.is_over() || self.has_vanished
    }

    /// Whether both ends live and are ends of one connection: one that has come after a restart may belong to a client that
    /// has its keys from before.
    pub(super) fn are_both_alive(&self) -> bool {
        let is_one = !self.is_torn || self.node_heard >= HEARD_OF_CLIENT_MIN;
        !self.is_over() && is_one && self.node_end.as_ref().is_some_and(|end| !end.is_over())
    }

    /// Messages that must arrive and have not. What a node said before it restarted is not missed.
    pub(super) fn missing(&self) -> usize {
        let missing = |streams: &[Stream; Channel::COUNT]| -> usize {
            streams.iter().zip(Channel::ALL).map(|(stream, channel)| stream.missing(channel)).sum()
        };
        let [up, down] = &self.streams;
        missing(up) + if self.is_torn { 0 } else { missing(down) }
    }

    /// Messages that the sender of a direction had acknowledged, if all were, and that have not arrived; after a restart of
    /// the node nobody can tell.
    pub(super) fn undelivered(&self, direction: Direction) -> usize {
        let streams = &self.streams[direction as usize];
        if self.is_torn { 0 } else { streams.iter().map(Stream::owed).sum() }
    }

    /// Nothing new is taken any more in a direction.
    pub(super) fn forget_waiting(&mut self, direction: Direction) {
        self.streams[direction as usize].iter_mut().for_each(|stream| stream.waiting.clear());
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.streams.iter().flatten().map(Stream::sent_bytes).sum()
    }

    /// The node has restarted.
    pub(super) fn forget_node(&mut self) {
        self.is_torn |= self.client_end.is_connected || self.node_key.is_some();
        self.client_end.is_forgotten = true;
        self.node_key = None;
        self.node_said = self.node_end.take().and_then(|end| end.closed_with).or(self.node_said);
        self.node_heard = 0;
        self.node_window = WindowWatch::default();
        self.node_stats = ConnectionStats::default();
        for (stream, channel) in self.streams[Direction::Up as usize].iter_mut().zip(Channel::ALL) {
            stream.restart_receiver(channel);
        }
    }

    /// What it is called in a trace.
    pub(super) fn name(&self) -> String {
        match self.ordinal {
            0 => format!("client {}", self.client),
            ordinal => format!("client {}.{ordinal}", self.client),
        }
    }
}

impl World {
    /// A client begins its next connection.
    pub(super) fn connect(&mut self, client: usize) -> Check {
        let ordinal = self.hosts[client].attempts.len();
        let number = self.attempts.len();
        let id = guuid(&mut self.random, self.now);
        let session = guuid(&mut self.random, self.now);
        let (ticket, psk) = self.node.ticket(session, &mut self.random);
        let now = quantum::Now { mono: self.client_time(client), unix_ms: 0 };
        let entropy = self.random.bytes32();
        let connection = Connection::connect(now, self.client_config.clone(), id, &ticket, &psk, entropy);
        let connection = connection.expect("a drawn configuration is valid");
        self.attempts.push(Attempt {
            client,
            ordinal,
            session,
            connection: Some(connection),
            wake: None,
            is_touched: true,
            client_end: EndWatch::new(self.now),
            has_vanished: false,
            node_key: None,
            node_end: None,
            node_since: self.now,
            is_torn: false,
            client_window: WindowWatch::default(),
            node_window: WindowWatch::default(),
            client_heard: 0,
            node_heard: 0,
            node_said: None,
            client_stats: ConnectionStats::default(),
            node_stats: ConnectionStats::default(),
            streams: Default::default(),
            is_eating: [false; 2],
            said_at: self.now,
            flows_left: 0,
            endings_left: 0,
        });
        self.hosts[client].attempts.push(number);
        self.live.push(number);
        let name = self.attempts[number].name();
        self.trace.say(self.now, &name, || "connects".to_owned());
        self.plan_flows(number, Direction::Up);
        if let Some((after, ending)) = self.attempts[number].plan(&self.scenario).ending {
            self.attempts[number].endings_left += 1;
            self.agenda.add(self.now + after, Task::End { attempt: number, ending });
        }
        // What is said at once rides in the first packet.
        while let Some(task) = self.agenda.due(self.now) {
            self.do_task(task)?;
        }
        Ok(())
    }

    /// The flows of a direction begin: its sender can send.
    pub(super) fn plan_flows(&mut self, attempt: usize, direction: Direction) {
        let plan = self.attempts[attempt].plan(&self.scenario);
        let flows = plan.flows.iter().enumerate().filter(|(_, flow)| flow.direction == direction);
        for (number, flow) in flows {
            self.attempts[attempt].flows_left += 1;
            self.agenda.add(self.now + flow.start, Task::Say { attempt, flow: number, tick: 0 });
        }
    }
}

fn guuid(random: &mut Random, now: Time) -> Guuid {
    let mut entropy = [0; 10];
    entropy.copy_from_slice(&random.bytes32()[..10]);
    Guuid::new(UNIX_S * 1_000 + now.as_us() / 1_000, entropy)
}
