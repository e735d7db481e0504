//! Round trips counted by packets, and whether the window was used in the last of them.

use super::Bbr;
use crate::congestion::AckSample;

/// Section "Tracking Packet-Timed Round Trips".
#[derive(Default, Debug)]
pub(super) struct Rounds {
    /// A round ends when a packet is acknowledged that was sent after so much had been delivered.
    next_delivered_bytes: u64,
    pub(super) count: u32,
    /// Whether this acknowledgement begins a round.
    pub(super) is_start: bool,
}

/// `C.is_cwnd_limited`: whether the window was full in this round or the one before.
#[derive(Default, Debug)]
pub(super) struct WindowUse {
    is_full_now: bool,
    was_full: bool,
}

impl WindowUse {
    pub(super) const fn mark(&mut self) {
        self.is_full_now = true;
    }

    pub(super) const fn is_limited(&self) -> bool {
        self.is_full_now || self.was_full
    }

    const fn begin_round(&mut self) {
        self.was_full = self.is_full_now;
        self.is_full_now = false;
    }
}

impl Bbr {
    pub(super) fn update_round(&mut self, ack: &AckSample) {
        self.rounds.is_start = ack.rate.prior_delivered_bytes >= self.rounds.next_delivered_bytes;
        if self.rounds.is_start {
            self.start_round();
            self.rounds.count = self.rounds.count.wrapping_add(1);
            self.cycle.rounds_since_probe_up = self.cycle.rounds_since_probe_up.saturating_add(1);
            self.window_use.begin_round();
        }
    }

    pub(super) const fn start_round(&mut self) {
        self.rounds.next_delivered_bytes = self.delivered_bytes;
    }
}
