//! A seeded source of random numbers: xoshiro256++ (Blackman and Vigna, 2019), its state filled by SplitMix64.

/// A stream of random numbers. Equal seeds give equal streams, on every machine and in every version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: [u64; 4],
}

/// The odd constant by which SplitMix64 steps: 2^64 divided by the golden ratio.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        let state = std::array::from_fn(|_| {
            counter = counter.wrapping_add(GOLDEN_GAMMA);
            mix(counter)
        });
        Self { state }
    }

    /// One of many independent streams of one seed.
    #[must_use]
    pub fn stream(seed: u64, number: u64) -> Self {
        Self::new(mix(seed).wrapping_add(mix(number.wrapping_add(GOLDEN_GAMMA))))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let drawn = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        drawn
    }

    /// Uniform in 0 (with) to 1 (without).
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in 0 (with) to `limit` (without); 0 when the limit is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The bias of the plain product is under limit / 2^64: nothing that a test or a link could see.
        let product = u128::from(self.next_u64()) * u128::from(limit);
        u64::try_from(product >> 64).expect("the high half of a product has 64 bits")
    }

    /// True with this probability. Draws nothing when the answer is certain.
    pub fn chance(&mut self, probability: crate::Probability) -> bool {
        let probability = probability.get();
        probability > 0.0 && (probability >= 1.0 || self.unit() < probability)
    }
}

/// The finalizer of SplitMix64: every bit of the input moves half of the bits of the output.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of SplitMix64 for the seed 1234567, as its authors' reference program prints them.
    #[test]
    fn the_seeding_differs_from_the_reference() {
        let first = |n: u64| mix(1_234_567_u64.wrapping_add(GOLDEN_GAMMA.wrapping_mul(n)));
        assert_eq!(first(1), 6_457_827_717_110_365_317);
        assert_eq!(first(2), 3_203_168_211_198_807_973);
    }

    /// The first outputs of xoshiro256++ from the state 1, 2, 3, 4, as its authors' reference program prints them.
    #[test]
    fn the_generator_differs_from_the_reference() {
        let mut random = Random { state: [1, 2, 3, 4] };
        assert_eq!(random.next_u64(), 41_943_041);
        assert_eq!(random.next_u64(), 58_720_359);
        assert_eq!(random.next_u64(), 3_588_806_011_781_223);
    }

    #[test]
    fn streams_of_one_seed_are_alike() {
        let mut a = Random::stream(7, 0);
        let mut b = Random::stream(7, 1);
        assert!((0..64).all(|_| a.next_u64() != b.next_u64()));
    }

    #[test]
    fn a_bounded_draw_leaves_its_range_or_never_reaches_its_ends() {
        let mut random = Random::new(3);
        let mut seen = [0_u32; 5];
        for _ in 0..5_000 {
            seen[usize::try_from(random.below(5)).expect("small")] += 1;
        }
        assert!(seen.iter().all(|&count| (850..1_150).contains(&count)), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
    }
}
