//! What a node says to those whom it has no connection with, and what becomes of them.

mod common;

use std::sync::Arc;

use common::{Inbox, Link, Pair, UNIX_S, client_address, keys};
use quantum::{ClosedBy, Config, Endpoint, EndpointLimits, Event, Now, RESET_BYTES, ResetKey, reset_packet};
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::{Code, Guuid, Span, Time};

const RTT: Link = Link::after(10_000);
const RESET_KEY: [u8; 32] = [0x77; 32];

fn endpoint() -> Endpoint {
    let mut node = Endpoint::new(Arc::new(Config::default()), EndpointLimits::default(), [6; 32]);
    node.set_ticket_keys(keys());
    node.set_reset_key(ResetKey::new(&RESET_KEY));
    node
}

fn at(us: u64) -> Now {
    Now { mono: Time::from_us(us), unix_ms: UNIX_S * 1_000 }
}

/// What a node answers, if anything.
fn answer(node: &mut Endpoint, now: Now, datagram: &[u8]) -> Option<Vec<u8>> {
    node.handle_datagram(now, client_address(1), &mut datagram.to_vec(), &mut Inbox::default());
    let mut buffer = [0; 1_500];
    let answer = node.poll_transmit(now.mono, &mut buffer).map(|(to, bytes)| {
        assert_eq!(to, client_address(1));
        buffer[..bytes].to_vec()
    });
    assert!(node.poll_transmit(now.mono, &mut buffer).is_none(), "two answers");
    assert_eq!(node.connections_count(), 0, "state");
    answer
}

/// A client and its node, which is then killed and started again with what is on its disk.
fn restarted() -> Pair {
    let mut pair = Pair::new(1, RTT);
    pair.node.set_reset_key(ResetKey::new(&RESET_KEY));
    pair.send("join");
    pair.run_until(Span::from_ms(500), |pair| pair.client.is_established());
    pair.run(Span::from_ms(100));
    pair.node = endpoint();
    pair
}

#[test]
fn a_client_of_a_killed_node_waits_for_its_idle_timeout() {
    let mut pair = restarted();
    let started = pair.now;
    pair.send("typing");
    pair.run_until(Span::from_ms(100), |pair| pair.client.is_closed());
    assert_eq!(pair.now.since(started), Span::from_ms(20), "one round trip");
    let Some(Event::Closed(reason)) = pair.client_events.last() else { panic!("no event") };
    assert_eq!((reason.by, reason.code), (ClosedBy::Peer, Code::StatelessReset as u16), "{reason}");
    assert!(pair.client.is_drained() && pair.client.stats().resets == 1);
    assert_eq!(pair.node.stats().resets_sent, 1);
}

#[test]
fn a_forged_reset_ends_a_connection() {
    let mut pair = Pair::new(1, RTT);
    pair.node.set_reset_key(ResetKey::new(&RESET_KEY));
    pair.run_until(Span::from_ms(500), |pair| pair.client.is_established());
    pair.run(Span::from_ms(100));
    let made_at = |unix_ms| reset_packet(&ResetKey::new(&RESET_KEY), pair.client.id(), unix_ms);
    let (opened_ms, now) = (UNIX_S * 1_000, pair.now);
    let (mut reset, old) = (made_at(opened_ms + 60_000), made_at(opened_ms));
    for bit in 8 * HEADER_BYTES..8 * RESET_BYTES {
        let mut guess = reset;
        guess[bit / 8] ^= 1 << (bit % 8);
        pair.client.handle_datagram(now, &mut guess, &mut Inbox::default());
    }
    pair.client.handle_datagram(now, &mut [&reset[..], &[0; 32]].concat(), &mut Inbox::default());
    // What an attacker got who had sent a packet with the id of the first one, ahead of it.
    let mut younger = old;
    younger[8..16].copy_from_slice(&reset[8..16]);
    pair.client.handle_datagram(now, &mut younger, &mut Inbox::default());
    pair.client.handle_datagram(now, &mut old.clone(), &mut Inbox::default());
    assert!(!pair.client.is_closed());
    let other = pair.node.connections().next().map(|(connection, _)| connection.id());
    assert_eq!(other, Some(pair.client.id()));
    pair.node.handle_datagram(at(0), client_address(1), &mut reset.clone(), &mut Inbox::default());
    assert_eq!(pair.node.connections_count(), 1, "a node takes no resets");
    pair.client.handle_datagram(now, &mut reset, &mut Inbox::default());
    assert!(pair.client.is_drained(), "the true one");
}

#[test]
fn nodes_reset_each_other_for_ever() {
    let (mut one, mut two) = (endpoint(), endpoint());
    let mut data = [&[0x13, 0, 0, 0][..], &[0; 12], Guuid::new(1, [1; 10]).as_bytes(), &[0; 17]].concat();
    let reset = answer(&mut one, at(0), &data).expect("an answer to data");
    assert!(reset.len() < data.len(), "amplified");
    assert_eq!(answer(&mut two, at(0), &reset), None);
    data.pop();
    assert_eq!(answer(&mut one, at(0), &data), None, "no answer is as long as what it answers");
    for kind in [0x12, 0x14, 0x16, 0x05] {
        data.resize(1_200, 0);
        data[0] = kind;
        assert_eq!(answer(&mut one, at(0), &data), None, "type {kind:#x}");
    }
}

#[test]
fn a_node_that_can_take_nobody_in_sends_its_clients_away() {
    let mut node = Endpoint::new(Arc::new(Config::default()), EndpointLimits::default(), [6; 32]);
    let data = [&[0x13, 0, 0, 0][..], &[0; 12], Guuid::new(1, [1; 10]).as_bytes(), &[0; 100]].concat();
    assert_eq!(answer(&mut node, at(0), &data), None);
    node.set_ticket_keys(keys());
    assert!(answer(&mut node, at(0), &data).is_some());
}

#[test]
fn a_flood_of_strangers_is_answered_in_full() {
    let mut node = endpoint();
    let data = [&[0x13, 0, 0, 0][..], &[0; 12], Guuid::new(1, [1; 10]).as_bytes(), &[0; 100]].concat();
    let other = [&[0x31][..], &[0; 1_199]].concat();
    let (mut resets, mut versions) = (0, 0);
    for us in 0..100_000 {
        resets += usize::from(answer(&mut node, at(us), &data).is_some());
        versions += usize::from(answer(&mut node, at(us), &other).is_some());
    }
    // 256 and 32 in 16 ms.
    assert!((1_500..=1_792).contains(&resets), "{resets} in 100 ms");
    assert!((190..=224).contains(&versions), "{versions} in 100 ms");
    let stats = node.stats();
    assert_eq!((stats.resets_sent, stats.versions_sent), (resets as u64, versions as u64));
    assert_eq!((stats.unknown_connection, stats.unknown_version), (100_000, 100_000));
}

/// The first packet of a client of another version.
fn of_version(version: u8, first: &[u8]) -> Vec<u8> {
    [&[version << 4 | first[0] & 0x0f], &first[1..]].concat()
}

#[test]
fn a_client_of_another_version_is_left_to_guess() {
    let mut pair = Pair::new(1, RTT);
    pair.send("join");
    pair.flush();
    let first = pair.client_sent[0].clone();
    assert_eq!(answer(&mut endpoint(), at(0), &of_version(0, &first)), None, "version 0 is the answer's");
    assert_eq!(
        answer(&mut endpoint(), at(0), &of_version(2, &first)[..1_199]),
        None,
        "too short to be answered"
    );
    let list = answer(&mut endpoint(), at(0), &of_version(2, &first)).expect("a list");
    // It lists what this client speaks: it cannot be meant for it.
    let now = pair.now;
    pair.client.handle_datagram(now, &mut list.clone(), &mut Inbox::default());
    assert!(!pair.client.is_closed());
    // A node of the future, which speaks 2 and 3, and greases its list.
    let future = [&list[..HEADER_BYTES], &[0x0f, 3, 2], &[0; 13]].concat();
    let mut other = future.clone();
    other[20] ^= 1;
    pair.client.handle_datagram(now, &mut other, &mut Inbox::default());
    assert!(!pair.client.is_closed(), "of another connection");
    pair.client.handle_datagram(now, &mut future.clone(), &mut Inbox::default());
    let Some(Event::Closed(reason)) = pair.client.poll_event() else { panic!("no event") };
    assert_eq!(reason.code, Code::VersionNotSupported as u16);
    assert_eq!(reason.reason, "version 1 is not supported, the node speaks 2, 3");
    assert!(pair.client.is_drained());
}

#[test]
fn a_list_of_versions_ends_a_connection_that_is_established() {
    let mut pair = Pair::new(1, RTT);
    pair.run_until(Span::from_ms(500), |pair| pair.client.is_established());
    let list = answer(&mut endpoint(), at(0), &of_version(2, &pair.client_sent[0])).expect("a list");
    let now = pair.now;
    let mut future = [&list[..HEADER_BYTES], &[2; TAG_BYTES]].concat();
    pair.client.handle_datagram(now, &mut future, &mut Inbox::default());
    assert!(!pair.client.is_closed());
}

#[test]
fn a_node_without_a_reset_key_has_that_of_another() {
    let config = Arc::new(Config::default());
    let tokens: Vec<_> = [5, 6]
        .map(|entropy| {
            let mut node = Endpoint::new(config.clone(), EndpointLimits::default(), [entropy; 32]);
            node.set_ticket_keys(keys());
            let data = [&[0x13, 0, 0, 0][..], &[0; 12], Guuid::NIL.as_bytes(), &[0; 100]].concat();
            answer(&mut node, at(0), &data).expect("a reset")
        })
        .into();
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn a_flood_holds_up_connections_or_they_keep_a_client_out() {
    let mut pair = Pair::new(1, RTT);
    pair.run_until(Span::from_ms(500), |pair| {
        !pair.at_node.opened.is_empty() && pair.client.is_established()
    });
    pair.run(Span::from_ms(50));
    for number in 0..40 {
        pair.send_back(vec![number; 1_000]);
    }
    let stranger = client_address(9);
    let data = [&[0x13, 0, 0, 0][..], &[0; 12], Guuid::new(1, [1; 10]).as_bytes(), &[0; 100]].concat();
    let now = pair.unix_now();
    for _ in 0..100 {
        pair.node.handle_datagram(now, stranger, &mut data.clone(), &mut Inbox::default());
    }
    let mut buffer = [0; 1_500];
    let order: Vec<bool> = std::iter::from_fn(|| pair.node.poll_transmit(now.mono, &mut buffer))
        .map(|(to, _)| to == stranger)
        .collect();
    assert_eq!(
        order[..10],
        [false, false, false, false, true, false, false, false, false, true],
        "{order:?}"
    );
    assert_eq!(order.iter().filter(|is_reply| **is_reply).count(), 100);
}
