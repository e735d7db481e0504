//! Round-trip time estimation (RFC 9002, section 5).

use wire::Span;

/// What is assumed before the first sample.
pub(crate) const INITIAL_RTT: Span = Span::from_ms(100);
/// The least span that a timer is trusted with (RFC 9002, section 6.1.2).
pub(crate) const GRANULARITY: Span = Span::from_ms(1);

/// Smoothed RTT, its variation, and the least seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RttEstimator {
    latest: Span,
    smoothed: Span,
    variation: Span,
    min: Span,
    has_sample: bool,
}

impl RttEstimator {
    pub(crate) const fn new() -> Self {
        Self {
            latest: INITIAL_RTT,
            smoothed: INITIAL_RTT,
            variation: Span::from_us(INITIAL_RTT.as_us() / 2),
            min: INITIAL_RTT,
            has_sample: false,
        }
    }

    /// Takes a sample; `ack_delay` is what the peer says it held the packet, already capped.
    pub(crate) fn update(&mut self, sample: Span, ack_delay: Span) {
        self.latest = sample;
        if !self.has_sample {
            self.has_sample = true;
            self.min = sample;
            self.smoothed = sample;
            self.variation = Span::from_us(sample.as_us() / 2);
            return;
        }
        self.min = self.min.min(sample);
        let adjusted = if sample >= self.min + ack_delay { sample - ack_delay } else { sample };
        let deviation = Span::from_us(self.smoothed.as_us().abs_diff(adjusted.as_us()));
        self.variation = Span::from_us((3 * self.variation.as_us() + deviation.as_us()) / 4);
        self.smoothed = Span::from_us((7 * self.smoothed.as_us() + adjusted.as_us()) / 8);
    }

    pub(crate) const fn smoothed(&self) -> Span {
        self.smoothed
    }

    pub(crate) const fn min(&self) -> Span {
        self.min
    }

    pub(crate) const fn has_sample(&self) -> bool {
        self.has_sample
    }

    /// How much later than a packet that was sent after it a packet may be acknowledged before it counts as
    /// lost (RFC 9002, section 6.1.2).
    pub(crate) fn loss_delay(&self) -> Span {
        let rtt = self.smoothed.max(self.latest);
        Span::from_us(rtt.as_us() + rtt.as_us() / 8).max(GRANULARITY)
    }

    /// The probe timeout without backoff (RFC 9002, section 6.2.1).
    pub(crate) fn probe_timeout(&self, peer_ack_delay: Span) -> Span {
        self.smoothed + self.variation.times(4).max(GRANULARITY) + peer_ack_delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_ack_delay_counts_as_network_time() {
        let mut rtt = RttEstimator::new();
        rtt.update(Span::from_ms(10), Span::ZERO);
        for _ in 0..100 {
            rtt.update(Span::from_ms(12), Span::from_ms(2));
        }
        assert!(rtt.smoothed() < Span::from_us(10_100), "{rtt:?}");
    }

    #[test]
    fn a_claimed_delay_pushes_the_rtt_under_its_minimum() {
        let mut rtt = RttEstimator::new();
        rtt.update(Span::from_ms(10), Span::ZERO);
        for _ in 0..100 {
            rtt.update(Span::from_ms(10), Span::from_ms(9));
        }
        assert_eq!(rtt.smoothed(), Span::from_ms(10));
    }

    #[test]
    fn a_loopback_rtt_makes_timers_of_nothing() {
        let mut rtt = RttEstimator::new();
        for _ in 0..50 {
            rtt.update(Span::from_us(20), Span::ZERO);
        }
        assert_eq!(rtt.loss_delay(), GRANULARITY);
        assert!(rtt.probe_timeout(Span::ZERO) >= GRANULARITY);
    }
}
