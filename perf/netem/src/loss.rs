//! Which packets a link loses: each by itself, or in bursts after Gilbert (1960) and Elliott (1963).

use crate::Probability;
use crate::random::Random;

/// A Markov chain of two states, each with a loss probability of its own. It steps once a packet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GilbertElliott {
    /// Probability that a packet in the good state is followed by the bad state.
    pub good_to_bad: Probability,
    /// Probability that a packet in the bad state is followed by the good state.
    pub bad_to_good: Probability,
    /// Probability that a packet is lost in the bad state.
    pub loss_in_bad: Probability,
    /// Probability that a packet is lost in the good state.
    pub loss_in_good: Probability,
}

impl GilbertElliott {
    /// The share of packets that is lost in the long run.
    #[must_use]
    pub fn loss_rate(&self) -> f64 {
        let bad = self.share_of_bad();
        (1.0 - bad) * self.loss_in_good.get() + bad * self.loss_in_bad.get()
    }

    /// The mean number of packets lost in a row, in the long run; 0 when none is lost.
    #[must_use]
    pub fn mean_burst_packets(&self) -> f64 {
        let loss = self.loss_rate();
        if loss <= 0.0 {
            return 0.0;
        }
        let (p, r) = (self.good_to_bad.get(), self.bad_to_good.get());
        let (good, bad) = (self.loss_in_good.get(), self.loss_in_bad.get());
        let share_of_bad = self.share_of_bad();
        // Probability of two losses in a row: a burst ends where a loss is not followed by another.
        let both = (1.0 - share_of_bad) * good * ((1.0 - p) * good + p * bad)
            + share_of_bad * bad * (r * good + (1.0 - r) * bad);
        loss / (loss - both)
    }

    /// The share of packets that meet the bad state in the long run. The chain begins in the good one.
    fn share_of_bad(&self) -> f64 {
        let (p, r) = (self.good_to_bad.get(), self.bad_to_good.get());
        if p <= 0.0 { 0.0 } else { p / (p + r) }
    }
}

/// Decides packet by packet.
#[derive(Clone, Debug)]
pub(crate) struct LossProcess {
    random: Random,
    is_bad: bool,
}

impl LossProcess {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, is_bad: false }
    }

    /// Whether the next packet is lost: by the chain, or by itself.
    pub(crate) fn is_lost(&mut self, independent: Probability, chain: Option<&GilbertElliott>) -> bool {
        let mut is_lost = self.random.chance(independent);
        if let Some(chain) = chain {
            let (loss, leave) = if self.is_bad {
                (chain.loss_in_bad, chain.bad_to_good)
            } else {
                (chain.loss_in_good, chain.good_to_bad)
            };
            is_lost |= self.random.chance(loss);
            self.is_bad ^= self.random.chance(leave);
        }
        is_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(p: f64, r: f64, bad: f64, good: f64) -> GilbertElliott {
        let probability = |value| Probability::new(value).expect("possible");
        GilbertElliott {
            good_to_bad: probability(p),
            bad_to_good: probability(r),
            loss_in_bad: probability(bad),
            loss_in_good: probability(good),
        }
    }

    /// Loss rate and mean burst of so many packets.
    fn measure(chain: &GilbertElliott, seed: u64, packets: u32) -> (f64, f64) {
        let mut process = LossProcess::new(Random::new(seed));
        let (mut losses, mut bursts, mut was_lost) = (0_u32, 0_u32, false);
        for _ in 0..packets {
            let is_lost = process.is_lost(Probability::ZERO, Some(chain));
            losses += u32::from(is_lost);
            bursts += u32::from(is_lost && !was_lost);
            was_lost = is_lost;
        }
        (f64::from(losses) / f64::from(packets), f64::from(losses) / f64::from(bursts))
    }

    #[test]
    fn bursts_differ_from_the_closed_form() {
        let chains = [
            chain(0.01, 0.25, 1.0, 0.0),
            chain(0.002, 0.1, 0.5, 0.001),
            chain(0.05, 0.5, 0.8, 0.01),
            chain(0.2, 0.2, 0.3, 0.3),
        ];
        for (seed, chain) in chains.iter().enumerate() {
            let (loss, burst) = measure(chain, seed as u64, 2_000_000);
            let (loss_expected, burst_expected) = (chain.loss_rate(), chain.mean_burst_packets());
            assert!((loss / loss_expected - 1.0).abs() < 0.03, "{loss} for {loss_expected}");
            assert!((burst / burst_expected - 1.0).abs() < 0.02, "{burst} for {burst_expected}");
        }
    }

    #[test]
    fn the_closed_form_is_wrong_where_it_is_known() {
        // Losing all in the bad state and none in the good one: p / (p + r), bursts of 1 / r.
        let simple = chain(0.01, 0.25, 1.0, 0.0);
        assert!((simple.loss_rate() - 0.01 / 0.26).abs() < 1e-12);
        assert!((simple.mean_burst_packets() - 4.0).abs() < 1e-9);
        // The same loss in both states is independent loss: bursts of 1 / (1 - loss).
        let independent = chain(0.2, 0.7, 0.3, 0.3);
        assert!((independent.mean_burst_packets() - 1.0 / 0.7).abs() < 1e-9);
        // A chain that never leaves the good state loses nothing.
        assert!(chain(0.0, 0.0, 1.0, 0.0).loss_rate() <= 0.0);
        assert!(chain(0.0, 0.0, 1.0, 0.0).mean_burst_packets() <= 0.0);
    }

    #[test]
    fn independent_loss_misses_its_rate() {
        let mut process = LossProcess::new(Random::new(11));
        let one_percent = Probability::new(0.01).expect("possible");
        let losses = (0..1_000_000).filter(|_| process.is_lost(one_percent, None)).count();
        // Four standard deviations: 4 * sqrt(1e6 * 0.01 * 0.99) = 398.
        assert!((9_600..10_400).contains(&losses), "{losses}");
    }
}
