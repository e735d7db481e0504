//! What comes out: pacing rate and window (section "Updating Control Parameters").

use wire::Span;

use super::state::State;
use super::{Bbr, UNBOUNDED};
use crate::congestion::{AckSample, CongestionController};

/// `BBR.PacingMarginPercent`: the rate stays below that of the path.
const PACING_MARGIN: f64 = 0.01;
/// Trains under way at once: in the sender's kernel, on the wire, and with the receiver, which acknowledges them at once
/// (section "BBR.offload_budget").
const OFFLOAD_TRAINS: u64 = 3;
/// How long both ends together may work on what has arrived before an acknowledgement leaves: on a path of microseconds
/// it, and not the path, is what must be filled. Nothing beside the round trip of any other path.
const OFFLOAD_SPAN: Span = Span::from_us(500);
/// The round trip that the first rate assumes.
const NOMINAL_RTT: Span = Span::from_ms(1);

impl Bbr {
    /// Section "Pacing Rate": the first window in a round trip.
    pub(super) fn init_pacing_rate(&mut self, smoothed_rtt: Option<Span>) {
        let rtt_us = smoothed_rtt.unwrap_or(NOMINAL_RTT).as_us().max(1);
        let nominal = self.initial_window_bytes() as f64 * 1e6 / rtt_us as f64;
        self.pacing_rate = (State::Startup.pacing_gain() * nominal) as u64;
    }

    /// While the path's rate is not known, the pacing rate only grows.
    pub(super) fn set_pacing_rate(&mut self, gain: f64) {
        let rate = (gain * self.bandwidth.estimate() as f64 * (1.0 - PACING_MARGIN)) as u64;
        if self.full_pipe.is_reached || rate > self.pacing_rate {
            self.pacing_rate = rate.max(1);
        }
    }

    /// Whether Startup has begun with more than the path bears, so that each packet sent before another has left it is
    /// one packet lost.
    fn is_path_overrun(&self) -> bool {
        let round_delivered_bytes = self.delivered_bytes - self.latest.round_end_delivered_bytes;
        self.recovery.has_many_losses() && self.is_loss_heavy(round_delivered_bytes)
    }

    /// `gain` times what fits the path at the estimated rate.
    pub(super) fn bdp_multiple(&self, gain: f64) -> u64 {
        self.bdp_multiple_at(self.bandwidth.estimate(), gain)
    }

    fn bdp_multiple_at(&self, bytes_per_s: u64, gain: f64) -> u64 {
        match self.min_rtt.get() {
            Some(rtt) => (gain * bytes_per_s as f64 * rtt.as_us() as f64 / 1e6) as u64,
            None => self.initial_window_bytes(),
        }
    }

    /// What must be in flight at least for whole trains.
    fn quantization_budget(&self, inflight: u64) -> u64 {
        let worked_on = self.bandwidth.estimate() as f64 * OFFLOAD_SPAN.as_us() as f64 / 1e6;
        let offload = (OFFLOAD_TRAINS * self.send_quantum_bytes()).max(worked_on as u64);
        let probe = if self.state == State::ProbeBwUp { 2 * self.datagram_bytes } else { 0 };
        inflight.max(offload).max(self.window_bytes_min()) + probe
    }

    pub(super) fn inflight(&self, gain: f64) -> u64 {
        self.inflight_at(self.bandwidth.estimate(), gain)
    }

    pub(super) fn inflight_at(&self, bytes_per_s: u64, gain: f64) -> u64 {
        self.quantization_budget(self.bdp_multiple_at(bytes_per_s, gain))
    }

    /// Section "Design Considerations for Choosing Constant Parameters": what is wanted in flight.
    pub(super) fn target_inflight(&self) -> u64 {
        self.bdp_multiple(1.0).min(self.window_bytes)
    }

    /// `BBR.max_inflight`.
    fn inflight_max(&self) -> u64 {
        let bdp = self.bdp_multiple(self.state.window_gain());
        self.quantization_budget(bdp + self.aggregation.extra_acked_bytes)
    }

    /// Section "cwnd Adjustment Mechanism".
    pub(super) fn set_window(&mut self, ack: &AckSample) {
        let inflight_max = self.inflight_max();
        let grown = self.window_bytes + ack.bytes;
        if self.full_pipe.is_reached {
            self.window_bytes = grown.min(inflight_max);
        } else if self.is_path_overrun() {
            self.window_bytes = self.window_bytes.min(self.in_flight_bytes + ack.bytes);
        } else if self.window_bytes < inflight_max || self.delivered_bytes < self.initial_window_bytes() {
            self.window_bytes = grown;
        }
        let (bound, floor) = if self.state == State::ProbeRtt {
            (self.inflight_bound().min(self.probe_rtt_window_bytes()), self.window_bytes_min())
        } else if ack.rate.is_app_limited {
            // Its volume was not the path's, nor were its losses: its messages do not wait for either.
            (UNBOUNDED, self.initial_window_bytes())
        } else {
            (self.inflight_bound(), self.window_bytes_min())
        };
        self.window_bytes = self.window_bytes.min(bound).max(floor).min(self.window_bytes_max);
    }

    /// Section "Bounding cwnd Based on Recent Congestion".
    fn inflight_bound(&self) -> u64 {
        let bound = match self.state {
            State::ProbeBwCruise | State::ProbeRtt => self.inflight_with_headroom(),
            State::ProbeBwDown | State::ProbeBwRefill | State::ProbeBwUp => self.inflight_longterm,
            State::Startup | State::Drain => UNBOUNDED,
        };
        bound.min(self.inflight_shortterm)
    }

    /// Section "Modulating cwnd in Loss Recovery": the window before a disturbance, to come back to.
    pub(super) fn save_window(&mut self) {
        let is_disturbed = self.recovery.is_active() || self.state == State::ProbeRtt;
        let before = if is_disturbed { self.prior_window_bytes } else { 0 };
        self.prior_window_bytes = before.max(self.window_bytes);
    }

    pub(super) fn restore_window(&mut self) {
        self.window_bytes = self.window_bytes.max(self.prior_window_bytes).min(self.window_bytes_max);
    }

    /// After persistent congestion: as after a retransmission timeout.
    pub(super) fn collapse_window(&mut self) {
        let least = (self.in_flight_bytes + self.datagram_bytes).max(self.window_bytes_min());
        self.window_bytes = self.window_bytes.min(least);
    }
}
