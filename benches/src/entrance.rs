//! The way in: what a first packet costs a node, one that is to be refused above all, and a whole handshake.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use quantum::{Config, Connection, ConnectionKey, Endpoint, EndpointLimits, MessageSink, Now};
use wire::header::HEADER_BYTES;
use wire::sync::Channel;
use wire::{Guuid, Ticket, TicketKeyRing, Time};

use crate::{Visitor, Workload};

const TICKET_KEY: (u32, [u8; 32]) = (1, [2; 32]);
const UNIX_MS: u64 = 1_700_000_000_000;
/// Where the ticket's key id begins: behind a cookie of no bytes and the ticket's length (`PROTOCOL.md`, section
/// "Handshake").
const KEY_ID_OFFSET: usize = HEADER_BYTES + 1 + 2;
/// A byte of the sealed part of the ticket.
const SEALED_OFFSET: usize = KEY_ID_OFFSET + 40;
/// Handshakes that one endpoint does here.
const HANDSHAKES: usize = 64;

/// What is wrong with a first packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Forgery {
    UnknownKey,
    ForgedTicket,
    /// Everything but the Noise message is right.
    ForgedHandshake,
    /// Nothing, but it was sent before.
    Replayed,
    /// Nothing, but the node is under load: it asks for a cookie.
    Unproven,
}

pub(crate) fn visit(visitor: &mut impl Visitor) {
    let cases = [
        ("unknown_key", Forgery::UnknownKey),
        ("forged_ticket", Forgery::ForgedTicket),
        ("forged_handshake", Forgery::ForgedHandshake),
        ("replayed", Forgery::Replayed),
        ("unproven", Forgery::Unproven),
    ];
    for (name, forgery) in cases {
        visitor.visit(&format!("first_packet/{name}"), || Refused::new(forgery));
    }
    visitor.visit("first_packet/accepted", Accepted::new);
}

struct Nothing;

impl MessageSink for Nothing {
    fn on_message(&mut self, _: ConnectionKey, _: Channel, _: &[u8]) {}
}

fn now() -> Now {
    Now { mono: Time::from_us(1), unix_ms: UNIX_MS }
}

fn node(limits: EndpointLimits) -> Endpoint {
    let mut node = Endpoint::new(Arc::new(Config::default()), limits, [4; 32]);
    node.set_ticket_keys(TicketKeyRing::new([TICKET_KEY]));
    node
}

fn first_packet(n: u8) -> Vec<u8> {
    let ticket = Ticket {
        session_id: Guuid::NIL,
        writer_id: Guuid::NIL,
        psk: [1; 32],
        expires_unix_s: u64::MAX,
        grants: Vec::new(),
    };
    let sealed = TicketKeyRing::new([TICKET_KEY]).seal(&ticket, [3; 12]).expect("a small ticket");
    let id = Guuid::new(UNIX_MS, [n; 10]);
    let config = Arc::new(Config::default());
    let mut client = Connection::connect(now(), config, id, &sealed, &ticket.psk, [n; 32])
        .expect("a valid configuration and ticket");
    let mut buffer = vec![0; 1_500];
    let length = client.poll_transmit(now().mono, &mut buffer).expect("a first packet");
    buffer.truncate(length);
    buffer
}

/// A client's address.
fn from() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

struct Refused {
    node: Endpoint,
    packet: Vec<u8>,
    now: Now,
    opened: usize,
}

impl Refused {
    fn new(forgery: Forgery) -> Self {
        let limits = EndpointLimits {
            half_open_retry: if forgery == Forgery::Unproven { 0 } else { 256 },
            unproven_per_tick_max: u32::MAX,
            ..EndpointLimits::default()
        };
        let (mut node, mut packet) = (node(limits), first_packet(1));
        match forgery {
            Forgery::UnknownKey => packet[KEY_ID_OFFSET] ^= 1,
            Forgery::ForgedTicket => packet[SEALED_OFFSET] ^= 1,
            Forgery::ForgedHandshake => packet[1_199] ^= 1,
            Forgery::Unproven => {}
            Forgery::Replayed => {
                node.handle_datagram(now(), from(), &mut packet.clone(), &mut Nothing);
                node.close_all(now().mono, 0, "");
                while node.poll_transmit(now().mono, &mut [0; 1_500]).is_some() {}
                node.handle_timeout(Time::from_us(1_000_000_000));
                while node.poll_transmit(now().mono, &mut [0; 1_500]).is_some() {}
            }
        }
        let opened = node.connections_count();
        Self { node, packet, now: now(), opened }
    }
}

impl Workload for Refused {
    const STEPS: u64 = 1 << 16;

    fn step(&mut self) {
        // 100,000 a second.
        self.now.mono = Time::from_us(self.now.mono.as_us() + 10);
        self.node.handle_datagram(self.now, from(), black_box(&mut self.packet), &mut Nothing);
        let _answer = black_box(self.node.poll_transmit(self.now.mono, &mut [0; 1_500]));
        assert_eq!(self.node.connections_count(), self.opened, "a connection of a forged packet");
    }
}

struct Accepted {
    node: Endpoint,
    packets: Vec<Vec<u8>>,
}

impl Accepted {
    fn new() -> Self {
        let limits = EndpointLimits { unproven_per_tick_max: u32::MAX, ..EndpointLimits::default() };
        Self { node: node(limits), packets: (0..HANDSHAKES as u8).map(first_packet).collect() }
    }
}

impl Workload for Accepted {
    const STEPS: u64 = HANDSHAKES as u64;

    fn step(&mut self) {
        let mut packet = self.packets.pop().expect("one packet for each step");
        self.node.handle_datagram(now(), from(), &mut packet, &mut Nothing);
        let reply = black_box(self.node.poll_transmit(now().mono, &mut [0; 1_500]));
        assert!(reply.is_some(), "no answer to a first packet");
    }
}
