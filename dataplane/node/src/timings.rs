//! What a shard measured of itself.

use rt::{Features, Histogram};
use shard::{Figure, Stage};

use crate::storage::JobKind;
use crate::turn_meter::Step;

/// One step of the turns.
#[derive(Clone, Debug)]
pub struct StepTimes {
    /// Which.
    pub step: Step,
    /// How long it took, in the turns in which it did something.
    pub times: Histogram,
    /// How often it was a stall by its own work.
    pub stalls: u64,
}

/// What a shard has timed since its start.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// One turn in so many was timed; 0: none.
    pub sample_turns: u32,
    /// Each stage, in the order in which an op passes them.
    pub stages: Vec<(Stage, Histogram)>,
    /// Each step of the turns, in their order, of all turns.
    pub steps: Vec<StepTimes>,
    /// Each kind of job of its storage thread, from the asking to the answer.
    pub jobs: Vec<(JobKind, Histogram)>,
    /// Turns during which the thread did not have its core.
    pub stolen: Histogram,
    /// Turns that their own work made too long.
    pub over_budget: Histogram,
}

/// One shard as it last reported, at most a second ago.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    /// What it has done and holds.
    pub figures: Vec<Figure>,
    /// Where its time went.
    pub timings: Timings,
    /// What its packet ring has and lacks.
    pub features: Features,
}

impl ShardSnapshot {
    /// A figure by name; zero when it has not been reported yet.
    #[must_use]
    pub fn figure(&self, name: &str) -> u64 {
        self.figures.iter().find(|figure| figure.name == name).map_or(0, |figure| figure.value)
    }
}
