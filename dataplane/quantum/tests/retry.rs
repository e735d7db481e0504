//! A node under load, or with too little memory: it asks clients to show where they are, and takes each packet once.

mod common;

use std::sync::Arc;

use common::{Inbox, Link, PSK, Pair, UNIX_S, client_address, keys, message, ticket};
use quantum::{Channel, Config, Connection, Endpoint, EndpointLimits, Now, audience};
use wire::limits::TICKET_BYTES_MAX;
use wire::{Access, Grant, Guuid, Span, Ticket, Time};

const RTT: Link = Link::after(10_000);
/// Every first packet needs a cookie.
const LOADED: EndpointLimits = EndpointLimits {
    connections_max: 1_000,
    half_open_max: 1_000,
    half_open_retry: 0,
    unproven_per_tick_max: 0,
    used_ids_max: 1_000,
    receive_buffer_bytes_max: 256 << 20,
    send_buffer_bytes_max: 1 << 30,
};
const RETRY_TYPE: u8 = 0x14;

fn endpoint(limits: EndpointLimits) -> Endpoint {
    let mut node = Endpoint::new(Arc::new(Config::default()), limits, [5; 32]);
    node.set_ticket_keys(keys());
    node
}

fn loaded(seed: u64, link: Link) -> Pair {
    let mut pair = Pair::new(seed, link);
    pair.node = endpoint(LOADED);
    pair
}

fn at(ms: u64) -> Now {
    Now { mono: Time::from_us(ms * 1_000), unix_ms: UNIX_S * 1_000 + ms }
}

fn id(unix_ms: u64, n: u64) -> Guuid {
    let mut entropy = [0; 10];
    entropy[2..].copy_from_slice(&n.to_be_bytes());
    Guuid::new(unix_ms, entropy)
}

/// The first packet of a client whose clock shows `unix_ms`.
fn first_packet(n: u64, unix_ms: u64) -> (Connection, Vec<u8>) {
    let sealed = keys().seal(&ticket(), [3; 12]).unwrap();
    let mut entropy = [1; 32];
    entropy[..8].copy_from_slice(&n.to_be_bytes());
    let config = Arc::new(Config::default());
    let mut client = Connection::connect(at(0), config, id(unix_ms, n), &sealed, &PSK, entropy).unwrap();
    client.send(Channel::Sync, "join".into()).unwrap();
    let first = transmit(&mut client, at(0));
    (client, first)
}

fn transmit(client: &mut Connection, now: Now) -> Vec<u8> {
    let mut buffer = [0; 1_500];
    let length = client.poll_transmit(now.mono, &mut buffer).expect("a packet");
    buffer[..length].to_vec()
}

/// Hands a datagram over; returns whether it opened a connection, and the last answer.
fn handle(node: &mut Endpoint, now: Now, from: u16, datagram: &[u8]) -> (bool, Option<Vec<u8>>) {
    let mut inbox = Inbox::default();
    node.handle_datagram(now, client_address(from), &mut datagram.to_vec(), &mut inbox);
    let (mut buffer, mut answer) = ([0; 1_500], None);
    while let Some((to, bytes)) = node.poll_transmit(now.mono, &mut buffer) {
        if to == client_address(from) {
            answer = Some(buffer[..bytes].to_vec());
        }
    }
    (!inbox.opened.is_empty(), answer)
}

/// Lets a client answer a RETRY; returns its second first packet.
fn answer_retry(client: &mut Connection, now: Now, retry: &[u8]) -> Vec<u8> {
    assert_eq!((retry[0], retry.len()), (RETRY_TYPE, 73));
    client.handle_datagram(now.mono, &mut retry.to_vec(), &mut Inbox::default());
    transmit(client, now)
}

/// Ends all connections, and lets them be forgotten.
fn end_all(node: &mut Endpoint, now: Time) {
    node.close_all(now, 0, "");
    while node.poll_transmit(now, &mut [0; 1_500]).is_some() {}
    node.handle_timeout(now + Span::from_ms(100_000));
    while node.poll_transmit(now, &mut [0; 1_500]).is_some() {}
    assert_eq!(node.connections_count(), 0);
}

#[test]
fn a_node_under_load_turns_clients_away_or_makes_state_for_strangers() {
    let mut pair = loaded(1, RTT);
    pair.send("join");
    let started = pair.now;
    pair.run_until(Span::from_ms(100), |pair| pair.node.stats().retries_sent == 1);
    assert_eq!((pair.node.connections_count(), pair.now.since(started)), (0, Span::from_ms(10)));
    pair.run_until(Span::from_ms(100), |pair| !pair.at_node.messages.is_empty());
    assert_eq!(pair.now.since(started), Span::from_ms(30), "one round trip more");
    assert_eq!(pair.at_node.messages[0].2, b"join");
    pair.send_back("joined");
    pair.run_until(Span::from_ms(100), |pair| !pair.at_client.messages.is_empty());
    assert_eq!(pair.now.since(started), Span::from_ms(40));
    assert_eq!((pair.client.stats().retries, pair.client.stats().packets_lost), (1, 0));
    assert_eq!(pair.client.rtt_us(), Some(20_000));
    assert!(pair.client_sent.iter().take(2).all(|first| first.len() == 1_200));
}

#[test]
fn a_retry_loses_repeats_or_reorders_early_messages() {
    for seed in 0..60 {
        let mut pair = loaded(seed, Link { loss: 20, duplicates: 20, jitter_us: 15_000, ..RTT });
        for number in 0..20 {
            pair.send(message(number, 100));
        }
        pair.run_until(Span::from_ms(60_000), |pair| pair.at_node.messages.len() == 20);
        pair.run(Span::from_ms(20_000));
        assert_eq!((pair.at_node.opened.len(), pair.at_node.messages.len()), (1, 20), "seed {seed}");
        for (number, (_, _, bytes)) in (0..).zip(&pair.at_node.messages) {
            assert_eq!(*bytes, message(number, 100), "seed {seed}");
        }
        assert!(pair.client.queued_bytes() == 0, "seed {seed}: {} bytes stay", pair.client.queued_bytes());
    }
}

#[test]
fn the_largest_ticket_and_a_cookie_leave_no_room_for_a_join() {
    let grant = |bytes: usize| Grant { pattern: "x".repeat(bytes), access: Access::Read };
    let with = |last| Ticket { grants: vec![grant(200), grant(200), grant(last)], ..ticket() };
    let last = (1..200).rev().find(|&last| keys().seal(&with(last), [3; 12]).is_ok()).unwrap();
    let sealed = keys().seal(&with(last), [3; 12]).unwrap();
    assert_eq!(sealed.len(), TICKET_BYTES_MAX);
    let config = Arc::new(Config::default());
    let id = id(UNIX_S * 1_000, 1);
    let mut client = Connection::connect(at(0), config, id, &sealed, &PSK, [1; 32]).unwrap();
    client.send(Channel::Sync, message(1, 300).into()).unwrap();
    let first = transmit(&mut client, at(0));
    let mut node = endpoint(LOADED);
    let retry = handle(&mut node, at(0), 1, &first).1.expect("a retry");
    let second = answer_retry(&mut client, at(0), &retry);
    assert_eq!(second.len(), 1_200);
    let mut inbox = Inbox::default();
    node.handle_datagram(at(0), client_address(1), &mut second.clone(), &mut inbox);
    assert_eq!(inbox.messages[0].2, message(1, 300));
}

#[test]
fn a_forged_or_second_retry_moves_a_client() {
    let (mut client, first) = first_packet(1, UNIX_S * 1_000);
    let retry = handle(&mut endpoint(LOADED), at(0), 1, &first).1.expect("a retry");
    let other = handle(&mut endpoint(LOADED), at(0), 1, &first_packet(1, UNIX_S * 1_000 + 1).1);
    let mut other = other.1.expect("a retry");
    other[16..32].copy_from_slice(&first[16..32]);
    let mut inbox = Inbox::default();
    client.handle_datagram(Time::ZERO, &mut other, &mut inbox);
    for byte in 0..retry.len() {
        let mut forged = retry.clone();
        forged[byte] ^= 1;
        client.handle_datagram(Time::ZERO, &mut forged, &mut inbox);
    }
    assert_eq!(client.stats().retries, 0);
    assert!(client.poll_transmit(Time::ZERO, &mut [0; 1_500]).is_none());
    let second = answer_retry(&mut client, at(0), &retry);
    assert_ne!(second[32..], first[32..]);
    for _ in 0..3 {
        client.handle_datagram(Time::ZERO, &mut retry.clone(), &mut inbox);
        assert!(client.poll_transmit(Time::ZERO, &mut [0; 1_500]).is_none(), "answered twice");
    }
    // A node that is no longer under load answers the first of them.
    let mut node = endpoint(EndpointLimits::default());
    let (is_opened, reply) = handle(&mut node, at(0), 1, &first);
    assert!(is_opened);
    assert!(!handle(&mut node, at(0), 1, &second).0);
    client.handle_datagram(Time::ZERO, &mut reply.expect("an answer"), &mut inbox);
    assert!(client.is_established());
    client.handle_datagram(Time::ZERO, &mut retry.clone(), &mut inbox);
    assert!(client.is_established() && client.stats().retries == 1);
}

#[test]
fn both_first_packets_of_a_client_open_connections() {
    // One connection is half open, so that a cookie is asked for; it is gone when the second packet arrives.
    let mut node = endpoint(EndpointLimits { half_open_retry: 1, ..EndpointLimits::default() });
    assert!(handle(&mut node, at(0), 1, &first_packet(1, UNIX_S * 1_000).1).0);
    let (mut client, first) = first_packet(2, UNIX_S * 1_000);
    let retry = handle(&mut node, at(0), 2, &first).1.expect("a retry");
    let second = answer_retry(&mut client, at(20), &retry);
    node.handle_timeout(at(20_000).mono);
    let now = Now { mono: at(20_001).mono, ..at(30) };
    let (is_opened, reply) = handle(&mut node, now, 2, &first);
    assert!(is_opened && !handle(&mut node, now, 2, &second).0);
    let mut inbox = Inbox::default();
    client.handle_datagram(at(40).mono, &mut reply.expect("an answer"), &mut inbox);
    assert!(client.is_established(), "the answer to the first is as good");
    assert_eq!(node.stats().connections_opened, 2);
}

#[test]
fn a_cookie_serves_from_another_address_or_after_its_time() {
    let (mut client, first) = first_packet(1, UNIX_S * 1_000);
    let mut node = endpoint(LOADED);
    let retry = handle(&mut node, at(0), 1, &first).1.expect("a retry");
    let second = answer_retry(&mut client, at(0), &retry);
    assert!(!handle(&mut node, at(0), 2, &second).0, "another address");
    assert!(!handle(&mut node, at(10_001), 1, &second).0, "too late");
    assert_eq!(node.stats().cookie_invalid, 2);
    assert!(handle(&mut node, at(10_000), 1, &second).0);
    assert!(!handle(&mut node, at(10_000), 1, &second).0);
}

#[test]
fn strangers_fill_the_table_of_half_open_connections() {
    let mut node = endpoint(EndpointLimits { unproven_per_tick_max: 1_000_000, ..EndpointLimits::default() });
    for n in 0..2_000 {
        handle(&mut node, at(n), 1, &first_packet(n, UNIX_S * 1_000).1);
    }
    assert_eq!(node.connections_count(), 256, "who shows no address");
    assert_eq!(node.stats().retries_sent, 2_000 - 256);
    let (mut client, first) = first_packet(5_000, UNIX_S * 1_000);
    let retry = handle(&mut node, at(2_000), 2, &first).1.expect("a retry");
    assert!(handle(&mut node, at(2_001), 2, &answer_retry(&mut client, at(2_001), &retry)).0, "who does");
}

#[test]
fn handshakes_with_strangers_take_all_of_a_core() {
    let mut node = endpoint(EndpointLimits {
        half_open_max: 5_000,
        half_open_retry: 5_000,
        ..EndpointLimits::default()
    });
    // 1,000 in one millisecond, and as many in the one hundred after.
    for n in 0..1_000 {
        handle(&mut node, at(1), 1, &first_packet(n, UNIX_S * 1_000).1);
    }
    assert_eq!((node.stats().connections_opened, node.stats().retries_sent), (64, 936));
    for n in 1_000..2_000 {
        handle(&mut node, at(n / 10 - 90), 1, &first_packet(n, UNIX_S * 1_000).1);
    }
    assert_eq!(node.stats().connections_opened, 64 + 640);
}

#[test]
fn a_replayed_first_packet_is_taken_when_memory_is_short() {
    let limits = EndpointLimits { used_ids_max: 32, ..EndpointLimits::default() };
    let mut node = endpoint(limits);
    let firsts: Vec<_> = (0..200).map(|n| first_packet(n, UNIX_S * 1_000 + n).1).collect();
    for (n, first) in (0..).zip(&firsts) {
        assert!(handle(&mut node, at(n), 1, first).0, "{n}");
        end_all(&mut node, at(n).mono);
    }
    for (n, first) in (0..).zip(&firsts) {
        assert!(!handle(&mut node, at(300 + n), 1, first).0, "{n}");
    }
    let stats = node.stats();
    assert_eq!((stats.connections_opened, stats.replayed_initial), (200, 32));
    assert_eq!(stats.retries_sent, 168, "what is forgotten needs a cookie");
    // A client whose clock is late, ten seconds, is none of them, and comes in.
    let (mut client, first) = first_packet(900, UNIX_S * 1_000 - 10_000);
    let retry = handle(&mut node, at(600), 1, &first).1.expect("a retry");
    let second = answer_retry(&mut client, at(600), &retry);
    assert!(handle(&mut node, at(600), 1, &second).0);
    assert!(!handle(&mut node, at(600), 1, &second).0);
}

#[test]
fn a_first_packet_of_before_a_restart_is_taken_after_it() {
    let first = first_packet(1, UNIX_S * 1_000 + 1_000).1;
    assert!(handle(&mut endpoint(EndpointLimits::default()), at(0), 1, &first).0);
    let mut node = endpoint(EndpointLimits::default());
    node.handle_restart(at(500).unix_ms);
    assert!(!handle(&mut node, at(600), 1, &first).0);
    assert!(!handle(&mut node, at(60_000), 1, &first).0);
    assert_eq!(node.stats().retries_sent, 2);
    assert!(handle(&mut node, at(2_600), 1, &first_packet(2, UNIX_S * 1_000 + 2_600).1).0);
}

#[test]
fn a_client_that_moves_during_the_handshake_is_lost() {
    let mut pair = Pair::new(1, RTT);
    pair.send("join");
    pair.run_until(Span::from_ms(100), |pair| !pair.at_node.opened.is_empty());
    // HANDSHAKE leaves for an address that the client no longer has.
    let mut buffer = [0; 1_500];
    while pair.node.poll_transmit(pair.now, &mut buffer).is_some() {}
    pair.client_from = client_address(2);
    pair.run_until(Span::from_ms(1_000), |pair| pair.client.is_established());
    assert_eq!(pair.at_node.opened.len(), 1);
}

#[test]
fn a_client_waits_for_a_lost_retry_for_ever() {
    let mut pair = loaded(3, Link { loss: 100, ..RTT });
    pair.send("join");
    pair.run(Span::from_ms(300));
    pair.link.loss = 0;
    pair.run_until(Span::from_ms(2_000), |pair| !pair.at_node.messages.is_empty());
}

#[test]
fn a_first_packet_is_taken_by_a_node_that_it_is_not_for() {
    let sealed = keys().seal(&ticket(), [3; 12]).unwrap();
    let first = |address: Option<&str>| {
        let config = Arc::new(Config::default());
        let id = id(UNIX_S * 1_000, 1);
        let mut client = Connection::connect(at(0), config, id, &sealed, &PSK, [1; 32]).unwrap();
        if let Some(address) = address {
            client.set_audience(audience(address));
        }
        transmit(&mut client, at(0))
    };
    let node = |address: &str| {
        let mut node = endpoint(EndpointLimits::default());
        node.set_audience(audience(address));
        node
    };
    let (mut here, mut there) = (node("10.0.0.1:4433"), node("10.0.0.2:4433"));
    assert!(handle(&mut here, at(0), 1, &first(Some("10.0.0.1:4433"))).0);
    assert_eq!(handle(&mut there, at(0), 1, &first(Some("10.0.0.1:4433"))), (false, None));
    assert_eq!(there.stats().wrong_audience, 1);
    assert!(handle(&mut there, at(0), 1, &first(None)).0, "a client that does not know");
    assert!(handle(&mut endpoint(EndpointLimits::default()), at(0), 1, &first(Some("10.0.0.1:4433"))).0);
}
