//! Two ends and a network between them, all in virtual time.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quantum::{
    Channel, Config, Connection, ConnectionKey, Endpoint, EndpointLimits, Event, MessageSink, Now,
};
use wire::{Access, Ecn, Grant, Guuid, Span, Ticket, TicketKeyRing, Time};

pub const UNIX_S: u64 = 1_700_000_000;
pub const PSK: [u8; 32] = [7; 32];
const TICKET_KEY: (u32, [u8; 32]) = (1, [9; 32]);

/// SplitMix64: seeded, so that every run is the same.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the network does to the marks of ECN.
#[derive(Clone, Copy, Default)]
pub enum EcnPath {
    #[default]
    Clean,
    Clears,
    /// Nothing that is marked passes.
    Drops,
    /// The bottleneck marks when more bytes wait.
    MarksAbove(u64),
    /// Every packet that is marked is marked as congested, in both directions, acknowledgements as well.
    MarksAll,
}

/// What the network does to datagrams, in percent and microseconds.
#[derive(Clone, Copy, Default)]
pub struct Link {
    pub loss: u64,
    pub duplicates: u64,
    pub flips: u64,
    pub delay_us: u64,
    pub jitter_us: u64,
    /// The bottleneck towards the node, and the queue before it; zero: none.
    pub bytes_per_ms: u64,
    pub queue_bytes: u64,
}

impl Link {
    /// Nothing happens to a datagram but that it takes so long.
    pub const fn after(delay_us: u64) -> Self {
        Self { loss: 0, duplicates: 0, flips: 0, delay_us, jitter_us: 0, bytes_per_ms: 0, queue_bytes: 0 }
    }
}

/// Everything delivered, in order.
#[derive(Default)]
pub struct Inbox {
    pub opened: Vec<(ConnectionKey, Ticket)>,
    pub messages: Vec<(ConnectionKey, Channel, Vec<u8>)>,
}

impl MessageSink for Inbox {
    fn on_open(&mut self, from: ConnectionKey, ticket: &Ticket) {
        self.opened.push((from, ticket.clone()));
    }

    fn on_message(&mut self, from: ConnectionKey, channel: Channel, message: &[u8]) {
        self.messages.push((from, channel, message.to_vec()));
    }
}

pub fn ticket() -> Ticket {
    Ticket {
        session_id: Guuid::new(1, [1; 10]),
        writer_id: Guuid::new(2, [2; 10]).writer(),
        psk: PSK,
        expires_unix_s: UNIX_S + 600,
        grants: vec![Grant { pattern: "*".to_owned(), access: Access::Write }],
    }
}

pub fn keys() -> TicketKeyRing {
    TicketKeyRing::new([TICKET_KEY])
}

pub fn sealed_ticket() -> Vec<u8> {
    keys().seal(&ticket(), [3; 12]).unwrap()
}

pub fn client_address(n: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10_000 + n))
}

pub fn connect(now: Time, config: &Arc<Config>, n: u8) -> Connection {
    let id = Guuid::new(UNIX_S * 1_000, [n; 10]);
    let now = Now { mono: now, unix_ms: UNIX_S * 1_000 };
    Connection::connect(now, config.clone(), id, &sealed_ticket(), &PSK, [n; 32]).unwrap()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at: Time,
    order: u64,
    to_node: bool,
    /// Where the client is: where it comes from, or goes to.
    address: SocketAddr,
    ecn: u8,
    bytes: Vec<u8>,
}

/// A client, a node's endpoint, and the network between them.
pub struct Pair {
    pub now: Time,
    pub client: Connection,
    pub node: Endpoint,
    pub at_client: Inbox,
    pub at_node: Inbox,
    pub client_events: Vec<Event>,
    pub node_events: Vec<(ConnectionKey, Event)>,
    pub link: Link,
    pub random: Random,
    /// Whether the applications take messages as soon as they are delivered.
    pub consumes: bool,
    /// Every datagram that the client has sent, and every one of the node.
    pub client_sent: Vec<Vec<u8>>,
    pub node_sent: Vec<Vec<u8>>,
    pub client_from: SocketAddr,
    pub ecn_path: EcnPath,
    /// Datagrams that left with ECT(0).
    pub ect0_sent: u64,
    /// Larger datagrams do not pass.
    pub mtu_bytes: usize,
    /// What the node sent to where the client is not.
    pub astray: Vec<(SocketAddr, Vec<u8>)>,
    flights: BinaryHeap<Reverse<Flight>>,
    bottleneck_free_at: Time,
    /// What the datagram carries that is put on its way.
    ecn: Ecn,
    pub bottleneck_drops: u64,
    order: u64,
    consumed: (usize, usize),
}

impl Pair {
    pub fn new(seed: u64, link: Link) -> Self {
        Self::with_config(seed, link, Config::default())
    }

    pub fn with_config(seed: u64, link: Link, config: Config) -> Self {
        let config = Arc::new(config);
        let now = Time::from_us(1_000_000);
        let mut node = Endpoint::new(config.clone(), EndpointLimits::default(), [5; 32]);
        node.set_ticket_keys(keys());
        Self {
            now,
            client: connect(now, &config, 1),
            node,
            at_client: Inbox::default(),
            at_node: Inbox::default(),
            client_events: Vec::new(),
            node_events: Vec::new(),
            link,
            random: Random(seed),
            consumes: true,
            client_sent: Vec::new(),
            node_sent: Vec::new(),
            client_from: client_address(1),
            ecn_path: EcnPath::default(),
            ect0_sent: 0,
            mtu_bytes: usize::MAX,
            astray: Vec::new(),
            flights: BinaryHeap::new(),
            bottleneck_free_at: Time::ZERO,
            ecn: Ecn::NotEct,
            bottleneck_drops: 0,
            order: 0,
            consumed: (0, 0),
        }
    }

    pub fn key(&self) -> ConnectionKey {
        self.at_node.opened[0].0
    }

    pub fn unix_now(&self) -> Now {
        Now { mono: self.now, unix_ms: UNIX_S * 1_000 + self.now.as_us() / 1_000 }
    }

    /// Puts a datagram on its way, from or to where the client is now.
    pub fn fly(&mut self, to_node: bool, bytes: &[u8]) {
        self.fly_between(to_node, self.client_from, bytes);
    }

    /// Puts a datagram on its way that carries marks.
    fn fly_marked(&mut self, to_node: bool, address: SocketAddr, ecn: Ecn, bytes: &[u8]) {
        self.ect0_sent += u64::from(ecn == Ecn::Ect0);
        self.ecn = match self.ecn_path {
            EcnPath::Clears => Ecn::NotEct,
            EcnPath::Drops if ecn != Ecn::NotEct => return,
            _ => ecn,
        };
        self.fly_between(to_node, address, bytes);
        self.ecn = Ecn::NotEct;
    }

    /// Puts a datagram on its way, from or to a client's address.
    pub fn fly_between(&mut self, to_node: bool, address: SocketAddr, bytes: &[u8]) {
        if bytes.len() > self.mtu_bytes {
            return;
        }
        let copies = 1 + u64::from(self.random.happens(self.link.duplicates));
        for _ in 0..copies {
            if self.random.happens(self.link.loss) {
                continue;
            }
            let mut bytes = bytes.to_vec();
            if self.random.happens(self.link.flips) {
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.random.below(8);
            }
            let jitter = self.random.below(self.link.jitter_us + 1);
            let Some(departure) = self.departure(to_node, bytes.len() as u64) else { continue };
            let at = departure + Span::from_us(self.link.delay_us + jitter);
            self.order += 1;
            let ecn = self.mark(to_node, bytes.len() as u64) as u8;
            self.flights.push(Reverse(Flight { at, order: self.order, to_node, address, ecn, bytes }));
        }
    }

    fn mark(&self, to_node: bool, bytes: u64) -> Ecn {
        let wait = self.bottleneck_free_at.since(self.now).as_us() * self.link.bytes_per_ms / 1_000;
        match self.ecn_path {
            EcnPath::MarksAll if self.ecn == Ecn::Ect0 => Ecn::Ce,
            EcnPath::MarksAbove(limit) if to_node && self.ecn == Ecn::Ect0 && wait > limit + bytes => Ecn::Ce,
            _ => self.ecn,
        }
    }

    /// When a datagram leaves the bottleneck; none: its queue is full.
    fn departure(&mut self, to_node: bool, bytes: u64) -> Option<Time> {
        let rate = self.link.bytes_per_ms;
        if !to_node || rate == 0 {
            return Some(self.now);
        }
        let start = self.bottleneck_free_at.max(self.now);
        if start.since(self.now).as_us() * rate / 1_000 > self.link.queue_bytes {
            self.bottleneck_drops += 1;
            return None;
        }
        self.bottleneck_free_at = start + Span::from_us(bytes * 1_000 / rate);
        Some(self.bottleneck_free_at)
    }

    /// Takes out of both ends what they have.
    pub fn flush(&mut self) {
        let mut buffer = [0; 1_500];
        loop {
            let mut any = false;
            self.consume();
            while let Some(train) = self.client.poll_transmit_train(self.now, &mut buffer, 1) {
                any = true;
                self.client_sent.push(buffer[..train.bytes].to_vec());
                self.fly_marked(true, self.client_from, train.ecn, &buffer[..train.bytes]);
            }
            while let Some((to, train)) = self.node.poll_transmit_train(self.now, &mut buffer, 1) {
                any = true;
                self.node_sent.push(buffer[..train.bytes].to_vec());
                self.fly_marked(false, to, train.ecn, &buffer[..train.bytes]);
            }
            while let Some(event) = self.client.poll_event() {
                self.client_events.push(event);
            }
            while let Some(event) = self.node.poll_event() {
                self.node_events.push(event);
            }
            if !any {
                return;
            }
        }
    }

    fn consume(&mut self) {
        if !self.consumes {
            return;
        }
        for (_, channel, message) in &self.at_client.messages[self.consumed.0..] {
            self.client.consume(*channel, message.len());
        }
        for (key, channel, message) in &self.at_node.messages[self.consumed.1..] {
            self.node.consume(*key, *channel, message.len());
        }
        self.consumed = (self.at_client.messages.len(), self.at_node.messages.len());
    }

    /// Goes on to the next thing that happens, at most to `until`; false when nothing does.
    pub fn step(&mut self, until: Time) -> bool {
        self.flush();
        let flight = self.flights.peek().map(|flight| flight.0.at);
        let times = [flight, self.client.poll_timeout(), self.node.poll_timeout()];
        let Some(next) = times.into_iter().flatten().min().filter(|next| *next <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        if flight.is_some_and(|at| at <= self.now) {
            let Some(Reverse(mut flight)) = self.flights.pop() else { return false };
            if flight.to_node {
                let now = self.unix_now();
                let (from, bytes) = (flight.address, &mut flight.bytes);
                self.node.handle_marked_datagram(
                    now,
                    from,
                    Ecn::from_tos(flight.ecn),
                    bytes,
                    &mut self.at_node,
                );
            } else if flight.address != self.client_from {
                self.astray.push((flight.address, flight.bytes));
            } else {
                let ecn = Ecn::from_tos(flight.ecn);
                self.client.handle_marked_datagram(self.now, ecn, &mut flight.bytes, &mut self.at_client);
            }
        }
        if self.client.poll_timeout().is_some_and(|at| at <= self.now) {
            self.client.handle_timeout(self.now);
        }
        self.node.handle_timeout(self.now);
        true
    }

    /// Runs for a span of virtual time.
    pub fn run(&mut self, span: Span) {
        let until = self.now + span;
        while self.step(until) {}
        self.flush();
    }

    /// Runs until `done` holds, at most for a span of virtual time.
    pub fn run_until(&mut self, span: Span, done: impl Fn(&Self) -> bool) {
        let until = self.now + span;
        while !done(self) {
            assert!(self.step(until), "did not come to pass in {span:?}");
        }
        self.flush();
    }

    pub fn send(&mut self, message: impl Into<Bytes>) {
        self.client.send(Channel::Sync, message.into()).unwrap();
    }

    pub fn send_back(&mut self, message: impl Into<Bytes>) {
        let key = self.key();
        self.node.send(key, Channel::Sync, message.into()).unwrap();
    }

    /// A pair whose handshake is complete.
    pub fn connected(seed: u64, link: Link) -> Self {
        Self::connected_with(seed, link, Config::default())
    }

    pub fn connected_with(seed: u64, link: Link, config: Config) -> Self {
        let mut pair = Self::with_config(seed, Link { loss: 0, flips: 0, ..link }, config);
        pair.run_until(Span::from_ms(5_000), |pair| {
            pair.client.is_established() && pair.node.connections().any(|(c, _)| c.is_established())
        });
        pair.link = link;
        pair
    }
}

/// A message whose content tells its number and length.
pub fn message(number: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random(number);
    let mut out = number.to_be_bytes().to_vec();
    out.extend((8..bytes).map(|_| random.next() as u8));
    out
}
