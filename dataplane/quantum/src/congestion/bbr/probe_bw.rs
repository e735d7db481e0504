//! ProbeBW: slower, steady, full, faster, and again (section "ProbeBW").

use wire::{Span, Time};

use super::state::State;
use super::{Bbr, UNBOUNDED};
use crate::congestion::AckSample;

/// `BBR.Headroom`: the part of the volume that is left to others.
const HEADROOM: f64 = 0.15;
/// A probe comes after at most so many rounds: Reno would have lost a packet by then.
const RENO_ROUNDS_MAX: u64 = 63;
/// A probe comes after this and up to as much more as the second says.
const WAIT_MIN: Span = Span::from_ms(2_000);
const WAIT_RANDOM: Span = Span::from_ms(1_000);
/// The growth of the volume doubles this often at most.
const UP_ROUNDS_MAX: u8 = 30;

/// What acknowledgements tell about the probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AckPhase {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// Section "ProbeBW State".
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) ack_phase: AckPhase,
    pub(super) is_probe_sample: bool,
    pub(super) prev_probe_too_high: bool,
    prev_probe_precautionary: bool,
    up_rounds: u8,
    pub(super) rounds_since_probe_up: u32,
    /// Acknowledged since `inflight_longterm` last grew, and how much makes it grow by a datagram.
    up_acked_bytes: u64,
    up_acked_per_increase_bytes: u64,
    start: Time,
    pub(super) wait: Span,
    random: u64,
}

impl Cycle {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            ack_phase: AckPhase::Init,
            is_probe_sample: false,
            prev_probe_too_high: false,
            prev_probe_precautionary: false,
            up_rounds: 0,
            rounds_since_probe_up: 0,
            up_acked_bytes: 0,
            up_acked_per_increase_bytes: UNBOUNDED,
            start: Time::ZERO,
            wait: Span::ZERO,
            random: seed,
        }
    }

    /// SplitMix64, so that all randomness follows from the seed.
    const fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % below
    }

    pub(super) const fn pick_wait(&mut self) {
        self.rounds_since_probe_up = self.draw(2) as u32;
        self.wait = Span::from_us(WAIT_MIN.as_us() + self.draw(WAIT_RANDOM.as_us()));
    }
}

impl Bbr {
    pub(super) fn start_probe_bw_down(&mut self, now: Time) {
        self.reset_congestion_signals();
        self.cycle.up_acked_per_increase_bytes = UNBOUNDED;
        self.cycle.pick_wait();
        self.cycle.start = now;
        self.cycle.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::ProbeBwDown;
    }

    pub(super) const fn start_probe_bw_cruise(&mut self) {
        self.state = State::ProbeBwCruise;
    }

    pub(super) const fn start_probe_bw_refill(&mut self) {
        self.reset_short_term_model();
        self.cycle.up_rounds = 0;
        self.cycle.up_acked_bytes = 0;
        self.cycle.prev_probe_precautionary = false;
        self.cycle.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::ProbeBwRefill;
    }

    fn start_probe_bw_up(&mut self, ack: &AckSample) {
        self.cycle.ack_phase = AckPhase::ProbeStarting;
        self.start_round();
        self.full_pipe.reset(ack.rate.bytes_per_s);
        self.state = State::ProbeBwUp;
        self.raise_inflight_longterm_slope();
    }

    pub(super) fn update_probe_bw_cycle_phase(&mut self, now: Time, ack: &AckSample) {
        if !self.full_pipe.is_reached || self.adapt_long_term_model(now, ack) {
            return;
        }
        let is_probed = self.state == State::ProbeBwUp && self.is_time_to_go_down(ack);
        match self.state {
            State::ProbeBwDown if self.is_time_to_probe(now) => self.start_probe_bw_refill(),
            State::ProbeBwDown if self.is_time_to_cruise() => self.start_probe_bw_cruise(),
            State::ProbeBwCruise if self.is_time_to_probe(now) => self.start_probe_bw_refill(),
            State::ProbeBwRefill if self.rounds.is_start => {
                self.cycle.is_probe_sample = true;
                self.start_probe_bw_up(ack);
            }
            State::ProbeBwUp if is_probed => {
                self.cycle.prev_probe_too_high = false;
                self.start_probe_bw_down(now);
            }
            _ => {}
        }
    }

    /// Section "Design Considerations for Choosing Constant Parameters".
    fn is_time_to_probe(&self, now: Time) -> bool {
        let reno_rounds = (self.target_inflight() / self.datagram_bytes).min(RENO_ROUNDS_MAX);
        now > self.cycle.start + self.cycle.wait || u64::from(self.cycle.rounds_since_probe_up) >= reno_rounds
    }

    fn is_time_to_cruise(&self) -> bool {
        self.in_flight_bytes <= self.inflight_with_headroom()
            && self.in_flight_bytes <= self.inflight_at(self.bandwidth.max(), 1.0)
    }

    /// Section "Exit Conditions for Bandwidth Probing"; too much loss is answered where it is found.
    fn is_time_to_go_down(&mut self, ack: &AckSample) -> bool {
        if self.cycle.prev_probe_too_high && self.in_flight_bytes >= self.inflight_longterm {
            self.cycle.prev_probe_precautionary = true;
            return true;
        }
        if self.window_use.is_limited() && self.window_bytes >= self.inflight_longterm {
            self.full_pipe.reset(ack.rate.bytes_per_s);
            return false;
        }
        self.full_pipe.is_now
    }

    pub(super) fn inflight_with_headroom(&self) -> u64 {
        if self.inflight_longterm == UNBOUNDED {
            return UNBOUNDED;
        }
        let headroom = ((self.inflight_longterm as f64 * HEADROOM) as u64).max(self.datagram_bytes);
        self.inflight_longterm.saturating_sub(headroom).max(self.window_bytes_min())
    }

    fn raise_inflight_longterm_slope(&mut self) {
        let growth = 1_u64 << self.cycle.up_rounds;
        self.cycle.up_rounds = (self.cycle.up_rounds + 1).min(UP_ROUNDS_MAX);
        self.cycle.up_acked_per_increase_bytes = (self.window_bytes / growth).max(self.datagram_bytes);
    }

    fn probe_inflight_longterm_upward(&mut self, ack: &AckSample) {
        if !self.window_use.is_limited() || self.window_bytes < self.inflight_longterm {
            return;
        }
        let cycle = &mut self.cycle;
        cycle.up_acked_bytes += ack.bytes;
        let increases = cycle.up_acked_bytes / cycle.up_acked_per_increase_bytes;
        cycle.up_acked_bytes -= increases * cycle.up_acked_per_increase_bytes;
        self.inflight_longterm = self.inflight_longterm.saturating_add(increases * self.datagram_bytes);
        if self.rounds.is_start {
            self.raise_inflight_longterm_slope();
        }
    }

    /// Follows the acknowledgements of a probe; returns whether that decided on a state.
    fn adapt_long_term_model(&mut self, now: Time, ack: &AckSample) -> bool {
        if self.rounds.is_start && self.cycle.ack_phase == AckPhase::ProbeStarting {
            self.cycle.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.rounds.is_start && self.cycle.ack_phase == AckPhase::ProbeStopping {
            self.cycle.is_probe_sample = false;
            self.cycle.ack_phase = AckPhase::Init;
            if self.state.is_probe_bw() {
                if !ack.rate.is_app_limited {
                    self.bandwidth.advance();
                }
                if self.cycle.prev_probe_precautionary && !self.cycle.prev_probe_too_high {
                    self.start_probe_bw_refill();
                    return true;
                }
            }
        }
        if self.is_inflight_too_high(&ack.rate) {
            return self.answer_congestion_marks(now, ack);
        }
        if self.inflight_longterm == UNBOUNDED {
            return false;
        }
        self.inflight_longterm = self.inflight_longterm.max(ack.rate.in_flight_at_sending_bytes);
        if self.state == State::ProbeBwUp {
            self.probe_inflight_longterm_upward(ack);
        }
        false
    }
}
