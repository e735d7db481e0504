//! What runs of many worlds have in common.

use std::time::Duration;

use sim::{Campaign, Kind, Totals, run_seed};

/// A number from the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: not a number")))
}

/// Lives so many worlds, from the seed `SIM_FROM` on, and no longer than so many seconds. What they did, when every
/// invariant held.
pub(crate) fn all_hold(kind: Kind, seeds: u64, seconds: Option<u64>) -> Totals {
    let campaign = Campaign {
        kind,
        from: setting("SIM_FROM").unwrap_or(0),
        seeds,
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
    totals
}

/// The first worlds are lived twice and come to the same, told or not.
pub(crate) fn live_one_life(kind: Kind, seeds: u64) {
    for seed in 0..seeds {
        let [first, second] = [run_seed(kind, seed, false), run_seed(kind, seed, true)];
        assert_eq!(first.digest, second.digest, "seed {seed}: tracing changes what happens");
        assert_eq!(first.violation, second.violation, "seed {seed}");
        assert_eq!(second.trace, run_seed(kind, seed, true).trace, "seed {seed}");
    }
    assert_ne!(run_seed(kind, 1, false).digest, run_seed(kind, 2, false).digest);
}
