//! The code: which multiple of each symbol goes into each repair (`PROTOCOL.md`, section "Repair code").
//!
//! A symbol or a repair is held in blocks of 64 bytes of 32 elements: the low bytes of all, then the high
//! bytes of all, as the engine's kernels want it. On the wire an element's two bytes stand side by side, so
//! that zeros at the end of a symbol change nothing and symbols of any lengths mix.

use std::sync::LazyLock;

use reed_solomon_simd::engine::{Engine as _, GF_MODULUS, GfElement, tables, utils};

use super::engine::Engine;
use super::{LENGTH_BYTES, REPAIR_INDICES, WINDOW_SYMBOLS_MAX};

/// 32 elements.
pub(super) type Block = [u8; BLOCK_BYTES];

pub(super) const BLOCK_BYTES: usize = 64;

/// The arithmetic and the coefficients, the same for all connections of a process.
pub(super) struct Codec {
    engine: Engine,
    tables: &'static tables::ExpLog,
    coefficients: [[GfElement; WINDOW_SYMBOLS_MAX]; REPAIR_INDICES],
}

static CODEC: LazyLock<Codec> = LazyLock::new(Codec::new);

/// The codec. The first call computes its tables.
pub(super) fn codec() -> &'static Codec {
    &CODEC
}

impl Codec {
    fn new() -> Self {
        let engine = Engine::new();
        let tables = tables::get_exp_log();
        let mut coefficients = [[0; WINDOW_SYMBOLS_MAX]; REPAIR_INDICES];
        for (index, row) in coefficients.iter_mut().enumerate() {
            for (position, coefficient) in row.iter_mut().enumerate() {
                *coefficient = lagrange(tables, index, REPAIR_INDICES + position);
            }
        }
        Self { engine, tables, coefficients }
    }

    /// The multiple of symbol `number` that goes into a repair; never 0.
    pub(super) fn coefficient(&self, index: u8, number: u64) -> GfElement {
        self.coefficients[usize::from(index)][number as usize % WINDOW_SYMBOLS_MAX]
    }

    /// `a * b`.
    pub(super) fn product(&self, a: GfElement, b: GfElement) -> GfElement {
        if b == 0 {
            return 0;
        }
        tables::mul(a, self.tables.log[usize::from(b)], &self.tables.exp, &self.tables.log)
    }

    /// `1 / a`, of an `a` that is not 0.
    pub(super) fn inverse(&self, a: GfElement) -> GfElement {
        debug_assert_ne!(a, 0);
        self.tables.exp[usize::from(GF_MODULUS - self.tables.log[usize::from(a)])]
    }

    /// `blocks *= factor`.
    pub(super) fn multiply(&self, blocks: &mut [Block], factor: GfElement) {
        debug_assert_ne!(factor, 0);
        self.engine.mul(blocks, self.tables.log[usize::from(factor)]);
    }

    /// `sum += blocks * factor`, where `sum` is no shorter than `blocks`.
    pub(super) fn add_product(
        &self,
        sum: &mut [Block],
        blocks: &[Block],
        factor: GfElement,
        scratch: &mut Vec<Block>,
    ) {
        scratch.clear();
        scratch.extend_from_slice(blocks);
        self.multiply(scratch, factor);
        utils::xor(&mut sum[..blocks.len()], scratch);
    }
}

/// The value at `point` of the polynomial of least degree that is 1 at `index` and 0 at the other repairs'
/// points.
fn lagrange(tables: &tables::ExpLog, index: usize, point: usize) -> GfElement {
    let log_distance = |a: usize, b: usize| u32::from(tables.log[a ^ b]);
    let mut log = 0;
    for other in (0..REPAIR_INDICES).filter(|other| *other != index) {
        log += log_distance(point, other) + u32::from(GF_MODULUS) - log_distance(index, other);
    }
    tables.exp[(log % u32::from(GF_MODULUS)) as usize]
}

/// Puts a symbol, with its length in front, into blocks.
pub(super) fn load_symbol(symbol: &[u8], blocks: &mut Vec<Block>) {
    let length = u16::try_from(symbol.len()).expect("the length was checked").to_be_bytes();
    blocks.clear();
    blocks.resize((LENGTH_BYTES + symbol.len()).div_ceil(BLOCK_BYTES), [0; BLOCK_BYTES]);
    let bytes = blocks.as_flattened_mut();
    bytes[..LENGTH_BYTES].copy_from_slice(&length);
    bytes[LENGTH_BYTES..LENGTH_BYTES + symbol.len()].copy_from_slice(symbol);
    blocks.iter_mut().for_each(|block| *block = split(block));
}

/// Puts a repair into blocks.
pub(super) fn load_repair(repair: &[u8], blocks: &mut Vec<Block>) {
    blocks.clear();
    blocks.resize(repair.len().div_ceil(BLOCK_BYTES), [0; BLOCK_BYTES]);
    blocks.as_flattened_mut()[..repair.len()].copy_from_slice(repair);
    blocks.iter_mut().for_each(|block| *block = split(block));
}

/// Writes the first bytes of `blocks` as they stand on the wire.
pub(super) fn store(blocks: &[Block], out: &mut [u8]) {
    for (piece, block) in out.chunks_mut(BLOCK_BYTES).zip(blocks) {
        piece.copy_from_slice(&join(block)[..piece.len()]);
    }
}

fn split(block: &Block) -> Block {
    // Three plain loops: the compiler makes vector instructions of each, and not of all in one.
    let mut elements = [0_u16; BLOCK_BYTES / 2];
    for (element, bytes) in elements.iter_mut().zip(block.as_chunks().0) {
        *element = u16::from_le_bytes(*bytes);
    }
    let mut halves = [0; BLOCK_BYTES];
    let (low, high) = halves.split_at_mut(BLOCK_BYTES / 2);
    for (byte, element) in low.iter_mut().zip(&elements) {
        *byte = *element as u8;
    }
    for (byte, element) in high.iter_mut().zip(&elements) {
        *byte = (*element >> 8) as u8;
    }
    halves
}

fn join(halves: &Block) -> Block {
    let (low, high) = halves.split_at(BLOCK_BYTES / 2);
    let mut block = [0; BLOCK_BYTES];
    for ((bytes, low), high) in block.as_chunks_mut().0.iter_mut().zip(low).zip(high) {
        *bytes = [*low, *high];
    }
    block
}

#[cfg(test)]
mod tests {
    use reed_solomon_simd::rate::{HighRateEncoder, RateEncoder as _};

    use super::*;

    #[test]
    fn the_coefficients_are_not_those_of_the_stock_encoder() {
        // Symbol n is 1 in element n and 0 elsewhere, so a repair's element n is the coefficient of symbol n.
        let mut encoder =
            HighRateEncoder::new(WINDOW_SYMBOLS_MAX, REPAIR_INDICES, BLOCK_BYTES, Engine::new(), None)
                .unwrap();
        for position in 0..WINDOW_SYMBOLS_MAX {
            let mut shard = [0; BLOCK_BYTES];
            shard[position] = 1;
            encoder.add_original_shard(shard).unwrap();
        }
        let result = encoder.encode().unwrap();
        for (index, repair) in result.recovery_iter().enumerate() {
            for position in 0..WINDOW_SYMBOLS_MAX {
                let stock = u16::from_le_bytes([repair[position], repair[BLOCK_BYTES / 2 + position]]);
                assert_ne!(stock, 0);
                assert_eq!(codec().coefficient(index as u8, position as u64), stock);
            }
        }
    }

    #[test]
    fn a_value_times_its_inverse_is_not_one() {
        for value in 1..=GF_MODULUS {
            assert_eq!(codec().product(value, codec().inverse(value)), 1);
            assert_eq!(codec().product(value, 0), 0);
            assert_eq!(codec().product(0, value), 0);
        }
    }

    #[test]
    fn what_was_loaded_is_stored_otherwise() {
        let bytes: Vec<u8> = (0..200_u8).collect();
        let mut blocks = Vec::new();
        for length in [2, 62, 64, 66, 198] {
            load_repair(&bytes[..length], &mut blocks);
            let mut out = vec![0; length];
            store(&blocks, &mut out);
            assert_eq!(out, bytes[..length]);
            load_symbol(&bytes[..length - 1], &mut blocks);
            out.resize(length + 1, 0);
            store(&blocks, &mut out);
            assert_eq!(out[..2], [0, length as u8 - 1]);
            assert_eq!(out[2..], bytes[..length - 1]);
        }
    }
}
