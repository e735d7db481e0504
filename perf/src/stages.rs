//! Where the time goes inside a node: the waterfall.

use serde::{Deserialize, Serialize};

/// The stages of one or several shards, in the order in which an op passes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// In the order of the path.
    pub stages: Vec<StageTime>,
    /// System calls for each op.
    pub syscalls_per_op: f64,
    /// Allocations for each op; absent where the allocator is not counted.
    pub allocations_per_op: Option<f64>,
    /// The longest that a data core was held up, microseconds, by shard.
    pub hiccup_max_us: Vec<f64>,
}

/// The time in one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// `receive`, `open`, `statesync`, `log`, `fsync`, `fan_out`, `seal`, `send`.
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
}
