//! Pauses between attempts: exponential, with jitter, bounded.

use std::time::Duration;

use wire::Span;

/// Doubles the pause with every failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    min: Span,
    max: Span,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min: span(min), max: span(max), failures: 0 }
    }

    /// The pause after one more failure: from half to the whole of the present step, chosen by `entropy`, so
    /// that the clients of a node that fell do not all come back in one moment.
    pub(crate) fn fail(&mut self, entropy: u32) -> Span {
        let doubled = self.min.times(1_u64 << self.failures.min(32));
        self.failures = self.failures.saturating_add(1);
        let step = doubled.min(self.max).as_us();
        let half = step / 2;
        Span::from_us(half + (((step - half) * u64::from(entropy)) >> 32))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A duration in the machines' unit.
pub(crate) fn span(duration: Duration) -> Span {
    Span::from_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_without_bound_or_all_clients_return_at_once() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        assert_eq!(backoff.fail(0), Span::from_ms(5));
        assert_eq!(backoff.fail(u32::MAX).as_us() / 1_000, 19);
        for _ in 0..100 {
            let pause = backoff.fail(u32::MAX / 2);
            assert!(pause <= Span::from_ms(1_000), "{pause:?}");
        }
        assert!(backoff.fail(0) >= Span::from_ms(500));
        backoff.reset();
        assert_eq!(backoff.fail(0), Span::from_ms(5));
    }
}
