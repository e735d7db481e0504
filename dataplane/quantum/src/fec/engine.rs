//! Reed-Solomon's arithmetic, with a decoder that is not slow for small blocks.

use reed_solomon_simd::engine::{
    DefaultEngine, Engine as Arithmetic, GF_MODULUS, GF_ORDER, GfElement, ShardsRefMut, tables,
};

/// The largest block, repairs included, for which the erasure locator is evaluated point by point.
const DIRECT_POSITIONS_MAX: usize = 256;

/// The best engine of the CPU, but for the erasure locator: [`DefaultEngine`] evaluates it at all 65,536
/// elements by Walsh-Hadamard transforms, this one only at the positions of the block.
///
/// The decoder of high rate, which serves blocks with at least as many originals as repairs, reads the locator
/// at those positions and nowhere else. The decoder of low rate asks for all; it is served as it always was.
pub struct Engine(DefaultEngine);

impl Engine {
    /// The engine. The first one in a process computes tables of 8 MiB, in a few milliseconds.
    #[must_use]
    pub fn new() -> Self {
        Self(DefaultEngine::new())
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Arithmetic for Engine {
    fn fft(&self, data: &mut ShardsRefMut, at: usize, size: usize, truncated: usize, skew: usize) {
        self.0.fft(data, at, size, truncated, skew);
    }

    fn ifft(&self, data: &mut ShardsRefMut, at: usize, size: usize, truncated: usize, skew: usize) {
        self.0.ifft(data, at, size, truncated, skew);
    }

    fn mul(&self, x: &mut [[u8; 64]], log_m: GfElement) {
        self.0.mul(x, log_m);
    }

    fn eval_poly(erasures: &mut [GfElement; GF_ORDER], positions: usize) {
        if positions <= DIRECT_POSITIONS_MAX {
            evaluate_locator(erasures, positions);
        } else {
            DefaultEngine::eval_poly(erasures, positions);
        }
    }
}

/// Replaces the marks (1: erased) at the first `positions` by the logarithm of the erasure locator there: the
/// product over all erased positions of their distance, which in this field is XOR. A position's distance to
/// itself is left out.
fn evaluate_locator(erasures: &mut [GfElement; GF_ORDER], positions: usize) {
    let log = &tables::get_exp_log().log;
    let mut erased = [0_usize; DIRECT_POSITIONS_MAX];
    let mut count = 0;
    for (position, mark) in erasures[..positions].iter().enumerate() {
        if *mark != 0 {
            erased[count] = position;
            count += 1;
        }
    }
    for (position, value) in erasures[..positions].iter_mut().enumerate() {
        let others = erased[..count].iter().filter(|other| **other != position);
        let sum: u32 = others.map(|other| u32::from(log[position ^ other])).sum();
        *value = (sum % u32::from(GF_MODULUS)) as GfElement;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};
    use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

    use super::*;

    /// Like [`Engine`], and spoils what the decoder must not read.
    struct Spoiling(Engine);

    impl Arithmetic for Spoiling {
        fn fft(&self, data: &mut ShardsRefMut, at: usize, size: usize, truncated: usize, skew: usize) {
            self.0.fft(data, at, size, truncated, skew);
        }

        fn ifft(&self, data: &mut ShardsRefMut, at: usize, size: usize, truncated: usize, skew: usize) {
            self.0.ifft(data, at, size, truncated, skew);
        }

        fn mul(&self, x: &mut [[u8; 64]], log_m: GfElement) {
            self.0.mul(x, log_m);
        }

        fn eval_poly(erasures: &mut [GfElement; GF_ORDER], positions: usize) {
            Engine::eval_poly(erasures, positions);
            erasures[positions..].fill(0x5a5a);
        }
    }

    /// A block: what was sent, its repairs, and what of both arrives.
    #[derive(Debug)]
    struct Block {
        originals: Vec<Vec<u8>>,
        repairs: Vec<Vec<u8>>,
        kept_originals: Vec<usize>,
        kept_repairs: Vec<usize>,
    }

    fn blocks() -> impl Strategy<Value = Block> {
        (1_usize..=48, 1_usize..=32, 1_usize..=100, any::<u64>()).prop_map(|(count, repairs, words, seed)| {
            let repair_count = repairs.min(count);
            let mut state = seed | 1;
            let mut random = move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let originals: Vec<Vec<u8>> =
                (0..count).map(|_| (0..words * 2).map(|_| random() as u8).collect()).collect();
            let stock = DefaultEngine::new();
            let mut encoder = HighRateEncoder::new(count, repair_count, words * 2, stock, None).unwrap();
            originals.iter().for_each(|original| encoder.add_original_shard(original).unwrap());
            let repairs: Vec<Vec<u8>> =
                encoder.encode().unwrap().recovery_iter().map(<[u8]>::to_vec).collect();
            let mut order: Vec<usize> = (0..count + repair_count).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, (random() % (at as u64 + 1)) as usize);
            }
            order.truncate(count + (random() % (repair_count as u64 + 1)) as usize);
            let (kept_originals, rest): (Vec<_>, Vec<_>) = order.into_iter().partition(|at| *at < count);
            let kept_repairs = rest.into_iter().map(|at| at - count).collect();
            Block { originals, repairs, kept_originals, kept_repairs }
        })
    }

    fn decode<E: Arithmetic>(block: &Block, engine: E) -> Vec<(usize, Vec<u8>)> {
        let bytes = block.originals[0].len();
        let (count, repairs) = (block.originals.len(), block.repairs.len());
        let mut decoder = HighRateDecoder::new(count, repairs, bytes, engine, None).unwrap();
        for at in &block.kept_originals {
            decoder.add_original_shard(*at, &block.originals[*at]).unwrap();
        }
        for at in &block.kept_repairs {
            decoder.add_recovery_shard(*at, &block.repairs[*at]).unwrap();
        }
        let result = decoder.decode().unwrap();
        result.restored_original_iter().map(|(at, bytes)| (at, bytes.to_vec())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_locator_differs_from_the_stock_engine(
            marks in prop::collection::vec(any::<bool>(), 1..=DIRECT_POSITIONS_MAX),
        ) {
            let mut direct = Box::new([0; GF_ORDER]);
            for (mark, erased) in direct.iter_mut().zip(&marks) {
                *mark = GfElement::from(*erased);
            }
            let mut stock = direct.clone();
            Engine::eval_poly(&mut direct, marks.len());
            DefaultEngine::eval_poly(&mut stock, marks.len());
            // Both 0 and the modulus are the logarithm of 1.
            let reduced = |value: &GfElement| value % GF_MODULUS;
            prop_assert!(direct[..marks.len()].iter().map(reduced).eq(stock[..marks.len()].iter().map(reduced)));
        }

        #[test]
        fn a_block_decodes_otherwise_than_with_the_stock_engine(block in blocks()) {
            let ours = decode(&block, Engine::new());
            prop_assert_eq!(&ours, &decode(&block, DefaultEngine::new()));
            prop_assert_eq!(&ours, &decode(&block, Spoiling(Engine::new())));
        }

        #[test]
        fn a_block_decodes_otherwise_than_by_the_stock_decoder(block in blocks()) {
            let (count, repairs, bytes) = (block.originals.len(), block.repairs.len(), block.originals[0].len());
            // For others the stock decoder takes low rate, which may be another code.
            prop_assume!(count.next_power_of_two() > repairs.next_power_of_two() || count == repairs);
            let mut encoder = ReedSolomonEncoder::new(count, repairs, bytes).unwrap();
            block.originals.iter().for_each(|original| encoder.add_original_shard(original).unwrap());
            let made: Vec<Vec<u8>> = encoder.encode().unwrap().recovery_iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(&made, &block.repairs);
            let mut stock = ReedSolomonDecoder::new(count, repairs, bytes).unwrap();
            for at in &block.kept_originals {
                stock.add_original_shard(*at, &block.originals[*at]).unwrap();
            }
            for at in &block.kept_repairs {
                stock.add_recovery_shard(*at, &block.repairs[*at]).unwrap();
            }
            let restored = stock.decode().unwrap();
            let restored: Vec<_> = restored.restored_original_iter().map(|(at, bytes)| (at, bytes.to_vec())).collect();
            prop_assert_eq!(restored.clone(), decode(&block, Engine::new()));
            prop_assert!(restored.iter().all(|(at, bytes)| *bytes == block.originals[*at]));
        }
    }
}
