//! What must hold in every world of a whole node: `SIM_NODE_SEEDS` says how many, `SIM_NODE_SECONDS` for how long,
//! `SIM_FROM` which is the first.

use std::time::Duration;

use sim::{Campaign, Kind, run_seed};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 400;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: not a number")))
}

#[test]
fn a_crash_takes_what_was_promised() {
    let seconds = setting("SIM_NODE_SECONDS");
    let campaign = Campaign {
        kind: Kind::WholeNode,
        from: setting("SIM_FROM").unwrap_or(0),
        seeds: setting("SIM_NODE_SEEDS").unwrap_or(if seconds.is_some() { u64::MAX } else { SEEDS }),
        time_max: seconds.map_or(Duration::MAX, Duration::from_secs),
        jobs: std::thread::available_parallelism().map_or(1, Into::into),
        failures_max: 10,
    };
    let (totals, failures) = campaign.run(|_, _| {});
    println!("{totals:?}");
    let report: Vec<String> = failures
        .iter()
        .map(|failure| format!("seed {}: {}\n    {}", failure.seed, failure.violation, failure.command()))
        .collect();
    assert!(failures.is_empty(), "of {} seeds:\n{}", totals.seeds, report.join("\n"));
    // Worlds in which nothing is promised, or nothing breaks, prove nothing.
    let absent: Vec<_> =
        totals.node.fields().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    assert!(totals.seeds < SEEDS || absent.is_empty(), "never happened: {absent:?}");
    assert!(totals.node.ops_acknowledged > totals.seeds && totals.node.crashes > totals.seeds);
}

#[test]
fn a_seed_lives_two_lives() {
    for seed in 0..30 {
        let [first, second] = [run_seed(Kind::WholeNode, seed, false), run_seed(Kind::WholeNode, seed, true)];
        assert_eq!(first.digest, second.digest, "seed {seed}: tracing changes what happens");
        assert_eq!(first.violation, second.violation, "seed {seed}");
        assert_eq!(second.trace, run_seed(Kind::WholeNode, seed, true).trace, "seed {seed}");
    }
    assert_ne!(run_seed(Kind::WholeNode, 1, false).digest, run_seed(Kind::WholeNode, 2, false).digest);
}
