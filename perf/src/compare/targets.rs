//! What had to be reached, held against what was measured.

use crate::result::{Bound, Pace, Run, Target, Verdict, Waiting};

/// Rates of the open loops.
pub const OPEN_RATES_PER_S: [f64; 2] = [10_000.0, 50_000.0];
/// Rate through the relay.
pub const NETWORK_RATE_PER_S: f64 = 1_000.0;
/// Edits a second at which their way to a reader is timed: half of what a shard must take.
pub const OPS_RATE_PER_S: f64 = 50_000.0;

/// Ours.
const OURS: &str = "quantum";
/// What nothing can be faster than.
const FLOOR: &str = "raw-udp";
/// Those that encrypt, as ours does.
const ENCRYPTED: [&str; 3] = ["quinn-stream", "quinn-datagram", "s2n-quic"];

/// All targets; those of runs that failed or were not made have no measured value.
pub fn evaluate(runs: &[Run]) -> Vec<Target> {
    let runs = Runs(runs);
    let mut targets = Vec::new();
    let polling = |pace| Load { waiting: Waiting::Polling, pace };
    targets.extend(against_floor(&runs, "64 B closed loop, polling", polling(Pace::Closed)));
    let fastest = ENCRYPTED
        .iter()
        .filter_map(|subject| runs.round_trip_us(subject, polling(Pace::Closed), "p50"))
        .min_by(f64::total_cmp);
    let ours = runs.round_trip_us(OURS, polling(Pace::Closed), "p50");
    let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    targets.push(times(
        "p50 of the fastest encrypted peer / quantum, 64 B closed loop, polling",
        Bound::AtLeast,
        2.3,
        ratio(fastest, ours),
    ));
    let tcp = runs.round_trip_us("tcp", polling(Pace::Closed), "p50");
    targets.push(times(
        "p50 of tcp / quantum, 64 B closed loop, polling",
        Bound::AtLeast,
        1.0,
        ratio(tcp, ours),
    ));
    for rate_per_s in OPEN_RATES_PER_S {
        let load = polling(Pace::Open { rate_per_s });
        targets.extend(against_floor(&runs, &format!("64 B at {rate_per_s}/s, polling"), load));
    }
    let blocking = Load { waiting: Waiting::Blocking, pace: Pace::Closed };
    targets.push(times(
        "p50 of quantum / raw-udp, 64 B closed loop, blocking",
        Bound::AtMost,
        1.15,
        ratio(runs.round_trip_us(OURS, blocking, "p50"), runs.round_trip_us(FLOOR, blocking, "p50")),
    ));
    targets.extend(bulk(&runs));
    targets.push(connect(&runs));
    targets.extend(product(&runs));
    targets.push(Target {
        name: "p99.9 of quantum through the relay, 200 B at 1000/s: both ways of 10 ms and 10 ms more"
            .to_owned(),
        bound: Bound::AtMost,
        limit: 30_000.0,
        measured: runs.through_relay_us(OURS, "p99.9"),
        unit: "us".to_owned(),
    });
    targets
}

fn against_floor(runs: &Runs<'_>, load_name: &str, load: Load) -> [Target; 2] {
    [("p50", 1.5), ("p99", 3.0)].map(|(percentile, limit)| {
        let ours = runs.round_trip_us(OURS, load, percentile);
        let floor = runs.round_trip_us(FLOOR, load, percentile);
        let measured = ours.zip(floor).map(|(ours, floor)| ours / floor);
        times(&format!("{percentile} of quantum / raw-udp, {load_name}"), Bound::AtMost, limit, measured)
    })
}

fn bulk(runs: &Runs<'_>) -> [Target; 3] {
    let figure = |subject, name| runs.figure("bulk", subject, Pace::Saturating, name);
    let ratio = |subject, name| Some(figure(OURS, name)? / figure(subject, name)?);
    let (goodput, cpu) = ("goodput_gbit_per_s", "sender_cpu_s_per_gb");
    [
        times("goodput of quantum / quinn-stream", Bound::AtLeast, 1.5, ratio("quinn-stream", goodput)),
        times("goodput of quantum / s2n-quic", Bound::AtLeast, 1.0, ratio("s2n-quic", goodput)),
        times(
            "sender CPU s/GB of quantum / quinn-stream",
            Bound::AtMost,
            1.0 / 1.5,
            ratio("quinn-stream", cpu),
        ),
    ]
}

fn connect(runs: &Runs<'_>) -> Target {
    let bytes = |subject| runs.figure("connect", subject, Pace::Saturating, "server_bytes_per_connection");
    let name = "server bytes per idle connection of quantum / s2n-quic";
    times(name, Bound::AtMost, 1.0, bytes(OURS).zip(bytes("s2n-quic")).map(|(ours, its)| ours / its))
}

fn product(runs: &Runs<'_>) -> [Target; 2] {
    let open = Pace::Open { rate_per_s: OPS_RATE_PER_S };
    let p99 = runs
        .find("ops", None, |run| run.pace == open)
        .and_then(|run| percentile(run, "edit_to_reader", "p99"));
    let durable = runs.find("ops", None, |run| run.pace == Pace::Saturating);
    [
        Target {
            name: "durable ops of one shard".to_owned(),
            bound: Bound::AtLeast,
            limit: 100_000.0,
            measured: durable.and_then(|run| Some(run.figures.get("durable_ops_per_s")?.median)),
            unit: "ops/s".to_owned(),
        },
        Target {
            name: format!("p99 from edit to reader at {OPS_RATE_PER_S} ops/s"),
            bound: Bound::AtMost,
            limit: 1_000.0,
            measured: p99,
            unit: "us".to_owned(),
        },
    ]
}

fn times(name: &str, bound: Bound, limit: f64, measured: Option<f64>) -> Target {
    Target { name: name.to_owned(), bound, limit, measured, unit: "x".to_owned() }
}

#[derive(Clone, Copy)]
struct Load {
    waiting: Waiting,
    pace: Pace,
}

/// The runs that passed.
struct Runs<'a>(&'a [Run]);

impl<'a> Runs<'a> {
    fn find(&self, workload: &str, subject: Option<&str>, matches: impl Fn(&Run) -> bool) -> Option<&'a Run> {
        self.0.iter().find(|run| {
            run.workload == workload
                && run.verdict == Verdict::Passed
                && subject.is_none_or(|subject| run.subject == subject)
                && matches(run)
        })
    }

    fn round_trip_us(&self, subject: &str, load: Load, percentile_name: &str) -> Option<f64> {
        let matches = |run: &Run| run.waiting == load.waiting && run.pace == load.pace && !through_relay(run);
        percentile(self.find("rtt", Some(subject), matches)?, "round_trip", percentile_name)
    }

    fn through_relay_us(&self, subject: &str, percentile_name: &str) -> Option<f64> {
        percentile(self.find("rtt", Some(subject), through_relay)?, "round_trip", percentile_name)
    }

    fn figure(&self, workload: &str, subject: &str, pace: Pace, name: &str) -> Option<f64> {
        let run = self.find(workload, Some(subject), |run| run.pace == pace && !through_relay(run))?;
        Some(run.figures.get(name)?.median)
    }
}

fn through_relay(run: &Run) -> bool {
    run.parameters.contains_key("network")
}

fn percentile(run: &Run, latency: &str, name: &str) -> Option<f64> {
    Some(run.latencies.get(latency)?.percentiles_us.get(name)?.median)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::result::{Latency, Repeats, Spread};

    fn rtt(subject: &str, pace: Pace, p50_us: f64) -> Run {
        let spread = Spread { median: p50_us, min: p50_us, max: p50_us };
        let percentiles_us = BTreeMap::from([
            ("p50".to_owned(), spread),
            ("p99".to_owned(), spread),
            ("p99.9".to_owned(), spread),
        ]);
        let latency = Latency { percentiles_us, histogram: String::new(), intervals: Vec::new(), count: 1 };
        Run {
            workload: "rtt".to_owned(),
            subject: subject.to_owned(),
            waiting: Waiting::Polling,
            pace,
            parameters: BTreeMap::new(),
            verdict: Verdict::Passed,
            figures: BTreeMap::new(),
            latencies: BTreeMap::from([("round_trip".to_owned(), latency)]),
            repeats: Repeats::default(),
            marks: Vec::new(),
            shards: Vec::new(),
            stages: None,
        }
    }

    fn measured(runs: &[Run], name: &str) -> Option<f64> {
        evaluate(runs).into_iter().find(|target| target.name.starts_with(name)).expect("a target").measured
    }

    #[test]
    fn a_target_is_met_by_a_run_that_failed_or_was_not_made() {
        assert!(evaluate(&[]).iter().all(|target| target.met().is_none()));
        let mut runs = [rtt("raw-udp", Pace::Closed, 4.0), rtt("quantum", Pace::Closed, 6.0)];
        assert_eq!(measured(&runs, "p50 of quantum / raw-udp, 64 B closed"), Some(1.5));
        runs[1].verdict = Verdict::Failed { reasons: vec!["lost".to_owned()] };
        assert_eq!(measured(&runs, "p50 of quantum / raw-udp, 64 B closed"), None);
    }

    #[test]
    fn ours_is_held_against_the_slowest_peer() {
        let runs = [
            rtt("quantum", Pace::Closed, 6.0),
            rtt("quinn-stream", Pace::Closed, 30.0),
            rtt("quinn-datagram", Pace::Closed, 12.0),
        ];
        assert_eq!(measured(&runs, "p50 of the fastest encrypted peer"), Some(2.0));
    }

    #[test]
    fn a_run_through_the_relay_is_taken_for_one_without() {
        let mut through = rtt("quantum", Pace::Closed, 25_000.0);
        through.parameters.insert("network".to_owned(), "delay=10ms".into());
        let runs = [through, rtt("raw-udp", Pace::Closed, 5.0), rtt("quantum", Pace::Closed, 10.0)];
        assert_eq!(measured(&runs, "p50 of quantum / raw-udp, 64 B closed"), Some(2.0));
        assert_eq!(measured(&runs, "p99.9 of quantum through the relay"), Some(25_000.0));
    }
}
