//! Forward error correction's code.

use std::collections::{BTreeMap, BTreeSet};

use quantum::fec::{
    Decoder, Encoder, HELD_REPAIRS_MAX, HISTORY_SYMBOLS, Outcome, RepairHeader, SYMBOL_BYTES_MAX,
    SYMBOL_NUMBER_END,
};

use crate::Source;

/// A decoder that is fed symbols and repairs that nobody made.
pub fn fec_decoder(input: &[u8]) {
    let mut source = Source::new(input);
    let mut decoder = Decoder::new();
    while !source.is_empty() {
        let number = source.number();
        if source.once_in(2) {
            let _ = decoder.handle_symbol(number, source.bytes(100));
        } else {
            let header = RepairHeader { last: number, count: source.byte() % 40, index: source.byte() % 20 };
            if let Ok(Outcome::Recovered(count)) = decoder.handle_repair(header, source.bytes(100)) {
                assert!((1..=HELD_REPAIRS_MAX).contains(&count));
            }
        }
        assert!(decoder.held_repairs() <= HELD_REPAIRS_MAX && decoder.floor() < SYMBOL_NUMBER_END);
        while let Some((number, symbol)) = decoder.poll_recovered() {
            assert!(number < SYMBOL_NUMBER_END && (1..=SYMBOL_BYTES_MAX).contains(&symbol.len()));
        }
    }
}

/// An honest encoder, and a network that loses, repeats and reorders. Nothing comes back wrong or twice.
pub fn fec_round_trip(input: &[u8]) {
    let mut source = Source::new(input);
    let first = source.number() % (SYMBOL_NUMBER_END / 2);
    let (mut encoder, mut decoder) = (Encoder::new(first), Decoder::new());
    let (mut sent, mut back) = (BTreeMap::new(), BTreeSet::new());
    let (mut late, mut out) = (Vec::new(), vec![0; SYMBOL_BYTES_MAX + 4]);
    while !source.is_empty() {
        if source.once_in(3) {
            if encoder.window_symbols() == 0 {
                continue;
            }
            let count = 1 + source.below(encoder.window_symbols());
            let header = RepairHeader {
                last: encoder.next_number() - 1,
                count: count as u8,
                index: source.byte() % 16,
            };
            let length = encoder.repair(count, header.index, &mut out);
            if !source.once_in(4) {
                assert!(decoder.handle_repair(header, &out[..length]).is_ok(), "an honest repair is refused");
            }
        } else {
            let symbol = [&[1], &source.filler(300)[..]].concat();
            let number = encoder.push(&symbol);
            match source.below(4) {
                0 => {}
                1 => late.push(number),
                _ => assert!(decoder.handle_symbol(number, &symbol).is_ok(), "an honest symbol is refused"),
            }
            sent.insert(number, symbol);
            if late.len() > source.below(HISTORY_SYMBOLS) {
                let number = late.swap_remove(source.below(late.len()));
                assert!(decoder.handle_symbol(number, &sent[&number]).is_ok(), "an honest symbol is refused");
            }
        }
        while let Some((number, symbol)) = decoder.poll_recovered() {
            assert_eq!(sent.get(&number).map(Vec::as_slice), Some(symbol), "symbol {number}");
            assert!(back.insert(number), "symbol {number} came back twice");
        }
    }
}
