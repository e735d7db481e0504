//! Pacing: a backlog leaves at the controller's rate, in trains of its send quantum; what is not a backlog does not wait
//! (`PROTOCOL.md`, section "Pacing"; draft-ietf-ccwg-bbr-06, sections "Pacing Rate" and "Send Quantum").

use wire::{Span, Time};

/// Datagrams that leave at once after a rest, and retransmissions that leave ahead of their time.
pub(crate) const UNPACED_DATAGRAMS: u64 = 10;
/// Timers fire up to this late: so much of the rate is made up for.
const LATENESS_MAX: Span = Span::from_ms(1);

/// How fast, and in what portions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// None: as fast as the window allows.
    pub(crate) bytes_per_s: Option<u64>,
    pub(crate) quantum_bytes: u64,
    pub(crate) datagram_bytes: u64,
}

impl Pace {
    /// What a sender that has rested may send at once, on top of a quantum.
    fn rest_bytes(self, bytes_per_s: u64) -> f64 {
        let late = bytes_per_s as f64 * LATENESS_MAX.as_us() as f64 / 1e6;
        late.max((UNPACED_DATAGRAMS * self.datagram_bytes) as f64)
    }
}

/// How far the sender is ahead of the pacing rate.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Bytes that were sent and would still be waiting at the pacing rate, at `at`.
    ahead_bytes: f64,
    at: Time,
    /// When the backlog may go on; `Time::NEVER`: it need not wait.
    resume_at: Time,
}

impl Pacer {
    pub(crate) const fn new() -> Self {
        Self { ahead_bytes: 0.0, at: Time::ZERO, resume_at: Time::NEVER }
    }

    fn advance(&mut self, now: Time, bytes_per_s: u64) {
        let earned = bytes_per_s as f64 * now.since(self.at).as_us() as f64 / 1e6;
        self.ahead_bytes = (self.ahead_bytes - earned).max(0.0);
        self.at = now;
    }

    /// A packet leaves. `in_flight_before` is zero after a rest: nothing is owed then.
    pub(crate) fn on_sent(&mut self, now: Time, bytes: u64, in_flight_before: u64) {
        if in_flight_before == 0 {
            self.ahead_bytes = 0.0;
            self.at = now;
        }
        self.ahead_bytes += bytes as f64;
    }

    /// Whether the next packet of a backlog may leave. If not, [`resume_at`](Self::resume_at) says when.
    pub(crate) fn is_open(&mut self, now: Time, pace: Pace) -> bool {
        let Some(bytes_per_s) = pace.bytes_per_s else {
            self.resume_at = Time::NEVER;
            return true;
        };
        self.advance(now, bytes_per_s);
        let rest = pace.rest_bytes(bytes_per_s);
        let is_waiting = self.resume_at != Time::NEVER;
        // Once closed it stays so until there is room for a whole quantum: small trains cost more.
        let limit = if is_waiting { rest } else { rest + pace.quantum_bytes as f64 };
        if self.ahead_bytes < limit || (is_waiting && self.ahead_bytes <= limit) {
            self.resume_at = Time::NEVER;
            return true;
        }
        let wait_us = (self.ahead_bytes - rest) * 1e6 / bytes_per_s.max(1) as f64;
        self.resume_at = now + Span::from_us(wait_us.ceil() as u64);
        false
    }

    /// Whether a retransmission may leave although a backlog may not: a few do, a flood of them is a backlog.
    pub(crate) fn is_open_for_retransmission(&self, pace: Pace) -> bool {
        pace.bytes_per_s.is_none_or(|rate| {
            let few = UNPACED_DATAGRAMS * pace.datagram_bytes + pace.quantum_bytes;
            self.ahead_bytes < pace.rest_bytes(rate) + few as f64
        })
    }

    /// When a backlog that had to wait may go on.
    pub(crate) fn resume_at(&self) -> Option<Time> {
        (self.resume_at != Time::NEVER).then_some(self.resume_at)
    }

    /// The moment has come: whoever has something to send asks again.
    pub(crate) fn on_timeout(&mut self, now: Time) {
        if self.resume_at <= now {
            self.resume_at = Time::NEVER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: u64 = 1_200;

    fn pace(bytes_per_s: u64) -> Pace {
        let quantum_bytes = (bytes_per_s / 1_000).clamp(2 * DATAGRAM, 65_536);
        Pace { bytes_per_s: Some(bytes_per_s), quantum_bytes, datagram_bytes: DATAGRAM }
    }

    /// Sends a backlog for `span`, waking `late_us` after the pacer's time; returns the bytes and the length of each
    /// train.
    fn backlog(pace: Pace, span: Span, late_us: u64) -> (u64, Vec<u64>) {
        let mut pacer = Pacer::new();
        let (mut now, mut in_flight, mut trains) = (Time::from_us(1_000), 0, vec![0]);
        let end = now + span;
        while now < end {
            if pacer.is_open(now, pace) {
                pacer.on_sent(now, DATAGRAM, in_flight);
                in_flight += DATAGRAM;
                *trains.last_mut().unwrap() += DATAGRAM;
            } else {
                now = pacer.resume_at().unwrap() + Span::from_us(late_us);
                trains.push(0);
            }
        }
        (in_flight, trains)
    }

    #[test]
    fn a_backlog_leaves_at_another_rate() {
        for rate in [8_000, 125_000, 12_500_000, 1_250_000_000] {
            for late_us in [0, 40, 900] {
                let (bytes, _) = backlog(pace(rate), Span::from_ms(4_000), late_us);
                let want = 4 * rate + pace(rate).rest_bytes(rate) as u64;
                let slack = want / 100 + 3 * pace(rate).quantum_bytes;
                assert!(bytes.abs_diff(want) < slack, "{rate} B/s, {late_us} us late: {bytes}, not {want}");
            }
        }
    }

    #[test]
    fn trains_are_shorter_than_the_quantum() {
        let pace = pace(125_000_000);
        let (_, trains) = backlog(pace, Span::from_ms(500), 0);
        let steady = &trains[1..trains.len() - 1];
        assert!(steady.iter().all(|&train| train >= pace.quantum_bytes), "{steady:?}");
        assert!(steady.iter().all(|&train| train <= pace.quantum_bytes + 2 * DATAGRAM), "{steady:?}");
    }

    #[test]
    fn the_first_packets_after_a_rest_wait() {
        let pace = pace(10_000);
        let mut pacer = Pacer::new();
        for start in [Time::from_us(5), Time::from_us(5_000_000)] {
            for n in 0..UNPACED_DATAGRAMS {
                assert!(pacer.is_open(start, pace), "packet {n}");
                pacer.on_sent(start, DATAGRAM, n * DATAGRAM);
            }
        }
    }

    #[test]
    fn messages_now_and_then_wait() {
        let pace = pace(20_000);
        let mut pacer = Pacer::new();
        for n in 0..1_000 {
            let now = Time::from_us(1_000_000 + n * 20_000);
            assert!(pacer.is_open(now, pace));
            pacer.on_sent(now, 300, 300);
        }
    }

    #[test]
    fn a_flood_of_retransmissions_leaves_at_once() {
        let pace = pace(125_000);
        let mut pacer = Pacer::new();
        let now = Time::from_us(1_000);
        let mut in_flight = 0;
        while pacer.is_open(now, pace) {
            pacer.on_sent(now, DATAGRAM, in_flight);
            in_flight += DATAGRAM;
        }
        let mut ahead = 0;
        while pacer.is_open_for_retransmission(pace) {
            pacer.on_sent(now, DATAGRAM, in_flight);
            ahead += 1;
            assert!(ahead < 100);
        }
        assert!((UNPACED_DATAGRAMS - 1..=UNPACED_DATAGRAMS).contains(&ahead), "{ahead}");
    }

    #[test]
    fn a_rate_that_rises_leaves_the_backlog_waiting_for_the_old_one() {
        let mut pacer = Pacer::new();
        let now = Time::from_us(1_000);
        while pacer.is_open(now, pace(1_000)) {
            pacer.on_sent(now, DATAGRAM, DATAGRAM);
        }
        assert!(pacer.resume_at().unwrap().since(now) > Span::from_ms(500));
        assert!(!pacer.is_open(now, pace(1_000_000)));
        assert!(pacer.resume_at().unwrap().since(now) < Span::from_ms(10));
    }
}
