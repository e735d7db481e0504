//! What must hold in every world: `SIM_SEEDS` says in how many, `SIM_FROM` which is the first, `SIM_SECONDS` after how long
//! to stop, however many are left.

use std::time::Duration;

use sim::{Campaign, Kind, run_seed};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 1_500;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: not a number")))
}

#[test]
fn an_invariant_does_not_hold() {
    let seconds = setting("SIM_SECONDS");
    let campaign = Campaign {
        kind: Kind::Transport,
        from: setting("SIM_FROM").unwrap_or(0),
        seeds: setting("SIM_SEEDS").unwrap_or(SEEDS),
        time_max: seconds.map_or(Duration::MAX, Duration::from_secs),
        jobs: std::thread::available_parallelism().map_or(1, Into::into),
        failures_max: 10,
    };
    let (totals, failures) =
        campaign.run(|totals, failures| println!("{} seeds, {failures} failed", totals.seeds));
    println!("{totals:?}");
    let report: Vec<String> = failures
        .iter()
        .map(|failure| format!("seed {}: {}\n    {}", failure.seed, failure.violation, failure.command()))
        .collect();
    assert!(failures.is_empty(), "of {} seeds:\n{}", totals.seeds, report.join("\n"));
    assert!(
        totals.seeds > 0 && totals.messages > totals.seeds,
        "worlds in which nothing is said prove nothing"
    );
}

#[test]
fn a_seed_lives_two_lives() {
    for seed in 0..60 {
        let [first, second] = [run_seed(Kind::Transport, seed, false), run_seed(Kind::Transport, seed, true)];
        assert_eq!(first.digest, second.digest, "seed {seed}: tracing changes what happens");
        assert_eq!(first.violation, second.violation, "seed {seed}");
        assert_eq!(second.trace, run_seed(Kind::Transport, seed, true).trace, "seed {seed}");
    }
    assert_ne!(run_seed(Kind::Transport, 1, false).digest, run_seed(Kind::Transport, 2, false).digest);
}
