//! Datagrams of one connection written one behind the other, for one call of the kernel.

mod common;

use bytes::Bytes;
use common::{Link, Pair, message};
use quantum::{Channel, Config, Transmit};
use wire::Span;
use wire::header::HEADER_BYTES;

const TRAIN_BYTES: usize = 65_000;
const DATAGRAMS_MAX: usize = 64;

/// Carries one train of the client to the node, cut as the kernel cuts it.
fn carry(pair: &mut Pair, buffer: &mut [u8], datagrams_max: usize) -> Option<Transmit> {
    let train = pair.client.poll_transmit_train(pair.now, buffer, datagrams_max)?;
    assert!(train.bytes <= buffer.len() && train.datagrams <= datagrams_max, "{train:?}");
    assert_eq!(train.bytes.div_ceil(train.segment_bytes), train.datagrams, "{train:?}");
    let now = pair.unix_now();
    for datagram in buffer[..train.bytes].chunks_mut(train.segment_bytes) {
        pair.node.handle_datagram(now, pair.client_from, datagram, &mut pair.at_node);
    }
    Some(train)
}

/// Sends messages of `sizes` in trains, checks that they arrive, and returns the trains.
fn deliver(config: Config, sizes: &[usize], datagrams_max: usize) -> Vec<Transmit> {
    let mut pair = Pair::with_config(1, Link::default(), config);
    pair.run_until(Span::from_ms(100), |pair| pair.node.connections().any(|(c, _)| c.is_established()));
    for (number, bytes) in sizes.iter().enumerate() {
        pair.send(message(number as u64, *bytes));
    }
    let mut buffer = vec![0; TRAIN_BYTES];
    let mut trains = Vec::new();
    while pair.at_node.messages.len() < sizes.len() {
        pair.now += Span::from_us(100);
        while let Some(train) = carry(&mut pair, &mut buffer, datagrams_max) {
            trains.push(train);
        }
        while let Some((_, bytes)) = pair.node.poll_transmit(pair.now, &mut buffer) {
            pair.client.handle_datagram(pair.now, &mut buffer[..bytes], &mut pair.at_client);
        }
        assert!(trains.len() < 10_000, "messages do not arrive");
    }
    for (number, bytes) in sizes.iter().enumerate() {
        assert!(pair.at_node.messages[number].2 == message(number as u64, *bytes), "message {number}");
    }
    let stats = pair.node.connection_stats();
    assert_eq!((stats.forged_packet, stats.malformed, pair.client.stats().packets_lost), (0, 0, 0));
    trains
}

#[test]
fn a_large_message_goes_datagram_by_datagram() {
    for datagram_bytes_max in [1_200, 1_452] {
        let config = Config { datagram_bytes_max, ..Config::default() };
        let trains = deliver(config, &[65_536; 40], DATAGRAMS_MAX);
        let datagrams: usize = trains.iter().map(|train| train.datagrams).sum();
        assert!(datagrams > 8 * trains.len(), "{datagrams} datagrams in {} trains", trains.len());
        // The first are of the least size, until the path has been tried.
        let longest = trains.iter().max_by_key(|train| (train.segment_bytes, train.bytes)).expect("trains");
        assert_eq!(longest.segment_bytes, datagram_bytes_max);
        assert!(longest.datagrams >= TRAIN_BYTES / datagram_bytes_max - 1, "{longest:?}");
    }
}

#[test]
fn messages_of_mixed_sizes_are_cut_at_the_wrong_places() {
    let sizes: Vec<usize> = (0..600).map(|n| [8, 60, 1_100, 9_000, 700, 1_140, 300, 64_000][n % 8]).collect();
    for datagrams_max in [1, 2, 7, DATAGRAMS_MAX] {
        deliver(Config::default(), &sizes, datagrams_max);
    }
}

#[test]
fn messages_that_fit_a_datagram_are_padded_to_a_full_one() {
    let trains = deliver(Config::default(), &[700; 400], DATAGRAMS_MAX);
    let bytes: usize = trains.iter().map(|train| train.bytes).sum();
    assert!(bytes < 400 * (700 + 64), "{bytes} bytes on the wire");
    let datagrams: usize = trains.iter().map(|train| train.datagrams).sum();
    assert!(datagrams > 4 * trains.len(), "{datagrams} datagrams in {} trains", trains.len());
}

#[test]
fn a_node_answers_an_unproven_address_with_a_train() {
    let mut pair = Pair::new(1, Link::default());
    let mut buffer = vec![0; TRAIN_BYTES];
    pair.send(&b"hello"[..]);
    let first = carry(&mut pair, &mut buffer, DATAGRAMS_MAX).expect("the first packet");
    assert_eq!((first.bytes, first.datagrams), (1_200, 1));
    let key = pair.key();
    pair.node.send(key, Channel::Sync, Bytes::from(vec![7; 65_536])).unwrap();
    let mut answered = 0;
    while let Some((_, train)) = pair.node.poll_transmit_train(pair.now, &mut buffer, DATAGRAMS_MAX) {
        answered += train.bytes;
    }
    assert!(answered > HEADER_BYTES && answered <= 3 * 1_200, "{answered} bytes for 1,200");
}

#[test]
fn one_connection_sends_trains_while_others_wait() {
    let mut pair = Pair::connected(1, Link::default());
    let key = pair.key();
    for _ in 0..4 {
        pair.node.send(key, Channel::Sync, Bytes::from(vec![7; 65_536])).unwrap();
    }
    let config = std::sync::Arc::new(Config::default());
    let mut second = common::connect(pair.now, &config, 2);
    let mut buffer = vec![0; TRAIN_BYTES];
    let bytes = second.poll_transmit(pair.now, &mut buffer).expect("a first packet");
    let (now, from) = (pair.unix_now(), common::client_address(2));
    pair.node.handle_datagram(now, from, &mut buffer[..bytes], &mut pair.at_node);
    let mut next = || pair.node.poll_transmit_train(pair.now, &mut buffer, DATAGRAMS_MAX).expect("a train");
    assert_eq!(next().0, common::client_address(1));
    assert_eq!(next().0, from, "the second has its turn after one train");
}
