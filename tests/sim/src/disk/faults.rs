//! What goes wrong with a disk, and how often.

use netem::Random;
use wire::Span;

use super::{DiskError, WriteFate};
use crate::draw::Draw;

/// A write that stalls takes up to so long.
const STALL_US_MAX: u64 = 200_000;

/// In percent, where nothing else is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DiskFaults {
    /// The longest that an ordinary write takes, microseconds.
    pub(crate) latency_us_max: u64,
    /// Writes that stall.
    pub(crate) stalls: u64,
    /// Writes that fail.
    pub(crate) io_errors: u64,
    /// Segments for which there is no room at first.
    pub(crate) no_space: u64,
    /// Writes that go elsewhere and are reported as done.
    pub(crate) misdirected: u64,
    /// Writes that are reported as done and are not.
    pub(crate) lost: u64,
    /// Restarts before which something that was written has changed.
    pub(crate) rot: u64,
    /// Recoveries in which a read fails.
    pub(crate) read_errors: u64,
}

impl DiskFaults {
    /// In most worlds the disk only loses what was under way; in some it has defects.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let latency_us_max = random.scaled_between(60, 5_000);
        let rarely = |random: &mut Random, percent, most| {
            if random.percent(percent) { random.between(1, most) } else { 0 }
        };
        Self {
            latency_us_max,
            stalls: rarely(random, 20, 5),
            io_errors: rarely(random, 8, 4),
            no_space: rarely(random, 8, 40),
            misdirected: rarely(random, 6, 6),
            lost: rarely(random, 6, 6),
            rot: rarely(random, 10, 60),
            read_errors: rarely(random, 8, 40),
        }
    }

    /// Without defects, and as fast.
    pub(crate) const fn healed(self) -> Self {
        Self {
            latency_us_max: self.latency_us_max,
            stalls: 0,
            io_errors: 0,
            no_space: 0,
            misdirected: 0,
            lost: 0,
            rot: 0,
            read_errors: 0,
        }
    }

    pub(super) fn write_fate(self, random: &mut Random) -> WriteFate {
        let latency_us = match random.percent(self.stalls) {
            true => random.between(self.latency_us_max, STALL_US_MAX),
            false => random.scaled_between(50, self.latency_us_max),
        };
        let result = if random.percent(self.io_errors) { Err(DiskError::Io) } else { Ok(()) };
        WriteFate { latency: Span::from_us(latency_us), result }
    }
}
