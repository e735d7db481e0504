//! A warm connection moves packets, and a warm codec repairs them, without allocating.

mod common;

use std::collections::VecDeque;

use bytes::Bytes;
use common::{Link, Pair};
use heap::allocations;
use quantum::fec::{Decoder, Encoder, RepairHeader};
use quantum::{Channel, ConnectionKey, MessageSink, SendOptions};
use wire::{Span, Time};

#[global_allocator]
static ALLOCATOR: heap::CountingAllocator = heap::CountingAllocator;

#[derive(Default)]
struct Counter {
    messages: u64,
    bytes: [usize; Channel::COUNT],
}

impl MessageSink for Counter {
    fn on_message(&mut self, _: ConnectionKey, channel: Channel, message: &[u8]) {
        self.messages += 1;
        self.bytes[channel as usize] += message.len();
    }
}

/// Sends `count` times ten messages on each of the channels each way, with all acknowledgements, without the pair's own
/// bookkeeping.
fn exchange(pair: &mut Pair, key: ConnectionKey, channels: &[Channel], count: usize) -> u64 {
    static PAYLOAD: [u8; 40] = [7; 40];
    let (mut at_node, mut at_client) = (Counter::default(), Counter::default());
    let mut buffer = vec![0; 10_000];
    for _ in 0..count {
        pair.now += Span::from_us(50);
        let now = pair.now;
        for (number, &channel) in
            (0..10).flat_map(|number| channels.iter().map(move |channel| (number, channel)))
        {
            let options = SendOptions { key: number, deadline: None };
            let payload = || Bytes::from_static(&PAYLOAD);
            pair.client.send_with(channel, payload(), options).unwrap();
            pair.node.send_with(key, channel, payload(), options).unwrap();
        }
        while let Some(train) = pair.client.poll_transmit_train(now, &mut buffer, 8) {
            let unix_now = pair.unix_now();
            for datagram in buffer[..train.bytes].chunks_mut(train.segment_bytes) {
                pair.node.handle_datagram(unix_now, pair.client_from, datagram, &mut at_node);
            }
        }
        for &channel in channels {
            pair.node.consume(key, channel, std::mem::take(&mut at_node.bytes[channel as usize]));
        }
        while let Some((_, length)) = pair.node.poll_transmit(now, &mut buffer) {
            pair.client.handle_datagram(now, &mut buffer[..length], &mut at_client);
        }
        for &channel in channels {
            pair.client.consume(channel, std::mem::take(&mut at_client.bytes[channel as usize]));
        }
        pair.node.handle_timeout(now);
        pair.client.handle_timeout(now);
    }
    at_node.messages + at_client.messages
}

#[test]
fn a_warm_connection_allocates_per_packet() {
    let mut pair = Pair::connected(1, Link::default());
    let key = pair.key();
    exchange(&mut pair, key, &[Channel::Sync], 20_000);
    let before = allocations();
    let messages = exchange(&mut pair, key, &[Channel::Sync], 20_000);
    let allocations = allocations() - before;
    assert!(messages >= 399_000, "{messages}");
    assert!(allocations < 20, "{allocations} allocations for {messages} messages");
}

#[test]
fn a_kind_of_channel_allocates_per_packet() {
    let channels = [Channel::Sync, Channel::Bulk, Channel::Latest, Channel::Datagram];
    let mut pair = Pair::connected(1, Link::default());
    let key = pair.key();
    exchange(&mut pair, key, &channels, 5_000);
    let before = allocations();
    let messages = exchange(&mut pair, key, &channels, 5_000);
    let allocations = allocations() - before;
    assert!(messages >= 390_000, "{messages}");
    assert!(allocations < 20, "{allocations} allocations for {messages} messages");
}

/// Sends `count` messages, one a millisecond, over a path of 20 ms that loses every 50th datagram.
fn exchange_with_repairs(
    pair: &mut Pair,
    count: usize,
    flights: &mut VecDeque<(Time, bool, usize, [u8; 1_500])>,
) {
    static PAYLOAD: [u8; 40] = [7; 40];
    let key = pair.key();
    let (mut at_node, mut at_client) = (Counter::default(), Counter::default());
    let mut lost = 0;
    for _ in 0..count {
        pair.now += Span::from_ms(1);
        let now = pair.now;
        pair.client.send(Channel::Sync, Bytes::from_static(&PAYLOAD)).unwrap();
        pair.node.handle_timeout(now);
        pair.client.handle_timeout(now);
        let mut buffer = [0; 1_500];
        while let Some(length) = pair.client.poll_transmit(now, &mut buffer) {
            lost += 1;
            if lost % 50 != 0 {
                flights.push_back((now + Span::from_ms(10), true, length, buffer));
            }
        }
        while let Some((_, length)) = pair.node.poll_transmit(now, &mut buffer) {
            flights.push_back((now + Span::from_ms(10), false, length, buffer));
        }
        while flights.front().is_some_and(|flight| flight.0 <= now) {
            let Some((_, to_node, length, mut bytes)) = flights.pop_front() else { break };
            let unix_now = pair.unix_now();
            if to_node {
                pair.node.handle_datagram(unix_now, pair.client_from, &mut bytes[..length], &mut at_node);
            } else {
                pair.client.handle_datagram(now, &mut bytes[..length], &mut at_client);
            }
        }
        pair.node.consume(key, Channel::Sync, std::mem::take(&mut at_node.bytes[Channel::Sync as usize]));
    }
}

#[test]
fn repairs_allocate_per_packet() {
    let mut pair = Pair::connected(1, Link { delay_us: 10_000, ..Link::default() });
    let mut flights = VecDeque::with_capacity(1_000);
    exchange_with_repairs(&mut pair, 5_000, &mut flights);
    let repairs = pair.client.stats().fec_repairs_sent;
    let before = allocations();
    exchange_with_repairs(&mut pair, 5_000, &mut flights);
    let allocations = allocations() - before;
    let repairs = pair.client.stats().fec_repairs_sent - repairs;
    assert!(repairs > 500, "{repairs}");
    // What comes before its turn is kept: 100 losses hold up a few messages each.
    assert!(allocations < 1_000, "{allocations} allocations for 5,000 messages and {repairs} repairs");
}

/// Sends `count` symbols, of which every tenth and eleventh are lost, with two repairs for every eight.
/// Returns how many came back.
fn repair(encoder: &mut Encoder, decoder: &mut Decoder, count: u64) -> u64 {
    let symbol = [7; 220];
    let mut bytes = [0; 300];
    let mut recovered = 0;
    for _ in 0..count {
        let number = encoder.push(&symbol[..200 + encoder.next_number() as usize % 20]);
        if number % 20 > 1 {
            decoder.handle_symbol(number, &symbol[..200 + number as usize % 20]).unwrap();
        }
        if number % 8 == 7 {
            for index in 0..2 {
                let length = encoder.repair(16, index, &mut bytes);
                let header =
                    RepairHeader { last: number, count: encoder.window_symbols().min(16) as u8, index };
                decoder.handle_repair(header, &bytes[..length]).unwrap();
            }
        }
        while decoder.poll_recovered().is_some() {
            recovered += 1;
        }
    }
    recovered
}

#[test]
fn a_warm_codec_allocates_per_repair() {
    let (mut encoder, mut decoder) = (Encoder::new(0), Decoder::new());
    repair(&mut encoder, &mut decoder, 1_000);
    let before = allocations();
    let recovered = repair(&mut encoder, &mut decoder, 10_000);
    let allocations = allocations() - before;
    assert_eq!((recovered, allocations), (1_000, 0));
}
