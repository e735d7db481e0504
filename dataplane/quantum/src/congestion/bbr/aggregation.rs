//! How much more is acknowledged at once than the rate explains (section "BBR.extra_acked").

use wire::Time;

use super::Bbr;
use super::filter::MaxFilter;
use crate::congestion::AckSample;

/// `BBR.ExtraAckedFilterLen`, in rounds; one in Startup.
const FILTER_ROUNDS: u32 = 10;

#[derive(Default, Debug)]
pub(super) struct Aggregation {
    interval_start: Time,
    delivered_bytes: u64,
    filter: MaxFilter,
    /// `BBR.extra_acked`.
    pub(super) extra_acked_bytes: u64,
}

impl Aggregation {
    pub(super) const fn restart(&mut self, now: Time) {
        self.interval_start = now;
    }
}

impl Bbr {
    pub(super) fn update_ack_aggregation(&mut self, now: Time, ack: &AckSample) {
        let interval_us = now.since(self.aggregation.interval_start).as_us();
        let mut expected = (self.bandwidth.estimate() as f64 * interval_us as f64 / 1e6) as u64;
        let aggregation = &mut self.aggregation;
        if aggregation.delivered_bytes <= expected {
            aggregation.delivered_bytes = 0;
            aggregation.interval_start = now;
            expected = 0;
        }
        aggregation.delivered_bytes += ack.bytes;
        let extra = (aggregation.delivered_bytes - expected).min(self.window_bytes);
        let length = if self.full_pipe.is_reached { FILTER_ROUNDS } else { 1 };
        aggregation.extra_acked_bytes = aggregation.filter.update(extra, self.rounds.count, length);
    }
}
