//! An honest client, an honest node, and what both are made of.

use std::net::SocketAddr;
use std::sync::Arc;

use quantum::{Channel, Config, Connection, ConnectionKey, Endpoint, EndpointLimits, MessageSink, Now};
use wire::{Access, Grant, Guuid, Span, Ticket, TicketKeyRing, Time};

pub(crate) const UNIX_S: u64 = 1_700_000_000;
pub(crate) const PSK: [u8; 32] = [7; 32];
/// Datagrams that an end may want to send at one moment: more is without end.
pub(crate) const BURST_MAX: usize = 4_096;

/// Small limits, so that a few packets reach them.
pub(crate) fn config() -> Arc<Config> {
    Arc::new(Config {
        send_buffer_bytes_max: 256 << 10,
        receive_window_bytes: 256 << 10,
        channel_window_bytes: 128 << 10,
        message_bytes_max: 64 << 10,
        ..Config::default()
    })
}

pub(crate) fn ticket_keys() -> TicketKeyRing {
    TicketKeyRing::new([(1, [9; 32])])
}

pub(crate) fn sealed_ticket() -> Vec<u8> {
    let ticket = Ticket {
        session_id: Guuid::new(1, [1; 10]),
        writer_id: Guuid::new(2, [2; 10]).writer(),
        psk: PSK,
        expires_unix_s: UNIX_S + 600,
        grants: vec![Grant { pattern: "*".to_owned(), access: Access::Write }],
    };
    ticket_keys().seal(&ticket, [3; 12]).expect("a short ticket")
}

pub(crate) fn connection_id(n: u8) -> Guuid {
    Guuid::new(UNIX_S * 1_000, [n; 10])
}

pub(crate) fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10_000 + u16::from(n)))
}

pub(crate) fn client(n: u8, now: Time, config: &Arc<Config>) -> Connection {
    let now = Now { mono: now, unix_ms: UNIX_S * 1_000 };
    let connected =
        Connection::connect(now, config.clone(), connection_id(n), &sealed_ticket(), &PSK, [n; 32]);
    connected.expect("a valid ticket")
}

pub(crate) fn node(config: &Arc<Config>) -> Endpoint {
    let mut node = Endpoint::new(config.clone(), EndpointLimits::default(), [5; 32]);
    node.set_ticket_keys(ticket_keys());
    node
}

/// Everything delivered, and what may be consumed.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) opened: Vec<ConnectionKey>,
    pub(crate) messages: Vec<(ConnectionKey, Channel, Vec<u8>)>,
    consumed: usize,
}

impl MessageSink for Inbox {
    fn on_open(&mut self, from: ConnectionKey, _: &Ticket) {
        self.opened.push(from);
    }

    fn on_message(&mut self, from: ConnectionKey, channel: Channel, message: &[u8]) {
        self.messages.push((from, channel, message.to_vec()));
    }
}

impl Inbox {
    /// What has come since the last call.
    pub(crate) fn fresh(&mut self) -> Vec<(ConnectionKey, Channel, usize)> {
        let fresh = self.messages[self.consumed..].iter();
        let fresh = fresh.map(|(key, channel, message)| (*key, *channel, message.len())).collect();
        self.consumed = self.messages.len();
        fresh
    }
}

/// A client and a node, side by side.
pub(crate) struct Pair {
    pub(crate) now: Time,
    pub(crate) client: Connection,
    pub(crate) node: Endpoint,
    pub(crate) at_client: Inbox,
    pub(crate) at_node: Inbox,
    /// The number of the client, and of its address.
    pub(crate) n: u8,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let (config, now) = (config(), Time::from_us(1_000_000));
        Self::with(node(&config), client(1, now, &config), now, 1)
    }

    pub(crate) fn with(node: Endpoint, client: Connection, now: Time, n: u8) -> Self {
        Self { now, client, node, at_client: Inbox::default(), at_node: Inbox::default(), n }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.now, unix_ms: UNIX_S * 1_000 + self.now.as_us() / 1_000 }
    }

    /// All datagrams that the client has to send, and all of the node for it.
    pub(crate) fn take_datagrams(&mut self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut buffer = [0; 1_500];
        let (mut to_node, mut to_client) = (Vec::new(), Vec::new());
        while let Some(length) = self.client.poll_transmit(self.now, &mut buffer) {
            to_node.push(buffer[..length].to_vec());
            assert!(to_node.len() < BURST_MAX, "a client sends for ever");
        }
        while let Some((to, length)) = self.node.poll_transmit(self.now, &mut buffer) {
            if to == address(self.n) {
                to_client.push(buffer[..length].to_vec());
            }
            assert!(to_client.len() < BURST_MAX, "a node sends for ever");
        }
        (to_node, to_client)
    }

    pub(crate) fn deliver(&mut self, to_node: bool, mut datagram: Vec<u8>) {
        if to_node {
            let now = self.now();
            self.node.handle_datagram(now, address(self.n), &mut datagram, &mut self.at_node);
        } else {
            self.client.handle_datagram(self.now, &mut datagram, &mut self.at_client);
        }
    }

    /// Consumes what came, and lets a millisecond pass.
    pub(crate) fn pass(&mut self) {
        for (key, channel, bytes) in self.at_node.fresh() {
            self.node.consume(key, channel, bytes);
        }
        for (_, channel, bytes) in self.at_client.fresh() {
            self.client.consume(channel, bytes);
        }
        self.now += Span::from_ms(1);
        self.client.handle_timeout(self.now);
        self.node.handle_timeout(self.now);
    }

    /// Delivers everything as it is until `done`, at most for so many milliseconds.
    pub(crate) fn run_until(&mut self, milliseconds: usize, done: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..milliseconds {
            if done(self) {
                return true;
            }
            let (to_node, to_client) = self.take_datagrams();
            to_node.into_iter().for_each(|datagram| self.deliver(true, datagram));
            to_client.into_iter().for_each(|datagram| self.deliver(false, datagram));
            self.pass();
        }
        done(self)
    }
}
