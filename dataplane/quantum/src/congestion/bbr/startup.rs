//! Startup and Drain: the search for the rate, and the end of the queue that it made (sections "Startup" and "Drain").

use wire::{Span, Time};

use super::Bbr;
use super::state::State;
use crate::congestion::AckSample;

/// A rate that grows by less in so many rounds has reached that of the path.
const GROWTH: f64 = 1.25;
const FULL_ROUNDS: u8 = 3;
/// In a probe, a rate that grows by less while the round trip grows by more has made a queue, and counts double.
const QUEUE_RATE_GROWTH: f64 = 1.05;
const QUEUE_RTT_GROWTH: f64 = 1.15;
/// A train makes a queue of up to a millisecond by itself.
const TRAIN: Span = Span::from_ms(1);
/// `BBRStartupFullLossCnt`: runs of losses in a round.
const LOSS_RUNS: u8 = 6;
/// Drain takes no more rounds.
const DRAIN_ROUNDS_MAX: u32 = 3;

/// Whether more speed brings more rate.
#[derive(Default, Debug)]
pub(super) struct FullPipe {
    /// `BBR.full_bw`.
    baseline_bytes_per_s: u64,
    rounds: u8,
    /// `BBR.full_bw_now`.
    pub(super) is_now: bool,
    /// `BBR.full_bw_reached`.
    pub(super) is_reached: bool,
    drain_start_round: u32,
}

impl FullPipe {
    pub(super) const fn reset(&mut self, baseline_bytes_per_s: u64) {
        self.baseline_bytes_per_s = baseline_bytes_per_s;
        self.rounds = 0;
        self.is_now = false;
    }
}

impl Bbr {
    pub(super) const fn enter_startup(&mut self) {
        self.state = State::Startup;
    }

    /// Section "Exiting Acceleration Based on Bandwidth Plateau". A round without a reliable sample says nothing.
    pub(super) fn check_full_bandwidth_reached(&mut self, ack: &AckSample) {
        let rate = ack.rate.bytes_per_s;
        let has_queue = self.has_queue(ack);
        let pipe = &mut self.full_pipe;
        if pipe.is_now || !self.rounds.is_start || ack.rate.is_app_limited || rate == 0 {
            return;
        }
        if rate as f64 >= pipe.baseline_bytes_per_s as f64 * GROWTH {
            pipe.reset(rate);
            return;
        }
        let is_queueing = has_queue && (rate as f64) < pipe.baseline_bytes_per_s as f64 * QUEUE_RATE_GROWTH;
        pipe.rounds += 1 + u8::from(is_queueing);
        pipe.is_now = pipe.rounds >= FULL_ROUNDS;
        pipe.is_reached |= pipe.is_now;
    }

    /// Whether a probe has made a queue.
    fn has_queue(&self, ack: &AckSample) -> bool {
        let grown =
            |(rtt, min): (Span, Span)| (rtt - TRAIN).as_us() as f64 > min.as_us() as f64 * QUEUE_RTT_GROWTH;
        self.state == State::ProbeBwUp && ack.rtt.zip(self.min_rtt.get()).is_some_and(grown)
    }

    pub(super) fn check_startup_done(&mut self, ack: &AckSample) {
        self.check_startup_high_loss(ack);
        if self.state == State::Startup && self.full_pipe.is_reached {
            self.enter_drain();
        }
    }

    /// Section "Exiting Startup Based on Packet Loss": at the end of a round in which there were losses.
    fn check_startup_high_loss(&mut self, ack: &AckSample) {
        if !self.latest.is_round_start {
            return;
        }
        let runs = self.recovery.take_loss_runs();
        if self.full_pipe.is_reached || runs < LOSS_RUNS || !self.is_inflight_too_high(&ack.rate) {
            return;
        }
        self.recovery.undo.state = Some(State::Startup);
        self.full_pipe.is_now = true;
        self.full_pipe.is_reached = true;
        self.inflight_longterm = self.bdp_multiple(1.0).max(self.latest.bytes);
    }

    fn enter_drain(&mut self) {
        self.state = State::Drain;
        self.full_pipe.drain_start_round = self.rounds.count;
    }

    pub(super) fn check_drain_done(&mut self, now: Time) {
        if self.state != State::Drain {
            return;
        }
        let rounds = self.rounds.count.wrapping_sub(self.full_pipe.drain_start_round);
        if self.in_flight_bytes <= self.inflight(1.0) || rounds > DRAIN_ROUNDS_MAX {
            self.start_probe_bw_down(now);
        }
    }
}
