//! What a measurement says: the shapes of the JSON that machines read and of everything that is drawn from it.
//!
//! A [`Report`] holds [`Run`]s; a run is one subject under one load, repeated. Nothing here measures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;

/// Rises when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// All that one command measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// The command line.
    pub command: String,
    /// When it began, milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Where it ran.
    pub environment: Environment,
    /// In the order in which they ran.
    pub runs: Vec<Run>,
    /// What had to be reached, where the command knows it.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// A figure that has to be reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Of what, in words: `quantum p99 / raw-udp p99, 64 B closed loop, polling`.
    pub name: String,
    /// Which side of the limit is the good one.
    pub bound: Bound,
    /// In `unit`.
    pub limit: f64,
    /// In `unit`; absent where the run failed or was not made.
    pub measured: Option<f64>,
    /// Of the limit and of what was measured: `x`, `us`, `ops/s`.
    pub unit: String,
}

impl Target {
    /// Whether it was reached; `None` where nothing was measured.
    pub fn met(&self) -> Option<bool> {
        self.measured.map(|measured| match self.bound {
            Bound::AtMost => measured <= self.limit,
            Bound::AtLeast => measured >= self.limit,
        })
    }
}

/// Which side of a limit is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The less, the better.
    AtMost,
    /// The more, the better.
    AtLeast,
}

/// One subject under one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// `rtt`, `bulk`, `ops`, …
    pub workload: String,
    /// What was measured: `raw-udp`, `quantum`, `quinn-stream`, `node`, …
    pub subject: String,
    /// How both ends wait.
    pub waiting: Waiting,
    /// What sets the pace.
    pub pace: Pace,
    /// Everything else that tells this run from its neighbours, by name with unit: `message_bytes`, `clients`.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Whether the figures may be believed.
    pub verdict: Verdict,
    /// By name with unit: `goodput_gbit_per_s`, `cpu_s_per_gb`, `durable_ops_per_s`. Over the repeats that passed.
    pub figures: BTreeMap<String, Spread>,
    /// By what was timed: `round_trip`, `edit_to_reader`, `edit_to_durable`. Over the repeats that passed.
    pub latencies: BTreeMap<String, Latency>,
    /// Repeats that were measured, and those thrown away because the generator was stalled.
    pub repeats: Repeats,
    /// What happened while it ran.
    pub marks: Vec<Mark>,
    /// Load of each shard over time, for the heat strip; empty where there are no shards.
    pub shards: Vec<ShardStrip>,
    /// Where the time went inside the node, when it was asked for.
    pub stages: Option<crate::stages::Stages>,
}

/// How an end waits for what comes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// It never sleeps.
    Polling,
    /// It sleeps until something comes.
    Blocking,
}

/// What sets the pace of a load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Pace {
    /// The next message leaves when the reply to the last has come: the floor, not a load.
    Closed,
    /// A fixed schedule; latency counts from the instant a message was to leave.
    Open {
        /// Messages a second, over all clients.
        rate_per_s: f64,
    },
    /// As fast as the subject takes it.
    Saturating,
}

/// Whether the figures may be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// They may.
    Passed,
    /// They may not; printed in place of figures.
    Failed {
        /// Each in one sentence with its figures.
        reasons: Vec<String>,
    },
}

/// Median and range over repeats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// A distribution of times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Percentiles in microseconds, each the median over repeats with its range: `p50`, `p90`, `p99`, `p99.9`, `max`.
    pub percentiles_us: BTreeMap<String, Spread>,
    /// All repeats together: HdrHistogram V2, deflated, base64; nanoseconds.
    pub histogram: String,
    /// The course of time, all repeats one after another.
    pub intervals: Vec<Interval>,
    /// How many were timed.
    pub count: u64,
}

/// One slice of time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// Its beginning, milliseconds since the measured time began.
    pub at_ms: u64,
    /// Its length, milliseconds.
    pub length_ms: u64,
    /// HdrHistogram V2, deflated, base64; nanoseconds.
    pub histogram: String,
    /// Microseconds.
    pub p50_us: f64,
    /// Microseconds.
    pub p99_us: f64,
    /// Microseconds.
    pub p999_us: f64,
    /// Microseconds.
    pub max_us: f64,
    /// How many were timed.
    pub count: u64,
}

/// Repeats of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// Those that count.
    pub passed: u32,
    /// Those thrown away because the generator was held up.
    pub stalled: u32,
    /// Those that failed otherwise.
    pub failed: u32,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Milliseconds since the measured time began.
    pub at_ms: u64,
    /// What.
    pub kind: MarkKind,
    /// In words.
    pub text: String,
}

/// What can happen while a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// A snapshot was written.
    Snapshot,
    /// Partitions moved.
    Rebalance,
    /// A node went and another took over, or it came back.
    Failover,
    /// A core was held up.
    Stall,
}

/// The load of one shard over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardStrip {
    /// Its number.
    pub shard: u32,
    /// The length of a cell, milliseconds.
    pub cell_ms: u64,
    /// What a cell counts, with unit: `ops_per_s`.
    pub unit: String,
    /// In the order of time.
    pub cells: Vec<f64>,
}
