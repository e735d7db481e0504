//! The rate of the path: the greatest of two cycles, and what losses in this one leave of it (sections "Estimated Maximum
//! Bandwidth" and "When not Probing for Bandwidth").

use super::{Bbr, UNBOUNDED};
use crate::congestion::AckSample;

#[derive(Debug)]
pub(super) struct Bandwidth {
    /// The greatest sample of the cycle before, and of this one: `BBR.max_bw_filter`.
    cycles: [u64; 2],
    /// `BBR.bw_shortterm`.
    pub(super) shortterm: u64,
}

/// What was delivered in the last round (`BBR.bw_latest`, `BBR.inflight_latest`).
#[derive(Default, Debug)]
pub(super) struct LatestDelivery {
    pub(super) bytes_per_s: u64,
    pub(super) bytes: u64,
    /// The round in which losses are gathered ends when a packet is acknowledged that was sent after so much.
    pub(super) round_end_delivered_bytes: u64,
    pub(super) is_round_start: bool,
    /// Delivered in the round that ends at such a start.
    round_delivered_bytes: u64,
}

impl Bandwidth {
    pub(super) const fn new() -> Self {
        Self { cycles: [0; 2], shortterm: UNBOUNDED }
    }

    /// `BBR.max_bw`.
    pub(super) fn max(&self) -> u64 {
        self.cycles[0].max(self.cycles[1])
    }

    /// `BBR.bw`.
    pub(super) fn estimate(&self) -> u64 {
        self.max().min(self.shortterm)
    }

    /// Begins a cycle; what the one before the last has seen is forgotten.
    pub(super) const fn advance(&mut self) {
        self.cycles = [self.cycles[1], 0];
    }

    fn update(&mut self, ack: &AckSample) {
        let rate = ack.rate.bytes_per_s;
        if rate > 0 && (rate >= self.max() || !ack.rate.is_app_limited) {
            self.cycles[1] = self.cycles[1].max(rate);
        }
    }
}

impl Bbr {
    pub(super) fn update_latest_delivery_signals(&mut self, ack: &AckSample) {
        let latest = &mut self.latest;
        latest.bytes_per_s = latest.bytes_per_s.max(ack.rate.bytes_per_s);
        latest.bytes = latest.bytes.max(ack.rate.delivered_bytes);
        latest.is_round_start = ack.rate.prior_delivered_bytes >= latest.round_end_delivered_bytes;
        if latest.is_round_start {
            latest.round_delivered_bytes = self.delivered_bytes - latest.round_end_delivered_bytes;
            latest.round_end_delivered_bytes = self.delivered_bytes;
        }
    }

    pub(super) fn advance_latest_delivery_signals(&mut self, ack: &AckSample) {
        if self.latest.is_round_start {
            self.latest.bytes_per_s = ack.rate.bytes_per_s;
            self.latest.bytes = ack.rate.delivered_bytes;
            self.recovery.forget_marks();
        }
    }

    /// Once a round, the model follows losses.
    pub(super) fn update_congestion_signals(&mut self, ack: &AckSample) {
        self.update_round(ack);
        self.bandwidth.update(ack);
        if self.latest.is_round_start {
            self.adapt_lower_bounds(ack, self.latest.round_delivered_bytes);
            self.forget_losses_of_round();
        }
    }

    pub(super) const fn reset_congestion_signals(&mut self) {
        self.forget_losses_of_round();
        self.latest.bytes_per_s = 0;
        self.latest.bytes = 0;
    }

    pub(super) const fn reset_short_term_model(&mut self) {
        self.bandwidth.shortterm = UNBOUNDED;
        self.inflight_shortterm = UNBOUNDED;
    }
}
