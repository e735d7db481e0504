//! The empty path's round-trip time, and ProbeRTT, which empties the path to measure it (section "ProbeRTT").

use wire::{Span, Time};

use super::Bbr;
use super::probe_bw::AckPhase;
use super::state::State;
use crate::congestion::AckSample;

/// `BBR.MinRTTFilterLen`.
const MIN_RTT_WINDOW: Span = Span::from_ms(10_000);
/// `BBR.ProbeRTTInterval` and `BBR.ProbeRTTDuration`.
const PROBE_RTT_INTERVAL: Span = Span::from_ms(5_000);
const PROBE_RTT_DURATION: Span = Span::from_ms(200);

/// A round trip this near to the least shows that the path is empty: one part in so many.
const EMPTY_PARTS: u64 = 16;

/// The least round-trip times of two windows.
#[derive(Debug)]
pub(super) struct MinRtt {
    /// `BBR.min_rtt`; `Span::MAX`: not known.
    value: Span,
    stamp: Time,
    /// `BBR.probe_rtt_min_delay`.
    recent: Span,
    recent_stamp: Time,
    /// `BBR.probe_rtt_expired`.
    is_expired: bool,
}

#[derive(Default, Debug)]
pub(super) struct ProbeRttTimes {
    /// When ProbeRTT may end; none: the path is not empty yet.
    done_at: Option<Time>,
    is_round_done: bool,
    /// `BBR.idle_restart`.
    is_idle_restart: bool,
}

impl MinRtt {
    pub(super) const fn new() -> Self {
        Self {
            value: Span::MAX,
            stamp: Time::ZERO,
            recent: Span::MAX,
            recent_stamp: Time::ZERO,
            is_expired: false,
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.value != Span::MAX
    }

    pub(super) fn get(&self) -> Option<Span> {
        self.is_known().then_some(self.value)
    }
}

impl Bbr {
    pub(super) fn update_min_rtt(&mut self, now: Time, ack: &AckSample) {
        let min = &mut self.min_rtt;
        min.is_expired = min.recent != Span::MAX && now > min.recent_stamp + PROBE_RTT_INTERVAL;
        if let Some(rtt) = ack.rtt.filter(|rtt| *rtt < min.recent || min.is_expired) {
            min.recent = rtt;
            min.recent_stamp = now;
        } else if ack
            .rtt
            .is_some_and(|rtt| rtt <= min.recent + Span::from_us(min.recent.as_us() / EMPTY_PARTS))
        {
            // Nothing is to be learnt by emptying it.
            min.recent_stamp = now;
        }
        if min.recent < min.value || now > min.stamp + MIN_RTT_WINDOW {
            min.value = min.recent;
            min.stamp = min.recent_stamp;
        }
    }

    /// An application that does not fill the path empties it by itself: it is not held up.
    pub(super) fn check_probe_rtt(&mut self, now: Time, ack: &AckSample) {
        let is_due = self.min_rtt.is_expired && !self.probe_rtt.is_idle_restart && !ack.rate.is_app_limited;
        if self.state != State::ProbeRtt && is_due {
            self.save_window();
            self.state = State::ProbeRtt;
            self.probe_rtt.done_at = None;
            self.cycle.ack_phase = AckPhase::ProbeStopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(now);
        }
        if ack.rate.delivered_bytes > 0 {
            self.probe_rtt.is_idle_restart = false;
        }
    }

    fn handle_probe_rtt(&mut self, now: Time) {
        if self.probe_rtt.done_at.is_some() {
            self.probe_rtt.is_round_done |= self.rounds.is_start;
            if self.probe_rtt.is_round_done {
                self.check_probe_rtt_done(now);
            }
        } else if self.in_flight_bytes <= self.probe_rtt_window_bytes() {
            self.probe_rtt.done_at = Some(now + PROBE_RTT_DURATION);
            self.probe_rtt.is_round_done = false;
            self.start_round();
        }
    }

    fn check_probe_rtt_done(&mut self, now: Time) {
        if self.probe_rtt.done_at.is_some_and(|at| now > at) {
            self.min_rtt.recent_stamp = now;
            self.restore_window();
            self.exit_probe_rtt(now);
        }
    }

    /// Section "Exiting ProbeRTT".
    fn exit_probe_rtt(&mut self, now: Time) {
        self.reset_short_term_model();
        if self.full_pipe.is_reached {
            self.start_probe_bw_down(now);
            self.start_probe_bw_cruise();
        } else {
            self.enter_startup();
        }
    }

    pub(super) fn probe_rtt_window_bytes(&self) -> u64 {
        self.bdp_multiple(State::ProbeRtt.window_gain()).max(self.window_bytes_min())
    }

    /// Section "Restarting From Idle".
    pub(super) fn restart_from_idle(&mut self, now: Time) {
        self.probe_rtt.is_idle_restart = true;
        self.aggregation.restart(now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(1.0);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now);
        }
    }
}
