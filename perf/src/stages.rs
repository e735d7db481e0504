//! Where the time goes inside a node: the waterfall.

use std::collections::BTreeMap;

use node::{ShardSnapshot, Stage};
use rt::Histogram;
use serde::{Deserialize, Serialize};

/// Cells of the longest bar.
const BAR_CELLS: usize = 32;
const NS_PER_US: f64 = 1_000.0;

/// The stages of one or several shards, in the order in which an op passes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// In the order of the path.
    pub stages: Vec<StageTime>,
    /// System calls for each op.
    pub syscalls_per_op: f64,
    /// Allocations for each op; absent where the allocator is not counted.
    pub allocations_per_op: Option<f64>,
    /// Bytes written to the log's device for each byte of a record.
    pub log_write_amplification: f64,
    /// Bytes written to the log's device for each op.
    #[serde(default)]
    pub log_bytes_per_op: f64,
    /// Ops of each batch of the log.
    pub ops_per_batch: f64,
    /// The longest that a data core was held up, microseconds, by shard.
    pub hiccup_max_us: Vec<f64>,
    /// How long data cores were held up in all, milliseconds each second: without having the core, by shard.
    pub stolen_ms_per_s: Vec<f64>,
    /// The same for turns that their own work made longer than 100 us.
    pub over_budget_ms_per_s: Vec<f64>,
}

/// The time in one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// `receive`, `open`, `statesync`, `log`, `fsync`, `fan_out`, `seal`, `send`; `commit` (a batch given to the
    /// disk), and `other` (what a turn does besides).
    pub stage: String,
    /// Samples.
    pub count: u64,
    /// Microseconds.
    pub mean_us: f64,
    /// Microseconds.
    pub p50_us: f64,
    /// Microseconds.
    pub p99_us: f64,
    /// Microseconds.
    pub max_us: f64,
    /// Of the time of the turns that did something, 0 to 1; 0 for `fsync`, which passes beside them.
    pub share: f64,
    /// Of the core's time for each op, microseconds; 0 for `fsync`.
    pub us_per_op: f64,
}

/// One shard's counters and histograms at a moment, as the child of a measurement tells them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ShardTimes {
    /// By name.
    pub figures: BTreeMap<String, u64>,
    /// One turn in so many was timed.
    pub sample_turns: u32,
    /// By stage.
    pub stages: BTreeMap<String, Samples>,
    /// Turns without the core.
    pub stolen: Samples,
    /// Turns with too much work.
    pub over_budget: Samples,
}

/// A histogram.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Samples {
    /// Lower bound in nanoseconds, and count, of each bucket that holds something.
    pub buckets: Vec<(u64, u64)>,
    /// Nanoseconds.
    pub sum_ns: u64,
    /// Nanoseconds.
    pub max_ns: u64,
}

impl From<&Histogram> for Samples {
    fn from(histogram: &Histogram) -> Self {
        let (sum_ns, max_ns) = (histogram.sum_ns(), histogram.max_ns());
        Self { buckets: histogram.buckets().collect(), sum_ns, max_ns }
    }
}

impl From<&Samples> for Histogram {
    fn from(samples: &Samples) -> Self {
        Self::from_buckets(samples.buckets.iter().copied(), samples.sum_ns, samples.max_ns)
    }
}

impl From<&ShardSnapshot> for ShardTimes {
    fn from(shard: &ShardSnapshot) -> Self {
        let timings = &shard.timings;
        Self {
            figures: shard.figures.iter().map(|figure| (figure.name.to_owned(), figure.value)).collect(),
            sample_turns: timings.sample_turns,
            stages: timings
                .stages
                .iter()
                .map(|(stage, times)| (stage.name().to_owned(), times.into()))
                .collect(),
            stolen: (&timings.stolen).into(),
            over_budget: (&timings.over_budget).into(),
        }
    }
}

/// What happened between two looks at the shards of one node; `None` when no op was taken.
#[must_use]
pub fn between(before: &[ShardTimes], after: &[ShardTimes], seconds: f64) -> Option<Stages> {
    let counted = |name: &str| {
        let of = |shards: &[ShardTimes]| -> u64 {
            shards.iter().map(|shard| shard.figures.get(name).copied().unwrap_or_default()).sum()
        };
        of(after).saturating_sub(of(before)) as f64
    };
    let ops = counted("ops_logged");
    if ops == 0.0 {
        return None;
    }
    let is_counting = after.iter().all(|shard| shard.figures.contains_key("allocations"));
    let by_shard = |samples: fn(&ShardTimes) -> &Samples| -> Vec<Histogram> {
        before.iter().zip(after).map(|(before, after)| since(samples(before), samples(after))).collect()
    };
    let (stolen, over_budget) = (by_shard(|shard| &shard.stolen), by_shard(|shard| &shard.over_budget));
    let longest = |(stolen, over_budget): (&Histogram, &Histogram)| {
        stolen.percentile_ns(100.0).max(over_budget.percentile_ns(100.0)) as f64 / NS_PER_US
    };
    let held = |histogram: &Histogram| histogram.sum_ns() as f64 / 1e6 / seconds;
    Some(Stages {
        stages: stages(before, after, ops),
        syscalls_per_op: (counted("ring_syscalls") + counted("core_yields")) / ops,
        allocations_per_op: is_counting.then(|| counted("allocations") / ops),
        log_write_amplification: counted("log_batch_bytes") / counted("log_record_bytes").max(1.0),
        log_bytes_per_op: counted("log_batch_bytes") / ops,
        ops_per_batch: ops / counted("log_batches").max(1.0),
        hiccup_max_us: stolen.iter().zip(&over_budget).map(longest).collect(),
        stolen_ms_per_s: stolen.iter().map(held).collect(),
        over_budget_ms_per_s: over_budget.iter().map(held).collect(),
    })
}

fn since(before: &Samples, after: &Samples) -> Histogram {
    Histogram::from(after).since(&Histogram::from(before))
}

fn stages(before: &[ShardTimes], after: &[ShardTimes], ops: f64) -> Vec<StageTime> {
    let none = Samples::default();
    let all = |stage: Stage| {
        let mut sum = Histogram::new();
        for (before, after) in before.iter().zip(after) {
            let of = |shard: &ShardTimes| shard.stages.get(stage.name()).unwrap_or(&none).clone();
            sum.add(&since(&of(before), &of(after)));
        }
        sum
    };
    let turns = all(Stage::Turn);
    let turn_ns = turns.sum_ns() as f64;
    // One turn in N was timed: so the sums stand for N times as much.
    let sample_turns = after.iter().map(|shard| shard.sample_turns).max().unwrap_or_default();
    let us_per_op = |ns: f64| ns * f64::from(sample_turns) / ops / NS_PER_US;
    let mut stages = Vec::new();
    let mut inside_ns = 0.0;
    for stage in Stage::ALL.into_iter().filter(|&stage| stage != Stage::Turn) {
        let histogram = all(stage);
        let ns = if stage == Stage::Fsync { 0.0 } else { histogram.sum_ns() as f64 };
        inside_ns += ns;
        let mut time = StageTime::of(stage.name(), &histogram);
        (time.share, time.us_per_op) = (ns / turn_ns.max(1.0), us_per_op(ns));
        stages.push(time);
    }
    let other_ns = (turn_ns - inside_ns).max(0.0);
    let mean_us = other_ns / turns.count().max(1) as f64 / NS_PER_US;
    stages.push(StageTime {
        stage: "other".to_owned(),
        count: turns.count(),
        mean_us,
        p50_us: 0.0,
        p99_us: 0.0,
        max_us: 0.0,
        share: other_ns / turn_ns.max(1.0),
        us_per_op: us_per_op(other_ns),
    });
    stages
}

impl StageTime {
    fn of(stage: &str, histogram: &Histogram) -> Self {
        let percentile = |percent| histogram.percentile_ns(percent) as f64 / NS_PER_US;
        Self {
            stage: stage.to_owned(),
            count: histogram.count(),
            mean_us: histogram.mean_ns() / NS_PER_US,
            p50_us: percentile(50.0),
            p99_us: percentile(99.0),
            max_us: percentile(100.0),
            share: 0.0,
            us_per_op: 0.0,
        }
    }
}

impl Stages {
    /// The waterfall for people: each stage's bar begins where the one before it ends, and is as long as its part of
    /// the core's time for an op.
    #[must_use]
    pub fn waterfall(&self) -> String {
        use std::fmt::Write;
        let total: f64 = self.stages.iter().map(|time| time.us_per_op).sum();
        let mut text = format!(
            "{:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6}  {:<BAR_CELLS$}\n",
            "stage", "samples", "mean us", "p50 us", "p99 us", "us/op", "share", "the core's time for an op"
        );
        let mut at = 0.0;
        for time in &self.stages {
            let cell = |us: f64| (us / total.max(f64::MIN_POSITIVE) * BAR_CELLS as f64).round() as usize;
            let (from, to) = (cell(at), cell(at + time.us_per_op));
            at += time.us_per_op;
            let bar = if time.stage == Stage::Fsync.name() {
                "(the disk: passes beside the turns)".to_owned()
            } else {
                let cells = if to > from { "█".repeat(to - from) } else { "▏".to_owned() };
                format!("{}{cells}", " ".repeat(from))
            };
            let (p50, p99) = match time.stage.as_str() {
                "other" => ("-".to_owned(), "-".to_owned()),
                _ => (format!("{:.2}", time.p50_us), format!("{:.2}", time.p99_us)),
            };
            let _ = writeln!(
                text,
                "{:<10} {:>8} {:>8.2} {:>8} {:>8} {:>8.3} {:>5.1}%  {bar}",
                time.stage,
                time.count,
                time.mean_us,
                p50,
                p99,
                time.us_per_op,
                time.share * 100.0
            );
        }
        let _ = writeln!(text, "{:<46} {total:>8.3}  100.0%", "total");
        let allocations =
            self.allocations_per_op.map_or_else(|| "-".to_owned(), |count| format!("{count:.2}"));
        let _ = writeln!(
            text,
            "system calls/op {:.3}   allocations/op {allocations}   ops/log batch {:.1}   log bytes written/record \
             byte {:.1}",
            self.syscalls_per_op, self.ops_per_batch, self.log_write_amplification
        );
        for (shard, longest) in self.hiccup_max_us.iter().enumerate() {
            let part = |of: &[f64]| of.get(shard).copied().unwrap_or_default();
            let _ = writeln!(
                text,
                "hiccups of shard {shard}: longest {longest:.0} us; without its core {:.2} ms/s, turns over 100 us \
                 {:.2} ms/s",
                part(&self.stolen_ms_per_s),
                part(&self.over_budget_ms_per_s)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(ops: u64, stages: &[(Stage, &[u64])]) -> ShardTimes {
        let times = |(stage, ns): &(Stage, &[u64])| {
            let mut histogram = Histogram::new();
            ns.iter().for_each(|&ns| histogram.record(ns));
            (stage.name().to_owned(), Samples::from(&histogram))
        };
        let figures =
            [("ops_logged", ops), ("ring_syscalls", 3 * ops), ("core_yields", ops), ("log_batches", 2)];
        ShardTimes {
            figures: figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            sample_turns: 10,
            stages: stages.iter().map(times).collect(),
            ..ShardTimes::default()
        }
    }

    #[test]
    fn time_before_the_measurement_or_beside_the_turns_is_counted() {
        let before = [shard(0, &[(Stage::Open, &[9_000_000]), (Stage::Turn, &[9_000_000])])];
        let after = [shard(
            100,
            &[
                (Stage::Open, &[9_000_000, 3_000]),
                (Stage::Fsync, &[700_000]),
                (Stage::Turn, &[9_000_000, 4_000]),
            ],
        )];
        let stages = between(&before, &after, 1.0).unwrap();
        let time = |name: &str| stages.stages.iter().find(|time| time.stage == name).unwrap();
        assert_eq!((time("open").count, time("open").share), (1, 0.75));
        // 3 us in one turn of ten, over 100 ops.
        assert!((time("open").us_per_op - 0.3).abs() < 1e-9, "{:?}", time("open"));
        assert_eq!((time("fsync").share, time("fsync").us_per_op), (0.0, 0.0));
        assert_eq!(time("fsync").mean_us, 700.0);
        assert_eq!(time("other").share, 0.25);
        assert_eq!((stages.syscalls_per_op, stages.allocations_per_op), (4.0, None));
        assert!(between(&before, &before, 1.0).is_none());
    }

    #[test]
    fn a_bar_begins_elsewhere_than_the_one_before_it_ends() {
        let before = [shard(0, &[])];
        let after =
            [shard(100, &[(Stage::Open, &[1_000]), (Stage::Seal, &[1_000]), (Stage::Turn, &[2_000])])];
        let text = between(&before, &after, 1.0).unwrap().waterfall();
        let bar = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let cells: Vec<char> = line.chars().collect();
            let first = cells.iter().position(|cell| *cell == '█').unwrap();
            (first, first + cells.iter().filter(|cell| **cell == '█').count())
        };
        assert_eq!(bar("open").1, bar("seal").0, "{text}");
        assert_eq!(bar("seal").1 - bar("open").0, BAR_CELLS, "{text}");
    }
}
