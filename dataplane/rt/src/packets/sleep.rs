//! How a ring sleeps, and what ends it.

use std::time::{Duration, Instant};

use super::PacketRing;
use crate::Result;

/// Why a [`PacketRing::wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A datagram waits for [`PacketRing::poll`].
    Datagram,
    /// The doorbell rang: look at the queues.
    Doorbell,
    /// Send slots came free.
    Sent,
    /// The log write ended: [`PacketRing::poll_log_write`].
    Log,
    /// The time is over.
    Timeout,
    /// It did not sleep: `still_idle` said that there is work.
    Busy,
}

impl PacketRing {
    /// Sleeps until a datagram comes, the doorbell rings, the log write ends, a send slot comes free or `until` has passed (`None`:
    /// no limit). Everything queued is submitted first.
    ///
    /// `still_idle` is called after other threads have been told to ring: it must look at every queue that they
    /// fill, and say false if there is anything in one. Then no wake-up can be lost.
    ///
    /// # Errors
    /// [`RtError::Ring`] when the ring or the socket is broken.
    pub fn wait(&mut self, until: Option<Duration>, still_idle: impl FnOnce() -> bool) -> Result<Wake> {
        if self.filled.is_empty() && !self.is_readable {
            self.bell_heard = false;
            self.bell.park();
            let wake = if still_idle() { self.sleep(until) } else { Ok(Wake::Busy) };
            self.bell.unpark();
            wake
        } else {
            Ok(Wake::Datagram)
        }
    }

    fn sleep(&mut self, until: Option<Duration>) -> Result<Wake> {
        let deadline = until.map(|until| Instant::now() + until);
        self.polls_awake = 0;
        self.arm();
        if self.kernel_has_work() {
            self.enter()?;
        }
        self.reap()?;
        self.slots_freed = false;
        loop {
            if !self.filled.is_empty() || self.is_readable {
                return Ok(Wake::Datagram);
            }
            if self.bell_heard {
                return Ok(Wake::Doorbell);
            }
            if self.log.has_ended() {
                return Ok(Wake::Log);
            }
            if self.slots_freed {
                return Ok(Wake::Sent);
            }
            self.arm();
            let mut until = None;
            if let Some(deadline) = deadline {
                let now = Instant::now();
                let left = deadline.saturating_duration_since(now);
                if left.is_zero() {
                    return Ok(Wake::Timeout);
                }
                until = (!self.set_alarm(now, left)).then_some(left);
            }
            self.counters.waits += 1;
            self.enter_waiting(until)?;
            self.reap()?;
        }
    }
}
