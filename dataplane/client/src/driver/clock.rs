//! Time and randomness for the machines, which know neither.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use wire::{Guuid, Time};

/// Counts from the start of the task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(self) -> Time {
        self.at(Instant::now())
    }

    pub(super) fn at(self, instant: Instant) -> Time {
        let passed = instant.saturating_duration_since(self.start);
        Time::from_us(u64::try_from(passed.as_micros()).unwrap_or(u64::MAX))
    }

    /// The moment for a timer; none: never.
    pub(super) fn instant(self, time: Time) -> Option<Instant> {
        self.start.checked_add(time.since(Time::ZERO).as_duration())
    }
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
}

/// Random bytes from the operating system.
pub(super) fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A connection id that names `shard`.
pub(super) fn connection_id(shard: u8) -> Guuid {
    Guuid::new(unix_ms(), entropy()).with_shard(shard)
}
