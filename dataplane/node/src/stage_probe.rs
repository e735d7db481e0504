//! Times the stages of one shard's turns, a few of them.

use rt::{CycleClock, Histogram};
use shard::{Offender, Probe, Stage};

use crate::turn_meter::TurnMeter;

/// One turn in so many is timed, unless told otherwise: at 100,000 ops a second that is some hundred samples of
/// every stage each second, and costs less than a thousandth. A prime, so that it does not fall into step with what
/// comes regularly.
pub const STAGE_SAMPLE_TURNS: u32 = 997;

/// Stages inside one another.
const DEPTH_MAX: usize = 4;

/// A stage that has begun.
#[derive(Clone, Copy)]
struct Open {
    stage: Stage,
    /// Counts spent in it so far, without the stages inside.
    spent: u64,
}

/// Histograms of the stages, fed by one turn in N. A turn that is not timed costs one branch at each mark.
pub(crate) struct StageProbe {
    clock: CycleClock,
    /// One turn in so many is timed; 0: none.
    sample_turns: u32,
    turns_left: u32,
    is_on: bool,
    turn_began: u64,
    /// The last mark of a timed turn.
    since: u64,
    open: [Open; DEPTH_MAX],
    depth: usize,
    histograms: Box<[Histogram; Stage::ALL.len()]>,
    /// Every turn, step by step.
    turns: TurnMeter,
}

impl StageProbe {
    pub(crate) fn new(sample_turns: u32, turns: TurnMeter) -> Self {
        let none = Open { stage: Stage::Turn, spent: 0 };
        Self {
            clock: CycleClock::new(),
            sample_turns,
            turns_left: sample_turns,
            is_on: false,
            turn_began: 0,
            since: 0,
            open: [none; DEPTH_MAX],
            depth: 0,
            histograms: Box::new([const { Histogram::new() }; Stage::ALL.len()]),
            turns,
        }
    }

    /// What looks at every turn.
    pub(crate) const fn turns(&mut self) -> &mut TurnMeter {
        &mut self.turns
    }

    /// A turn has ended, and `worked` if it did more than look; the next one begins.
    pub(crate) fn turn(&mut self, worked: bool) {
        debug_assert_eq!(self.depth, 0, "a stage lasts beyond its turn");
        if self.is_on {
            self.is_on = false;
            if worked {
                self.record(Stage::Turn, self.clock.now() - self.turn_began);
            }
        }
        if self.sample_turns == 0 {
            return;
        }
        self.turns_left -= 1;
        if self.turns_left == 0 {
            self.turns_left = self.sample_turns;
            self.is_on = true;
            self.turn_began = self.clock.now();
        }
    }

    /// The clock's count, for what is timed beside the turns; `None` when nothing is to be timed.
    pub(crate) fn now(&self) -> Option<u64> {
        (self.sample_turns > 0).then(|| self.clock.now())
    }

    /// Counts a stage that lasted from `began`, of [`Self::now`], until now.
    pub(crate) fn record_since(&mut self, stage: Stage, began: u64) {
        self.record(stage, self.clock.now().saturating_sub(began));
    }

    /// One turn in so many is timed; 0: none.
    pub(crate) const fn sample_turns(&self) -> u32 {
        self.sample_turns
    }

    /// The histogram of each stage, in the order of [`Stage::ALL`].
    pub(crate) fn histograms(&self) -> &[Histogram] {
        self.histograms.as_slice()
    }

    fn record(&mut self, stage: Stage, counts: u64) {
        let ns = self.clock.as_ns(counts);
        self.histograms[stage as usize].record(ns);
    }

    #[cold]
    fn begin(&mut self, stage: Stage) {
        let now = self.clock.now();
        if let Some(outer) = self.depth.checked_sub(1) {
            self.open[outer].spent += now - self.since;
        }
        assert!(self.depth < DEPTH_MAX, "stages nest {DEPTH_MAX} deep at the most");
        self.open[self.depth] = Open { stage, spent: 0 };
        self.depth += 1;
        self.since = now;
    }

    #[cold]
    fn end(&mut self, is_sample: bool) {
        let now = self.clock.now();
        // A turn becomes a timed one between its stages only, so whatever ends has begun.
        self.depth -= 1;
        let Open { stage, spent } = self.open[self.depth];
        if is_sample {
            self.record(stage, spent + (now - self.since));
        }
        self.since = now;
    }
}

impl Probe for StageProbe {
    #[inline]
    fn enter(&mut self, stage: Stage) {
        if self.is_on {
            self.begin(stage);
        }
    }

    #[inline]
    fn leave(&mut self) {
        if self.is_on {
            self.end(true);
        }
    }

    #[inline]
    fn leave_idle(&mut self) {
        if self.is_on {
            self.end(false);
        }
    }

    #[inline]
    fn message(&mut self) -> bool {
        self.turns.message()
    }

    fn blame(&mut self, offender: Offender) {
        self.turns.blame(offender);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn probe(sample_turns: u32) -> StageProbe {
        StageProbe::new(sample_turns, TurnMeter::new(Duration::from_millis(1)))
    }

    fn count(probe: &StageProbe, stage: Stage) -> u64 {
        probe.histograms()[stage as usize].count()
    }

    fn spin(clock: CycleClock, ns: u64) {
        let began = clock.now();
        while clock.as_ns(clock.now() - began) < ns {}
    }

    #[test]
    fn a_stage_is_charged_with_the_stage_inside_it() {
        let mut probe = probe(1);
        probe.turn(true);
        probe.enter(Stage::Statesync);
        probe.enter(Stage::Log);
        spin(probe.clock, 3_000_000);
        probe.leave();
        probe.leave();
        probe.turn(true);
        let sum = |stage| probe.histograms()[stage as usize].sum_ns();
        assert!(sum(Stage::Log) >= 3_000_000);
        assert!(sum(Stage::Turn) >= sum(Stage::Log) + sum(Stage::Statesync));
        assert!(sum(Stage::Statesync) < 3_000_000, "{:?}", probe.histograms());
    }

    #[test]
    fn more_turns_are_timed_than_were_asked_for() {
        let mut timed = probe(10);
        for _ in 0..100 {
            timed.turn(true);
            timed.enter(Stage::Open);
            timed.leave();
        }
        assert_eq!(count(&timed, Stage::Open), 10);
        let mut off = probe(0);
        for _ in 0..100 {
            off.turn(true);
            off.enter(Stage::Open);
            off.leave();
        }
        assert_eq!((count(&off, Stage::Open), off.now()), (0, None));
    }

    #[test]
    fn a_turn_that_only_looked_counts() {
        let mut probe = probe(1);
        probe.turn(false);
        probe.enter(Stage::Receive);
        probe.leave_idle();
        probe.turn(false);
        assert!(Stage::ALL.into_iter().all(|stage| count(&probe, stage) == 0));
        assert!(Stage::ALL.into_iter().enumerate().all(|(index, stage)| stage as usize == index));
    }
}
