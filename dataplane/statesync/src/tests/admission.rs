//! Sessions that do more than they may: each is refused and told when to go on, and nobody else notices.

use wire::Span;

use super::*;
use crate::SessionRates;

const RATES: SessionRates = SessionRates {
    ops_per_s: 100,
    op_bytes_per_s: 1_000,
    joins_per_s: 10,
    presence_per_s: 100,
    burst: Span::from_ms(1_000),
};

fn rig(rates: SessionRates) -> Rig {
    let mut rig =
        Rig::with(DocumentKind::Opaque, SyncConfig { session_rates: rates, ..SyncConfig::default() });
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig
}

fn only(change: impl FnOnce(&mut SessionRates)) -> SessionRates {
    let mut rates = SessionRates::UNLIMITED;
    rates.burst = RATES.burst;
    change(&mut rates);
    rates
}

#[test]
fn a_flood_of_ops_takes_more_than_its_rate_or_costs_others_theirs() {
    let mut rig = rig(only(|rates| rates.ops_per_s = 100));
    let mut next = 1;
    for round in 0..50 {
        for _ in 0..100 {
            let refused = rig.client(1).rejects.len();
            rig.op(1, next, b"more");
            next += u64::from(rig.client(1).rejects.len() == refused);
        }
        rig.op(2, round + 1, b"mine");
        rig.later(20);
    }
    // A second's worth at once and one more second: what was refused was told so, and the connection lives.
    assert!((190..=205).contains(&next), "{next}");
    assert_eq!(rig.client(2).rejects, []);
    let client = rig.client(1);
    assert!(client.rejects.iter().all(|&(_, code)| code == Code::RateLimited));
    let refused = client.rejects.len() as u64;
    assert_eq!((client.closed, refused), (None, 5_001 - next));
    let stats = rig.machine.stats();
    assert_eq!((stats.ops_rate_limited, stats.ops_rejected), (refused, refused));
    assert_eq!(stats.ops_logged, next - 1 + 50);
}

#[test]
fn ops_overtake_one_that_came_too_soon() {
    let mut rig = rig(only(|rates| rates.ops_per_s = 100));
    (1..=103).for_each(|counter| rig.op(1, counter, b"x"));
    assert_eq!(rig.client(1).rejects, [(101, Code::RateLimited), (102, Code::LogBusy), (103, Code::LogBusy)]);
    rig.later(500);
    rig.op(1, 102, b"x");
    assert_eq!(rig.machine.stats().ops_logged, 100, "one was taken before the one before it");
    (101..=103).for_each(|counter| rig.op(1, counter, b"x"));
    assert_eq!(rig.machine.stats().ops_logged, 103);
}

#[test]
fn an_op_that_is_held_already_is_refused_or_free() {
    let mut rig = rig(only(|rates| rates.ops_per_s = 100));
    rig.op(1, 1, b"x");
    (0..200).for_each(|_| rig.op(1, 1, b"x"));
    rig.durable();
    assert_eq!((rig.client(1).rejects.len(), rig.client(1).acked.last()), (0, Some(&1)));
    rig.op(1, 2, b"x");
    assert_eq!(rig.client(1).rejects, [(2, Code::RateLimited)], "repeats count");
}

#[test]
fn few_large_ops_pass_for_little() {
    let mut rig = rig(only(|rates| rates.op_bytes_per_s = 1_000));
    rig.op(1, 1, &[7; 900]);
    rig.op(1, 2, &[7; 900]);
    assert_eq!(rig.client(1).rejects, [(2, Code::RateLimited)]);
    rig.later(2_000);
    // Larger than a burst: taken after a pause.
    rig.op(1, 2, &[7; 5_000]);
    assert_eq!(rig.client(1).rejects.len(), 1);
}

#[test]
fn two_connections_do_twice_as_much_as_their_session_may() {
    let mut rig = rig(only(|rates| rates.ops_per_s = 100));
    let session = rig.client(1).session.clone();
    let mut second = ModelClient::new(3, Access::Write);
    second.session = Session { session_id: session.session_id, ..second.session };
    rig.machine.handle_open(SubscriberKey::alone(3), second.session.clone());
    rig.clients.insert(3, second);
    rig.join(3);
    (1..=60).for_each(|counter| rig.op(1, counter, b"x"));
    (1..=60).for_each(|counter| rig.op(3, counter, b"x"));
    assert_eq!(rig.machine.stats().ops_logged, 100);
    // Nor does a new connection help.
    rig.close(3);
    rig.close(1);
    rig.machine.handle_open(SubscriberKey::alone(4), session);
    rig.clients.insert(4, ModelClient::new(1, Access::Write));
    rig.join(4);
    rig.op(4, 61, b"x");
    assert_eq!(rig.client(4).rejects, [(61, Code::RateLimited)]);
}

/// The first client joins a document of its own number.
fn join_another(rig: &mut Rig, number: u32) {
    let document = format!("doc-{number}");
    let (kind, content) = (DocumentKind::Opaque, true);
    let join =
        Join { handle: 100 + number, kind, content, document: &document, resume: None, state_vector: &[] };
    rig.send(1, &Client::Join(join));
}

#[test]
fn a_client_that_joins_a_hundred_thousand_documents_fills_the_shard() {
    let mut rig = rig(RATES);
    for number in 0..100_000_u32 {
        join_another(&mut rig, number);
        if number % 100 == 0 {
            rig.later(1);
        }
    }
    let stats = rig.machine.stats();
    assert!((15..=30).contains(&stats.subscriptions), "{stats:?}");
    assert_eq!(stats.joins_rate_limited, stats.joins_refused);
    assert!(stats.joins_rate_limited > 99_900, "{stats:?}");
    assert_eq!(rig.client(1).closed, None);
    assert!(rig.client(1).errors.iter().all(|&code| code == Code::RateLimited));
    rig.op(2, 1, b"mine");
    assert_eq!(rig.client(2).rejects, []);
}

#[test]
fn a_client_over_its_join_rate_opens_without_end() {
    let mut rig = rig(SessionRates::UNLIMITED);
    for number in 0..5_000_u32 {
        join_another(&mut rig, number);
    }
    let stats = rig.machine.stats();
    assert_eq!((stats.subscriptions, stats.joins_over_limit), (1_024 + 1, 5_000 - 1_023));
    assert!(rig.client(1).errors.iter().all(|&code| code == Code::LimitReached));
    assert_eq!(rig.client(1).closed, None);
}

#[test]
fn a_flood_of_presence_reaches_the_others() {
    let mut rig = rig(only(|rates| rates.presence_per_s = 100));
    rig.presence(2, 20, 1, b"here");
    for clock in 1..=10_000 {
        rig.presence(1, 10, clock, b"there");
    }
    let stats = rig.machine.stats();
    assert_eq!((stats.presence_taken, stats.presence_rate_limited), (101, 9_900));
    assert_eq!(rig.client(1).errors, [Code::RateLimited], "told once, not for every message");
    let before = rig.client(2).presence_messages;
    rig.later(20);
    assert!(rig.client(2).presence_messages <= before + 1, "gathered for a tick");
    assert_eq!(rig.client(2).here[&10], (100, b"there".to_vec()));
    // As it was told, it tells all again.
    rig.later(500);
    rig.presence(1, 10, 10_001, b"at last");
    rig.later(20);
    assert_eq!(rig.client(2).here[&10], (10_001, b"at last".to_vec()));
    assert_eq!(rig.client(1).closed, None);
}

#[test]
fn presence_is_encoded_more_than_once_for_a_document_and_tick() {
    let mut rig = Rig::new(DocumentKind::Opaque);
    for key in 1..=50 {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.presence(1, 1, 1, b"first");
    rig.later(20);
    let before = rig.machine.stats().presence_broadcasts;
    for clock in 2..=20 {
        (1..=50).for_each(|key| rig.presence(key, u64::from(key), clock, b"moves"));
    }
    rig.later(20);
    // The first change after a pause leaves at once; all that follow within the tick are one message, for all.
    let encoded = rig.machine.stats().presence_broadcasts - before;
    assert!(encoded <= 2, "{encoded} messages encoded");
    let heard: BTreeSet<_> = (1..=50).map(|key| rig.client(key).presence_messages).collect();
    assert!(heard.iter().all(|&messages| messages <= 4), "{heard:?}");
    assert!((1..=50_u8).all(|key| rig.client(key).here.len() == 50));
}
