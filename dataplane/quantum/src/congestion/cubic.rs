//! CUBIC (RFC 9438).

use wire::{Span, Time};

use super::{
    AckSample, CongestionController, INITIAL_WINDOW_DATAGRAMS, LossEvent, PathModel, SEND_QUANTUM_BYTES_MAX,
    SentSample, WINDOW_DATAGRAMS_MIN, send_quantum_bytes,
};

/// The multiplicative decrease (section 4.6).
const BETA: f64 = 0.7;
/// The scaling of the cubic function (section 5.1), in datagrams per second cubed.
const C: f64 = 0.4;
/// A window leaves in this part of a round trip, in slow start and after (RFC 9002, section 7.7).
const PACING_GAIN_SLOW_START: f64 = 2.0;
const PACING_GAIN: f64 = 1.25;

/// The state of section 4.1. Windows are in bytes.
#[derive(Debug)]
pub(crate) struct Cubic {
    datagram_bytes: u64,
    window_bytes_max: u64,
    window: f64,
    slow_start_threshold: f64,
    /// The window before the last reduction (`W_max`).
    window_before: f64,
    /// What Reno would have (`W_est`).
    window_reno: f64,
    /// When the current growth began; none: not yet, or in slow start.
    epoch: Option<Epoch>,
    /// Losses of packets sent before this moment have been answered.
    recovery_start: Option<Time>,
    smoothed_rtt: Option<Span>,
    /// What the last reduction changed, in case that its losses were none.
    before: Option<Reduced>,
}

#[derive(Clone, Copy, Debug)]
struct Reduced {
    window: f64,
    slow_start_threshold: f64,
    window_before: f64,
    window_reno: f64,
    epoch: Option<Epoch>,
}

#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Time,
    /// Seconds until the cubic function is back at `window_before` (`K`).
    to_origin_s: f64,
}

impl Cubic {
    pub(crate) fn new(datagram_bytes: u64, window_bytes_max: u64) -> Self {
        Self {
            datagram_bytes,
            window_bytes_max,
            window: (datagram_bytes * INITIAL_WINDOW_DATAGRAMS) as f64,
            slow_start_threshold: f64::INFINITY,
            window_before: 0.0,
            window_reno: 0.0,
            epoch: None,
            recovery_start: None,
            smoothed_rtt: None,
            before: None,
        }
    }

    fn window_min(&self) -> f64 {
        (self.datagram_bytes * WINDOW_DATAGRAMS_MIN) as f64
    }

    fn begin_epoch(&mut self, now: Time) -> Epoch {
        if let Some(epoch) = self.epoch {
            return epoch;
        }
        let distance = (self.window_before - self.window).max(0.0) / self.datagram_bytes as f64;
        let epoch = Epoch { start: now, to_origin_s: (distance / C).cbrt() };
        self.window_before = self.window_before.max(self.window);
        self.window_reno = self.window;
        self.epoch = Some(epoch);
        epoch
    }

    /// Where the cubic function stands at `now` plus one round trip (section 4.2).
    fn cubic_window(&self, now: Time, rtt: Span, epoch: Epoch) -> f64 {
        let elapsed_s = (now + rtt).since(epoch.start).as_us() as f64 / 1e6;
        let growth = C * (elapsed_s - epoch.to_origin_s).powi(3) * self.datagram_bytes as f64;
        self.window_before + growth
    }
}

impl CongestionController for Cubic {
    fn on_sent(&mut self, _now: Time, _sample: &SentSample) {}

    fn on_ack(&mut self, now: Time, sample: &AckSample) {
        self.smoothed_rtt = Some(sample.smoothed_rtt);
        let in_recovery = self.recovery_start.is_some_and(|start| sample.sent <= start);
        if in_recovery || !sample.window_limited {
            return;
        }
        let bytes = sample.bytes as f64;
        if self.window < self.slow_start_threshold {
            self.window += bytes;
        } else {
            let epoch = self.begin_epoch(now);
            // Section 4.3: at least as fast as Reno, which on short paths is the faster by far.
            let alpha =
                if self.window_reno < self.window_before { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
            self.window_reno += alpha * self.datagram_bytes as f64 * bytes / self.window;
            let target =
                self.cubic_window(now, sample.smoothed_rtt, epoch).clamp(self.window, 1.5 * self.window);
            self.window += (target - self.window) * bytes / self.window;
            self.window = self.window.max(self.window_reno);
        }
        self.window = self.window.min(self.window_bytes_max as f64);
    }

    fn on_congestion_event(&mut self, now: Time, event: &LossEvent) -> bool {
        let LossEvent { sent, is_persistent, .. } = *event;
        if self.recovery_start.is_some_and(|start| sent <= start) && !is_persistent {
            return false;
        }
        self.recovery_start = Some(now);
        self.before = Some(Reduced {
            window: self.window,
            slow_start_threshold: self.slow_start_threshold,
            window_before: self.window_before,
            window_reno: self.window_reno,
            epoch: self.epoch.take(),
        });
        // Fast convergence (section 4.7): leave room for new flows.
        let shrinking = self.window < self.window_before;
        self.window_before = if shrinking { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(self.window_min());
        self.slow_start_threshold = self.window;
        if is_persistent {
            self.window = self.window_min();
            self.recovery_start = None;
        }
        true
    }

    fn on_spurious_loss(&mut self, _now: Time) {
        // RFC 9438, section 4.9.2.
        let Some(before) = self.before.take().filter(|before| before.window > self.window) else { return };
        self.window = before.window;
        self.slow_start_threshold = before.slow_start_threshold;
        self.window_before = before.window_before;
        self.window_reno = before.window_reno;
        self.epoch = before.epoch;
        self.recovery_start = None;
    }

    fn on_ecn_ce(&mut self, now: Time, sent: Time, _ce_packets: u64) -> bool {
        let reduced =
            self.on_congestion_event(now, &LossEvent { sent, is_persistent: false, in_flight_bytes: 0 });
        if reduced {
            // A mark is never spurious.
            self.before = None;
        }
        reduced
    }

    fn on_datagram_bytes(&mut self, bytes: u64) {
        self.datagram_bytes = bytes;
        self.window = self.window.max(self.window_min());
    }

    fn window_bytes(&self) -> u64 {
        self.window as u64
    }

    fn pacing_rate(&self) -> Option<u64> {
        let gain = if self.window < self.slow_start_threshold { PACING_GAIN_SLOW_START } else { PACING_GAIN };
        self.smoothed_rtt.map(|rtt| (gain * self.window * 1e6 / rtt.as_us().max(1) as f64) as u64)
    }

    fn send_quantum_bytes(&self) -> u64 {
        self.pacing_rate()
            .map_or(SEND_QUANTUM_BYTES_MAX, |rate| send_quantum_bytes(rate, self.datagram_bytes))
    }

    fn path_model(&self) -> PathModel {
        let is_slow_start = self.window < self.slow_start_threshold;
        let phase = if is_slow_start { "slow-start" } else { "congestion-avoidance" };
        PathModel { phase, ..PathModel::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::RateSample;

    const DATAGRAM: u64 = 1_200;

    fn ack(sent: Time, bytes: u64, rtt: Span) -> AckSample {
        let rate = RateSample::default();
        let (rtt, smoothed_rtt) = (Some(rtt), rtt);
        AckSample { bytes, sent, rtt, smoothed_rtt, window_limited: true, in_flight_bytes: 0, rate }
    }

    fn lost(sent: Time) -> LossEvent {
        LossEvent { sent, is_persistent: false, in_flight_bytes: 0 }
    }

    /// One window's worth of acknowledgements per round trip.
    fn rounds(cubic: &mut Cubic, now: &mut Time, rtt: Span, count: usize) {
        for _ in 0..count {
            let window = cubic.window_bytes();
            *now += rtt;
            cubic.on_ack(*now, &ack(*now, window, rtt));
        }
    }

    #[test]
    fn slow_start_does_not_double() {
        let mut cubic = Cubic::new(DATAGRAM, 64 << 20);
        let mut now = Time::from_us(1);
        rounds(&mut cubic, &mut now, Span::from_ms(10), 3);
        assert_eq!(cubic.window_bytes(), 8 * INITIAL_WINDOW_DATAGRAMS * DATAGRAM);
    }

    #[test]
    fn one_burst_of_losses_halves_the_window_again_and_again() {
        let mut cubic = Cubic::new(DATAGRAM, 64 << 20);
        let before = cubic.window_bytes();
        let now = Time::from_us(100);
        assert!(cubic.on_congestion_event(now, &lost(Time::from_us(50))));
        assert!(!cubic.on_congestion_event(now, &lost(Time::from_us(60))));
        assert_eq!(cubic.window_bytes(), (before as f64 * BETA) as u64);
    }

    #[test]
    fn a_window_lost_does_not_come_back() {
        let mut cubic = Cubic::new(DATAGRAM, 64 << 20);
        let mut now = Time::from_us(1);
        let rtt = Span::from_ms(50);
        rounds(&mut cubic, &mut now, rtt, 4);
        let before = cubic.window_bytes();
        cubic.on_congestion_event(now, &lost(now));
        now += rtt;
        rounds(&mut cubic, &mut now, rtt, 200);
        assert!(cubic.window_bytes() > before, "{} of {before}", cubic.window_bytes());
    }

    #[test]
    fn losses_on_a_path_of_microseconds_starve_it() {
        let mut cubic = Cubic::new(DATAGRAM, 64 << 20);
        let mut now = Time::from_us(1);
        let rtt = Span::from_us(30);
        for _ in 0..50 {
            now += rtt;
            cubic.on_congestion_event(now, &lost(now));
        }
        assert_eq!(cubic.window_bytes(), WINDOW_DATAGRAMS_MIN * DATAGRAM);
        rounds(&mut cubic, &mut now, rtt, 300);
        assert!(cubic.window_bytes() > 50 * DATAGRAM, "{}", cubic.window_bytes());
    }

    #[test]
    fn an_idle_application_grows_the_window() {
        let mut cubic = Cubic::new(DATAGRAM, 64 << 20);
        let before = cubic.window_bytes();
        let idle = AckSample { window_limited: false, ..ack(Time::from_us(5), 9_000, Span::from_ms(1)) };
        cubic.on_ack(Time::from_us(9), &idle);
        assert_eq!(cubic.window_bytes(), before);
    }

    #[test]
    fn a_loss_that_was_none_costs_window() {
        let mut cubic = Cubic::new(DATAGRAM, 64 << 20);
        let before = cubic.window_bytes();
        cubic.on_congestion_event(Time::from_us(100), &lost(Time::from_us(50)));
        cubic.on_spurious_loss(Time::from_us(200));
        assert_eq!((cubic.window_bytes(), cubic.slow_start_threshold), (before, f64::INFINITY));
        cubic.on_spurious_loss(Time::from_us(300));
        assert_eq!(cubic.window_bytes(), before);
    }

    #[test]
    fn marks_of_the_network_are_ignored_or_answered_twice() {
        let mut cubic = Cubic::new(DATAGRAM, 64 << 20);
        let before = cubic.window_bytes();
        assert!(cubic.on_ecn_ce(Time::from_us(100), Time::from_us(50), 1));
        assert!(!cubic.on_ecn_ce(Time::from_us(120), Time::from_us(60), 4));
        cubic.on_spurious_loss(Time::from_us(130));
        assert_eq!(cubic.window_bytes(), (before as f64 * BETA) as u64);
    }
}
