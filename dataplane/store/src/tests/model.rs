//! The store and one in memory are told the same things and asked the same questions.

use proptest::prelude::*;
use statesync::jobs::{Tombstone, Version};
use statesync::{DocumentStore, MemoryStore, StoreWrite};
use wire::sync::DocumentKind;

use super::{head, op, open};

#[derive(Clone, Debug)]
enum Step {
    Snapshot { document: usize, ops: u64, payload: usize, state: usize, with_base: bool },
    Version { document: usize, name: usize },
    Delete { document: usize },
    Reopen,
}

const DOCUMENTS: [&str; 4] = ["a", "ab", "a/b", "ä"];

fn step() -> impl Strategy<Value = Step> {
    let document = || 0..DOCUMENTS.len();
    prop_oneof![
        8 => (document(), 1..20_u64, 0..300_usize, prop_oneof![0..100_usize, 4_000..9_000_usize], any::<bool>())
            .prop_map(|(document, ops, payload, state, with_base)| {
                Step::Snapshot { document, ops, payload, state, with_base }
            }),
        2 => (document(), 0..3_usize).prop_map(|(document, name)| Step::Version { document, name }),
        1 => document().prop_map(|document| Step::Delete { document }),
        1 => Just(Step::Reopen),
    ]
}

fn check(real: &mut impl DocumentStore, model: &mut MemoryStore, now: u64) {
    for document in DOCUMENTS {
        assert_eq!(real.head(document), model.head(document));
        assert_eq!(real.versions(document), model.versions(document));
        for from in [0, 1, 2, 7, 30, 200] {
            for bytes_max in [0, 500, usize::MAX] {
                assert_eq!(real.history(document, from, bytes_max), model.history(document, from, bytes_max));
            }
            assert_eq!(real.base_at(document, from), model.base_at(document, from));
            assert_eq!(real.holds(document, from), model.holds(document, from));
        }
        assert_eq!(real.base_at(document, u64::MAX), model.base_at(document, u64::MAX));
        for unix_ms in [0, now / 3, now / 2, now, u64::MAX] {
            assert_eq!(real.sequence_at(document, unix_ms), model.sequence_at(document, unix_ms));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_store_answers_otherwise_than_one_in_memory(steps in prop::collection::vec(step(), 1..25)) {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut real, mut model) = (open(dir.path()), MemoryStore::default());
        let (mut sequences, mut now) = ([0_u64; DOCUMENTS.len()], 1_000_u64);
        for step in steps {
            now += 10;
            let mut both = |writes: &[StoreWrite<'_>]| {
                real.write(writes).expect("a write");
                model.write(writes).expect("a write");
            };
            match step {
                Step::Snapshot { document, ops, payload, state, with_base } => {
                    let first = sequences[document] + 1;
                    sequences[document] += ops;
                    let ops: Vec<_> = (first..first + ops)
                        .map(|sequence| op(sequence, now + sequence % 3, payload))
                        .collect();
                    let head = head(sequences[document], sequences[document], state);
                    let document = DOCUMENTS[document];
                    let base = StoreWrite::HistoryBase { document, unix_ms: now, base: &head.base };
                    let [history, head] = super::snapshot(document, &head, &ops);
                    both(&[history, head, base][..if with_base { 3 } else { 2 }]);
                }
                Step::Version { document, name } => {
                    let name = ["v", "v1", "w"][name].into();
                    let version = Version { name, sequence: sequences[document], unix_ms: now };
                    both(&[StoreWrite::Version { document: DOCUMENTS[document], version: &version }]);
                }
                Step::Delete { document } => {
                    sequences[document] += 1;
                    let (sequence, tombstone) = (sequences[document], Tombstone { unix_ms: now });
                    let (document, kind) = (DOCUMENTS[document], DocumentKind::Opaque);
                    both(&[StoreWrite::Delete { document, kind, sequence, tombstone }]);
                }
                Step::Reopen => {
                    drop(real);
                    real = open(dir.path());
                }
            }
        }
        check(&mut real, &mut model, now);
        drop(real);
        check(&mut open(dir.path()), &mut model, now);
    }
}
