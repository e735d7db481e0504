//! A set of integers, kept as sorted ranges.

use wire::prefetch;

/// Sorted ranges `first..end` that neither overlap nor touch.
#[derive(Clone, Default, Debug)]
pub(crate) struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// Has the caches fetch the last range.
    pub(crate) fn prefetch(&self) {
        if let Some(last) = self.ranges.last() {
            prefetch(last);
        }
    }

    /// Adds `first..end`; returns how many of its integers are new.
    pub(crate) fn insert(&mut self, first: u64, end: u64) -> u64 {
        debug_assert!(first < end);
        // Nearly all insertions extend the last range.
        match self.ranges.last_mut() {
            None => {
                self.ranges.push((first, end));
                return end - first;
            }
            Some(last) if first > last.1 => {
                self.ranges.push((first, end));
                return end - first;
            }
            Some(last) if first == last.1 => {
                last.1 = end;
                return end - first;
            }
            Some(_) => {}
        }
        let from = self.ranges.partition_point(|range| range.1 < first);
        let to = self.ranges.partition_point(|range| range.0 <= end);
        let covered: u64 = self.ranges[from..to]
            .iter()
            .map(|range| range.1.min(end).saturating_sub(range.0.max(first)))
            .sum();
        if from == to {
            self.ranges.insert(from, (first, end));
        } else {
            let merged = (first.min(self.ranges[from].0), end.max(self.ranges[to - 1].1));
            self.ranges[from] = merged;
            self.ranges.drain(from + 1..to);
        }
        end - first - covered
    }

    /// Forgets everything under `floor`.
    pub(crate) fn remove_below(&mut self, floor: u64) {
        let gone = self.ranges.partition_point(|range| range.1 <= floor);
        self.ranges.drain(..gone);
        if let Some(first) = self.ranges.first_mut() {
            first.0 = first.0.max(floor);
        }
    }

    /// Forgets the lowest ranges until at most `count` remain.
    pub(crate) fn truncate_lowest(&mut self, count: usize) {
        let surplus = self.ranges.len().saturating_sub(count);
        self.ranges.drain(..surplus);
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The largest member.
    pub(crate) fn largest(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.1 - 1)
    }

    /// The ranges as `(first, last)`, both included, from the largest down.
    pub(crate) fn descending(&self) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
        self.ranges.iter().rev().map(|range| (range.0, range.1 - 1))
    }

    /// The parts of `first..end` that are not in the set, as `(first, end)`.
    pub(crate) fn gaps(&self, first: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut at = first;
        let mut ranges = self.ranges[self.ranges.partition_point(|range| range.1 <= first)..].iter();
        std::iter::from_fn(move || {
            while at < end {
                let Some(range) = ranges.next() else {
                    return Some((std::mem::replace(&mut at, end), end));
                };
                let gap = (at, range.0.min(end));
                at = range.1;
                if gap.0 < gap.1 {
                    return Some(gap);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_set_disagrees_with_a_plain_one(inserts in prop::collection::vec((0_u64..60, 1_u64..12), 0..40), floor in 0_u64..70) {
            let mut set = RangeSet::default();
            let mut model = BTreeSet::new();
            for &(first, length) in &inserts {
                let fresh = (first..first + length).filter(|n| model.insert(*n)).count() as u64;
                prop_assert_eq!(set.insert(first, first + length), fresh);
            }
            let members = |set: &RangeSet| set.descending().flat_map(|(a, b)| a..=b).collect::<BTreeSet<_>>();
            prop_assert_eq!(members(&set), model.clone());
            let gaps: BTreeSet<u64> = set.gaps(5, 50).flat_map(|(a, b)| a..b).collect();
            prop_assert_eq!(gaps, (5..50).filter(|n| !model.contains(n)).collect());
            let touching = set.descending().zip(set.descending().skip(1)).any(|(high, low)| low.1 + 1 >= high.0);
            prop_assert!(!touching);
            set.remove_below(floor);
            model.retain(|n| *n >= floor);
            prop_assert_eq!(set.largest(), model.last().copied());
            prop_assert_eq!(members(&set), model);
        }
    }
}
