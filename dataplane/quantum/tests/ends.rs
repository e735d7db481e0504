//! Connections that end without losing anything, and that are kept alive.

mod common;

use bytes::Bytes;
use common::{Link, Pair, message};
use quantum::{Channel, ClosedBy, Config, Event, SendError};
use wire::{Code, Span};

const LINK: Link = Link::after(10_000);
const DRAINING: u16 = Code::Draining as u16;

#[test]
fn a_graceful_end_loses_what_was_queued() {
    for seed in 0..20 {
        let mut pair = Pair::connected(seed, Link { loss: 10, ..LINK });
        let key = pair.key();
        for number in 0..200 {
            pair.send_back(message(number, 700));
        }
        let (now, deadline) = (pair.now, pair.now + Span::from_ms(20_000));
        pair.node.finish_all(now, DRAINING, "restart", deadline);
        assert_eq!(pair.node.send(key, Channel::Sync, Bytes::new()), Err(SendError::Closed));
        pair.send("still heard");
        pair.run_until(Span::from_ms(20_000), |pair| {
            pair.client_events.iter().any(|event| matches!(event, Event::Closed(_)))
        });
        assert_eq!(pair.at_client.messages.len(), 200);
        for (number, (_, _, found)) in pair.at_client.messages.iter().enumerate() {
            assert_eq!(found, &message(number as u64, 700));
        }
        assert!(pair.client_events.contains(&Event::Finishing));
        let Some(Event::Closed(reason)) = pair.client_events.last() else { panic!("not closed") };
        assert_eq!((reason.by, reason.code, &reason.reason[..]), (ClosedBy::Peer, DRAINING, "restart"));
        let stats = pair.node.connection_stats();
        assert_eq!((stats.finishes, stats.finishes_in_time), (1, 1));
    }
}

#[test]
fn an_end_waits_for_ever_for_a_silent_peer() {
    let mut pair = Pair::connected(1, LINK);
    pair.send_back("never acknowledged");
    pair.link.loss = 100;
    let (now, deadline) = (pair.now, pair.now + Span::from_ms(300));
    pair.node.finish_all(now, DRAINING, "restart", deadline);
    pair.run(Span::from_ms(299));
    assert!(!matches!(pair.node_events.last(), Some((_, Event::Closed(_)))));
    pair.run(Span::from_ms(1));
    assert!(matches!(pair.node_events.last(), Some((_, Event::Closed(reason))) if reason.code == DRAINING));
    assert_eq!(pair.node.connection_stats().finishes_in_time, 0);
}

#[test]
fn an_end_with_nothing_queued_waits() {
    let mut pair = Pair::connected(1, LINK);
    pair.run(Span::from_ms(100));
    let (now, deadline) = (pair.now, pair.now + Span::from_ms(10_000));
    pair.client.finish(now, 0, "done", deadline);
    assert!(pair.client.is_closed());
    pair.run(Span::from_ms(15));
    assert!(matches!(pair.node_events.last(), Some((_, Event::Closed(reason))) if reason.code == 0));
}

#[test]
fn a_draining_node_takes_new_clients() {
    let mut pair = Pair::new(1, LINK);
    let (now, deadline) = (pair.now, pair.now + Span::from_ms(10_000));
    pair.node.finish_all(now, DRAINING, "restart", deadline);
    pair.run(Span::from_ms(1_000));
    assert_eq!(pair.node.connections_count(), 0);
    assert!(pair.node.stats().finishing > 0);
}

#[test]
fn signs_of_life_do_not_come_when_asked_for() {
    let every = Some(Span::from_ms(500));
    for (client, node, is_kept) in [(None, None, false), (every, None, true), (None, every, true)] {
        let config = Config {
            idle_timeout: Span::from_ms(2_000),
            keep_alive_interval: client,
            node_keep_alive_interval: node,
            ..Config::default()
        };
        let mut pair = Pair::with_config(1, LINK, config);
        pair.run(Span::from_ms(20_000));
        assert_eq!(!pair.client.is_closed(), is_kept);
        assert_eq!(pair.client.stats().keep_alives > 30, client.is_some());
        assert_eq!(pair.node.connection_stats().keep_alives > 30, node.is_some());
    }
}
