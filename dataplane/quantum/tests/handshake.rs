//! Opening a connection: what is promised to a client, and what is refused to everybody else.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Inbox, Link, PSK, Pair, UNIX_S, client_address, connect, keys, message, sealed_ticket, ticket};
use quantum::{Channel, ClosedBy, Config, Connection, Endpoint, EndpointLimits, Event, Now, SendError};
use wire::header::HEADER_BYTES;
use wire::{Code, Guuid, Span, TicketKeyRing, Time};

const RTT: Link = Link::after(10_000);

/// The first packet of a new client.
fn initial(n: u8) -> Vec<u8> {
    let mut client = connect(Time::ZERO, &Arc::new(Config::default()), n);
    client.send(Channel::Sync, Bytes::from_static(b"join")).unwrap();
    let mut buffer = [0; 1_500];
    let length = client.poll_transmit(Time::ZERO, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

fn endpoint(limits: EndpointLimits) -> Endpoint {
    let mut node = Endpoint::new(Arc::new(Config::default()), limits, [5; 32]);
    node.set_ticket_keys(keys());
    node
}

fn now(us: u64) -> Now {
    Now { mono: Time::from_us(us), unix_ms: UNIX_S * 1_000 }
}

fn handle(node: &mut Endpoint, datagram: &[u8]) -> Inbox {
    let mut inbox = Inbox::default();
    node.handle_datagram(now(0), client_address(1), &mut datagram.to_vec(), &mut inbox);
    inbox
}

fn is_silent(node: &mut Endpoint) -> bool {
    node.poll_transmit(Time::ZERO, &mut [0; 1_500]).is_none() && node.connections_count() == 0
}

/// Takes the one answer that may come without a connection: it is short.
fn is_short(node: &mut Endpoint) -> bool {
    node.poll_transmit(Time::ZERO, &mut [0; 1_500]).is_none_or(|(_, bytes)| bytes <= 73) && is_silent(node)
}

#[test]
fn first_data_waits_for_the_handshake() {
    let mut pair = Pair::new(1, RTT);
    pair.send("join");
    let started = pair.now;
    pair.run_until(Span::from_ms(100), |pair| !pair.at_node.messages.is_empty());
    assert_eq!(pair.now.since(started), Span::from_ms(10), "half a round trip");
    assert_eq!(pair.at_node.messages[0].2, b"join");
    assert_eq!(pair.client_sent[0].len(), 1_200, "padded");
    assert_eq!(pair.at_node.opened[0].1, ticket());
    assert_eq!(pair.node_events, [(pair.key(), Event::Connected)]);
    pair.send_back("joined");
    pair.run_until(Span::from_ms(100), |pair| !pair.at_client.messages.is_empty());
    assert_eq!(pair.now.since(started), Span::from_ms(20), "the answer follows the handshake at once");
    assert_eq!(pair.client_events, [Event::Connected]);
    assert_eq!(pair.client.rtt_us(), Some(20_000));
}

#[test]
fn a_lost_handshake_packet_ends_the_connection() {
    for seed in 0..40 {
        let mut pair = Pair::new(seed, Link { loss: 50, duplicates: 20, ..RTT });
        pair.send("join");
        pair.run_until(Span::from_ms(60_000), |pair| !pair.at_node.messages.is_empty());
        pair.send_back("joined");
        pair.run_until(Span::from_ms(60_000), |pair| !pair.at_client.messages.is_empty());
        assert_eq!((pair.at_node.opened.len(), pair.at_node.messages.len()), (1, 1), "seed {seed}");
    }
}

#[test]
fn nobody_answers_and_the_client_waits_for_ever() {
    let mut pair = Pair::new(1, Link { loss: 100, ..RTT });
    pair.run(Span::from_ms(30_000));
    let Some(Event::Closed(reason)) = pair.client_events.last() else { panic!("{:?}", pair.client_events) };
    assert_eq!((reason.by, reason.code), (ClosedBy::Timeout, Code::HandshakeTimeout as u16));
    assert_eq!(pair.client.send(Channel::Sync, Bytes::new()), Err(SendError::Closed));
    assert!(pair.client_sent.len() < 20, "{} first packets", pair.client_sent.len());
}

#[test]
fn a_changed_first_packet_opens_a_connection() {
    let good = initial(1);
    let limits = EndpointLimits { unproven_per_tick_max: u32::MAX, ..EndpointLimits::default() };
    let mut node = endpoint(limits);
    for at in (0..good.len()).step_by(3).chain(0..HEADER_BYTES + 8) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        assert!(handle(&mut node, &bad).opened.is_empty(), "byte {at}");
        // The version, and the time in the connection id, are answered.
        let is_answered = at == 0 || (16..22).contains(&at);
        assert!(if is_answered { is_short(&mut node) } else { is_silent(&mut node) }, "byte {at}");
    }
    for length in [0, 47, 48, 1_199] {
        handle(&mut node, &good[..length]);
    }
    handle(&mut node, &[&[0x13], &good[1..]].concat());
    assert!(is_short(&mut node));
    let stats = *node.stats();
    for count in
        [stats.handshake_forged, stats.ticket_forged, stats.ticket_unknown_key, stats.malformed_initial]
    {
        assert!(count > 0, "{stats:?}");
    }
    assert!(
        stats.malformed_header > 0 && stats.unknown_version > 0 && stats.unknown_connection > 0,
        "{stats:?}"
    );
    assert_eq!(handle(&mut node, &good).messages[0].2, b"join");
}

#[test]
fn a_forged_or_expired_ticket_opens_a_connection() {
    let config = Arc::new(Config::default());
    let forger = TicketKeyRing::new([(1, [0xbb; 32])]).seal(&ticket(), [3; 12]).unwrap();
    let unknown = TicketKeyRing::new([(9, [9; 32])]).seal(&ticket(), [3; 12]).unwrap();
    let old = keys().seal(&wire::Ticket { expires_unix_s: UNIX_S, ..ticket() }, [3; 12]).unwrap();
    let mut node = endpoint(EndpointLimits::default());
    let mut buffer = [0; 1_500];
    for (n, sealed, psk) in
        [(1, forger, PSK), (2, unknown, PSK), (3, old, PSK), (4, sealed_ticket(), [8; 32])]
    {
        let id = Guuid::new(1, [n; 10]);
        let mut client = Connection::connect(now(0), config.clone(), id, &sealed, &psk, [n; 32]).unwrap();
        let length = client.poll_transmit(Time::ZERO, &mut buffer).unwrap();
        assert!(handle(&mut node, &buffer[..length]).opened.is_empty());
        assert!(is_silent(&mut node));
    }
    let stats = node.stats();
    assert_eq!((stats.ticket_forged, stats.ticket_unknown_key), (1, 1));
    assert_eq!((stats.ticket_expired, stats.handshake_forged), (1, 1));
}

#[test]
fn a_replayed_first_packet_opens_a_second_connection() {
    let mut pair = Pair::new(1, RTT);
    pair.send("join");
    pair.run(Span::from_ms(50));
    let first = pair.client_sent[0].clone();
    pair.fly(true, &first);
    pair.run(Span::from_ms(50));
    assert_eq!(pair.node.connection_stats().replayed, 1, "while it lives");
    let now = pair.now;
    pair.client.close(now, Code::Done as u16, "");
    pair.run(Span::from_ms(1_000));
    assert_eq!(pair.node.connections_count(), 0);
    pair.fly(true, &first);
    pair.run(Span::from_ms(50));
    assert_eq!(pair.node.stats().replayed_initial, 1, "when it is over");
    assert_eq!((pair.at_node.opened.len(), pair.at_node.messages.len()), (1, 1));
}

#[test]
fn a_spoofed_address_is_flooded() {
    let mut pair = Pair::new(1, Link { loss: 0, ..RTT });
    pair.send("join");
    pair.run_until(Span::from_ms(100), |pair| !pair.at_node.opened.is_empty());
    // Nothing more ever comes from the client.
    pair.link.loss = 100;
    for number in 0..100 {
        pair.send_back(message(number, 1_000));
    }
    pair.node_sent.clear();
    pair.run(Span::from_ms(9_000));
    let sent: usize = pair.node_sent.iter().map(Vec::len).sum();
    assert!((1_200..=3 * 1_200).contains(&sent), "{sent} bytes for 1,200");
    pair.run(Span::from_ms(2_000));
    assert_eq!(pair.node.connections_count(), 0, "half open connections end soon");
    assert!(
        matches!(&pair.node_events[..], [_, (_, Event::Closed(reason))] if reason.by == ClosedBy::Timeout)
    );
}

#[test]
fn connections_are_opened_beyond_the_limits() {
    let mut node = endpoint(EndpointLimits { connections_max: 8, half_open_max: 3, ..Default::default() });
    for n in 1..=5 {
        handle(&mut node, &initial(n));
    }
    assert_eq!((node.connections_count(), node.stats().half_open_limit), (3, 2));
    let mut node = endpoint(EndpointLimits { connections_max: 2, ..Default::default() });
    for n in 1..=5 {
        handle(&mut node, &initial(n));
    }
    assert_eq!((node.connections_count(), node.stats().connection_limit), (2, 3));
}

#[test]
fn a_forged_reply_ends_the_handshake() {
    let mut pair = Pair::new(1, Link { loss: 100, ..RTT });
    pair.flush();
    let mut forged = pair.client_sent[0].clone();
    forged[0] = 0x12;
    let now = pair.now;
    pair.client.handle_datagram(now, &mut forged, &mut pair.at_client);
    assert_eq!(pair.client.stats().forged_packet, 1);
    pair.link.loss = 0;
    pair.run_until(Span::from_ms(2_000), |pair| pair.client.is_established());
}

#[test]
fn a_ticket_or_setting_that_cannot_work_is_taken() {
    let connect = |config: Config, ticket: &[u8]| {
        Connection::connect(now(0), Arc::new(config), Guuid::NIL, ticket, &PSK, [0; 32]).map(|_| ())
    };
    assert!(connect(Config::default(), &[]).is_err());
    assert!(connect(Config::default(), &[0; 641]).is_err());
    assert!(connect(Config { datagram_bytes_max: 9_000, ..Config::default() }, &[0; 100]).is_err());
    assert!(connect(Config::default(), &[0; 640]).is_ok());
}

#[derive(Debug, Default)]
struct Shown(std::sync::Mutex<Vec<(u64, Vec<u8>)>>);

impl quantum::PacketTap for Shown {
    fn on_packet(&self, header: &[u8], frames: &[u8]) {
        let number = header[8..16].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        self.0.lock().unwrap().push((number, frames.to_vec()));
    }
}

#[test]
fn a_tap_misses_a_packet_or_sees_it_sealed() {
    let tap = Arc::new(Shown::default());
    let config = Config { tap: Some(tap.clone()), ..Config::default() };
    let mut pair = Pair::with_config(1, Link { delay_us: 1_000, ..Link::default() }, config);
    pair.send("in the first packet");
    pair.run(Span::from_ms(20));
    let shown = tap.0.lock().unwrap();
    assert_eq!(shown.len(), pair.client_sent.len() + pair.node_sent.len());
    let has = |frames: &[u8], text: &[u8]| frames.windows(text.len()).any(|window| window == text);
    assert!(has(&shown[0].1, b"in the first packet"));
    assert!(shown.iter().all(|(number, frames)| *number < 4 && !frames.is_empty()));
}
