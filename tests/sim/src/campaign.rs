//! Many seeds, one after the other, on as many cores as wanted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::invariants::Violation;
use crate::life::{Life, Outcome};
use crate::scenario::Scenario;
use crate::trace::{self, Line, Trace};
use crate::whole_node::{self, Mutation, NodeCounts};
use crate::world::World;

/// What worlds are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// The transport: endpoints and connections.
    #[default]
    Transport,
    /// A whole node: shards, documents, logs, disks, crashes.
    WholeNode,
}

/// A seed whose world broke an invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What its world was of.
    pub kind: Kind,
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
}

/// What many worlds did, summed up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Totals {
    /// Worlds that were lived to their end.
    pub seeds: u64,
    /// Datagrams that were sent in them.
    pub datagrams: u64,
    /// Messages that were delivered.
    pub messages: u64,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// What happened to nodes in them.
    #[serde(skip)]
    pub node: NodeCounts,
}

/// What came out of a seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedResult {
    /// None: every invariant held.
    pub violation: Option<Violation>,
    /// A fingerprint of all that happened: equal for equal runs.
    pub digest: u64,
    /// What happened, line by line, if it was asked for.
    pub trace: String,
    totals: Totals,
}

/// Lives the world of one seed.
#[must_use]
pub fn run_seed(kind: Kind, seed: u64, is_traced: bool) -> SeedResult {
    let trace = if is_traced { Trace::on() } else { Trace::off() };
    match kind {
        Kind::Transport => {
            let scenario = Scenario::draw(seed);
            let head = if is_traced { scenario.to_string() } else { String::new() };
            SeedResult::new(head, World::new(scenario, trace).live())
        }
        Kind::WholeNode => SeedResult::new(String::new(), whole_node::live(seed, Mutation::None, trace)),
    }
}

/// Lives the world of one seed of a whole node in which something is done wrong.
#[must_use]
pub fn run_mutated(mutation: Mutation, seed: u64) -> SeedResult {
    SeedResult::new(String::new(), whole_node::live(seed, mutation, Trace::off()))
}

impl SeedResult {
    fn new(head: String, (outcome, lines): (Outcome, Vec<Line>)) -> Self {
        Self {
            violation: outcome.violation,
            digest: outcome.digest,
            trace: head + &trace::print(&lines),
            totals: Totals {
                seeds: 1,
                datagrams: outcome.datagrams,
                messages: outcome.messages,
                virtual_ms: outcome.ended.as_us() / 1_000,
                node: outcome.counts,
            },
        }
    }
}

/// Which seeds to run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// What the worlds are of.
    pub kind: Kind,
    /// The first.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Stops when so much time has passed, whatever is left.
    pub time_max: Duration,
    /// Threads.
    pub jobs: usize,
    /// Stops after so many failures.
    pub failures_max: usize,
}

impl Campaign {
    /// Runs it; `on_progress` hears of the totals and the failures so far, about twice a second.
    pub fn run(&self, on_progress: impl Fn(&Totals, usize) + Sync) -> (Totals, Vec<Failure>) {
        let started = Instant::now();
        let next = AtomicU64::new(self.from);
        let is_over = AtomicBool::new(false);
        let sum = Mutex::new((Totals::default(), Vec::new(), started));
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) && started.elapsed() < self.time_max {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed - self.from >= self.seeds {
                            break;
                        }
                        let result = run_guarded(self.kind, seed);
                        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                        let (totals, failures, told) = &mut *sum;
                        totals.add(&result.totals);
                        if let Some(violation) = result.violation {
                            failures.push(Failure { kind: self.kind, seed, violation });
                            if failures.len() >= self.failures_max {
                                is_over.store(true, Ordering::Relaxed);
                            }
                        }
                        if told.elapsed() >= PROGRESS_INTERVAL {
                            *told = Instant::now();
                            on_progress(totals, failures.len());
                        }
                    }
                });
            }
        });
        let (totals, mut failures, _) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        failures.sort_by_key(|failure| failure.seed);
        (totals, failures)
    }
}

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// A panic is a violation like any other.
fn run_guarded(kind: Kind, seed: u64) -> SeedResult {
    std::panic::catch_unwind(|| run_seed(kind, seed, false)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        SeedResult {
            violation: Some(Violation::panic(message.unwrap_or_default())),
            digest: 0,
            trace: String::new(),
            totals: Totals { seeds: 1, ..Totals::default() },
        }
    })
}

impl Totals {
    const fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.datagrams += other.datagrams;
        self.messages += other.messages;
        self.virtual_ms += other.virtual_ms;
        self.node.add(&other.node);
    }
}

impl Failure {
    /// The command that lives the world again and tells its story.
    #[must_use]
    pub fn command(&self) -> String {
        let kind = if self.kind == Kind::WholeNode { "--whole-node " } else { "" };
        format!("cargo run --release -p sim -- {kind}--seed {} --trace", self.seed)
    }
}
