//! Where the time of every turn goes, step by step, and which step of it took too long, over what.
//!
//! The probe of the stages looks closely at one turn in many. This looks at all of them, at the price of one reading
//! of the cycle counter for each step that did something and for each message: a stall is rare, and the turn that
//! holds it is hardly ever the one that is sampled.

use std::time::Duration;

use rt::{CycleClock, Histogram};
use shard::Offender;

/// A step of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Datagrams taken from the kernel, opened, and what they say done.
    Receive,
    /// A batch that is on the disk, acknowledged.
    Durable,
    /// Messages of sibling shards.
    Lanes,
    /// Answers of the storage thread.
    Jobs,
    /// What the agent said.
    Commands,
    /// Timers: the transport's, presence, the end of a drain.
    Timers,
    /// Figures told to the agent.
    Status,
    /// A batch of the log made and begun.
    Log,
    /// Datagrams written, sealed and given to the kernel.
    Send,
    /// The executor's other tasks, and what is between the steps.
    Others,
}

impl Step {
    /// All of them, in the order of a turn.
    pub const ALL: [Self; 10] = [
        Self::Receive,
        Self::Durable,
        Self::Lanes,
        Self::Jobs,
        Self::Commands,
        Self::Timers,
        Self::Status,
        Self::Log,
        Self::Send,
        Self::Others,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Durable => "durable",
            Self::Lanes => "lanes",
            Self::Jobs => "jobs",
            Self::Commands => "commands",
            Self::Timers => "timers",
            Self::Status => "status",
            Self::Log => "log",
            Self::Send => "send",
            Self::Others => "others",
        }
    }
}

/// A step that took too long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stall {
    pub(crate) step: Step,
    pub(crate) ns: u64,
    /// The one message that it was over, if it was one.
    pub(crate) offender: Option<Offender>,
}

/// Follows the turns of one loop. Times are counts of the clock.
pub(crate) struct TurnMeter {
    clock: CycleClock,
    budget: u64,
    /// The end of the last step that did something, or the beginning of the turn.
    last: u64,
    /// The end of the last message, or of what came before it.
    last_message: u64,
    /// The longest stall of this turn.
    worst: Option<(Step, u64)>,
    /// The longest of this turn's messages that took too long.
    worst_message: u64,
    offender: Option<Offender>,
    steps: Box<[Histogram; Step::ALL.len()]>,
    stalls: [u64; Step::ALL.len()],
}

impl TurnMeter {
    pub(crate) fn new(budget: Duration) -> Self {
        let clock = CycleClock::new();
        let now = clock.now();
        Self {
            clock,
            budget: clock.from_ns(budget.as_nanos() as u64),
            last: now,
            last_message: now,
            worst: None,
            worst_message: 0,
            offender: None,
            steps: Box::new([const { Histogram::new() }; Step::ALL.len()]),
            stalls: [0; Step::ALL.len()],
        }
    }

    /// `step` has ended, and has done something. What passed since the last such moment is its own.
    #[inline]
    pub(crate) fn step(&mut self, step: Step) {
        let now = self.clock.now();
        self.step_at(step, now);
    }

    fn step_at(&mut self, step: Step, now: u64) {
        let spent = now.saturating_sub(self.last);
        (self.last, self.last_message) = (now, now);
        self.steps[step as usize].record(self.clock.as_ns(spent));
        if spent >= self.budget && self.worst.is_none_or(|(_, worst)| spent > worst) {
            self.worst = Some((step, spent));
        }
    }

    /// A message has been dealt with; true when it took too long, and longer than any other of this turn.
    #[inline]
    pub(crate) fn message(&mut self) -> bool {
        let now = self.clock.now();
        let spent = now.saturating_sub(std::mem::replace(&mut self.last_message, now));
        let is_worst = spent >= self.budget && spent > self.worst_message;
        if is_worst {
            self.worst_message = spent;
        }
        is_worst
    }

    /// Who sent the message that took too long.
    pub(crate) fn blame(&mut self, offender: Offender) {
        self.offender = Some(offender);
    }

    /// The turn ends at `now`, and the next begins; tells of the worst stall in it.
    #[inline]
    pub(crate) fn end_turn(&mut self, now: u64) -> Option<Stall> {
        if now.saturating_sub(self.last) >= self.budget {
            self.step_at(Step::Others, now);
        }
        (self.last, self.last_message) = (now, now);
        if self.worst.is_some() { self.take_stall() } else { None }
    }

    #[cold]
    fn take_stall(&mut self) -> Option<Stall> {
        let (step, spent) = self.worst.take()?;
        let offender = self.offender.take().filter(|_| step == Step::Receive || step == Step::Lanes);
        self.worst_message = 0;
        Some(Stall { step, ns: self.clock.as_ns(spent), offender })
    }

    /// The clock's count now, for [`Self::end_turn`] and whoever else looks at the turn's end.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The loop has slept: what passed is nobody's.
    pub(crate) fn resume(&mut self) {
        let now = self.clock.now();
        (self.last, self.last_message) = (now, now);
    }

    /// Counts a stall that the loop's own work caused.
    pub(crate) fn count(&mut self, stall: &Stall) {
        self.stalls[stall.step as usize] += 1;
    }

    /// Each step with the time that it took in the turns in which it did something, and its stalls.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Step, &Histogram, u64)> {
        Step::ALL
            .into_iter()
            .zip(self.steps.iter())
            .zip(self.stalls)
            .map(|((step, times), stalls)| (step, times, stalls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_micros(500);

    fn spin(meter: &TurnMeter, ns: u64) {
        let began = meter.clock.now();
        while meter.clock.as_ns(meter.clock.now() - began) < ns {}
    }

    fn offender(document: &str) -> Offender {
        Offender { connection: None, document: Some(document.into()) }
    }

    #[test]
    fn a_stall_is_charged_to_another_step_or_document() {
        let mut meter = TurnMeter::new(BUDGET);
        assert!(!meter.message());
        spin(&meter, 2_000_000);
        assert!(meter.message(), "2 ms for one message");
        meter.blame(offender("slow"));
        assert!(!meter.message(), "the one behind it is quick");
        meter.step(Step::Receive);
        meter.step(Step::Send);
        let stall = meter.end_turn(meter.clock.now()).expect("a stall");
        assert_eq!((stall.step, stall.offender.clone()), (Step::Receive, Some(offender("slow"))));
        assert!(stall.ns >= 2_000_000, "{stall:?}");
        meter.count(&stall);
        let told: Vec<_> =
            meter.steps().filter(|(_, _, stalls)| *stalls > 0).map(|(step, ..)| step).collect();
        assert_eq!(told, [Step::Receive]);
    }

    #[test]
    fn a_stall_haunts_the_turn_after_it() {
        let mut meter = TurnMeter::new(BUDGET);
        spin(&meter, 1_000_000);
        assert!(meter.message());
        meter.blame(offender("slow"));
        meter.step(Step::Receive);
        assert!(meter.end_turn(meter.clock.now()).is_some());
        // The next one is slow elsewhere, and no message is to blame.
        spin(&meter, 1_000_000);
        meter.step(Step::Timers);
        let stall = meter.end_turn(meter.clock.now()).expect("a stall");
        assert_eq!((stall.step, stall.offender), (Step::Timers, None));
    }

    #[test]
    fn a_sleep_or_what_is_between_the_steps_is_charged_to_one() {
        let mut meter = TurnMeter::new(BUDGET);
        spin(&meter, 1_000_000);
        meter.resume();
        assert_eq!(meter.end_turn(meter.clock.now()), None, "it slept");
        meter.step(Step::Send);
        spin(&meter, 1_000_000);
        let stall = meter.end_turn(meter.clock.now()).expect("somebody held the loop up");
        assert_eq!(stall.step, Step::Others);
    }
}
