//! BBR, version 3 (draft-ietf-ccwg-bbr-06; the sections cited in these files are its own).
//!
//! A model of the path, made of its rate, its empty round-trip time and the volumes that it has borne, decides how fast
//! to send and how much may be in flight. Where we leave the draft for the sake of small messages, `PROTOCOL.md`, section
//! "BBR", says so.

mod aggregation;
mod bandwidth;
mod control;
mod filter;
mod loss;
mod probe_bw;
mod probe_rtt;
mod rounds;
mod startup;
mod state;
#[cfg(test)]
mod tests;

use wire::Time;

use self::aggregation::Aggregation;
use self::bandwidth::{Bandwidth, LatestDelivery};
use self::loss::Recovery;
use self::probe_bw::Cycle;
use self::probe_rtt::{MinRtt, ProbeRttTimes};
use self::rounds::{Rounds, WindowUse};
use self::startup::FullPipe;
use self::state::State;
use super::{
    AckSample, CongestionController, INITIAL_WINDOW_DATAGRAMS, LossEvent, LostPacket, PathModel, SentSample,
    WINDOW_DATAGRAMS_MIN, send_quantum_bytes,
};

/// A bound that is not set: "Infinity" in the draft.
const UNBOUNDED: u64 = u64::MAX;

/// One path's state (section "State"). Rates are in bytes per second, volumes in bytes.
#[derive(Debug)]
pub(crate) struct Bbr {
    state: State,
    /// `C.SMSS`.
    datagram_bytes: u64,
    window_bytes_max: u64,
    /// `C.delivered`.
    delivered_bytes: u64,
    /// `C.inflight`.
    in_flight_bytes: u64,
    /// `C.cwnd`.
    window_bytes: u64,
    /// The window before loss recovery or ProbeRTT.
    prior_window_bytes: u64,
    /// `C.pacing_rate`.
    pacing_rate: u64,
    rounds: Rounds,
    window_use: WindowUse,
    bandwidth: Bandwidth,
    latest: LatestDelivery,
    /// What the path has borne without too much loss, over cycles.
    inflight_longterm: u64,
    /// What it bears in this cycle.
    inflight_shortterm: u64,
    full_pipe: FullPipe,
    aggregation: Aggregation,
    min_rtt: MinRtt,
    probe_rtt: ProbeRttTimes,
    cycle: Cycle,
    recovery: Recovery,
}

impl Bbr {
    /// Section "Initialization".
    pub(crate) fn new(datagram_bytes: u64, window_bytes_max: u64, seed: u64) -> Self {
        let mut bbr = Self {
            state: State::Startup,
            datagram_bytes,
            window_bytes_max,
            delivered_bytes: 0,
            in_flight_bytes: 0,
            window_bytes: datagram_bytes * INITIAL_WINDOW_DATAGRAMS,
            prior_window_bytes: 0,
            pacing_rate: 0,
            rounds: Rounds::default(),
            window_use: WindowUse::default(),
            bandwidth: Bandwidth::new(),
            latest: LatestDelivery::default(),
            inflight_longterm: UNBOUNDED,
            inflight_shortterm: UNBOUNDED,
            full_pipe: FullPipe::default(),
            aggregation: Aggregation::default(),
            min_rtt: MinRtt::new(),
            probe_rtt: ProbeRttTimes::default(),
            cycle: Cycle::new(seed),
            recovery: Recovery::default(),
        };
        bbr.init_pacing_rate(None);
        bbr
    }

    /// Section "Per-ACK Steps".
    fn update_model_and_state(&mut self, now: Time, ack: &AckSample) {
        self.update_latest_delivery_signals(ack);
        self.update_congestion_signals(ack);
        self.update_ack_aggregation(now, ack);
        self.check_full_bandwidth_reached(ack);
        self.check_startup_done(ack);
        self.check_drain_done(now);
        self.update_probe_bw_cycle_phase(now, ack);
        self.update_min_rtt(now, ack);
        self.check_probe_rtt(now, ack);
        self.advance_latest_delivery_signals(ack);
    }

    fn update_control_parameters(&mut self, ack: &AckSample) {
        self.set_pacing_rate(self.state.pacing_gain());
        self.set_window(ack);
    }

    fn initial_window_bytes(&self) -> u64 {
        self.datagram_bytes * INITIAL_WINDOW_DATAGRAMS
    }

    /// `BBR.MinPipeCwnd`.
    fn window_bytes_min(&self) -> u64 {
        self.datagram_bytes * WINDOW_DATAGRAMS_MIN
    }
}

impl CongestionController for Bbr {
    /// Section "Per-Transmit Steps".
    fn on_sent(&mut self, now: Time, sample: &SentSample) {
        if sample.in_flight_bytes == sample.bytes && sample.is_app_limited {
            self.restart_from_idle(now);
        }
        self.in_flight_bytes = sample.in_flight_bytes;
        if sample.in_flight_bytes + self.datagram_bytes > self.window_bytes {
            self.window_use.mark();
        }
    }

    fn on_ack(&mut self, now: Time, sample: &AckSample) {
        self.in_flight_bytes = sample.in_flight_bytes;
        self.delivered_bytes = sample.rate.total_delivered_bytes;
        if !self.min_rtt.is_known() && sample.rtt.is_some() {
            self.init_pacing_rate(Some(sample.smoothed_rtt));
        }
        self.check_recovery_done(sample.sent);
        self.update_model_and_state(now, sample);
        self.update_control_parameters(sample);
    }

    fn on_packet_lost(&mut self, now: Time, packet: &LostPacket) {
        self.handle_lost_packet(now, packet);
    }

    fn on_congestion_event(&mut self, _now: Time, event: &LossEvent) -> bool {
        self.in_flight_bytes = event.in_flight_bytes;
        if event.is_persistent {
            self.collapse_window();
        }
        self.recovery.take_is_new()
    }

    fn on_spurious_loss(&mut self, now: Time) {
        self.handle_spurious_loss(now);
    }

    fn on_ecn_ce(&mut self, now: Time, sent: Time, ce_packets: u64) -> bool {
        self.handle_congestion_marks(now, sent, ce_packets)
    }

    fn on_datagram_bytes(&mut self, bytes: u64) {
        self.datagram_bytes = bytes;
        self.window_bytes = self.window_bytes.max(self.window_bytes_min());
    }

    fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(self.pacing_rate)
    }

    fn send_quantum_bytes(&self) -> u64 {
        send_quantum_bytes(self.pacing_rate, self.datagram_bytes)
    }

    fn is_holding_back(&self) -> bool {
        self.state == State::ProbeRtt
    }

    fn path_model(&self) -> PathModel {
        let bounded = |bound: u64| (bound != UNBOUNDED).then_some(bound);
        let bandwidth = self.bandwidth.max();
        PathModel {
            phase: self.state.name(),
            bandwidth_bytes_per_s: (bandwidth > 0).then_some(bandwidth),
            bandwidth_shortterm_bytes_per_s: bounded(self.bandwidth.shortterm),
            rtt_min: self.min_rtt.get(),
            inflight_longterm_bytes: bounded(self.inflight_longterm),
            inflight_shortterm_bytes: bounded(self.inflight_shortterm),
            extra_acked_bytes: Some(self.aggregation.extra_acked_bytes),
            rounds: Some(self.rounds.count),
        }
    }
}
