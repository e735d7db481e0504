//! Clients, a node's endpoint and the path between them, moved from one instant at which something happens to the next.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use netem::{Direction, Mapping, Path, PathSpec};
use quantum::{
    Channel, Config, Connection, ConnectionKey, ConnectionStats, Endpoint, EndpointLimits, Event,
    MessageSink, Now, SendError,
};
use wire::{Access, Grant, Guuid, Ticket, TicketKeyRing, Time};

use super::LatencyError;

/// When virtual time begins, so that what looks back does not meet zero.
const START: Time = Time::from_us(1_000_000);
const START_UNIX_MS: u64 = 1_700_000_000_000;
/// Tickets outlive every run.
const TICKET_EXPIRES_UNIX_S: u64 = START_UNIX_MS / 1_000 + 10_000_000;
const TICKET_KEY: (u32, [u8; 32]) = (1, [9; 32]);
const PRE_SHARED_KEY: [u8; 32] = [7; 32];
/// What the largest train fits: one datagram at a time is taken.
const BUFFER_BYTES: usize = 2_048;
/// Steps without time going on, after which nothing will ever move it.
const STEPS_AT_ONE_INSTANT_MAX: u32 = 100_000;

/// Looks on. `flow` is the client's number.
pub(super) trait Observer {
    /// A client has sent a datagram.
    fn on_client_sent(&mut self, _flow: usize, _datagram: &[u8]) {}
    /// A client's datagram has come to the node, which has not read it yet.
    fn on_arrived(&mut self, _now: Time, _flow: usize, _datagram: &[u8]) {}
    /// The node has read that datagram; it has brought so many lost packets back out of repairs.
    fn on_read(&mut self, _flow: usize, _recovered: u64) {}
    /// The node was given a message.
    fn on_message(&mut self, _now: Time, _flow: usize, _message: &[u8]) {}
    /// A client was given a message.
    fn on_answer(&mut self, _now: Time, _flow: usize, _message: &[u8]) {}
}

struct Client {
    connection: Connection,
    /// The node's name for it.
    key: Option<ConnectionKey>,
    is_connected: bool,
}

/// Both ends and what is between them.
pub(super) struct Ends {
    pub(super) now: Time,
    clients: Vec<Client>,
    node: Endpoint,
    path: Path<(usize, Vec<u8>)>,
    buffer: Vec<u8>,
    /// Memory of datagrams that have arrived.
    spare: Vec<Vec<u8>>,
    steps_at_now: u32,
}

/// Passes on what one datagram brought, and remembers what there is to consume.
struct Inbox<'a, O> {
    observer: &'a mut O,
    now: Time,
    flow: usize,
    is_node: bool,
    opened: Option<ConnectionKey>,
    sync_bytes: usize,
}

impl<O: Observer> MessageSink for Inbox<'_, O> {
    fn on_open(&mut self, from: ConnectionKey, _: &Ticket) {
        self.opened = Some(from);
    }

    fn on_message(&mut self, _: ConnectionKey, channel: Channel, message: &[u8]) {
        if channel == Channel::Sync {
            self.sync_bytes += message.len();
        }
        if self.is_node {
            self.observer.on_message(self.now, self.flow, message);
        } else {
            self.observer.on_answer(self.now, self.flow, message);
        }
    }
}

fn address(flow: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 10_000 + (flow % 50_000) as u16))
}

impl Ends {
    /// Ends without a client. All that is random follows from `seed`.
    pub(super) fn new(path: PathSpec, seed: u64, config: &Arc<Config>) -> Self {
        let mut node = Endpoint::new(config.clone(), EndpointLimits::default(), [5; 32]);
        node.set_ticket_keys(TicketKeyRing::new([TICKET_KEY]));
        Self {
            now: START,
            clients: Vec::new(),
            node,
            path: Path::new(path, seed),
            buffer: vec![0; BUFFER_BYTES],
            spare: Vec::new(),
            steps_at_now: 0,
        }
    }

    /// A client begins; what it has to say first may be sent at once. Returns the flow's number.
    pub(super) fn connect(&mut self, config: &Arc<Config>) -> Result<usize, LatencyError> {
        let flow = self.clients.len();
        let tag = flow as u8;
        let ticket = Ticket {
            session_id: Guuid::new(START_UNIX_MS, [tag; 10]),
            writer_id: Guuid::new(START_UNIX_MS, [tag; 10]).writer(),
            psk: PRE_SHARED_KEY,
            expires_unix_s: TICKET_EXPIRES_UNIX_S,
            grants: vec![Grant { pattern: "*".to_owned(), access: Access::Write }],
        };
        let sealed = TicketKeyRing::new([TICKET_KEY])
            .seal(&ticket, [tag; 12])
            .map_err(|error| LatencyError::Setup(error.to_string()))?;
        let id = Guuid::new(START_UNIX_MS, [tag; 10]);
        let now = self.both_clocks();
        let connection = Connection::connect(now, config.clone(), id, &sealed, &PRE_SHARED_KEY, [tag; 32])
            .map_err(|error| LatencyError::Setup(error.to_string()))?;
        self.clients.push(Client { connection, key: None, is_connected: false });
        Ok(flow)
    }

    /// A client sends a message on SYNC. What it makes leaves with [`flush`](Self::flush).
    pub(super) fn send(&mut self, flow: usize, message: Bytes) -> Result<(), SendError> {
        self.clients[flow].connection.send(Channel::Sync, message)
    }

    /// The node sends a message on SYNC.
    pub(super) fn answer(&mut self, flow: usize, message: Bytes) -> Result<(), SendError> {
        let key = self.clients[flow].key.ok_or(SendError::Closed)?;
        self.node.send(key, Channel::Sync, message)
    }

    pub(super) fn client(&self, flow: usize) -> &Connection {
        &self.clients[flow].connection
    }

    /// The node's end of a flow.
    pub(super) fn at_node(&self, flow: usize) -> Option<&Connection> {
        self.node.connection(self.clients[flow].key?)
    }

    pub(super) fn is_connected(&self, flow: usize) -> bool {
        self.clients[flow].is_connected
    }

    /// The next instant at which something happens by itself.
    pub(super) fn next_at(&self) -> Option<Time> {
        let clients = self.clients.iter().filter_map(|client| client.connection.poll_timeout());
        clients.chain(self.node.poll_timeout()).chain(self.path.poll_timeout()).min()
    }

    /// Goes to `at`, which is not after [`next_at`](Self::next_at): datagrams that are due arrive, then timers that
    /// are due fire, then everything that the ends have to say leaves.
    pub(super) fn advance(&mut self, at: Time, observer: &mut impl Observer) -> Result<(), LatencyError> {
        self.steps_at_now = if at > self.now { 0 } else { self.steps_at_now + 1 };
        if self.steps_at_now > STEPS_AT_ONE_INSTANT_MAX {
            return Err(LatencyError::Stuck(self.now));
        }
        self.now = self.now.max(at);
        while let Some(delivery) = self.path.poll_packet(self.now) {
            let (flow, datagram) = delivery.payload;
            match delivery.direction {
                Direction::Up => self.arrive_at_node(flow, datagram, observer),
                Direction::Down => self.arrive_at_client(flow, datagram, observer),
            }
        }
        for client in &mut self.clients {
            if client.connection.poll_timeout().is_some_and(|due| due <= self.now) {
                client.connection.handle_timeout(self.now);
            }
        }
        self.node.handle_timeout(self.now);
        self.flush(observer)
    }

    fn arrive_at_node(&mut self, flow: usize, mut datagram: Vec<u8>, observer: &mut impl Observer) {
        observer.on_arrived(self.now, flow, &datagram);
        let before = self.recovered(flow);
        let now = self.both_clocks();
        let mut inbox = Inbox { observer, now: self.now, flow, is_node: true, opened: None, sync_bytes: 0 };
        self.node.handle_datagram(now, address(flow), &mut datagram, &mut inbox);
        let Inbox { opened, sync_bytes, .. } = inbox;
        let client = &mut self.clients[flow];
        client.key = client.key.or(opened);
        if let Some(key) = client.key.filter(|_| sync_bytes > 0) {
            self.node.consume(key, Channel::Sync, sync_bytes);
        }
        observer.on_read(flow, self.recovered(flow) - before);
        self.spare.push(datagram);
    }

    /// Packets that the node has brought back out of repairs of a flow.
    fn recovered(&self, flow: usize) -> u64 {
        self.at_node(flow).map_or(0, |node| counter(node.stats(), "fec_recovered"))
    }

    fn arrive_at_client(&mut self, flow: usize, mut datagram: Vec<u8>, observer: &mut impl Observer) {
        let mut inbox = Inbox { observer, now: self.now, flow, is_node: false, opened: None, sync_bytes: 0 };
        let connection = &mut self.clients[flow].connection;
        connection.handle_datagram(self.now, &mut datagram, &mut inbox);
        let sync_bytes = inbox.sync_bytes;
        if sync_bytes > 0 {
            connection.consume(Channel::Sync, sync_bytes);
        }
        self.spare.push(datagram);
    }

    /// Everything that the ends have to say now leaves.
    pub(super) fn flush(&mut self, observer: &mut impl Observer) -> Result<(), LatencyError> {
        for (flow, client) in self.clients.iter_mut().enumerate() {
            while let Some(length) = client.connection.poll_transmit(self.now, &mut self.buffer) {
                observer.on_client_sent(flow, &self.buffer[..length]);
                let datagram = copied(&mut self.spare, &self.buffer[..length]);
                self.path.handle_up(self.now, (flow, datagram));
            }
            while let Some(event) = client.connection.poll_event() {
                match event {
                    Event::Connected => client.is_connected = true,
                    Event::Closed(reason) => return Err(LatencyError::Closed(reason.to_string())),
                    Event::Writable | Event::Finishing => {}
                }
            }
        }
        while let Some((remote, length)) = self.node.poll_transmit(self.now, &mut self.buffer) {
            let flow = usize::from(remote.port() - 10_000);
            let datagram = copied(&mut self.spare, &self.buffer[..length]);
            self.path.handle_down(self.now, Mapping::default(), (flow, datagram));
        }
        while let Some((_, event)) = self.node.poll_event() {
            if let Event::Closed(reason) = event {
                return Err(LatencyError::Closed(reason.to_string()));
            }
        }
        Ok(())
    }

    fn both_clocks(&self) -> Now {
        Now { mono: self.now, unix_ms: START_UNIX_MS + self.now.as_us() / 1_000 }
    }
}

/// A counter by its name; 0 when there is none.
pub(super) fn counter(stats: &ConnectionStats, name: &str) -> u64 {
    stats.fields().find(|(known, _)| *known == name).map_or(0, |(_, value)| value)
}

fn copied(spare: &mut Vec<Vec<u8>>, datagram: &[u8]) -> Vec<u8> {
    let mut copy = spare.pop().unwrap_or_default();
    copy.clear();
    copy.extend_from_slice(datagram);
    copy
}
