//! Explicit congestion notification, on paths that carry it and on such that do not.

mod common;

use common::{EcnPath, Link, Pair, message};
use quantum::Config;
use wire::Span;

const LINK: Link = Link::after(10_000);

fn transfer(pair: &mut Pair, messages: u64) {
    for number in 0..messages {
        pair.send(message(number, 5_000));
        pair.send_back(message(number, 100));
    }
    pair.run_until(Span::from_ms(30_000), |pair| {
        pair.at_node.messages.len() as u64 == messages && pair.at_client.messages.len() as u64 == messages
    });
    pair.run(Span::from_ms(100));
}

fn on(path: EcnPath) -> Pair {
    let mut pair = Pair::connected(1, LINK);
    pair.ecn_path = path;
    transfer(&mut pair, 200);
    pair
}

#[test]
fn a_clean_path_is_taken_for_one_without_marks() {
    let mut pair = on(EcnPath::Clean);
    let (client, node) = (*pair.client.stats(), pair.node.connection_stats());
    assert_eq!((client.ecn_failures, node.ecn_failures), (0, 0));
    assert_eq!((client.ecn_marks, node.ecn_marked_received), (0, 0));
    let before = pair.ect0_sent;
    pair.send("one more");
    pair.run(Span::from_ms(100));
    assert!(pair.ect0_sent > before);
}

#[test]
fn marks_do_not_reach_the_sender() {
    // A queue before a narrow link, which marks before it drops.
    let mut pair = Pair::connected(1, Link { bytes_per_ms: 1_250, queue_bytes: 100_000, ..LINK });
    pair.ecn_path = EcnPath::MarksAbove(20_000);
    transfer(&mut pair, 400);
    let (client, node) = (pair.client.stats(), pair.node.connection_stats());
    assert!(node.ecn_marked_received > 0, "{node:?}");
    assert_eq!(client.ecn_marks, node.ecn_marked_received);
    assert!(client.congestion_events > 0, "{client:?}");
    assert_eq!(client.ecn_failures, 0);
}

#[test]
fn a_path_that_clears_marks_is_trusted() {
    let mut pair = on(EcnPath::Clears);
    assert_eq!((pair.client.stats().ecn_failures, pair.node.connection_stats().ecn_failures), (1, 1));
    let before = pair.ect0_sent;
    pair.send("one more");
    pair.run(Span::from_ms(100));
    assert_eq!(pair.ect0_sent, before);
}

#[test]
fn a_path_that_drops_what_is_marked_stops_a_connection() {
    let config = Config::default();
    let mut pair = Pair::with_config(1, LINK, config);
    pair.ecn_path = EcnPath::Drops;
    pair.run(Span::from_ms(5_000));
    transfer(&mut pair, 100);
    assert!(pair.client.stats().ecn_failures <= 1);
}

#[test]
fn marks_are_sent_when_they_are_turned_off() {
    let mut pair = Pair::with_config(1, LINK, Config { ecn: false, ..Config::default() });
    pair.run(Span::from_ms(100));
    transfer(&mut pair, 50);
    assert_eq!(pair.ect0_sent, 0);
}

#[test]
fn marked_acknowledgements_answer_each_other_for_ever() {
    let mut pair = on(EcnPath::MarksAll);
    assert!(pair.client.stats().ecn_marks > 0);
    let sent = (pair.client_sent.len(), pair.node_sent.len());
    pair.run(Span::from_ms(1_000));
    let told = (pair.client_sent.len() - sent.0, pair.node_sent.len() - sent.1);
    assert!(told.0 <= 4 && told.1 <= 4, "{told:?} packets in a second of silence");
}
