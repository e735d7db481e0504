//! What all clients of a replay share: the clock and the figures.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::report::Latencies;
use super::workload::Workload;

/// So many problems are told apart; more of them tell nothing new.
const PROBLEMS_MAX: usize = 10;
/// The runtime's timer counts milliseconds: closer to its time an op waits by looking at the clock, which
/// also keeps the sockets from sleeping.
const SPIN_BEFORE: Duration = Duration::from_millis(2);

/// What a replay tells while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Milestone {
    /// Half of the ops are durable: how many.
    Half(usize),
}

/// What all clients of a replay share.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) workload: Arc<Workload>,
    pub(crate) figures: RefCell<Figures>,
    start: Cell<Instant>,
    /// When everything was durable and read.
    end: Cell<Option<Duration>>,
    ended: Notify,
    milestones: mpsc::Sender<Milestone>,
}

/// What is counted.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Ops that are durable.
    pub(crate) durable: usize,
    /// Ops that readers have integrated, over all readers.
    pub(crate) read: usize,
    /// Of those, the ones that came as part of a state.
    pub(crate) read_in_state: u64,
    /// Ops that came to somebody twice.
    pub(crate) repeated: u64,
    pub(crate) edit_to_durable: Latencies,
    pub(crate) edit_to_reader: Latencies,
    /// The longest time without an acknowledgement.
    pub(crate) silence_max: Duration,
    /// What should not have happened.
    pub(crate) problems: Vec<String>,
    last_durable: Instant,
    /// When each op was sent, where nothing says when it should be.
    sent: Vec<Duration>,
}

impl Run {
    /// Before the start.
    #[must_use]
    pub(crate) fn new(workload: Arc<Workload>, milestones: mpsc::Sender<Milestone>) -> Self {
        let now = Instant::now();
        let paced = workload.rate_ops_per_s > 0;
        let figures = Figures {
            durable: 0,
            read: 0,
            read_in_state: 0,
            repeated: 0,
            edit_to_durable: Latencies::new(),
            edit_to_reader: Latencies::new(),
            silence_max: Duration::ZERO,
            problems: Vec::new(),
            last_durable: now,
            sent: vec![Duration::ZERO; if paced { 0 } else { workload.ops() }],
        };
        Self {
            workload,
            figures: RefCell::new(figures),
            start: Cell::new(now),
            end: Cell::new(None),
            ended: Notify::new(),
            milestones,
        }
    }

    /// Starts the clock.
    pub(crate) fn begin(&self) {
        let now = Instant::now();
        self.start.set(now);
        self.figures.borrow_mut().last_durable = now;
    }

    /// Since the start.
    #[must_use]
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.get().elapsed()
    }

    /// Waits until an op is to be sent. Does not wait when that time has passed.
    pub(crate) async fn until_due(&self, document: usize, op: usize) {
        let Some(due) = self.workload.due(document, op) else {
            let at = op * self.workload.documents + document;
            self.figures.borrow_mut().sent[at] = self.elapsed();
            return;
        };
        loop {
            let left = due.saturating_sub(self.elapsed());
            if left.is_zero() {
                return;
            }
            if left > SPIN_BEFORE {
                tokio::time::sleep(left - SPIN_BEFORE / 2).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// An op has become durable.
    pub(crate) fn count_durable(&self, document: usize, op: usize) {
        let latency = self.latency(document, op);
        let mut figures = self.figures.borrow_mut();
        figures.edit_to_durable.record(latency);
        figures.durable += 1;
        if figures.durable == self.workload.ops().div_ceil(2) {
            // There is room for one, and this happens once.
            let _ = self.milestones.try_send(Milestone::Half(figures.durable));
        }
    }

    /// Ops have been acknowledged.
    pub(crate) fn count_acknowledgement(&self) {
        let now = Instant::now();
        let mut figures = self.figures.borrow_mut();
        let silence = now - figures.last_durable;
        figures.silence_max = figures.silence_max.max(silence);
        figures.last_durable = now;
        drop(figures);
        self.look_for_the_end();
    }

    /// An op has come to a reader, by itself or in a state.
    pub(crate) fn count_received(&self, document: usize, op: usize, in_state: bool) {
        let latency = self.latency(document, op);
        let mut figures = self.figures.borrow_mut();
        figures.edit_to_reader.record(latency);
        figures.read_in_state += u64::from(in_state);
    }

    /// An op has come to somebody who had it.
    pub(crate) fn count_repeated(&self) {
        self.figures.borrow_mut().repeated += 1;
    }

    /// A reader has integrated so many more ops.
    pub(crate) fn count_read(&self, ops: usize) {
        self.figures.borrow_mut().read += ops;
        self.look_for_the_end();
    }

    /// Something happened that should not.
    pub(crate) fn problem(&self, problem: impl FnOnce() -> String) {
        let problems = &mut self.figures.borrow_mut().problems;
        if problems.len() < PROBLEMS_MAX {
            problems.push(problem());
        }
    }

    /// How many ops are durable, and how many are read over all readers.
    #[must_use]
    pub(crate) fn counts(&self) -> (usize, usize) {
        let figures = self.figures.borrow();
        (figures.durable, figures.read)
    }

    /// Waits until every op is durable and read; returns how long that took from the start.
    pub(crate) async fn finished(&self) -> Duration {
        loop {
            if let Some(end) = self.end.get() {
                return end;
            }
            self.ended.notified().await;
        }
    }

    fn look_for_the_end(&self) {
        if self.end.get().is_none() && self.counts() == (self.workload.ops(), self.workload.reads()) {
            self.end.set(Some(self.elapsed()));
            self.ended.notify_one();
        }
    }

    fn latency(&self, document: usize, op: usize) -> Duration {
        let intended = self.workload.due(document, op).unwrap_or_else(|| {
            let at = op * self.workload.documents + document;
            self.figures.borrow().sent[at]
        });
        self.elapsed().saturating_sub(intended)
    }
}
