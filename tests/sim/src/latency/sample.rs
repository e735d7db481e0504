//! Times in microseconds, each kept: percentiles are exact.

use serde::Serialize;
use wire::Span;

/// Percentiles of a sample, ms.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Percentiles {
    /// How many there were.
    pub count: u64,
    /// Half of them were no longer.
    pub p50_ms: f64,
    /// 95 of 100 were no longer.
    pub p95_ms: f64,
    /// 99 of 100 were no longer.
    pub p99_ms: f64,
    /// 999 of 1,000 were no longer.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Times, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    us: Vec<u32>,
}

impl Sample {
    pub(super) fn push(&mut self, span: Span) {
        self.us.push(u32::try_from(span.as_us()).unwrap_or(u32::MAX));
    }

    pub(super) fn as_us(&self) -> &[u32] {
        &self.us
    }

    /// The `share`-th of them in the order of their lengths, by the nearest rank.
    fn at(&self, share: f64) -> f64 {
        let rank = (share * self.us.len() as f64).ceil() as usize;
        self.us.get(rank.saturating_sub(1)).map_or(0.0, |&us| f64::from(us) / 1_000.0)
    }

    pub(super) fn percentiles(mut self) -> Percentiles {
        self.us.sort_unstable();
        Percentiles {
            count: self.us.len() as u64,
            p50_ms: self.at(0.5),
            p95_ms: self.at(0.95),
            p99_ms: self.at(0.99),
            p999_ms: self.at(0.999),
            max_ms: self.at(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_off_by_a_rank() {
        let mut sample = Sample::default();
        for us in (1..=1_000).rev() {
            sample.push(Span::from_us(us * 1_000));
        }
        let found = sample.percentiles();
        assert_eq!((found.p50_ms, found.p99_ms, found.p999_ms, found.max_ms), (500.0, 990.0, 999.0, 1_000.0));
        assert_eq!(Sample::default().percentiles(), Percentiles::default());
    }
}
