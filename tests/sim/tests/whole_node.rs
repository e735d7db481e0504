//! What must hold in every world of a whole node: `SIM_NODE_SEEDS` says how many, `SIM_NODE_SECONDS` for how long,
//! `SIM_FROM` which is the first.

mod campaigns;

use std::ops::Range;

use campaigns::{all_hold, live_one_life, setting};
use sim::{Invariant, Kind, Mutation, run_mutated, run_seed};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 400;

#[test]
fn a_crash_takes_what_was_promised() {
    let seconds = setting("SIM_NODE_SECONDS");
    let seeds = setting("SIM_NODE_SEEDS").unwrap_or(if seconds.is_some() { u64::MAX } else { SEEDS });
    let totals = all_hold(Kind::WholeNode, seeds, seconds);
    // Worlds in which nothing is promised, or nothing breaks, prove nothing.
    let absent: Vec<_> =
        totals.node.fields().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    assert!(totals.seeds < SEEDS || absent.is_empty(), "never happened: {absent:?}");
    assert!(totals.node.ops_acknowledged > totals.seeds && totals.node.crashes > totals.seeds);
}

#[test]
fn a_seed_lives_two_lives() {
    live_one_life(Kind::WholeNode, 30);
}

/// What the oracle sees of worlds that go wrong.
fn seen(mutation: Mutation, seeds: Range<u64>) -> Vec<Invariant> {
    seeds.filter_map(|seed| Some(run_mutated(mutation, seed).violation?.invariant)).collect()
}

#[test]
fn a_deleted_document_comes_back_unseen() {
    // Few nodes are killed between the deletion in the log and the tombstone in the store: one of these is.
    for (mutation, seeds) in [(Mutation::TombstonesUnread, 0..30), (Mutation::DeletionsUnread, 490..500)] {
        let seen = seen(mutation, seeds);
        assert!(seen.contains(&Invariant::NothingTakenBack), "{mutation:?}: {seen:?}");
    }
}

#[test]
fn an_acknowledgement_before_its_time_goes_unseen() {
    let seen = seen(Mutation::SyncLeftOut, 0..20);
    assert!(seen.contains(&Invariant::AcknowledgedKept), "{seen:?}");
}

/// A client was shown an op that waits for one which was never durable, and the document was not merged any more.
#[test]
fn one_op_that_waits_keeps_a_document_from_being_merged() {
    assert_eq!(run_seed(Kind::WholeNode, 32_635, false).violation, None);
}

/// Word of a document's end waits for room, and comes behind the refusal of an op that found nothing open.
#[test]
fn an_op_that_meets_the_end_of_its_document_is_wrong() {
    assert_eq!(run_seed(Kind::WholeNode, 410, false).violation, None);
}

/// Whoever deleted the document was gone before it was told; the others find it deleted.
#[test]
fn ops_are_missed_of_a_document_whose_end_was_heard_of_by_nobody() {
    assert_eq!(run_seed(Kind::WholeNode, 127_077, false).violation, None);
}
