//! The relay's clock, and how it waits for an instant to the microsecond.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use wire::{Span, Time};

/// A sleep may end so much late: that much before an instant the relay stays awake.
const SPIN: Span = Span::from_us(100);
/// A datagram that the kernel says to have taken longer ago than this was taken by another clock.
const AGE_MAX: Duration = Duration::from_millis(200);

/// Microseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Time {
        Time::from_us(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The instant of a datagram: when the kernel took it, where it says so, which is before we were there to read it.
    pub(super) fn of(now: Time, unix_now: Duration, taken: Option<Duration>) -> Time {
        let age = taken.and_then(|taken| unix_now.checked_sub(taken)).filter(|&age| age < AGE_MAX);
        let age_us = age.map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(0));
        Time::from_us(now.as_us().saturating_sub(age_us))
    }

    /// Since the Unix epoch, as the kernel stamps datagrams.
    pub(super) fn unix_now() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Waits until something happens or `until` is so near that it is not worth a sleep; fills `events`.
    pub(super) fn wait(
        self,
        epoll: &OwnedFd,
        until: Option<Time>,
        events: &mut Vec<epoll::Event>,
    ) -> Result<(), Errno> {
        let left = until.map(|until| until.since(self.now()));
        if left.is_none_or(|left| left > SPIN) {
            let timeout = left.map(|left| (left - SPIN).as_duration());
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            // epoll's own timeout counts milliseconds on older kernels.
            match poll(&mut [PollFd::new(epoll, PollFlags::IN)], timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => (),
                Err(error) => return Err(error),
            }
        }
        events.clear();
        let now = Timespec::default();
        match epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&now)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_another_clock_sends_a_datagram_into_the_past_or_future() {
        let (now, unix_now) = (Time::from_us(5_000_000), Duration::from_secs(1_000));
        let of = |taken_ms| Clock::of(now, unix_now, Some(Duration::from_millis(taken_ms))).as_us();
        assert_eq!(of(999_990), 4_990_000);
        assert_eq!(of(1_000_010), 5_000_000);
        assert_eq!(of(3), 5_000_000);
        assert_eq!(Clock::of(now, unix_now, None), now);
    }
}
