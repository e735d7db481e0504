//! A token bucket that drops.

use wire::Time;

use crate::Policer;

/// Tokens are millionths of a bit: what a bit a second brings in a microsecond.
const TOKENS_PER_BYTE: u128 = 8 * 1_000_000;

/// The bucket of a [`Policer`].
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    policer: Policer,
    tokens: u128,
    filled: Time,
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn new(policer: Policer, now: Time) -> Self {
        Self { policer, tokens: u128::from(policer.burst_bytes) * TOKENS_PER_BYTE, filled: now }
    }

    /// Whether a packet passes; if so, its tokens are gone.
    pub(crate) fn admits(&mut self, now: Time, bytes: u64) -> bool {
        let brought = u128::from(now.since(self.filled).as_us()) * u128::from(self.policer.bits_per_s);
        let most = u128::from(self.policer.burst_bytes) * TOKENS_PER_BYTE;
        self.tokens = (self.tokens + brought).min(most);
        self.filled = self.filled.max(now);
        let cost = u128::from(bytes) * TOKENS_PER_BYTE;
        let admitted = cost <= self.tokens;
        if admitted {
            self.tokens -= cost;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policer_passes_more_or_less_than_its_rate_and_burst() {
        let mut bucket = TokenBucket::new(Policer { bits_per_s: 8_000_000, burst_bytes: 10_000 }, Time::ZERO);
        // The burst at once, and no more.
        let passed = (0..20).filter(|_| bucket.admits(Time::ZERO, 1_000)).count();
        assert_eq!(passed, 10);
        // Then a byte a microsecond: offered twice that, half passes.
        let passed = (1..=2_000).filter(|n| bucket.admits(Time::from_us(n * 500), 1_000)).count();
        assert_eq!(passed, 1_000);
        // A long silence fills it to its brim only.
        let passed = (0..20).filter(|_| bucket.admits(Time::from_us(1_000_000_000), 1_000)).count();
        assert_eq!(passed, 10);
    }
}
