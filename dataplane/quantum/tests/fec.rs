//! What is lost comes back by repairs, within the deadline and at the price that was asked for.

mod common;

use common::{Link, Pair, message};
use quantum::{Channel, Config, ConnectionStats, FecConfig};
use wire::Span;

const LINK: Link = Link::after(20_000);

/// Sends `count` messages, one every six milliseconds; returns the counters of the sender and the receiver.
fn stream(pair: &mut Pair, channel: Channel, count: u64) -> (ConnectionStats, ConnectionStats) {
    for number in 0..count {
        pair.client.send(channel, message(number, 150).into()).unwrap();
        pair.run(Span::from_ms(6));
    }
    pair.link.loss = 0;
    pair.run(Span::from_ms(1_000));
    let node = pair.node.connections().next().map(|(connection, _)| *connection.stats());
    (*pair.client.stats(), node.unwrap())
}

fn lossy(loss: u64, config: Config) -> Pair {
    Pair::connected_with(loss + 1, Link { loss, ..LINK }, config)
}

#[test]
fn what_is_lost_waits_for_a_retransmission() {
    let mut pair = lossy(2, Config::default());
    let (client, node) = stream(&mut pair, Channel::Sync, 6_000);
    assert_eq!(pair.at_node.messages.len(), 6_000);
    let lost = client.packets_lost;
    assert!(node.fec_recovered * 10 >= client.fec_symbols_sent / 50 * 9, "{client:?} {node:?}");
    assert!(client.bytes_retransmitted < 150 * lost / 10, "{client:?}");
    assert!(client.fec_peer_recovered + 20 >= node.fec_recovered, "{client:?} {node:?}");
    let times = pair.node.connections().next().unwrap().0.fec_recovery_times().unwrap().clone();
    assert_eq!(times.count(), node.fec_recovered);
    assert!(times.percentile_us(0.95).unwrap() < 12_000, "{:?}", times.percentile_us(0.95));
}

#[test]
fn a_message_that_comes_back_and_late_is_delivered_twice() {
    for channel in [Channel::Datagram, Channel::Sync] {
        // Packets are late by more than repairs take.
        let link = Link { loss: 5, duplicates: 5, jitter_us: 15_000, ..LINK };
        let mut pair = Pair::connected(3, link);
        let (_, node) = stream(&mut pair, channel, 4_000);
        assert!(node.fec_recovered > 100, "{node:?}");
        let mut seen = vec![0; 4_000];
        for (_, _, found) in &pair.at_node.messages {
            let number = u64::from_be_bytes(found[..8].try_into().unwrap());
            assert_eq!(found, &message(number, 150));
            seen[number as usize] += 1;
        }
        assert!(seen.iter().all(|&times| times <= 1), "{channel:?}");
        assert!(channel != Channel::Sync || seen.iter().all(|&times| times == 1));
    }
}

#[test]
fn repairs_are_sent_where_nothing_is_lost_or_a_retransmission_is_as_good() {
    let (client, _) = stream(&mut lossy(0, Config::default()), Channel::Sync, 1_000);
    assert_eq!((client.fec_symbols_sent, client.fec_repairs_sent), (0, 0));
    let near = Link { delay_us: 1_000, loss: 2, ..LINK };
    let (client, _) = stream(&mut Pair::connected(4, near), Channel::Sync, 2_000);
    assert_eq!(client.fec_repairs_sent, 0);
    let (client, _) = stream(&mut lossy(2, Config::default()), Channel::Probe, 2_000);
    assert_eq!(client.fec_symbols_sent, 0, "probes measure the path");
}

#[test]
fn an_end_without_repairs_is_sent_some() {
    let off = Config { fec: FecConfig { enabled: false, ..FecConfig::default() }, ..Config::default() };
    let mut pair = lossy(5, off);
    let (client, node) = stream(&mut pair, Channel::Sync, 2_000);
    assert_eq!((client.fec_symbols_sent, node.fec_recovered), (0, 0));
    assert_eq!(pair.at_node.messages.len(), 2_000);
}

#[test]
fn protection_goes_on_for_ever_after_the_last_loss() {
    let mut pair = lossy(2, Config::default());
    stream(&mut pair, Channel::Sync, 1_000);
    let (before, _) = stream(&mut pair, Channel::Sync, 11_000);
    let (after, _) = stream(&mut pair, Channel::Sync, 1_000);
    assert_eq!(before.fec_repairs_sent, after.fec_repairs_sent);
}

#[test]
fn what_is_given_up_while_nothing_is_heard_is_never_sent_again() {
    let mut given_up_in_silence = 0;
    for seed in 0..20 {
        let mut pair = Pair::connected(seed, Link { loss: 15, ..LINK });
        let mut number = 0;
        let mut say = |pair: &mut Pair, count: u64| {
            for _ in 0..count {
                pair.send(message(number, 20));
                number += 1;
                pair.run(Span::from_ms(2));
            }
            number
        };
        say(&mut pair, 300);
        // Symbols wait for their repairs, and nothing passes until newer ones have taken their places.
        pair.link.loss = 100;
        let before = *pair.client.stats();
        let said = say(&mut pair, 150);
        let after = pair.client.stats();
        let symbols = after.fec_symbols_sent - before.fec_symbols_sent;
        given_up_in_silence += u64::from(symbols >= 64 && after.fec_given_up > before.fec_given_up);
        pair.link.loss = 0;
        pair.run_until(Span::from_ms(10_000), |pair| pair.at_node.messages.len() as u64 == said);
    }
    assert!(given_up_in_silence > 0, "nothing was given up while nothing was heard");
}
