use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::{Encoder, HELD_REPAIRS_MAX};
use super::*;

/// Symbol `number` of `bytes` bytes, unlike all others.
fn symbol(number: u64, bytes: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(byte).collect()
}

/// All that has come back.
fn recovered(decoder: &mut Decoder) -> BTreeMap<u64, Vec<u8>> {
    std::iter::from_fn(|| decoder.poll_recovered().map(|(number, symbol)| (number, symbol.to_vec())))
        .collect()
}

fn repair(encoder: &mut Encoder, count: usize, index: u8) -> (RepairHeader, Vec<u8>) {
    let mut out = vec![0; encoder.repair_bytes(count)];
    encoder.repair(count, index, &mut out);
    let count = count.min(encoder.window_symbols()) as u8;
    (RepairHeader { last: encoder.next_number() - 1, count, index }, out)
}

fn encoder(first: u64, symbols: u64) -> Encoder {
    let mut encoder = Encoder::new(first);
    for number in first..first + symbols {
        encoder.push(&symbol(number, 200));
    }
    encoder
}

/// The rank of a model's rows, and which symbols they determine, by plain elimination over all of them.
fn determined(rows: &[BTreeMap<u64, u16>]) -> BTreeSet<u64> {
    let mut rows = rows.to_vec();
    let numbers: BTreeSet<u64> = rows.iter().flat_map(|row| row.keys().copied()).collect();
    let mut done = 0;
    for number in numbers {
        let Some(found) = (done..rows.len()).find(|at| rows[*at].contains_key(&number)) else { continue };
        rows.swap(done, found);
        let inverse = codec().inverse(rows[done][&number]);
        let pivot: BTreeMap<u64, u16> =
            rows[done].iter().map(|(number, value)| (*number, codec().product(*value, inverse))).collect();
        for row in &mut rows {
            let Some(factor) = row.get(&number).copied() else { continue };
            for (number, value) in &pivot {
                let sum = row.get(number).copied().unwrap_or(0) ^ codec().product(*value, factor);
                if sum == 0 {
                    row.remove(number)
                } else {
                    row.insert(*number, sum)
                };
            }
        }
        rows[done] = pivot;
        done += 1;
    }
    rows.iter().filter(|row| row.len() == 1).filter_map(|row| row.keys().next().copied()).collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// A symbol of so many bytes is sent, and arrives or not.
    Symbol { bytes: usize, lost: bool },
    /// A repair of the last symbols is sent, and arrives or not.
    Repair { count: usize, index: u8, lost: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lengths = prop_oneof![1_usize..8, 60_usize..68, 190_usize..230, Just(SYMBOL_BYTES_MAX)];
    let step = prop_oneof![
        3 => (lengths, prop::bool::weighted(0.3)).prop_map(|(bytes, lost)| Step::Symbol { bytes, lost }),
        2 => (1_usize..=20, 0_u8..16, prop::bool::weighted(0.2))
            .prop_map(|(count, index, lost)| Step::Repair { count, index, lost }),
    ];
    prop::collection::vec(step, 1..90)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Within the history and the repairs that are held, whatever any elimination can solve comes back at
    /// once, and nothing comes back wrong.
    #[test]
    fn what_is_solvable_is_not_solved_or_solved_wrongly(steps in steps(), first in 0_u64..200) {
        let (mut encoder, mut decoder) = (Encoder::new(first), Decoder::new());
        let (mut lost, mut rows, mut back) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        for step in steps.into_iter().take(HISTORY_SYMBOLS) {
            match step {
                Step::Symbol { bytes, lost: is_lost } => {
                    let symbol = symbol(encoder.next_number(), bytes);
                    let number = encoder.push(&symbol);
                    if is_lost {
                        lost.insert(number, symbol);
                    } else {
                        prop_assert_eq!(decoder.handle_symbol(number, &symbol), Ok(0));
                    }
                }
                Step::Repair { lost: true, .. } => {}
                Step::Repair { count, index, .. } => {
                    if encoder.window_symbols() == 0 {
                        continue;
                    }
                    let (header, bytes) = repair(&mut encoder, count, index);
                    let covered = header.last + 1 - u64::from(header.count)..=header.last;
                    let missing = covered.filter(|number| lost.contains_key(number) && !back.contains(number));
                    rows.push(missing.map(|number| (number, codec().coefficient(index, number))).collect());
                    decoder.handle_repair(header, &bytes).unwrap();
                    if decoder.held_repairs() == HELD_REPAIRS_MAX {
                        break;
                    }
                }
            }
            for (number, symbol) in recovered(&mut decoder) {
                prop_assert_eq!(Some(&symbol), lost.get(&number));
                prop_assert!(back.insert(number), "{} came twice", number);
            }
            prop_assert!(determined(&rows).is_subset(&back));
        }
    }

    #[test]
    fn as_many_repairs_as_lost_symbols_do_not_bring_them_back(
        first in 0_u64..1_000,
        count in 1_usize..=WINDOW_SYMBOLS_MAX,
        lost in prop::collection::btree_set(0_usize..WINDOW_SYMBOLS_MAX, 1..=REPAIR_INDICES),
        indices in Just((0..REPAIR_INDICES as u8).collect::<Vec<_>>()).prop_shuffle(),
        bytes in prop::collection::vec(1_usize..300, WINDOW_SYMBOLS_MAX),
        late in any::<prop::sample::Index>(),
    ) {
        let lost: Vec<u64> = lost.into_iter().filter(|at| *at < count).map(|at| first + at as u64).collect();
        prop_assume!(!lost.is_empty());
        let (mut encoder, mut decoder) = (Encoder::new(first), Decoder::new());
        let late = first + late.index(count) as u64;
        for (number, bytes) in (first..first + count as u64).zip(&bytes) {
            encoder.push(&symbol(number, *bytes));
            if !lost.contains(&number) && number != late {
                decoder.handle_symbol(number, &symbol(number, *bytes)).unwrap();
            }
        }
        for index in &indices[..lost.len()] {
            let (header, bytes) = repair(&mut encoder, count, *index);
            decoder.handle_repair(header, &bytes).unwrap();
        }
        // A symbol that comes behind the repairs completes what they say.
        if !lost.contains(&late) {
            decoder.handle_symbol(late, &symbol(late, bytes[(late - first) as usize])).unwrap();
        }
        let expected = lost.iter().map(|n| (*n, symbol(*n, bytes[(*n - first) as usize]))).collect();
        prop_assert_eq!(recovered(&mut decoder), expected);
        prop_assert_eq!(decoder.held_repairs(), 0);
    }

    #[test]
    fn hostile_repairs_are_trusted(
        headers in prop::collection::vec(
            (prop_oneof![0_u64..100, any::<u64>()], any::<u8>(), 0_u8..20, 0_usize..80, any::<bool>()), 1..60),
    ) {
        let mut decoder = Decoder::new();
        for (last, count, index, bytes, is_symbol) in headers {
            let bytes = symbol(last, bytes);
            if is_symbol {
                let _ = decoder.handle_symbol(last, &bytes);
            } else {
                let _ = decoder.handle_repair(RepairHeader { last, count, index }, &bytes);
            }
            prop_assert!(decoder.held_repairs() <= HELD_REPAIRS_MAX);
            while let Some((number, symbol)) = decoder.poll_recovered() {
                prop_assert!(number < SYMBOL_NUMBER_END && (1..=SYMBOL_BYTES_MAX).contains(&symbol.len()));
            }
        }
    }
}

#[test]
fn windows_that_overlap_are_used_one_by_one_only() {
    // Each repair misses two symbols, and no two miss the same two.
    let (mut encoder, mut decoder) = (Encoder::new(0), Decoder::new());
    let mut outcomes = Vec::new();
    for number in 0..4 {
        encoder.push(&symbol(number, 100));
        if number > 0 {
            let (header, bytes) = repair(&mut encoder, 2, 0);
            outcomes.push(decoder.handle_repair(header, &bytes));
        }
    }
    let (header, bytes) = repair(&mut encoder, 4, 1);
    outcomes.push(decoder.handle_repair(header, &bytes));
    let held = Ok(Outcome::Held);
    assert_eq!(outcomes, [held, held, held, Ok(Outcome::Recovered(4))]);
    assert_eq!(recovered(&mut decoder).len(), 4);
}

#[test]
fn a_header_that_breaks_the_rules_is_accepted() {
    let mut encoder = encoder(0, 40);
    let mut decoder = Decoder::new();
    decoder.handle_symbol(39, &symbol(39, 200)).unwrap();
    let (good, bytes) = repair(&mut encoder, 8, 3);
    let covers = |count, last| Err(FecError::Covers { count, last });
    let ahead = |number| Err(FecError::Ahead { number, newest: 39 });
    for (header, length, expected) in [
        (RepairHeader { count: 0, ..good }, 202, covers(0, 39)),
        (RepairHeader { count: 33, ..good }, 202, covers(33, 39)),
        (RepairHeader { count: 8, last: 6, index: 0 }, 202, covers(8, 6)),
        (RepairHeader { index: 16, ..good }, 202, Err(FecError::Index(16))),
        (RepairHeader { last: 40 + SYMBOLS_AHEAD_MAX, ..good }, 202, ahead(40 + SYMBOLS_AHEAD_MAX)),
        (RepairHeader { last: u64::MAX, ..good }, 202, ahead(u64::MAX)),
        (good, 0, Err(FecError::RepairBytes(0))),
        (good, 2, Err(FecError::RepairBytes(2))),
        (good, 201, Err(FecError::RepairBytes(201))),
        (good, 200, Err(FecError::RepairBytes(200))),
        (good, REPAIR_BYTES_MAX + 2, Err(FecError::RepairBytes(REPAIR_BYTES_MAX + 2))),
    ] {
        let mut bytes = bytes.clone();
        bytes.resize(length, 0);
        assert_eq!(decoder.handle_repair(header, &bytes), expected, "{header:?} {length}");
    }
    assert_eq!(decoder.held_repairs(), 0);
    for length in [0, SYMBOL_BYTES_MAX + 1] {
        let refused = decoder.handle_symbol(40, &vec![0; length]);
        assert_eq!(refused, Err(FecError::SymbolBytes(length)));
    }
    let refused = decoder.handle_symbol(u64::MAX, &[1]);
    assert_eq!(refused, Err(FecError::Ahead { number: u64::MAX, newest: 39 }));
    assert_eq!(decoder.handle_repair(good, &bytes), Ok(Outcome::Held));
}

#[test]
fn a_repair_that_lies_makes_a_symbol() {
    let mut encoder = encoder(0, 2);
    let mut decoder = Decoder::new();
    decoder.handle_symbol(0, &symbol(0, 200)).unwrap();
    let (header, mut bytes) = repair(&mut encoder, 2, 0);
    bytes[0] ^= 1;
    assert_eq!(decoder.handle_repair(header, &bytes), Err(FecError::Contradiction));
    assert_eq!(decoder.poll_recovered(), None);
    // Two repairs that cannot both be true of the symbol that comes at last.
    let mut decoder = Decoder::new();
    let (header, bytes) = repair(&mut encoder, 2, 1);
    assert_eq!(decoder.handle_repair(header, &bytes), Ok(Outcome::Held));
    let mut spoilt = bytes;
    spoilt[100] ^= 1;
    assert_eq!(decoder.handle_repair(header, &spoilt), Err(FecError::Contradiction));
}

#[test]
fn a_repair_from_before_the_history_is_used() {
    let mut encoder = encoder(0, 10);
    let mut decoder = Decoder::new();
    let (header, bytes) = repair(&mut encoder, 4, 0);
    decoder.handle_symbol(6 + HISTORY_SYMBOLS as u64, &[1]).unwrap();
    assert_eq!(decoder.floor(), 7);
    assert_eq!(decoder.handle_repair(header, &bytes), Ok(Outcome::Late));
    assert_eq!(decoder.handle_symbol(6, &[1]), Ok(0));
    let (header, bytes) = repair(&mut encoder, 3, 0);
    assert_eq!(decoder.handle_repair(header, &bytes), Ok(Outcome::Held));
}

#[test]
fn a_repair_of_what_was_forgotten_blocks_others() {
    // Two symbols are missing from both repairs; the older one is forgotten, the newer comes as it is.
    let mut encoder = encoder(0, 2);
    let mut decoder = Decoder::new();
    let (header, bytes) = repair(&mut encoder, 2, 0);
    assert_eq!(decoder.handle_repair(header, &bytes), Ok(Outcome::Held));
    decoder.handle_symbol(HISTORY_SYMBOLS as u64, &[1]).unwrap();
    assert_eq!((decoder.floor(), decoder.held_repairs()), (1, 0));
    assert_eq!(decoder.handle_symbol(1, &symbol(1, 200)), Ok(0));
    // A gap of a whole history forgets all.
    let (header, bytes) = repair(&mut encoder, 1, 2);
    assert_eq!(decoder.handle_repair(header, &bytes), Ok(Outcome::Unneeded));
    decoder.handle_symbol(1_000, &[1]).unwrap();
    assert_eq!(decoder.handle_repair(header, &bytes), Ok(Outcome::Late));
}

#[test]
fn held_repairs_grow_without_a_bound() {
    let (mut encoder, mut decoder) = (Encoder::new(0), Decoder::new());
    for number in 0..1_000 {
        encoder.push(&symbol(number, 100));
        let (header, bytes) = repair(&mut encoder, 32, (number % 16) as u8);
        if number % 2 == 0 {
            decoder.handle_repair(header, &bytes).unwrap();
            assert!(decoder.held_repairs() <= HELD_REPAIRS_MAX);
        }
        while decoder.poll_recovered().is_some() {}
    }
    // What comes later is still brought back.
    for number in 1_000..1_100 {
        encoder.push(&symbol(number, 100));
        if number != 1_099 {
            decoder.handle_symbol(number, &symbol(number, 100)).unwrap();
        }
    }
    recovered(&mut decoder);
    let (header, bytes) = repair(&mut encoder, 8, 5);
    assert_eq!(decoder.handle_repair(header, &bytes), Ok(Outcome::Recovered(1)));
    assert_eq!(recovered(&mut decoder), BTreeMap::from([(1_099, symbol(1_099, 100))]));
}
