//! Which document is edited next: few are edited often.

use editing::Random;

/// Numbers below `n` of which the `i`-th comes with a weight of `1 / (i + 1)^exponent`.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// The sum of the weights up to each number, over their total.
    cumulative: Vec<f64>,
    random: Random,
}

impl Zipf {
    /// With an exponent of 0 all are as frequent; the same seed gives the same numbers.
    pub fn new(n: usize, exponent: f64, seed: u64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (0..n.max(1))
            .map(|at| {
                sum += ((at + 1) as f64).powf(-exponent);
                sum
            })
            .collect();
        for part in &mut cumulative {
            *part /= sum;
        }
        Self { cumulative, random: Random::new(seed) }
    }

    /// The next number.
    pub fn draw(&mut self) -> usize {
        // 53 bits are what a double holds.
        let point = (self.random.number() >> 11) as f64 / (1_u64 << 53) as f64;
        let at = self.cumulative.partition_point(|&part| part <= point);
        at.min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(exponent: f64) -> Vec<u32> {
        let mut zipf = Zipf::new(100, exponent, 7);
        let mut counts = vec![0; 100];
        for _ in 0..100_000 {
            counts[zipf.draw()] += 1;
        }
        counts
    }

    #[test]
    fn the_most_frequent_is_as_frequent_as_the_others() {
        let counts = counts(1.0);
        // The 100th harmonic number is 5.19.
        assert!((18_500..20_000).contains(&counts[0]), "{}", counts[0]);
        assert!((9_000..10_500).contains(&counts[1]), "{}", counts[1]);
        assert!(counts.iter().all(|&count| count > 0));
    }

    #[test]
    fn without_an_exponent_some_are_left_out() {
        assert!(counts(0.0).iter().all(|count| (800..1_200).contains(count)));
    }
}
