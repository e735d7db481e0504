//! When a loop that should turn all the time was held up, for how long, and by whom.

use std::time::Duration;

use crate::{CycleClock, Histogram};

/// A turn that takes less is no hiccup.
pub const HICCUP_MIN: Duration = Duration::from_micros(100);
/// How often the thread's processor time is read while nothing happens, so that small delays do not add up until
/// they look like a large one.
const BALANCE_INTERVAL: Duration = Duration::from_millis(10);

const _: () = assert!(HICCUP_MIN.as_nanos() < BALANCE_INTERVAL.as_nanos());

/// What held a loop up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HiccupCause {
    /// The thread did not have its core: another thread, an interrupt, the hypervisor.
    Stolen,
    /// The turn's own work.
    OverBudget,
}

/// A turn that took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hiccup {
    /// From the end of the turn before to the end of this one, nanoseconds.
    pub ns: u64,
    /// What most of it went to.
    pub cause: HiccupCause,
}

/// Watches one loop that spins. It is called once a turn, which costs one reading of the [`CycleClock`].
///
/// A long turn without work was stolen. Of one with work the thread's processor time tells: what it did not run it
/// was kept from running. What a hypervisor takes without telling its guest looks like work there.
#[derive(Clone, Debug)]
pub struct HiccupMeter {
    clock: CycleClock,
    /// In counts, like all that follows.
    gap_min: u64,
    balance_interval: u64,
    last: u64,
    balance_at: u64,
    /// Spent asleep since then, on purpose.
    asleep: u64,
    /// Processor time of the thread at `balance_at`, nanoseconds.
    ran_ns: u64,
    stolen: Histogram,
    over_budget: Histogram,
}

impl HiccupMeter {
    /// A meter for the calling thread that counts turns from [`HICCUP_MIN`] on.
    #[must_use]
    pub fn new() -> Self {
        Self::with_minimum(HICCUP_MIN)
    }

    /// A meter for the calling thread that counts turns from `minimum` on.
    #[must_use]
    pub fn with_minimum(minimum: Duration) -> Self {
        let clock = CycleClock::new();
        let now = clock.now();
        Self {
            clock,
            gap_min: clock.from_ns(minimum.as_nanos() as u64),
            balance_interval: clock.from_ns(BALANCE_INTERVAL.as_nanos() as u64),
            last: now,
            balance_at: now,
            asleep: 0,
            ran_ns: thread_processor_ns(),
            stolen: Histogram::new(),
            over_budget: Histogram::new(),
        }
    }

    /// A turn has ended; `worked` says whether it did more than look. Tells when it was a hiccup.
    #[inline]
    pub fn turn(&mut self, worked: bool) -> Option<Hiccup> {
        self.turn_at(self.clock.now(), worked)
    }

    /// As [`Self::turn`], for a caller that has read the [`CycleClock`].
    #[inline]
    pub fn turn_at(&mut self, now: u64, worked: bool) -> Option<Hiccup> {
        let gap = now.saturating_sub(self.last);
        self.last = now;
        if gap >= self.gap_min {
            return Some(self.note(now, gap, worked));
        }
        if now.saturating_sub(self.balance_at) >= self.balance_interval {
            self.balance(now);
        }
        None
    }

    /// The loop has slept since the last turn, or done something else that is not to count: the next turn begins
    /// now.
    pub fn resume(&mut self) {
        let now = self.clock.now();
        self.asleep += now.saturating_sub(self.last);
        self.last = now;
    }

    /// The longest so far, nanoseconds; 0 of none.
    #[must_use]
    pub fn longest_ns(&self) -> u64 {
        self.stolen.max_ns().max(self.over_budget.max_ns())
    }

    /// Turns during which the thread did not have its core.
    #[must_use]
    pub const fn stolen(&self) -> &Histogram {
        &self.stolen
    }

    /// Turns that their own work made long.
    #[must_use]
    pub const fn over_budget(&self) -> &Histogram {
        &self.over_budget
    }

    /// Forgets what it has counted; the next turn begins now.
    pub fn reset(&mut self) {
        *self = Self { gap_min: self.gap_min, ..Self::new() };
    }

    #[cold]
    fn note(&mut self, now: u64, gap: u64, worked: bool) -> Hiccup {
        let kept_ns = self.balance(now);
        let ns = self.clock.as_ns(gap);
        let cause = if !worked || kept_ns >= ns / 2 { HiccupCause::Stolen } else { HiccupCause::OverBudget };
        match cause {
            HiccupCause::Stolen => self.stolen.record(ns),
            HiccupCause::OverBudget => self.over_budget.record(ns),
        }
        Hiccup { ns, cause }
    }

    /// How long the thread wanted to run and could not since the last call, nanoseconds.
    fn balance(&mut self, now: u64) -> u64 {
        let ran_ns = thread_processor_ns();
        let awake = now.saturating_sub(self.balance_at).saturating_sub(self.asleep);
        let kept_ns = self.clock.as_ns(awake).saturating_sub(ran_ns - self.ran_ns);
        (self.balance_at, self.asleep, self.ran_ns) = (now, 0, ran_ns);
        kept_ns
    }
}

impl Default for HiccupMeter {
    fn default() -> Self {
        Self::new()
    }
}

/// Processor time that the calling thread has had, nanoseconds.
fn thread_processor_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; the clock exists on every Linux, and a failure would leave zero.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn spin(span: Duration) {
        let began = Instant::now();
        while began.elapsed() < span {
            std::hint::spin_loop();
        }
    }

    /// A turn that this thread spends blocked, and not on purpose as far as the meter knows.
    fn block() {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            spin(Duration::from_millis(20));
            drop(hold);
        });
        assert!(held.recv().is_err());
        other.join().expect("the other thread");
    }

    #[test]
    fn a_long_turn_goes_unseen() {
        let mut meter = HiccupMeter::new();
        spin(Duration::from_millis(2));
        let hiccup = meter.turn(true).expect("2 ms is over every threshold");
        assert!(hiccup.ns >= 1_900_000, "{hiccup:?}");
        assert_eq!(meter.longest_ns(), hiccup.ns);
        meter.reset();
        assert_eq!(meter.longest_ns(), 0);
    }

    #[test]
    fn time_without_a_core_is_taken_for_work() {
        let mut meter = HiccupMeter::new();
        block();
        let hiccup = meter.turn(true).expect("20 ms");
        assert_eq!(hiccup.cause, HiccupCause::Stolen, "{hiccup:?}");
        assert_eq!((meter.stolen().count(), meter.over_budget().count()), (1, 0));
    }

    #[test]
    fn work_is_taken_for_time_without_a_core() {
        // Other threads may take the core in earnest: once is enough.
        let worked = (0..20).any(|_| {
            let mut meter = HiccupMeter::new();
            spin(Duration::from_millis(1));
            meter.turn(true).is_some_and(|hiccup| hiccup.cause == HiccupCause::OverBudget)
        });
        assert!(worked, "twenty turns of 1 ms of work, and each counts as stolen");
    }

    #[test]
    fn a_sleep_on_purpose_is_a_hiccup() {
        let mut meter = HiccupMeter::with_minimum(Duration::from_millis(10));
        block();
        meter.resume();
        assert_eq!(meter.turn(false), None);
        assert_eq!(meter.longest_ns(), 0);
        block();
        meter.resume();
        let began = Instant::now();
        spin(Duration::from_millis(12));
        let hiccup = meter.turn(true).expect("12 ms");
        let since = began.elapsed() + Duration::from_millis(10);
        assert!(u128::from(hiccup.ns) < since.as_nanos(), "the sleep before it counts, too: {hiccup:?}");
    }
}
