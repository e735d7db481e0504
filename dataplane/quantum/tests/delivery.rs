//! Messages arrive once and in order, whatever the network does.

mod common;

use bytes::Bytes;
use common::{Link, Pair, message};
use quantum::{Channel, Config, Event, SendError};
use wire::Span;

fn delivers(seed: u64, link: Link, count: u64, bytes: usize) -> Pair {
    let mut pair = Pair::new(seed, link);
    for number in 0..count {
        pair.send(message(number, bytes));
    }
    pair.run_until(Span::from_ms(120_000), |pair| pair.at_node.messages.len() as u64 == count);
    for number in 0..count {
        pair.send_back(message(number, bytes));
    }
    pair.run_until(Span::from_ms(120_000), |pair| pair.at_client.messages.len() as u64 == count);
    pair.run(Span::from_ms(3_000));
    for inbox in [&pair.at_node, &pair.at_client] {
        assert_eq!(inbox.messages.len() as u64, count, "delivered twice");
        for (number, (_, channel, found)) in inbox.messages.iter().enumerate() {
            assert_eq!((*channel, found), (Channel::Sync, &message(number as u64, bytes)));
        }
    }
    assert_eq!(pair.client.queued_bytes(), 0, "acknowledged in full");
    pair
}

#[test]
fn messages_are_lost_or_doubled_or_out_of_order() {
    for (seed, loss) in [(1, 0), (2, 1), (3, 10), (4, 30), (11, 30), (12, 30), (13, 30)] {
        let link = Link { loss, duplicates: 2, delay_us: 10_000, jitter_us: 3_000, ..Link::default() };
        delivers(seed, link, 2_000, 100);
    }
}

#[test]
fn large_messages_come_together_wrongly() {
    for (seed, loss) in [(5, 0), (6, 1), (7, 10), (8, 30)] {
        let link = Link { loss, duplicates: 1, delay_us: 5_000, jitter_us: 2_000, ..Link::default() };
        delivers(seed, link, 12, 100_000);
    }
}

#[test]
fn empty_messages_fill_memory_without_a_bound() {
    let config = Config { message_bytes_max: 1_000, send_buffer_bytes_max: 10_000, ..Config::default() };
    let mut pair = Pair::with_config(1, Link::default(), config);
    let taken = (0..1_000).take_while(|_| pair.client.send(Channel::Sync, Bytes::new()).is_ok()).count();
    assert_eq!(taken, 10_000 / 64);
    pair.run_until(Span::from_ms(1_000), |pair| pair.client_events.contains(&Event::Writable));
    assert!(pair.at_node.messages.len() > taken / 2 && pair.at_node.messages.len() <= taken);
    pair.run_until(Span::from_ms(1_000), |pair| pair.at_node.messages.len() == taken);
}

#[test]
fn a_sender_of_long_messages_is_woken_for_nothing() {
    let config = Config { message_bytes_max: 9_000, send_buffer_bytes_max: 10_000, ..Config::default() };
    let mut pair = Pair::with_config(1, Link { delay_us: 5_000, ..Link::default() }, config);
    let wakes = |pair: &Pair| pair.client_events.iter().filter(|event| **event == Event::Writable).count();
    pair.send(message(0, 2_000));
    assert_eq!(pair.client.send(Channel::Sync, vec![1; 9_000].into()), Err(SendError::Full));
    pair.flush();
    assert_eq!(wakes(&pair), 0, "nothing has been freed");
    pair.run(Span::from_ms(100));
    assert_eq!(wakes(&pair), 1);
    pair.send(message(1, 9_000));
}
