//! How long after the first evidence of its loss a symbol was back.

use wire::Span;

/// Times below this share the first bucket.
const FIRST_BUCKET_US: u64 = 64;
/// Buckets between a power of two and the next.
const STEPS: usize = 8;
/// Powers of two above the first bucket: up to a second.
const OCTAVES: usize = 14;
const BUCKETS: usize = 1 + OCTAVES * STEPS;

/// A histogram: a bucket is an eighth of a power of two wide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveryTimes {
    counts: [u32; BUCKETS],
}

impl Default for RecoveryTimes {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl RecoveryTimes {
    pub(crate) fn add(&mut self, time: Span) {
        let count = &mut self.counts[bucket(time.as_us())];
        *count = count.saturating_add(1);
    }

    /// The buckets that hold anything: the least time that is longer than all in the bucket, in microseconds, and how
    /// many symbols are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        (0..BUCKETS).map(|bucket| (end_us(bucket), self.counts[bucket])).filter(|(_, count)| *count > 0)
    }

    /// How many symbols were recovered.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// A time that at least `share` (0 to 1) of all symbols took less than, in microseconds; none without symbols.
    #[must_use]
    pub fn percentile_us(&self, share: f64) -> Option<u64> {
        let rank = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        self.buckets().find_map(|(end, count)| {
            seen += u64::from(count);
            (seen >= rank).then_some(end)
        })
    }
}

fn bucket(us: u64) -> usize {
    if us < FIRST_BUCKET_US {
        return 0;
    }
    let octave = us.ilog2();
    let step = (us >> (octave - STEPS.ilog2())) as usize % STEPS;
    (1 + (octave - FIRST_BUCKET_US.ilog2()) as usize * STEPS + step).min(BUCKETS - 1)
}

fn end_us(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(1) else { return FIRST_BUCKET_US };
    let octave_us = FIRST_BUCKET_US << (above / STEPS);
    octave_us + octave_us / STEPS as u64 * (above % STEPS + 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_a_bucket_that_is_not_its_own() {
        for us in (0..2_000).chain([9_999, 10_000, 100_000, 1_000_000]) {
            let own = bucket(us);
            assert!(us < end_us(own), "{us}");
            assert!(own == 0 || us >= end_us(own - 1), "{us}");
        }
    }

    #[test]
    fn a_percentile_leaves_out_more_than_its_share() {
        let mut times = RecoveryTimes::default();
        assert_eq!(times.percentile_us(0.99), None);
        (0..99).for_each(|_| times.add(Span::from_us(1_000)));
        times.add(Span::from_ms(40));
        assert!((1_000..1_200).contains(&times.percentile_us(0.99).unwrap()));
        assert!(times.percentile_us(1.0).unwrap() > 40_000);
        assert_eq!(times.count(), 100);
    }
}
