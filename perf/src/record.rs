//! Latencies: recorded in nanoseconds, by intervals, merged over repeats.

use std::time::Duration;

use hdrhistogram::{Counter, Histogram};

use crate::report::hdr;
use crate::result::{Interval, Latency, Spread};

/// The length of an interval, unless a run is so long that it says otherwise.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Most intervals of a repeat; past it neighbours are joined, and intervals are twice as long.
pub const INTERVALS_MAX: usize = 512;
/// The percentiles of [`Latency::percentiles_us`], by name.
pub const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

const _: () = assert!(INTERVALS_MAX.is_multiple_of(2));

/// A histogram of nanoseconds.
pub type Nanoseconds = Histogram<u64>;

/// The latencies of one repeat.
#[derive(Clone, Debug)]
pub struct Recorder {
    interval_ns: u64,
    /// By interval.
    intervals: Vec<Histogram<u32>>,
}

impl Recorder {
    /// Empty; has its memory ready for `expected`, so that the generator is not held up by asking for it.
    pub fn new(interval: Duration, expected: Duration) -> Self {
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let count = expected.as_nanos() / u128::from(interval_ns) + 1;
        let count = usize::try_from(count).unwrap_or(INTERVALS_MAX).min(INTERVALS_MAX);
        Self { interval_ns, intervals: std::iter::repeat_with(empty).take(count).collect() }
    }

    /// Adds one.
    ///
    /// `at_ns`: when it was due, since the measured time began.
    pub fn record(&mut self, at_ns: u64, latency_ns: u64) {
        let index = self.index(at_ns);
        self.intervals[index].saturating_record(latency_ns);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.intervals.iter().map(Histogram::len).sum()
    }

    /// All of them in one.
    pub fn total(&self) -> Nanoseconds {
        let mut total = hdr::empty();
        for interval in &self.intervals {
            add(&mut total, interval);
        }
        total
    }

    /// Adds what another generator recorded in the same time.
    pub fn absorb(&mut self, other: &Self) {
        for (index, interval) in other.intervals.iter().enumerate() {
            let at_ns = index as u64 * other.interval_ns;
            let index = self.index(at_ns);
            if self.intervals[index].add(interval).is_err() {
                unreachable!("all histograms have the same bounds");
            }
        }
    }

    fn index(&mut self, at_ns: u64) -> usize {
        loop {
            let index = usize::try_from(at_ns / self.interval_ns).unwrap_or(usize::MAX);
            if index < self.intervals.len() {
                return index;
            }
            if index < INTERVALS_MAX {
                self.intervals.resize_with(index + 1, empty);
            } else {
                self.join_neighbours();
            }
        }
    }

    fn join_neighbours(&mut self) {
        let mut joined = Vec::with_capacity(self.intervals.len() / 2 + 1);
        for pair in self.intervals.chunks(2) {
            let mut both = pair[0].clone();
            if let Some(second) = pair.get(1)
                && both.add(second).is_err()
            {
                unreachable!("all histograms have the same bounds");
            }
            joined.push(both);
        }
        self.intervals = joined;
        self.interval_ns = self.interval_ns.saturating_mul(2);
    }
}

/// What the repeats of a run say together; nothing where nothing was timed.
pub fn latency(repeats: &[Recorder]) -> Option<Latency> {
    let totals: Vec<Nanoseconds> =
        repeats.iter().map(Recorder::total).filter(|total| !total.is_empty()).collect();
    if totals.is_empty() {
        return None;
    }
    let percentiles_us = PERCENTILES
        .iter()
        .filter_map(|(name, quantile)| {
            let values = totals.iter().map(|total| us(total.value_at_quantile(*quantile))).collect();
            Some(((*name).to_owned(), spread(values)?))
        })
        .collect();
    let mut all = hdr::empty();
    for total in &totals {
        add(&mut all, total);
    }
    let mut intervals = Vec::new();
    let mut begin_ns = 0;
    for repeat in repeats {
        for interval in &repeat.intervals {
            if !interval.is_empty() {
                intervals.push(summary(interval, begin_ns, repeat.interval_ns));
            }
            begin_ns += repeat.interval_ns;
        }
    }
    Some(Latency { percentiles_us, histogram: hdr::encode(&all), intervals, count: all.len() })
}

/// Median and range; nothing of nothing.
pub fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (&min, &max) = (values.first()?, values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Some(Spread { median, min, max })
}

fn summary(interval: &Histogram<u32>, begin_ns: u64, length_ns: u64) -> Interval {
    let mut total = hdr::empty();
    add(&mut total, interval);
    Interval {
        at_ms: begin_ns / 1_000_000,
        length_ms: length_ns / 1_000_000,
        histogram: hdr::encode(&total),
        p50_us: us(interval.value_at_quantile(0.5)),
        p99_us: us(interval.value_at_quantile(0.99)),
        p999_us: us(interval.value_at_quantile(0.999)),
        max_us: us(interval.max()),
        count: interval.len(),
    }
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

fn empty() -> Histogram<u32> {
    match Histogram::new_with_bounds(1, hdr::TIME_NS_MAX, hdr::SIGNIFICANT_DIGITS) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants: {error}"),
    }
}

fn add<C: Counter>(total: &mut Nanoseconds, part: &Histogram<C>) {
    for value in part.iter_recorded() {
        total.saturating_record_n(value.value_iterated_to(), value.count_at_value().as_u64());
    }
}

#[cfg(test)]
mod tests;
