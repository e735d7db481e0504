//! What must hold in every world: `SIM_SEEDS` says in how many, `SIM_FROM` which is the first, `SIM_SECONDS` after how long
//! to stop, however many are left.

mod campaigns;

use campaigns::{all_hold, live_one_life, setting};
use sim::Kind;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 1_500;

#[test]
fn an_invariant_does_not_hold() {
    let totals = all_hold(Kind::Transport, setting("SIM_SEEDS").unwrap_or(SEEDS), setting("SIM_SECONDS"));
    assert!(
        totals.seeds > 0 && totals.messages > totals.seeds,
        "worlds in which nothing is said prove nothing"
    );
}

#[test]
fn a_seed_lives_two_lives() {
    live_one_life(Kind::Transport, 60);
}
