//! What each kind of channel promises, and who goes first.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::{Link, Pair, Random, message};
use proptest::prelude::*;
use quantum::{
    Channel, ChannelKind, Config, FecConfig, LATEST_KEYS_MAX, MessageId, PACKET_MESSAGE_BYTES_MAX, SendError,
    SendOptions,
};
use wire::{Span, Time};

const LINK: Link =
    Link { loss: 0, duplicates: 0, flips: 0, delay_us: 5_000, jitter_us: 0, bytes_per_ms: 0, queue_bytes: 0 };
/// The longest that a datagram of `rough` is on its way.
const DELAY_MAX: Span = Span::from_ms(9);
const KEYS: u64 = 5;

fn rough(loss: u64) -> Link {
    Link { loss, duplicates: 3, delay_us: 5_000, jitter_us: 4_000, ..Link::default() }
}

/// A message that was sent.
struct Sent {
    channel: Channel,
    key: u64,
    id: MessageId,
    deadline: Option<Time>,
    is_cancelled: bool,
}

/// Everything that was sent, by number, and when each arrived, in order.
struct Record {
    pair: Pair,
    sent: Vec<Sent>,
    arrived: Vec<(usize, Time)>,
    /// Whether what is lost may come back by repairs: later than it was sent.
    has_repairs: bool,
}

impl Record {
    fn run(&mut self, span: Span) {
        let until = self.pair.now + span;
        loop {
            let goes_on = self.pair.step(until);
            for (_, channel, found) in self.pair.at_node.messages.split_off(0) {
                let key = self.pair.key();
                self.pair.node.consume(key, channel, found.len());
                let number = u64::from_be_bytes(found[..8].try_into().unwrap()) as usize;
                assert_eq!(found, message(number as u64, found.len()), "it arrives as it was sent");
                assert_eq!(channel, self.sent[number].channel);
                self.arrived.push((number, self.pair.now));
            }
            if !goes_on {
                return;
            }
        }
    }

    fn send(&mut self, random: &mut Random) {
        let channel = Channel::ALL[random.below(Channel::COUNT as u64) as usize];
        let number = self.sent.len() as u64;
        let long = channel.is_reliable() && random.happens(15);
        let bytes = 8 + random.below(if long { 8_000 } else { 600 }) as usize;
        let key = random.below(KEYS);
        let may_expire = channel.kind() != ChannelKind::ReliableOrdered;
        let after = Span::from_us(random.below(6_000));
        let deadline = (may_expire && random.happens(30)).then(|| self.pair.now + after);
        let options = SendOptions { deadline, key };
        match self.pair.client.send_with(channel, message(number, bytes).into(), options) {
            Ok(id) => self.sent.push(Sent { channel, key, id, deadline, is_cancelled: false }),
            Err(error) => {
                assert!(error == SendError::Full && !channel.is_reliable(), "{error} on {channel:?}");
            }
        }
    }

    fn cancel(&mut self, random: &mut Random) {
        let back = random.below(10) as usize;
        if let Some(sent) = self.sent.iter_mut().rev().nth(back) {
            let is_cancelled = self.pair.client.cancel(sent.id);
            assert!(!(is_cancelled && sent.is_cancelled), "cancelled twice");
            sent.is_cancelled |= is_cancelled;
        }
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        let mut last_of_channel = BTreeMap::new();
        let mut last_of_key = BTreeMap::new();
        for &(number, at) in &self.arrived {
            let sent = &self.sent[number];
            assert!(seen.insert(number), "{number} on {:?} arrives twice", sent.channel);
            assert!(!sent.is_cancelled, "{number} was cancelled, and arrives");
            if let Some(deadline) = sent.deadline.filter(|_| !sent.channel.is_reliable()) {
                let comes_once = !self.has_repairs && sent.channel.kind() == ChannelKind::Unreliable;
                assert!(!comes_once || at < deadline + DELAY_MAX, "{number} was sent after its deadline");
            }
            let before = match sent.channel.kind() {
                ChannelKind::ReliableOrdered => last_of_channel.insert(sent.channel, number),
                ChannelKind::LatestWins => last_of_key.insert(sent.key, number),
                ChannelKind::ReliableUnordered | ChannelKind::Unreliable => None,
            };
            assert!(before < Some(number), "{number} arrives behind {before:?} on {:?}", sent.channel);
        }
        for (number, sent) in self.sent.iter().enumerate() {
            let must_arrive = sent.channel.is_reliable() && sent.deadline.is_none() && !sent.is_cancelled;
            assert!(!must_arrive || seen.contains(&number), "{number} is missing on {:?}", sent.channel);
        }
        for key in 0..KEYS {
            let of_key = |sent: &&Sent| sent.channel == Channel::Latest && sent.key == key;
            let last = self.sent.iter().enumerate().rfind(|(_, sent)| of_key(sent));
            if let Some((number, _)) = last.filter(|(_, sent)| sent.deadline.is_none() && !sent.is_cancelled)
            {
                assert_eq!(last_of_key.get(&key), Some(&number), "the last of key {key}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_channel_breaks_its_promise(
        seed in any::<u64>(), loss in 0_u64..30, sends in 50_u64..600, has_repairs in any::<bool>(),
    ) {
        let fec = FecConfig { enabled: has_repairs, ..FecConfig::default() };
        let pair = Pair::connected_with(seed, rough(loss), Config { fec, ..Config::default() });
        let mut record = Record { pair, sent: Vec::new(), arrived: Vec::new(), has_repairs };
        record.pair.consumes = false;
        let mut random = Random(seed ^ 1);
        for _ in 0..sends {
            record.send(&mut random);
            if random.happens(30) {
                record.cancel(&mut random);
            }
            let pause = random.below(3_000);
            if random.happens(40) {
                record.run(Span::from_us(pause));
            }
        }
        record.pair.link.loss = 0;
        record.run(Span::from_ms(20_000));
        record.check();
        prop_assert_eq!(record.pair.client.queued_bytes(), 0, "nothing is kept");
        let held = record.pair.node.connections().next().map(|(connection, _)| connection.footprint().held_bytes);
        prop_assert_eq!(held, Some(0));
        let stats = record.pair.client.stats();
        let cancelled = record.sent.iter().filter(|sent| sent.is_cancelled).count() as u64;
        prop_assert_eq!((stats.messages_sent, stats.messages_cancelled), (record.sent.len() as u64, cancelled));
    }
}

/// What arrives at the node, by channel, in order.
fn arrivals(pair: &Pair) -> Vec<(Channel, usize)> {
    pair.at_node.messages.iter().map(|(_, channel, found)| (*channel, found.len())).collect()
}

/// The next packet of the client that holds more than an acknowledgement.
fn next_full_packet(pair: &mut Pair) -> Vec<u8> {
    let until = pair.now + Span::from_ms(500);
    let mut buffer = [0; 1_500];
    loop {
        match pair.client.poll_transmit(pair.now, &mut buffer) {
            Some(length) if length > 1_000 => return buffer[..length].to_vec(),
            Some(length) => pair.fly(true, &buffer[..length]),
            None => assert!(pair.step(until), "nothing is sent"),
        }
    }
}

#[test]
fn a_large_transfer_keeps_an_op_waiting() {
    // 1,000 bytes a millisecond: one packet of 1,200 bytes takes 1.2 ms.
    let link = Link { bytes_per_ms: 1_000, queue_bytes: 100_000, ..LINK };
    let config = Config { congestion_window_bytes_max: 64 << 10, ..Config::default() };
    let mut pair = Pair::with_config(1, link, config);
    pair.run(Span::from_ms(100));
    pair.client.send(Channel::Bulk, message(1, 4 << 20).into()).unwrap();
    pair.run(Span::from_ms(500));
    for number in 0..50 {
        let op = message(number, 100).into();
        let id = pair.client.send_with(Channel::Sync, op, SendOptions::default()).unwrap();
        let packet = next_full_packet(&mut pair);
        assert!(!pair.client.cancel(id), "a packet of {} bytes has left without it", packet.len());
        pair.fly(true, &packet);
        pair.run(Span::from_ms(7));
    }
    pair.run(Span::from_ms(200));
    assert_eq!(pair.at_node.messages.len(), 50);
    assert!(arrivals(&pair).iter().all(|(channel, _)| *channel == Channel::Sync));
    pair.run_until(Span::from_ms(20_000), |pair| pair.at_node.messages.len() == 51);
    assert_eq!(arrivals(&pair).last(), Some(&(Channel::Bulk, 4 << 20)));
}

#[test]
fn the_most_important_do_not_go_first() {
    let mut pair = Pair::connected(1, LINK);
    for channel in [
        Channel::Bulk,
        Channel::Datagram,
        Channel::Latest,
        Channel::Presence,
        Channel::Sync,
        Channel::Control,
    ] {
        pair.client.send(channel, Bytes::from_static(b"message")).unwrap();
    }
    pair.run(Span::from_ms(50));
    let order: Vec<_> = pair.at_node.messages.iter().map(|(_, channel, _)| *channel).collect();
    let expected: Vec<_> =
        Channel::BY_PRIORITY.into_iter().filter(|channel| *channel != Channel::Probe).collect();
    assert_eq!(order, expected);
}

#[test]
fn a_flood_of_ops_starves_the_rest() {
    let link = Link { bytes_per_ms: 1_000, queue_bytes: 50_000, ..LINK };
    let mut pair = Pair::connected(1, link);
    for number in 0..3_000 {
        pair.send(message(number, 1_000));
    }
    for number in 0..40 {
        pair.client.send(Channel::Bulk, message(number, 1_000).into()).unwrap();
    }
    pair.client.send_latest(3, Bytes::from_static(b"here")).unwrap();
    pair.run_until(Span::from_ms(20_000), |pair| pair.at_node.messages.len() == 3_041);
    let last_bulk = arrivals(&pair).iter().rposition(|(channel, _)| *channel == Channel::Bulk).unwrap();
    assert!(last_bulk < 1_000, "the last of 40 comes as number {last_bulk}");
}

#[test]
fn an_old_value_is_sent_although_a_newer_one_waits() {
    let mut pair = Pair::connected(1, LINK);
    for number in 0..100 {
        pair.client.send_latest(number % 4, message(number, 50).into()).unwrap();
    }
    pair.run(Span::from_ms(50));
    let numbers: Vec<_> = pair.at_node.messages.iter().map(|(.., found)| found.clone()).collect();
    let expected: Vec<_> = (96..100).map(|number| message(number, 50)).collect();
    assert_eq!(numbers, expected);
    assert_eq!(pair.client.stats().messages_replaced, 96);
}

#[test]
fn a_lost_value_is_sent_again_although_a_newer_one_was() {
    let mut pair = Pair::connected(1, LINK);
    pair.link.loss = 100;
    pair.client.send_latest(1, message(1, 50).into()).unwrap();
    pair.client.send_latest(2, message(2, 50).into()).unwrap();
    pair.run(Span::from_us(100));
    pair.link.loss = 0;
    pair.client.send_latest(1, message(3, 50).into()).unwrap();
    pair.run(Span::from_ms(500));
    let numbers: Vec<_> = pair.at_node.messages.iter().map(|(.., found)| found.clone()).collect();
    assert_eq!(numbers, [message(3, 50), message(2, 50)]);
    assert_eq!(pair.client.queued_bytes(), 0);
}

#[test]
fn more_keys_than_the_peer_can_remember_are_queued() {
    let mut pair = Pair::connected(1, LINK);
    for key in 0..LATEST_KEYS_MAX as u64 {
        pair.client.send_latest(key, message(key, 20).into()).unwrap();
    }
    assert_eq!(pair.client.send_latest(u64::MAX, message(0, 20).into()), Err(SendError::Full));
    pair.client.send_latest(7, message(7, 20).into()).unwrap();
    pair.run(Span::from_ms(200));
    assert_eq!(pair.at_node.messages.len(), LATEST_KEYS_MAX);
    assert!(pair.client.send_latest(u64::MAX, message(0, 20).into()).is_ok());
}

#[test]
fn one_busy_key_outruns_what_the_peer_remembers() {
    // All packets of one key's message are lost for a while, as another key goes on.
    let mut pair = Pair::connected(1, LINK);
    pair.link.loss = 100;
    pair.client.send_latest(1, Bytes::from_static(b"rare")).unwrap();
    pair.run(Span::from_us(10));
    pair.link.loss = 0;
    for number in 0..3 * LATEST_KEYS_MAX as u64 {
        pair.client.send_latest(2, message(number, 20).into()).unwrap();
        pair.run(Span::from_us(5));
    }
    pair.run(Span::from_ms(500));
    assert_eq!(pair.at_node.messages.iter().filter(|(.., found)| found == b"rare").count(), 1);
    assert_eq!(pair.at_node.messages.last().unwrap().2, message(3 * LATEST_KEYS_MAX as u64 - 1, 20));
}

#[test]
fn a_message_that_must_fit_a_packet_never_does() {
    let mut pair = Pair::connected(1, LINK);
    for channel in [Channel::Probe, Channel::Datagram, Channel::Latest] {
        let largest = vec![7; PACKET_MESSAGE_BYTES_MAX];
        pair.client
            .send_with(channel, largest.into(), SendOptions { key: u64::MAX, deadline: None })
            .unwrap();
        let limit = PACKET_MESSAGE_BYTES_MAX;
        let result = pair.client.send(channel, vec![7; limit + 1].into());
        assert_eq!(result, Err(SendError::TooLarge { bytes: limit + 1, limit }));
    }
    pair.run(Span::from_ms(50));
    assert_eq!(pair.at_node.messages.len(), 3);
}

#[test]
fn what_expires_in_the_queue_keeps_its_memory() {
    let mut pair = Pair::connected(1, LINK);
    pair.link.loss = 100;
    // The window is full, and nothing is acknowledged.
    for number in 0..200 {
        pair.send(message(number, 1_000));
    }
    pair.flush();
    let queued = pair.client.queued_bytes();
    let deadline = |pair: &Pair| Some(pair.now + Span::from_ms(2));
    for channel in [Channel::Bulk, Channel::Datagram, Channel::Latest] {
        let options = SendOptions { deadline: deadline(&pair), key: 1 };
        let id = pair.client.send_with(channel, message(1, 500).into(), options).unwrap();
        pair.run(Span::from_us(100));
        assert!(pair.client.queued_bytes() > queued);
        pair.run(Span::from_ms(1_000));
        assert!(!pair.client.cancel(id), "it is gone");
    }
    assert_eq!(pair.client.queued_bytes(), queued);
    assert_eq!(pair.client.stats().messages_expired, 3);
    let options = SendOptions { deadline: deadline(&pair), key: 0 };
    let refused = pair.client.send_with(Channel::Sync, Bytes::new(), options);
    assert_eq!(refused, Err(SendError::Deadline));
}

#[test]
fn a_stalled_application_is_overrun_on_an_unordered_channel() {
    let config = Config {
        message_bytes_max: 10_000,
        channel_window_bytes: 50_000,
        receive_window_bytes: 60_000,
        ..Config::default()
    };
    let mut pair = Pair::with_config(1, rough(5), config);
    pair.consumes = false;
    for number in 0..200 {
        pair.client.send(Channel::Bulk, message(number, 1_000).into()).unwrap();
    }
    pair.run(Span::from_ms(5_000));
    assert_eq!(pair.at_node.messages.len(), 50, "the window's worth");
    pair.consumes = true;
    pair.run_until(Span::from_ms(5_000), |pair| pair.at_node.messages.len() == 200);
}

#[test]
fn parts_of_two_messages_wait_for_each_other_for_ever() {
    let config = Config {
        message_bytes_max: 20_000,
        channel_window_bytes: 26_000,
        receive_window_bytes: 26_000,
        ..Config::default()
    };
    let mut pair = Pair::with_config(1, LINK, config);
    pair.run_until(Span::from_ms(100), |pair| pair.client.is_established());
    pair.client.send(Channel::Bulk, message(0, 18_000).into()).unwrap();
    pair.run(Span::from_us(500));
    // The window lets a part of that one out, and then this one is more important.
    pair.client.send(Channel::Sync, message(1, 18_000).into()).unwrap();
    pair.client.send(Channel::Sync, message(2, 300).into()).unwrap();
    pair.run(Span::from_ms(5_000));
    assert_eq!(pair.at_node.messages.len(), 3);
}
