//! The time at which a sleep ends at the latest: one kernel timer that outlives the sleeps.
//!
//! A shard's next deadline moves away with every packet, and hardly ever comes nearer. Setting a timer for each sleep
//! and taking it back at each wake-up took about a seventh of a round trip in which both ends sleep (measured in a
//! virtual machine, where a write to the core's clock probably asks the host). So the timer stays where it was set
//! while the deadline is later, and is set again when it fires.

use std::time::{Duration, Instant};

use io_uring::{opcode, types};

use super::{KIND_ALARM, KIND_ALARM_UPDATE, PacketRing};

/// The one timer of a ring.
pub(super) struct Alarm {
    /// When it fires; none: it is not set.
    at: Option<Instant>,
    /// What the kernel reads when the operation is submitted.
    left: Box<types::Timespec>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self { at: None, left: Box::new(types::Timespec::new()) }
    }

    /// It has fired. An update that came too late needs no answer: this comes as well.
    pub(super) const fn handle_completion(&mut self) {
        self.at = None;
    }
}

impl PacketRing {
    /// Has the timer fire no later than `left` from `now` on; false when the submission queue is full.
    pub(super) fn set_alarm(&mut self, now: Instant, left: Duration) -> bool {
        let at = now + left;
        if self.alarm.at.is_some_and(|set| set <= at) {
            return true;
        }
        *self.alarm.left = types::Timespec::from(left);
        let timespec: *const types::Timespec = &raw const *self.alarm.left;
        let entry = if self.alarm.at.is_some() {
            opcode::TimeoutUpdate::new(KIND_ALARM, timespec).build().user_data(KIND_ALARM_UPDATE)
        } else {
            opcode::Timeout::new(timespec).build().user_data(KIND_ALARM)
        };
        let is_queued = self.push(&entry);
        if is_queued {
            self.alarm.at = Some(at);
        }
        is_queued
    }
}
