//! How long a loop that never sleeps was away from its work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The longest gap between two turns of one loop. Written by that loop, read by whoever reports it.
#[derive(Debug)]
pub struct StallMeter {
    origin: Instant,
    last_ns: AtomicU64,
    longest_ns: AtomicU64,
}

impl Default for StallMeter {
    fn default() -> Self {
        Self { origin: Instant::now(), last_ns: AtomicU64::new(0), longest_ns: AtomicU64::new(0) }
    }
}

impl StallMeter {
    /// A turn of the loop begins.
    pub fn turn(&self, now: Instant) {
        let now_ns = self.ns(now);
        // Zero before the first turn.
        let last_ns = self.last_ns.swap_relaxed(now_ns);
        if last_ns > 0 {
            self.note(now_ns.saturating_sub(last_ns));
        }
    }

    /// A turn begins, and the loop was free to sleep until `wake_at`.
    pub fn turn_after_sleep(&self, now: Instant, wake_at: Instant) {
        let (now_ns, wake_ns) = (self.ns(now), self.ns(wake_at));
        self.last_ns.store(now_ns, Ordering::Relaxed);
        self.note(now_ns.saturating_sub(wake_ns));
    }

    /// The longest, since the last call: the count begins anew.
    pub fn take_longest_us(&self) -> f64 {
        let longest_us = self.longest_ns.swap(0, Ordering::Relaxed) as f64 / 1_000.0;
        self.last_ns.store(0, Ordering::Relaxed);
        longest_us
    }

    /// Counts a gap that was seen otherwise, microseconds.
    pub fn note_us(&self, gap_us: f64) {
        self.note((gap_us * 1_000.0) as u64);
    }

    fn note(&self, gap_ns: u64) {
        if gap_ns > self.longest_ns.load(Ordering::Relaxed) {
            self.longest_ns.store(gap_ns, Ordering::Relaxed);
        }
    }

    fn ns(&self, instant: Instant) -> u64 {
        // One more, so that no turn is at 0.
        u64::try_from(instant.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX - 1) + 1
    }
}

/// A swap for a single writer: two plain moves in place of a locked one.
trait SwapRelaxed {
    fn swap_relaxed(&self, value: u64) -> u64;
}

impl SwapRelaxed for AtomicU64 {
    fn swap_relaxed(&self, value: u64) -> u64 {
        let old = self.load(Ordering::Relaxed);
        self.store(value, Ordering::Relaxed);
        old
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_loop_that_was_away_is_found_out() {
        let meter = StallMeter::default();
        let start = Instant::now();
        meter.turn(start);
        meter.turn(start + Duration::from_micros(10));
        meter.turn(start + Duration::from_micros(5_010));
        meter.turn(start + Duration::from_micros(5_020));
        assert!((meter.take_longest_us() - 5_000.0).abs() < 1.0);
        assert!(meter.take_longest_us() < 1.0, "the count begins anew");
    }

    #[test]
    fn a_sleep_that_was_wanted_is_no_stall() {
        let meter = StallMeter::default();
        let start = Instant::now();
        meter.turn(start);
        meter.turn_after_sleep(start + Duration::from_millis(50), start + Duration::from_millis(100));
        assert!(meter.take_longest_us() < 1.0);
        meter.turn_after_sleep(start + Duration::from_millis(103), start + Duration::from_millis(100));
        assert!((meter.take_longest_us() - 3_000.0).abs() < 1.0);
    }
}
