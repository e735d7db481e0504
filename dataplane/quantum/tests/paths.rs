//! Clients that move, and attackers who pretend that they do.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{Inbox, Link, PSK, Pair, UNIX_S, client_address, message, sealed_ticket};
use quantum::{Config, Connection};
use wire::{Guuid, Span};

const LINK: Link = Link::after(10_000);
const BYTES: usize = 700;

/// Another network, where the port alone tells nothing.
fn elsewhere(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 4_433))
}

fn node_remote(pair: &Pair) -> SocketAddr {
    pair.node.connections().next().unwrap().1
}

fn assert_delivered(pair: &Pair, count: u64) {
    for messages in [&pair.at_node.messages, &pair.at_client.messages] {
        assert_eq!(messages.len() as u64, count);
        for (number, (_, _, found)) in messages.iter().enumerate() {
            assert_eq!(found, &message(number as u64, BYTES));
        }
    }
}

/// Messages both ways for a while; `each` is called before each of them.
fn converse(pair: &mut Pair, count: u64, mut each: impl FnMut(&mut Pair, u64)) {
    for number in 0..count {
        each(pair, number);
        pair.send(message(number, BYTES));
        pair.send_back(message(number, BYTES));
        pair.run(Span::from_ms(3));
    }
    pair.run(Span::from_ms(3_000));
}

#[test]
fn a_rebinding_loses_a_message() {
    for seed in 0..20 {
        let link = Link { loss: 3, jitter_us: 2_000, ..LINK };
        let mut pair = Pair::connected(seed, link);
        converse(&mut pair, 400, |pair, number| {
            if number % 100 == 50 {
                pair.client_from = client_address(2 + (number / 100) as u16);
            }
        });
        assert_delivered(&pair, 400);
        let stats = pair.node.connection_stats();
        assert_eq!(stats.address_changes, 4, "{stats:?}");
        assert!(stats.paths_validated >= 1 && !pair.astray.is_empty(), "{stats:?}");
        assert_eq!(node_remote(&pair), pair.client_from);
    }
}

#[test]
fn a_rebinding_resets_the_window_and_a_move_keeps_it() {
    for (to, is_kept) in [(client_address(7), true), (elsewhere(7), false)] {
        let mut pair = Pair::connected(1, LINK);
        converse(&mut pair, 200, |_, _| ());
        let key = pair.key();
        let rtt = |pair: &Pair| pair.node.connection(key).unwrap().rtt_us();
        assert!(rtt(&pair).is_some());
        pair.client_from = to;
        pair.send("from there");
        pair.run_until(Span::from_ms(100), |pair| pair.at_node.messages.len() == 201);
        assert_eq!(rtt(&pair).is_some(), is_kept);
    }
}

#[test]
fn a_forwarded_packet_steals_the_connection() {
    let mut pair = Pair::connected(3, LINK);
    let attacker = elsewhere(66);
    let mut forwarded = 0;
    for number in 0..200 {
        pair.send(message(number, BYTES));
        pair.send_back(message(number, BYTES));
        let before = pair.client_sent.len();
        pair.flush();
        if number % 20 == 10 && pair.client_sent.len() > before {
            // Faster than the packet itself.
            let mut packet = pair.client_sent[before].clone();
            let now = pair.unix_now();
            pair.node.handle_datagram(now, attacker, &mut packet, &mut pair.at_node);
            assert_eq!(node_remote(&pair), attacker);
            forwarded += 1;
        }
        pair.run(Span::from_ms(3));
        pair.run(Span::from_ms(if number % 20 == 10 { 60 } else { 0 }));
    }
    pair.run(Span::from_ms(3_000));
    assert_delivered(&pair, 200);
    assert_eq!(node_remote(&pair), client_address(1));
    let stats = pair.node.connection_stats();
    assert_eq!((stats.address_changes, stats.path_returns), (forwarded, forwarded), "{stats:?}");
    assert_eq!(stats.paths_validated, 0);
    let stolen: usize = pair.astray.iter().map(|(_, datagram)| datagram.len()).sum();
    assert!(stolen <= 3 * forwarded as usize * 1_200, "{stolen} bytes to the attacker");
}

#[test]
fn an_address_that_does_not_answer_is_flooded_or_kept() {
    let mut pair = Pair::connected(5, LINK);
    pair.send("here");
    pair.run(Span::from_ms(100));
    let before = pair.client_sent.len();
    pair.send("the next one");
    pair.flush();
    let mut packet = pair.client_sent[before].clone();
    let bytes = packet.len();
    pair.link.loss = 100;
    let now = pair.unix_now();
    pair.node.handle_datagram(now, elsewhere(9), &mut packet, &mut pair.at_node);
    for number in 0..100 {
        pair.send_back(message(number, BYTES));
    }
    let sent = pair.node_sent.len();
    pair.run(Span::from_ms(500));
    // Each probe of the path before is as long as every path must carry.
    let to_stranger: usize =
        pair.node_sent[sent..].iter().map(Vec::len).filter(|length| *length != 1_200).sum();
    assert!(to_stranger <= 3 * bytes, "{to_stranger} bytes for {bytes}");
    pair.run(Span::from_ms(1_000));
    assert_eq!(node_remote(&pair), client_address(1), "back where it was");
    assert_eq!(pair.node.connection_stats().paths_failed, 1);
    pair.link.loss = 0;
    pair.run_until(Span::from_ms(20_000), |pair| pair.at_client.messages.len() == 100);
}

#[test]
fn a_deliberate_move_is_seen_by_its_connection_id() {
    let mut pair = Pair::connected(1, LINK);
    converse(&mut pair, 50, |_, _| ());
    let id_of = |packet: &[u8]| packet[16..32].to_vec();
    let first = id_of(&pair.client_sent[0]);
    for n in 0..10 {
        let (client, node) = (pair.client_sent.len(), pair.node_sent.len());
        pair.client_from = elsewhere(n);
        let now = pair.now;
        pair.client.migrate(now);
        pair.send(message(50 + u64::from(n), BYTES));
        pair.run(Span::from_ms(15));
        pair.send_back(message(50 + u64::from(n), BYTES));
        pair.run(Span::from_ms(3_000));
        let ids: Vec<_> = pair.client_sent[client..].iter().map(|packet| id_of(packet)).collect();
        assert!(ids.iter().all(|id| *id == ids[0] && *id != first), "{n}");
        assert_eq!(ids[0][15], first[15], "the shard");
        let earlier = &pair.client_sent[..client];
        assert!(earlier.iter().all(|packet| id_of(packet) != ids[0]));
        assert_eq!(id_of(&pair.node_sent[node..].last().unwrap().clone()), ids[0]);
        assert_eq!(node_remote(&pair), elsewhere(n));
    }
    assert_delivered(&pair, 60);
    let (client, node) = (pair.client.stats(), pair.node.connection_stats());
    assert_eq!((client.id_changes, node.id_changes), (10, 10));
    assert_eq!((client.paths_validated, node.paths_validated), (10, 10), "{node:?}");
    assert_eq!(pair.client.id().as_bytes()[..], first);
}

#[test]
fn rotating_ids_lose_a_message_or_fill_the_map() {
    let config = Config { connection_id_packets: Some(10), ..Config::default() };
    for seed in 0..10 {
        let mut pair = Pair::with_config(seed, LINK, config.clone());
        pair.run(Span::from_ms(100));
        pair.link = Link { loss: 5, duplicates: 5, flips: 2, jitter_us: 5_000, ..LINK };
        converse(&mut pair, 300, |_, _| ());
        assert_delivered(&pair, 300);
        let (client, node) = (pair.client.stats(), pair.node.connection_stats());
        assert!(client.id_changes > 3, "{client:?}");
        assert!(node.id_changes.abs_diff(client.id_changes) <= 1);
    }
}

#[test]
fn an_old_id_is_taken_for_ever() {
    let mut pair = Pair::connected(1, LINK);
    pair.send("here");
    pair.run(Span::from_ms(100));
    let before = pair.client_sent.len();
    pair.send("late");
    pair.flush();
    let late = pair.client_sent[before].clone();
    let now = pair.now;
    assert!(pair.client.rotate_connection_id(now));
    pair.send("after");
    pair.run(Span::from_ms(2_000));
    assert_eq!(pair.at_node.messages.len(), 3);
    let unknown = pair.node.stats().unknown_connection;
    pair.fly(true, &late);
    pair.run(Span::from_ms(100));
    assert_eq!(pair.node.stats().unknown_connection, unknown + 1);
    let key = pair.key();
    let now = pair.now;
    pair.node.close(now, key, 0, "done");
    pair.run(Span::from_ms(1_000));
    let packets = pair.client_sent.clone();
    for packet in &packets[1..] {
        pair.fly(true, packet);
    }
    let received = pair.node.stats().datagrams_received;
    pair.run(Span::from_ms(100));
    let stats = pair.node.stats();
    let unknown = stats.unknown_connection - unknown - 1;
    assert_eq!(unknown, stats.datagrams_received - received, "an id outlives its connection");
}

#[test]
fn an_id_of_somebody_else_is_taken_over() {
    let mut pair = Pair::connected(1, LINK);
    pair.run(Span::from_ms(100));
    // Another client with the same entropy comes upon the same ids.
    let config = Arc::new(Config::default());
    let now = pair.unix_now();
    let id = Guuid::new(UNIX_S * 1_000, [9; 10]).with_shard(pair.client.id().shard());
    let mut twin = Connection::connect(now, config, id, &sealed_ticket(), &PSK, [1; 32]).unwrap();
    let mut at_twin = Inbox::default();
    let mut buffer = [0; 1_500];
    for _ in 0..20 {
        let now = pair.unix_now();
        while let Some(length) = twin.poll_transmit(now.mono, &mut buffer) {
            pair.node.handle_datagram(now, elsewhere(8), &mut buffer[..length], &mut pair.at_node);
        }
        while let Some((to, length)) = pair.node.poll_transmit(now.mono, &mut buffer) {
            assert_eq!(to, elsewhere(8));
            twin.handle_datagram(now.mono, &mut buffer[..length], &mut at_twin);
        }
        pair.now += Span::from_ms(1);
        pair.node.handle_timeout(pair.now);
        twin.handle_timeout(pair.now);
    }
    assert_eq!(pair.node.connection_stats().ids_refused, 1);
    let now = pair.now;
    assert!(twin.rotate_connection_id(now), "it has been given another");
    assert!(pair.client.rotate_connection_id(now));
    pair.send("mine");
    pair.run(Span::from_ms(100));
    assert_eq!(pair.at_node.messages.len(), 1);
    assert_eq!(pair.at_node.messages[0].0, pair.key());
}

#[test]
fn who_repeats_a_first_packet_from_elsewhere_and_then_overtakes_its_client_is_taken_for_it() {
    let mut pair = Pair::new(1, LINK);
    pair.run(Span::from_ms(10));
    // The node has answered the client, and answers a stranger, too.
    let stranger = elsewhere(66);
    let mut first = pair.client_sent[0].clone();
    pair.node.handle_datagram(pair.unix_now(), stranger, &mut first, &mut pair.at_node);
    pair.run_until(Span::from_ms(100), |pair| pair.client.is_established());
    let mut second = pair.client_sent.last().unwrap().clone();
    let received = first.len() + second.len();
    pair.node.handle_datagram(pair.unix_now(), stranger, &mut second, &mut pair.at_node);
    for number in 0..100 {
        pair.send_back(message(number, BYTES));
    }
    pair.run(Span::from_ms(500));
    let stolen: usize =
        pair.astray.iter().filter(|(to, _)| *to == stranger).map(|(_, datagram)| datagram.len()).sum();
    assert!(stolen > 0 && stolen <= 3 * received, "{stolen} bytes for {received}");
    pair.send("here");
    pair.run_until(Span::from_ms(20_000), |pair| pair.at_client.messages.len() == 100);
    assert_eq!(node_remote(&pair), client_address(1));
}
