//! Forward error correction: what repairs cost to make and to use, beside a stock Reed-Solomon codec.
//!
//! `encode` and `decode` are the transport's, `stock` is the library's block codec as it comes, and `engine`
//! the same with our engine: the stock one evaluates a polynomial over 65,536 points whatever the size of the
//! block. A step is a whole block: all symbols in and all repairs out, or all but the lost symbols and as many
//! repairs in and the lost symbols out.

use std::hint::black_box;

use quantum::fec::{Decoder, Encoder, Engine, Outcome, RepairHeader, WINDOW_SYMBOLS_MAX};
use reed_solomon_simd::ReedSolomonEncoder;
use reed_solomon_simd::engine::{DefaultEngine, Engine as Arithmetic};
use reed_solomon_simd::rate::{HighRateDecoder, RateDecoder};

use crate::{Visitor, Workload};

/// Symbols of a block, and repairs for it.
const BLOCKS: [(usize, usize); 4] = [(4, 1), (8, 2), (16, 4), (32, 16)];
/// An edit and a packet that is nearly full.
const SYMBOL_BYTES: [usize; 2] = [200, 1_200];

pub(crate) fn visit(visitor: &mut impl Visitor) {
    for bytes in SYMBOL_BYTES {
        for (symbols, repairs) in BLOCKS {
            let block = Block { symbols, repairs, bytes };
            let name = |what: &str| format!("fec/{what}_k{symbols}_r{repairs}_{bytes}_bytes");
            visitor.visit(&name("encode"), || Encode::new(block));
            visitor.visit(&name("decode"), || Decode::new(block));
            visitor.visit(&name("stock_encode"), || StockEncode::new(block));
            visitor.visit(&name("engine_decode"), || StockDecode::<Engine>::new(block));
            visitor.visit(&name("stock_decode"), || StockDecode::<DefaultEngine>::new(block));
        }
        let name = |what: &str| format!("fec/{what}_{bytes}_bytes");
        visitor.visit(&name("repair_of_16"), || Encode::new(Block { symbols: 16, repairs: 1, bytes }));
        visitor.visit(&name("unneeded_repair"), || Unneeded::new(bytes));
    }
}

#[derive(Clone, Copy)]
struct Block {
    symbols: usize,
    repairs: usize,
    bytes: usize,
}

impl Block {
    fn symbols(&self) -> Vec<Vec<u8>> {
        let symbol = |number: usize| (0..self.bytes).map(|at| (at * 31 + number * 7) as u8).collect();
        (0..self.symbols).map(symbol).collect()
    }
}

/// All symbols of a block put in, all repairs taken out.
struct Encode {
    encoder: Encoder,
    block: Block,
    symbols: Vec<Vec<u8>>,
    out: Vec<u8>,
}

impl Encode {
    fn new(block: Block) -> Self {
        let out = vec![0; block.bytes + 4];
        Self { encoder: Encoder::new(0), symbols: block.symbols(), block, out }
    }

    fn repairs(&mut self, mut take: impl FnMut(&[u8])) {
        for symbol in &self.symbols {
            self.encoder.push(symbol);
        }
        for index in 0..self.block.repairs {
            let length = self.encoder.repair(self.block.symbols, index as u8, &mut self.out);
            take(&self.out[..length]);
        }
    }
}

impl Workload for Encode {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.repairs(|repair| _ = black_box(repair));
    }
}

/// As many symbols lost as there are repairs, all of them brought back.
struct Decode {
    decoder: Decoder,
    block: Block,
    symbols: Vec<Vec<u8>>,
    /// The repairs of each block of a window.
    repairs: Vec<Vec<Vec<u8>>>,
    next: u64,
}

impl Decode {
    fn new(block: Block) -> Self {
        let mut encode = Encode::new(block);
        let blocks = (0..WINDOW_SYMBOLS_MAX / block.symbols).map(|_| {
            let mut repairs = Vec::new();
            encode.repairs(|repair| repairs.push(repair.to_vec()));
            repairs
        });
        let repairs = blocks.collect();
        Self { decoder: Decoder::new(), block, symbols: encode.symbols, repairs, next: 0 }
    }

    fn recovered(&mut self, mut take: impl FnMut(u64, &[u8])) {
        let count = self.block.symbols as u64;
        for (number, symbol) in (self.next..).zip(&self.symbols).skip(self.block.repairs) {
            self.decoder.handle_symbol(number, symbol).expect("a valid symbol");
        }
        let block = (self.next / count) as usize % self.repairs.len();
        self.next += count;
        for (index, repair) in self.repairs[block].iter().enumerate() {
            let header = RepairHeader { last: self.next - 1, count: count as u8, index: index as u8 };
            self.decoder.handle_repair(header, repair).expect("a valid repair");
        }
        while let Some((number, symbol)) = self.decoder.poll_recovered() {
            take(number, symbol);
        }
    }
}

impl Workload for Decode {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.recovered(|_, symbol| _ = black_box(symbol));
    }
}

/// A repair of symbols that have all come: what repairs cost while nothing is lost.
struct Unneeded {
    decoder: Decoder,
    header: RepairHeader,
    repair: Vec<u8>,
}

impl Unneeded {
    fn new(bytes: usize) -> Self {
        let mut encode = Encode::new(Block { symbols: 16, repairs: 1, bytes });
        let mut decoder = Decoder::new();
        for (number, symbol) in encode.symbols.iter().enumerate() {
            decoder.handle_symbol(number as u64, symbol).expect("a valid symbol");
        }
        let mut repair = Vec::new();
        encode.repairs(|bytes| repair.extend_from_slice(bytes));
        Self { decoder, header: RepairHeader { last: 15, count: 16, index: 0 }, repair }
    }
}

impl Workload for Unneeded {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        let outcome = self.decoder.handle_repair(self.header, black_box(&self.repair));
        assert_eq!(outcome, Ok(Outcome::Unneeded));
    }
}

/// All symbols of a block put in, all repairs taken out.
struct StockEncode {
    encoder: ReedSolomonEncoder,
    symbols: Vec<Vec<u8>>,
}

impl StockEncode {
    fn new(block: Block) -> Self {
        let encoder = ReedSolomonEncoder::new(block.symbols, block.repairs, block.bytes)
            .expect("a block that the codec supports");
        Self { encoder, symbols: block.symbols() }
    }

    fn repairs(&mut self, mut take: impl FnMut(&[u8])) {
        for symbol in &self.symbols {
            self.encoder.add_original_shard(symbol).expect("a symbol of the right length");
        }
        let encoded = self.encoder.encode().expect("a whole block");
        encoded.recovery_iter().for_each(&mut take);
    }
}

impl Workload for StockEncode {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.repairs(|repair| _ = black_box(repair));
    }
}

/// As many symbols lost as there are repairs, all of them brought back.
struct StockDecode<E: Arithmetic> {
    decoder: HighRateDecoder<E>,
    symbols: Vec<Vec<u8>>,
    repairs: Vec<Vec<u8>>,
}

impl<E: Arithmetic + Default> StockDecode<E> {
    fn new(block: Block) -> Self {
        let mut encode = StockEncode::new(block);
        let mut repairs = Vec::new();
        encode.repairs(|repair| repairs.push(repair.to_vec()));
        let decoder = HighRateDecoder::new(block.symbols, block.repairs, block.bytes, E::default(), None)
            .expect("a block that the codec supports");
        Self { decoder, symbols: encode.symbols, repairs }
    }
}

impl<E: Arithmetic> StockDecode<E> {
    fn recovered(&mut self, mut take: impl FnMut(usize, &[u8])) {
        for (index, symbol) in self.symbols.iter().enumerate().skip(self.repairs.len()) {
            self.decoder.add_original_shard(index, symbol).expect("a symbol of the right length");
        }
        for (index, repair) in self.repairs.iter().enumerate() {
            self.decoder.add_recovery_shard(index, repair).expect("a repair of the right length");
        }
        let decoded = self.decoder.decode().expect("enough of a block");
        decoded.restored_original_iter().for_each(|(index, symbol)| take(index, symbol));
    }
}

impl<E: Arithmetic> Workload for StockDecode<E> {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.recovered(|_, symbol| _ = black_box(symbol));
    }
}

// The stock encoder takes high rate for all of these, as the decoder here does.
const _: () = {
    let mut at = 0;
    while at < BLOCKS.len() {
        assert!(BLOCKS[at].0.next_power_of_two() > BLOCKS[at].1.next_power_of_two());
        at += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_symbol_comes_back_as_another() {
        for (symbols, repairs) in BLOCKS {
            let block = Block { symbols, repairs, bytes: 200 };
            let expected: Vec<_> = block.symbols().into_iter().take(repairs).enumerate().collect();
            let mut stock = StockDecode::<DefaultEngine>::new(block);
            let mut engine = StockDecode::<Engine>::new(block);
            let mut decode = Decode::new(block);
            for step in 0..10 {
                let mut back = Vec::new();
                stock.recovered(|index, symbol| back.push((index, symbol.to_vec())));
                assert_eq!(back, expected);
                back.clear();
                engine.recovered(|index, symbol| back.push((index, symbol.to_vec())));
                assert_eq!(back, expected);
                back.clear();
                let first = step * symbols;
                decode.recovered(|number, symbol| back.push((number as usize - first, symbol.to_vec())));
                assert_eq!(back, expected);
            }
        }
    }
}
