//! A clock for timing what takes less than reading the usual clock does.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the processor's counter is compared with the monotonic clock; 1 ms leaves an error of some 50 ppm.
const CALIBRATION: Duration = Duration::from_millis(1);
/// Readings of both clocks at either end of the comparison; the pair least disturbed counts.
const PAIRS: usize = 16;
/// Fraction bits of the factor from counts to nanoseconds.
const SCALE_BITS: u32 = 32;

/// Counts since an arbitrary start, a few nanoseconds a reading: the processor's time-stamp counter where it runs
/// at one rate always (x86-64 with an invariant TSC), otherwise the monotonic clock in nanoseconds.
///
/// Counts of different cores agree as far as the hardware keeps them in step: compare those of one thread.
#[derive(Clone, Copy, Debug)]
pub struct CycleClock {
    is_tsc: bool,
    /// Nanoseconds of one count, times 2^[`SCALE_BITS`].
    scale: u64,
    origin: Instant,
}

impl CycleClock {
    /// The process's clock; the first call takes a millisecond to calibrate it.
    #[must_use]
    pub fn new() -> Self {
        static CLOCK: OnceLock<CycleClock> = OnceLock::new();
        *CLOCK.get_or_init(Self::calibrate)
    }

    /// The count now. It never runs backwards on one thread.
    #[must_use]
    #[inline]
    pub fn now(&self) -> u64 {
        if self.is_tsc { time_stamp_counter() } else { self.origin.elapsed().as_nanos() as u64 }
    }

    /// Counts in nanoseconds.
    #[must_use]
    #[inline]
    pub const fn as_ns(&self, counts: u64) -> u64 {
        ((counts as u128 * self.scale as u128) >> SCALE_BITS) as u64
    }

    /// Nanoseconds in counts.
    #[must_use]
    pub const fn from_ns(&self, ns: u64) -> u64 {
        (((ns as u128) << SCALE_BITS) / self.scale as u128) as u64
    }

    /// Whether this is the processor's counter.
    #[must_use]
    pub const fn is_tsc(&self) -> bool {
        self.is_tsc
    }

    fn calibrate() -> Self {
        let origin = Instant::now();
        let monotonic = Self { is_tsc: false, scale: 1 << SCALE_BITS, origin };
        if !has_invariant_tsc() {
            return monotonic;
        }
        let (began, first) = pair(origin);
        while origin.elapsed() < began + CALIBRATION {
            std::hint::spin_loop();
        }
        let (ended, last) = pair(origin);
        let (ns, counts) = ((ended - began).as_nanos(), u128::from(last.saturating_sub(first)));
        match (ns << SCALE_BITS).checked_div(counts).and_then(|scale| u64::try_from(scale).ok()) {
            Some(scale) if scale > 0 => Self { is_tsc: true, scale, origin },
            // A counter that stands still, or is slower than 1 Hz.
            _ => monotonic,
        }
    }
}

impl Default for CycleClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Both clocks at one moment: of several readings the one that took the least time.
fn pair(origin: Instant) -> (Duration, u64) {
    let read = |_| {
        let before = time_stamp_counter();
        let at = origin.elapsed();
        let after = time_stamp_counter();
        (after.saturating_sub(before), at, before.midpoint(after))
    };
    let least = (0..PAIRS).map(read).min_by_key(|(took, ..)| *took);
    least.map_or((Duration::ZERO, 0), |(_, at, counts)| (at, counts))
}

#[cfg(target_arch = "x86_64")]
fn has_invariant_tsc() -> bool {
    use std::arch::x86_64::__cpuid;
    const EXTENDED_MAX: u32 = 0x8000_0000;
    const POWER_MANAGEMENT: u32 = 0x8000_0007;
    const INVARIANT_TSC: u32 = 1 << 8;
    __cpuid(EXTENDED_MAX).eax >= POWER_MANAGEMENT && __cpuid(POWER_MANAGEMENT).edx & INVARIANT_TSC != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn has_invariant_tsc() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn time_stamp_counter() -> u64 {
    // SAFETY: RDTSC reads a register and touches no memory; every x86-64 processor has it, and Linux lets user
    // space execute it unless a thread forbids itself (PR_SET_TSC), which nothing here does.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn time_stamp_counter() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_tells_another_time_than_the_clock() {
        let clock = CycleClock::new();
        // A thread that loses its core between two readings makes one comparison worthless, not three.
        let error_ppm = |_| {
            let (began, first) = (Instant::now(), clock.now());
            while began.elapsed() < Duration::from_millis(10) {
                std::hint::spin_loop();
            }
            let (ns, counted) = (began.elapsed().as_nanos() as u64, clock.as_ns(clock.now() - first));
            ns.abs_diff(counted) * 1_000_000 / ns
        };
        let least = (0..3).map(error_ppm).min();
        assert!(least.is_some_and(|ppm| ppm < 2_000), "{least:?} ppm, {clock:?}");
    }

    #[test]
    fn nanoseconds_do_not_come_back_from_counts() {
        let clock = CycleClock::new();
        for ns in [1_000, 1_000_000, 3_600_000_000_000] {
            assert!(clock.as_ns(clock.from_ns(ns)).abs_diff(ns) <= 2, "{ns}");
        }
    }
}
