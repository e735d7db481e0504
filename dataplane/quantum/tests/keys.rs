//! Key updates while messages flow.

mod common;

use common::{Link, Pair, message};
use quantum::Config;
use wire::Span;

const LINK: Link =
    Link { loss: 0, duplicates: 0, flips: 0, delay_us: 5_000, jitter_us: 0, bytes_per_ms: 0, queue_bytes: 0 };

/// Everything that was sent has come, once and in order.
fn assert_delivered(pair: &Pair, count: u64) {
    for messages in [&pair.at_node.messages, &pair.at_client.messages] {
        assert_eq!(messages.len() as u64, count);
        for (number, (_, _, found)) in messages.iter().enumerate() {
            assert_eq!(found, &message(number as u64, 900));
        }
    }
}

#[test]
fn a_key_update_loses_a_message() {
    let config = Config { key_update_packets: 20, ..Config::default() };
    for seed in 0..20 {
        let link = Link { loss: 5, duplicates: 5, flips: 3, jitter_us: 3_000, ..LINK };
        let mut pair = Pair::with_config(seed, LINK, config.clone());
        pair.run(Span::from_ms(100));
        pair.link = link;
        for number in 0..500 {
            pair.send(message(number, 900));
            pair.send_back(message(number, 900));
            pair.run(Span::from_ms(2));
        }
        pair.run(Span::from_ms(5_000));
        assert_delivered(&pair, 500);
        let (client, node) = (pair.client.stats(), pair.node.connection_stats());
        assert!(client.key_updates > 5, "{client:?}");
        // The last update may have begun with a packet that was lost.
        assert!(client.key_updates.abs_diff(node.key_updates) <= 1, "{client:?} {node:?}");
    }
}

#[test]
fn both_ends_updating_at_once_part_company() {
    let config = Config { key_update_packets: 1, ..Config::default() };
    let mut pair = Pair::with_config(1, LINK, config);
    pair.run(Span::from_ms(100));
    for number in 0..300 {
        pair.send(message(number, 900));
        pair.send_back(message(number, 900));
        pair.run(Span::from_ms(5));
    }
    pair.run(Span::from_ms(1_000));
    assert_delivered(&pair, 300);
    assert!(pair.client.stats().key_updates > 10);
    assert_eq!(pair.client.stats().forged_packet, 0);
}

#[test]
fn an_update_asked_for_does_not_come_or_comes_twice() {
    let mut pair = Pair::connected(1, LINK);
    pair.send("in the first phase");
    pair.run(Span::from_ms(100));
    assert!(pair.client.update_keys());
    assert!(!pair.client.update_keys(), "the first is not acknowledged");
    pair.send("in the second");
    pair.run(Span::from_ms(100));
    assert_eq!(pair.at_node.messages.len(), 2);
    assert_eq!(pair.node.connection_stats().key_updates, 1);
    pair.run(Span::from_ms(1_000));
    assert!(pair.client.update_keys());
}

#[test]
fn a_packet_is_replayed_into_a_later_phase() {
    let config = Config { key_update_packets: 50, ..Config::default() };
    let mut pair = Pair::with_config(1, LINK, config);
    pair.run(Span::from_ms(100));
    for number in 0..400 {
        pair.send(message(number, 900));
        pair.run(Span::from_ms(5));
    }
    pair.run(Span::from_ms(100));
    assert_eq!(pair.at_node.messages.len(), 400);
    let updates = pair.node.connection_stats().key_updates;
    assert!(updates > 2);
    let packets = pair.client_sent.clone();
    for packet in &packets {
        pair.fly(true, packet);
        // The same packet, as if it were of the other phase.
        let mut flipped = packet.clone();
        flipped[1] ^= 0x80;
        flipped[8] = 0x10;
        pair.fly(true, &flipped);
    }
    pair.run(Span::from_ms(100));
    assert_eq!(pair.at_node.messages.len(), 400);
    assert_eq!(pair.node.connection_stats().key_updates, updates);
    pair.send("still there");
    pair.run(Span::from_ms(100));
    assert_eq!(pair.at_node.messages.len(), 401);
}
