//! A client and a node's endpoint in one thread: all of the transport, without a network.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quantum::{Channel, Config, Connection, ConnectionKey, Endpoint, EndpointLimits, MessageSink, Now};
use wire::{Guuid, Span, Ticket, TicketKeyRing, Time};

const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
const DATAGRAM_BUFFER_BYTES: usize = 1_500;
/// The time of one step on the clock of the machines, which is an argument: near what it takes.
const STEP: Span = Span::from_us(10);

/// Counts what is delivered.
#[derive(Default)]
pub(crate) struct Inbox {
    key: ConnectionKey,
    bytes: usize,
    pub(crate) messages: u64,
}

impl MessageSink for Inbox {
    fn on_open(&mut self, from: ConnectionKey, _: &Ticket) {
        self.key = from;
    }

    fn on_message(&mut self, _: ConnectionKey, _: Channel, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len();
    }
}

/// Both ends of a connection.
pub(crate) struct Pair {
    now: Now,
    pub(crate) client: Connection,
    node: Endpoint,
    at_client: Inbox,
    pub(crate) at_node: Inbox,
    buffer: [u8; DATAGRAM_BUFFER_BYTES],
}

impl Pair {
    /// A connection whose handshake is complete and that has nothing left to say.
    pub(crate) fn connect() -> Self {
        let ticket = Ticket {
            session_id: Guuid::NIL,
            writer_id: Guuid::NIL,
            psk: [1; 32],
            expires_unix_s: u64::MAX,
            grants: Vec::new(),
        };
        let keys = TicketKeyRing::new([(1, [2; 32])]);
        let sealed = keys.seal(&ticket, [3; 12]).expect("a small ticket");
        let config = Arc::new(Config::default());
        let mut node = Endpoint::new(config.clone(), EndpointLimits::default(), [4; 32]);
        node.set_ticket_keys(keys);
        let now = Now { mono: Time::from_us(1_000_000), unix_ms: 0 };
        let client = Connection::connect(now, config, Guuid::new(1, [5; 10]), &sealed, &ticket.psk, [6; 32])
            .expect("a valid configuration and ticket");
        let (at_client, at_node) = (Inbox::default(), Inbox::default());
        let mut pair = Self { now, client, node, at_client, at_node, buffer: [0; DATAGRAM_BUFFER_BYTES] };
        while !pair.client.is_established() {
            pair.exchange();
        }
        pair.settle();
        pair
    }

    /// Queues a message at the client.
    pub(crate) fn send(&mut self, message: &Bytes) {
        self.client.send(Channel::Sync, message.clone()).expect("room for a message");
    }

    /// Queues a message at the node.
    pub(crate) fn send_back(&mut self, message: &Bytes) {
        self.node.send(self.at_node.key, Channel::Sync, message.clone()).expect("room for a message");
    }

    /// Moves all that there is to send to the node, then all that there is to send to the client.
    pub(crate) fn exchange(&mut self) {
        self.now.mono += STEP;
        self.deliver_to_node();
        self.deliver_to_client();
    }

    /// All that the client has to send, delivered and consumed.
    pub(crate) fn deliver_to_node(&mut self) {
        while let Some(length) = self.client.poll_transmit(self.now.mono, &mut self.buffer) {
            self.node.handle_datagram(self.now, CLIENT, &mut self.buffer[..length], &mut self.at_node);
        }
        self.node.consume(self.at_node.key, Channel::Sync, std::mem::take(&mut self.at_node.bytes));
        self.node.handle_timeout(self.now.mono);
    }

    /// All that the node has to send, delivered and consumed.
    pub(crate) fn deliver_to_client(&mut self) {
        while let Some((_, length)) = self.node.poll_transmit(self.now.mono, &mut self.buffer) {
            self.client.handle_datagram(self.now.mono, &mut self.buffer[..length], &mut self.at_client);
        }
        self.client.consume(Channel::Sync, std::mem::take(&mut self.at_client.bytes));
        self.client.handle_timeout(self.now.mono);
    }

    /// Lets time pass until everything is acknowledged.
    pub(crate) fn settle(&mut self) {
        while self.client.in_flight_bytes() > 0 || self.client.queued_bytes() > 0 {
            self.now.mono += quantum::ACK_DELAY_MAX;
            self.exchange();
        }
    }

    /// The next datagram of the client, written where the caller wants it; 0 when there is none.
    pub(crate) fn transmit_into(&mut self, buffer: &mut [u8]) -> usize {
        self.now.mono += STEP;
        self.client.poll_transmit(self.now.mono, buffer).unwrap_or(0)
    }

    /// The node's application has taken so much.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.at_node.bytes = 0;
        self.node.consume(self.at_node.key, Channel::Sync, bytes);
    }

    /// The next datagram of the client, taken out of the machine.
    pub(crate) fn transmit(&mut self) -> Option<Vec<u8>> {
        let length = self.client.poll_transmit(self.now.mono, &mut self.buffer)?;
        Some(self.buffer[..length].to_vec())
    }

    /// Hands a datagram of the client to the node.
    pub(crate) fn receive(&mut self, datagram: &mut [u8]) {
        self.node.handle_datagram(self.now, CLIENT, datagram, &mut self.at_node);
    }

    /// The next datagram of the node, taken out of the machine.
    pub(crate) fn transmit_back(&mut self) -> Option<Vec<u8>> {
        let (_, length) = self.node.poll_transmit(self.now.mono, &mut self.buffer)?;
        Some(self.buffer[..length].to_vec())
    }

    /// Hands a datagram of the node to the client.
    pub(crate) fn receive_back(&mut self, datagram: &mut [u8]) {
        self.client.handle_datagram(self.now.mono, datagram, &mut self.at_client);
    }
}
