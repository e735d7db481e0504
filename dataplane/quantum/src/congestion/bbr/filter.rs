//! The greatest of recent values.

/// How many values are kept.
const KEPT: usize = 3;

/// The greatest value of the last rounds: of those that may yet become it, the best three are kept, each later and
/// smaller than the one before (the windowed filter that section "Updating the BBR.max_bw Max Filter" names).
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct MaxFilter {
    /// Value and round.
    best: [(u32, u32); KEPT],
}

impl MaxFilter {
    /// Takes a value and returns the greatest of the last `length` rounds.
    pub(super) fn update(&mut self, value: u64, round: u32, length: u32) -> u64 {
        let new = (u32::try_from(value).unwrap_or(u32::MAX), round);
        if new.0 >= self.best[0].0 || round.wrapping_sub(self.best[KEPT - 1].1) >= length {
            self.best = [new; KEPT];
            return u64::from(new.0);
        }
        for at in 1..KEPT {
            if new.0 >= self.best[at].0 {
                self.best[at..].fill(new);
                break;
            }
        }
        while round.wrapping_sub(self.best[0].1) >= length {
            self.best.rotate_left(1);
            self.best[KEPT - 1] = new;
        }
        self.spread(new, length);
        u64::from(self.best[0].0)
    }

    /// Lets later values in when a part of the window has passed without any: they follow the greatest when it goes.
    fn spread(&mut self, new: (u32, u32), length: u32) {
        let age = new.1.wrapping_sub(self.best[0].1);
        if self.best[1].1 == self.best[0].1 && age > length / 4 {
            self.best[1] = new;
            self.best[2] = new;
        } else if self.best[2].1 == self.best[1].1 && age > length / 2 {
            self.best[2] = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maximum_outlives_its_window_or_dies_before() {
        let mut filter = MaxFilter::default();
        assert_eq!(filter.update(100, 1, 10), 100);
        for round in 2..=10 {
            assert_eq!(filter.update(50, round, 10), 100, "round {round}");
        }
        assert_eq!(filter.update(40, 11, 10), 50);
        assert_eq!(filter.update(200, 12, 10), 200);
        assert_eq!(filter.update(7, 40, 10), 7);
    }

    #[test]
    fn the_filter_forgets_values_of_the_window() {
        let mut state = 12_345_u64;
        let mut values = Vec::new();
        let mut filter = MaxFilter::default();
        let length = 10;
        for round in 1..2_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            values.push(state >> 50);
            let got = filter.update(state >> 50, round, length);
            let recent =
                |span: u32| *values[values.len().saturating_sub(span as usize)..].iter().max().unwrap();
            assert!(got <= recent(length), "round {round}: {got} is of an older round");
            assert!(got >= recent(length / 4), "round {round}: {got} is not the greatest");
        }
    }
}
