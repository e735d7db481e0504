//! The time of a loop's turns.

use quantum::Now;
use rt::{Clock, unix_ms};
use wire::{Span, Time};

/// How often the wall clock is read; in between it runs on with the monotonic one.
const WALL_CLOCK_INTERVAL: Span = Span::from_ms(100);

/// Both clocks for one reading a turn.
#[derive(Debug)]
pub(crate) struct LoopClock {
    clock: Clock,
    read_at: Time,
    unix_ms: u64,
}

impl LoopClock {
    pub(crate) fn new() -> Self {
        let clock = Clock::new();
        Self { clock, read_at: clock.now(), unix_ms: unix_ms() }
    }

    pub(crate) fn now(&mut self) -> Now {
        let mono = self.clock.now();
        let since = mono.since(self.read_at);
        if since < WALL_CLOCK_INTERVAL {
            return Now { mono, unix_ms: self.unix_ms + since.as_us() / 1_000 };
        }
        (self.read_at, self.unix_ms) = (mono, unix_ms());
        Now { mono, unix_ms: self.unix_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_stands_still_between_two_readings() {
        let mut clock = LoopClock::new();
        let began = clock.now();
        // Over two readings of the wall clock.
        let end = began.mono + WALL_CLOCK_INTERVAL.times(2) + Span::from_ms(10);
        loop {
            let now = clock.now();
            let (wall, mono) =
                (now.unix_ms.saturating_sub(began.unix_ms), now.mono.since(began.mono).as_us() / 1_000);
            // This thread may lose its core between the readings of the two clocks.
            assert!(wall.abs_diff(mono) <= 100, "{wall} ms of the one, {mono} ms of the other");
            if now.mono >= end {
                assert!(wall >= 100, "{wall} ms");
                return;
            }
        }
    }
}
