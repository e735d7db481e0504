//! A report that nobody measured: everything that can be drawn, from numbers that are always the same.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::hdr;
use crate::environment::Environment;
use crate::result::{
    Bound, Interval, Latency, Mark, MarkKind, Pace, Repeats, Report, Run, SCHEMA, ShardStrip, Spread, Target,
    Verdict, Waiting,
};
use crate::stages::{StageTime, Stages};

/// Subjects with their median round trip, microseconds, goodput, and CPU seconds per GB.
const SUBJECTS: [(&str, f64, f64, f64); 7] = [
    ("raw-udp", 4.0, 15.7, 0.4),
    ("quantum", 5.9, 11.2, 0.62),
    ("tcp", 6.2, 13.1, 0.61),
    ("quinn-stream", 14.9, 7.1, 1.07),
    ("quinn-datagram", 14.2, 6.8, 1.12),
    ("s2n-quic", 17.3, 9.5, 0.8),
    ("kcp", 5.2, 5.5, 1.5),
];

/// Everything.
pub(crate) fn report() -> Report {
    scaled(1.0)
}

/// The same machine, a fifth faster.
pub(crate) fn faster() -> Report {
    scaled(0.8)
}

fn scaled(factor: f64) -> Report {
    let mut runs = Vec::new();
    for (waiting, slower) in [(Waiting::Polling, 1.0), (Waiting::Blocking, 15.0)] {
        for (i, (subject, us, ..)) in SUBJECTS.into_iter().enumerate() {
            runs.push(echo(subject, us * slower * factor, waiting, Pace::Closed, i as u64));
        }
    }
    for rate_per_s in [10_000.0, 20_000.0, 50_000.0, 100_000.0] {
        for (i, (subject, us, ..)) in SUBJECTS.into_iter().enumerate() {
            let queue = 1.0 / (1.0 - (rate_per_s * us / 1e6 * 0.6).min(0.97));
            let mut run =
                echo(subject, us * queue * factor, Waiting::Polling, Pace::Open { rate_per_s }, i as u64 + 9);
            if rate_per_s > 60_000.0 && us > 14.5 {
                fail(&mut run);
            }
            runs.push(run);
        }
    }
    for (subject, _, gbit, cpu) in SUBJECTS {
        let mut run = empty("bulk", subject, Pace::Saturating, &[("message_bytes", json!(65_536))]);
        run.figures.insert("goodput_gbit_per_s".to_owned(), around(gbit / factor));
        run.figures.insert("sender_cpu_s_per_gb".to_owned(), around(cpu * factor));
        run.figures.insert("receiver_cpu_s_per_gb".to_owned(), around(cpu * 0.9 * factor));
        runs.push(run);
    }
    runs.push(ops(factor));
    for (cores, ops) in [(1, 110_000.0), (2, 212_000.0), (4, 398_000.0), (8, 640_000.0)] {
        let parameters = [("shards", json!(cores)), ("documents", json!(10_000))];
        let mut run = empty("ops", "node", Pace::Saturating, &parameters);
        run.figures.insert("durable_ops_per_s".to_owned(), around(ops / factor));
        runs.push(run);
    }
    let facts = [
        ("kernel", "6.18.0"),
        ("cpu_model", "Example CPU <fast & cool> @ 3.1 GHz"),
        ("cores_allowed", "0-1"),
        ("governor", "performance"),
        ("commit", "0123abc"),
    ];
    Report {
        schema: SCHEMA,
        command: "aether-perf compare --network 'delay=10ms' </script><script>alert(1)</script>".to_owned(),
        started_unix_ms: 1_795_405_550_000,
        environment: Environment { facts: facts.map(|(k, v)| (k.to_owned(), v.to_owned())).into() },
        runs,
        targets: targets(factor),
    }
}

fn targets(factor: f64) -> Vec<Target> {
    let target = |name: &str, bound, limit, measured: Option<f64>, unit: &str| Target {
        name: name.to_owned(),
        bound,
        limit,
        measured,
        unit: unit.to_owned(),
    };
    vec![
        target(
            "quantum p50 / raw-udp p50, 64 B closed loop, polling",
            Bound::AtMost,
            1.5,
            Some(rounded(1.48 * factor)),
            "x",
        ),
        target("quantum p99 / raw-udp p99, 64 B closed loop, polling", Bound::AtMost, 3.0, Some(3.9), "x"),
        target(
            "durable ops, one shard",
            Bound::AtLeast,
            100_000.0,
            Some(rounded(110_000.0 / factor)),
            "ops/s",
        ),
        target("edit-to-reader p99 at 50,000 ops/s", Bound::AtMost, 1_000.0, None, "us"),
    ]
}

fn empty(workload: &str, subject: &str, pace: Pace, parameters: &[(&str, Value)]) -> Run {
    Run {
        workload: workload.to_owned(),
        subject: subject.to_owned(),
        waiting: Waiting::Polling,
        pace,
        parameters: parameters.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        verdict: Verdict::Passed,
        figures: BTreeMap::new(),
        latencies: BTreeMap::new(),
        repeats: Repeats { passed: 3, stalled: 1, failed: 0 },
        marks: Vec::new(),
        shards: Vec::new(),
        stages: None,
    }
}

fn echo(subject: &str, us: f64, waiting: Waiting, pace: Pace, seed: u64) -> Run {
    let mut run = empty("rtt", subject, pace, &[("message_bytes", json!(64))]);
    run.waiting = waiting;
    run.latencies.insert("round_trip".to_owned(), latency(us, 40, seed));
    run
}

fn fail(run: &mut Run) {
    let reasons = [
        "asked for 100000 messages/s and sent 61234/s (61.2 %; at least 99 % needed)",
        "3 of 100000 replies were lost (1 of them came too late) <b>",
    ];
    run.verdict = Verdict::Failed { reasons: reasons.map(str::to_owned).to_vec() };
    run.repeats = Repeats { passed: 0, stalled: 0, failed: 3 };
}

fn ops(factor: f64) -> Run {
    let parameters = [("clients", json!(16)), ("documents", json!(10_000)), ("zipf_exponent", json!(0.99))];
    let mut run = empty("ops", "node", Pace::Open { rate_per_s: 50_000.0 }, &parameters);
    run.latencies.insert("edit_to_reader".to_owned(), latency(120.0 * factor, 300, 31));
    run.latencies.insert("edit_to_durable".to_owned(), latency(310.0 * factor, 300, 32));
    for (name, value) in
        [("durable_ops_per_s", 49_980.0), ("server_rss_bytes", 81.3e6), ("write_amplification", 2.4)]
    {
        run.figures.insert(name.to_owned(), around(value));
    }
    let mark = |at_ms, kind, text: &str| Mark { at_ms, kind, text: text.to_owned() };
    run.marks = vec![
        mark(6_000, MarkKind::Snapshot, "10,000 documents"),
        mark(14_000, MarkKind::Rebalance, "16 partitions to shard 1"),
        mark(15_100, MarkKind::Stall, "core 0 was away for 9 ms"),
        mark(22_000, MarkKind::Failover, "node 2 killed & restarted"),
    ];
    let mut random = Random(77);
    run.shards = (0..4)
        .map(|shard| ShardStrip {
            shard,
            cell_ms: 100,
            unit: "ops_per_s".to_owned(),
            cells: (0..300).map(|i| cell(shard, i, &mut random)).collect(),
        })
        .collect();
    let stages = [
        ("receive", 0.31),
        ("open", 0.42),
        ("statesync", 0.55),
        ("log", 0.38),
        ("fsync", 96.0),
        ("fan_out", 0.71),
        ("seal", 0.47),
        ("send", 1.2),
    ];
    run.stages = Some(Stages {
        stages: stages.map(|(name, us)| stage(name, us * factor)).to_vec(),
        syscalls_per_op: 0.21,
        allocations_per_op: Some(1.02),
        log_write_amplification: 2.4,
        log_bytes_per_op: 155.0,
        ops_per_batch: 41.0,
        hiccup_max_us: vec![812.0, 40.0],
        stolen_ms_per_s: vec![0.4, 0.1],
        over_budget_ms_per_s: vec![0.2, 0.0],
    });
    run
}

fn cell(shard: u32, i: u32, random: &mut Random) -> f64 {
    let busy = if shard == 1 && i > 140 { 1.6 } else { 1.0 };
    let gone = shard == 3 && (220..236).contains(&i);
    if gone { 0.0 } else { rounded(9_000.0 * busy * (0.8 + 0.4 * random.next())) }
}

fn stage(name: &str, us: f64) -> StageTime {
    let beside = name == "fsync";
    StageTime {
        stage: name.to_owned(),
        count: 4_096,
        mean_us: rounded(us),
        p50_us: rounded(us * 0.9),
        p99_us: rounded(us * 3.1),
        max_us: rounded(us * 40.0),
        share: if beside { 0.0 } else { rounded(us / 4.04) },
        us_per_op: if beside { 0.0 } else { rounded(us / 3.0) },
    }
}

/// With few digits, so that JSON gives back the very same number.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn around(value: f64) -> Spread {
    Spread { median: rounded(value), min: rounded(value * 0.97), max: rounded(value * 1.04) }
}

/// Intervals of 100 ms of a distribution with a long tail and a stall in its middle.
fn latency(us: f64, intervals: u64, seed: u64) -> Latency {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut all = hdr::empty();
    let mut slices = Vec::new();
    for i in 0..intervals {
        let mut slice = hdr::empty();
        for j in 0..400 {
            let tail = (1.0 / (1.0 - random.next())).powf(0.42);
            let stall = if i == intervals / 2 && j < 30 { 60.0 } else { 1.0 };
            slice.record((us * 930.0 * tail * stall) as u64).unwrap();
        }
        let at = |quantile| slice.value_at_quantile(quantile) as f64 / 1e3;
        slices.push(Interval {
            at_ms: i * 100,
            length_ms: 100,
            histogram: hdr::encode(&slice),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: slice.max() as f64 / 1e3,
            count: slice.len(),
        });
        all.add(&slice).unwrap();
    }
    let named = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
    let percentiles_us =
        named.map(|(name, q)| (name.to_owned(), around(all.value_at_quantile(q) as f64 / 1e3))).into();
    Latency { percentiles_us, histogram: hdr::encode(&all), intervals: slices, count: all.len() }
}

/// A sequence that looks random and is always the same (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    /// In 0..1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}
