//! Connections that stall, move, fall silent and end.

mod common;

use bytes::Bytes;
use common::{Link, Pair, Random, client_address, message};
use quantum::{Channel, CloseReason, ClosedBy, Config, Event, SendError};
use wire::{Code, Span};

const LINK: Link =
    Link { loss: 0, duplicates: 0, flips: 0, delay_us: 2_000, jitter_us: 0, bytes_per_ms: 0, queue_bytes: 0 };

#[test]
fn a_slow_application_is_overrun() {
    let config = Config {
        message_bytes_max: 10_000,
        channel_window_bytes: 50_000,
        receive_window_bytes: 60_000,
        send_buffer_bytes_max: 300_000,
        ..Config::default()
    };
    let mut pair = Pair::with_config(1, LINK, config);
    pair.consumes = false;
    for number in 0..200 {
        pair.send(message(number, 1_000));
    }
    pair.run(Span::from_ms(5_000));
    assert_eq!(pair.at_node.messages.len(), 50, "the window's worth");
    assert!(!pair.client.is_closed());
    pair.consumes = true;
    pair.run_until(Span::from_ms(5_000), |pair| pair.at_node.messages.len() == 200);
}

#[test]
fn one_channels_stall_stops_another() {
    let config = Config {
        message_bytes_max: 10_000,
        channel_window_bytes: 20_000,
        receive_window_bytes: 60_000,
        ..Config::default()
    };
    let mut pair = Pair::with_config(1, LINK, config);
    pair.consumes = false;
    for number in 0..100 {
        pair.send(message(number, 1_000));
    }
    pair.run(Span::from_ms(1_000));
    pair.client.send(Channel::Presence, Bytes::from_static(b"here")).unwrap();
    pair.run(Span::from_ms(100));
    assert_eq!(pair.at_node.messages.last().unwrap().2, b"here");
}

#[test]
fn a_full_send_buffer_never_opens_again() {
    let config = Config { message_bytes_max: 10_000, send_buffer_bytes_max: 50_000, ..Config::default() };
    let mut pair = Pair::with_config(1, LINK, config);
    let mut sent = 0;
    while pair.client.send(Channel::Sync, message(sent, 1_000).into()).is_ok() {
        sent += 1;
    }
    assert_eq!(pair.client.send(Channel::Sync, message(0, 1_000).into()), Err(SendError::Full));
    assert!((40..50).contains(&sent));
    pair.run_until(Span::from_ms(1_000), |pair| pair.client_events.contains(&Event::Writable));
    pair.send(message(sent, 1_000));
    pair.run_until(Span::from_ms(1_000), |pair| pair.at_node.messages.len() as u64 == sent + 1);
}

#[test]
fn an_oversized_message_is_queued() {
    let mut pair = Pair::connected(1, LINK);
    let too_large = vec![0; (4 << 20) + 1];
    let result = pair.client.send(Channel::Sync, too_large.into());
    assert_eq!(result, Err(SendError::TooLarge { bytes: (4 << 20) + 1, limit: 4 << 20 }));
    assert!(matches!(
        pair.client.send(Channel::Probe, vec![0; 1_200].into()),
        Err(SendError::TooLarge { .. })
    ));
    pair.send(message(1, 4 << 20));
    pair.run_until(Span::from_ms(20_000), |pair| pair.at_node.messages.len() == 1);
    assert_eq!(pair.at_node.messages[0].2, message(1, 4 << 20));
}

#[test]
fn a_silent_peer_is_kept_for_ever() {
    let mut pair = Pair::connected(1, LINK);
    pair.run(Span::from_ms(300_000));
    assert!(!pair.client.is_closed(), "keep-alive holds an idle connection");
    assert!(pair.client_sent.len() < 100, "{} packets of an idle client", pair.client_sent.len());
    pair.link.loss = 100;
    pair.run(Span::from_ms(40_000));
    let idle = Code::IdleTimeout as u16;
    assert!(matches!(pair.client_events.last(), Some(Event::Closed(reason)) if reason.code == idle));
    assert!(matches!(pair.node_events.last(), Some((_, Event::Closed(reason))) if reason.code == idle));
    assert_eq!(pair.node.connections_count(), 0);
    assert_eq!(pair.node.poll_timeout(), None);
}

#[test]
fn a_close_is_not_told() {
    for by_client in [true, false] {
        let mut pair = Pair::connected(1, LINK);
        let (now, key) = (pair.now, pair.key());
        match by_client {
            true => pair.client.close(now, 0, "done"),
            false => pair.node.close(now, key, 0, "done"),
        }
        pair.run(Span::from_ms(1_000));
        let closed = |by| Event::Closed(CloseReason { by, code: 0, reason: "done".to_owned() });
        let (client, node) =
            if by_client { (ClosedBy::Local, ClosedBy::Peer) } else { (ClosedBy::Peer, ClosedBy::Local) };
        assert_eq!(pair.client_events.last(), Some(&closed(client)));
        assert_eq!(pair.node_events.last(), Some(&(key, closed(node))));
        assert!(pair.client.is_drained());
        assert_eq!((pair.node.connections_count(), pair.node.stats().connections_closed), (0, 1));
        assert_eq!(pair.node.send(key, Channel::Sync, Bytes::new()), Err(SendError::Closed));
    }
}

#[test]
fn a_lost_close_is_not_repeated() {
    let mut pair = Pair::connected(1, LINK);
    let now = pair.now;
    pair.link.loss = 100;
    pair.node.close_all(now, Code::Draining as u16, "restart");
    pair.flush();
    pair.link.loss = 0;
    pair.run(Span::from_ms(4));
    pair.send("still there?");
    pair.run(Span::from_ms(5));
    assert!(matches!(pair.client_events.last(), Some(Event::Closed(reason)) if reason.code == 1));
}

#[test]
fn a_client_that_moves_is_lost() {
    let mut pair = Pair::connected(1, LINK);
    pair.client_from = client_address(2);
    pair.send("from elsewhere");
    pair.run_until(Span::from_ms(100), |pair| !pair.at_node.messages.is_empty());
    assert_eq!(pair.node.connections().next().unwrap().1, client_address(2));
    for number in 0..50 {
        pair.send_back(message(number, 1_000));
    }
    pair.run_until(Span::from_ms(1_000), |pair| pair.at_client.messages.len() == 50);
    assert_eq!(pair.node.connection_stats().address_changes, 1);
}

#[test]
fn replayed_or_changed_packets_are_delivered() {
    let mut pair = Pair::connected(1, Link { flips: 10, duplicates: 10, ..LINK });
    for number in 0..300 {
        pair.send(message(number, 600));
    }
    pair.run_until(Span::from_ms(60_000), |pair| pair.at_node.messages.len() == 300);
    let packets = pair.client_sent.clone();
    for packet in &packets {
        pair.fly_between(true, client_address(9), packet);
    }
    pair.run(Span::from_ms(1_000));
    assert_eq!(pair.at_node.messages.len(), 300);
    for (number, (_, _, found)) in pair.at_node.messages.iter().enumerate() {
        assert_eq!(found, &message(number as u64, 600));
    }
    let stats = pair.node.connection_stats();
    assert!(stats.replayed > 100 && stats.forged_packet > 10, "{stats:?}");
}

#[test]
fn probes_are_repeated_or_held_back() {
    let mut pair = Pair::connected(1, Link { loss: 30, ..LINK });
    for number in 0..100_u8 {
        pair.client.send(Channel::Probe, vec![number].into()).unwrap();
        pair.run(Span::from_ms(5));
    }
    let count = pair.at_node.messages.len();
    assert!((40..95).contains(&count), "{count} of 100 with 30 % loss");
    assert_eq!(pair.client.stats().bytes_retransmitted, 0);
    assert_eq!(pair.client.queued_bytes(), 0);
}

#[test]
fn random_datagrams_shake_a_live_connection() {
    let mut pair = Pair::connected(1, LINK);
    let mut random = Random(99);
    for round in 0..3_000 {
        let of_client = round % 2 == 0;
        let sent = if of_client { &pair.client_sent } else { &pair.node_sent };
        let mut datagram = sent[random.below(sent.len() as u64) as usize].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(datagram.len() as u64) as usize;
            datagram[at] = random.next() as u8;
        }
        datagram.truncate(random.below(datagram.len() as u64 + 1) as usize);
        pair.fly(random.happens(50), &datagram);
        pair.run(Span::from_us(100));
    }
    pair.send("alive");
    pair.run_until(Span::from_ms(1_000), |pair| pair.at_node.messages.len() == 1);
    assert_eq!(pair.node.connections_count(), 1);
}
