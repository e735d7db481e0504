//! A histogram of times: fixed in size, so that recording never allocates.

/// Bits of a value that its bucket keeps below the leading one: buckets are 1/16 wide.
const SUB_BITS: u32 = 4;
const SUB_BUCKETS: usize = 1 << SUB_BITS;
/// Values from 2^this on share the last bucket: 17 s.
const VALUE_BITS_MAX: u32 = 34;
const BUCKETS: usize = (VALUE_BITS_MAX - SUB_BITS + 1) as usize * SUB_BUCKETS;

/// Counts of nanoseconds in log-linear buckets: exact below 16 ns, within 1/16 above, and everything over 17 s in
/// one. Two of the same subject can be added, or subtracted to see what happened in between.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
    sum_ns: u64,
    max_ns: u64,
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, sum_ns: 0, max_ns: 0 }
    }

    /// Counts `ns` once.
    #[inline]
    pub const fn record(&mut self, ns: u64) {
        self.buckets[bucket_of(ns)] += 1;
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        if ns > self.max_ns {
            self.max_ns = ns;
        }
    }

    /// How many were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, nanoseconds.
    #[must_use]
    pub const fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The longest, exactly, nanoseconds; of a difference the longest since the beginning.
    #[must_use]
    pub const fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// Their mean, nanoseconds; 0 of none.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ns as f64 / self.count as f64 }
    }

    /// The time that `percent` of them do not exceed: the middle of its bucket, never above the longest,
    /// nanoseconds; 0 of none.
    #[must_use]
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        let rank = ((self.count as f64 * percent / 100.0).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let (from, below) = (lower_bound(bucket), lower_bound(bucket + 1));
                return (from + (below - from - 1) / 2).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// How many are under `ns`, which must be a power of two to be exact.
    #[must_use]
    pub fn count_below(&self, ns: u64) -> u64 {
        self.buckets[..bucket_of(ns)].iter().sum()
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += count;
        }
        self.count += other.count;
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// What was counted since `earlier`, a former state of this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (bucket, count) in difference.buckets.iter_mut().zip(&earlier.buckets) {
            *bucket = bucket.saturating_sub(*count);
        }
        difference.count = self.count.saturating_sub(earlier.count);
        difference.sum_ns = self.sum_ns.saturating_sub(earlier.sum_ns);
        difference
    }

    /// Every bucket that holds something: its lower bound in nanoseconds, inclusive, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let held = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        held.map(|(bucket, &count)| (lower_bound(bucket), count))
    }

    /// From what [`Self::buckets`], [`Self::sum_ns`] and [`Self::max_ns`] said.
    #[must_use]
    pub fn from_buckets(buckets: impl IntoIterator<Item = (u64, u64)>, sum_ns: u64, max_ns: u64) -> Self {
        let mut made = Self { sum_ns, max_ns, ..Self::new() };
        for (from, count) in buckets {
            made.buckets[bucket_of(from)] += count;
            made.count += count;
        }
        made
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("p50_ns", &self.percentile_ns(50.0))
            .field("p99_ns", &self.percentile_ns(99.0))
            .field("max_ns", &self.max_ns)
            .finish_non_exhaustive()
    }
}

#[inline]
const fn bucket_of(ns: u64) -> usize {
    if ns < SUB_BUCKETS as u64 {
        return ns as usize;
    }
    let octave = u64::BITS - 1 - ns.leading_zeros();
    if octave >= VALUE_BITS_MAX {
        return BUCKETS - 1;
    }
    let sub = (ns >> (octave - SUB_BITS)) as usize & (SUB_BUCKETS - 1);
    (octave - SUB_BITS + 1) as usize * SUB_BUCKETS + sub
}

const fn lower_bound(bucket: usize) -> u64 {
    if bucket < SUB_BUCKETS {
        return bucket as u64;
    }
    let octave = (bucket / SUB_BUCKETS) as u32 + SUB_BITS - 1;
    ((SUB_BUCKETS + bucket % SUB_BUCKETS) as u64) << (octave - SUB_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_found_in_a_bucket_that_does_not_hold_it() {
        for ns in
            (0..100_000).chain((17..34).map(|bits| (1 << bits) - 1)).chain((17..34).map(|bits| 1 << bits))
        {
            let bucket = bucket_of(ns);
            assert!(lower_bound(bucket) <= ns && ns < lower_bound(bucket + 1), "{ns} in {bucket}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_percentile_is_off_by_more_than_a_bucket() {
        let mut histogram = Histogram::new();
        (1..=10_000).for_each(|us| histogram.record(us * 1_000));
        for (percent, exact) in [(50.0, 5_000_000), (99.0, 9_900_000), (100.0, 10_000_000)] {
            let found = histogram.percentile_ns(percent);
            assert!(found.abs_diff(exact) <= exact / 16, "p{percent}: {found}");
        }
        assert_eq!((histogram.count(), histogram.max_ns()), (10_000, 10_000_000));
        assert!((histogram.mean_ns() - 5_000_500.0).abs() < 1.0);
        assert_eq!(Histogram::new().percentile_ns(99.0), 0);
    }

    #[test]
    fn what_happened_before_is_counted_again() {
        let mut histogram = Histogram::new();
        histogram.record(100);
        let earlier = histogram.clone();
        histogram.record(5_000);
        let since = histogram.since(&earlier);
        assert_eq!((since.count(), since.sum_ns()), (1, 5_000));
        let mut sum = earlier;
        sum.add(&since);
        assert_eq!(sum, histogram);
    }

    #[test]
    fn a_histogram_told_by_its_buckets_is_another() {
        let mut histogram = Histogram::new();
        [3, 100, 100, 7_000_000, u64::MAX].into_iter().for_each(|ns| histogram.record(ns));
        let (sum, max) = (histogram.sum_ns(), histogram.max_ns());
        assert_eq!(Histogram::from_buckets(histogram.buckets(), sum, max), histogram);
        assert_eq!(histogram.count_below(1 << 10), 3);
    }
}
