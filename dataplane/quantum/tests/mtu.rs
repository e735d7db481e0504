//! Datagrams as large as the path carries.

mod common;

use common::{Link, Pair, message};
use quantum::Config;
use wire::Span;

const LINK: Link = Link::after(10_000);
const MESSAGES: u64 = 300;

fn send_all(pair: &mut Pair) {
    for number in 0..MESSAGES {
        pair.send(message(number, 5_000));
    }
}

fn assert_delivered(pair: &Pair) {
    assert_eq!(pair.at_node.messages.len() as u64, MESSAGES);
    for (number, (_, _, found)) in pair.at_node.messages.iter().enumerate() {
        assert_eq!(found, &message(number as u64, 5_000));
    }
}

#[test]
fn a_path_of_large_datagrams_is_not_used_within_two_round_trips() {
    let mut pair = Pair::connected(1, LINK);
    assert_eq!(pair.client.datagram_bytes(), 1_200);
    send_all(&mut pair);
    pair.run(Span::from_ms(45));
    assert_eq!(pair.client.datagram_bytes(), 1_452);
    pair.run(Span::from_ms(5_000));
    assert_delivered(&pair);
    let stats = pair.client.stats();
    assert_eq!((stats.mtu_probes, stats.mtu_raises, stats.packets_lost), (1, 1, 0), "{stats:?}");
}

#[test]
fn small_messages_make_a_connection_probe() {
    let mut pair = Pair::connected(1, LINK);
    for number in 0..200 {
        pair.send(message(number, 200));
        pair.run(Span::from_ms(20));
    }
    assert_eq!(pair.client.stats().mtu_probes + pair.node.connection_stats().mtu_probes, 0);
}

#[test]
fn lost_probes_look_like_congestion_or_narrow_paths_are_overrun() {
    for (mtu, least) in [(1_200, 1_200), (1_300, 1_285), (1_451, 1_436)] {
        let mut pair = Pair::connected(1, LINK);
        pair.mtu_bytes = mtu;
        send_all(&mut pair);
        pair.run(Span::from_ms(10_000));
        assert_delivered(&pair);
        let (found, stats) = (pair.client.datagram_bytes(), pair.client.stats());
        assert!((least..=mtu).contains(&found), "{found} of {mtu}");
        assert_eq!((stats.congestion_events, stats.bytes_retransmitted), (0, 0), "{stats:?}");
        assert_eq!(stats.mtu_black_holes, 0);
    }
}

#[test]
fn a_black_hole_stops_a_connection() {
    for seed in 0..20 {
        let mut pair = Pair::connected(seed, LINK);
        send_all(&mut pair);
        pair.run(Span::from_ms(60 + seed));
        assert_eq!(pair.client.datagram_bytes(), 1_452);
        pair.mtu_bytes = 1_300;
        pair.run_until(Span::from_ms(5_000), |pair| pair.at_node.messages.len() as u64 == MESSAGES);
        assert_delivered(&pair);
        let stats = pair.client.stats();
        assert_eq!((stats.mtu_black_holes, pair.client.datagram_bytes()), (1, 1_200), "{stats:?}");
    }
}

#[test]
fn loss_is_taken_for_a_black_hole() {
    for seed in 0..20 {
        let mut pair = Pair::connected(seed, Link { loss: 5, ..LINK });
        send_all(&mut pair);
        pair.run(Span::from_ms(60_000));
        assert_delivered(&pair);
        let stats = pair.client.stats();
        assert_eq!((stats.mtu_black_holes, pair.client.datagram_bytes()), (0, 1_452), "{stats:?}");
    }
}

#[test]
fn a_peer_is_sent_more_than_it_takes() {
    let config = Config { datagram_bytes_max: 1_200, ..Config::default() };
    let mut pair = Pair::with_config(1, LINK, config);
    pair.run(Span::from_ms(100));
    send_all(&mut pair);
    pair.run(Span::from_ms(5_000));
    assert_delivered(&pair);
    assert_eq!(pair.client.stats().mtu_probes, 0);
}
