//! What is let go, and what must not be.

use statesync::jobs::{Tombstone, Version};
use statesync::{DocumentStore, StoreWrite, store_suite};
use tempfile::tempdir;
use wire::sync::DocumentKind;

use super::{head, op, open_with};
use crate::{Compacted, FjallStore, StoreConfig};

const DAY_MS: u64 = 24 * 3_600 * 1_000;

fn config() -> StoreConfig {
    StoreConfig {
        history_retention_ms: store_suite::RETENTION_MS,
        history_bytes_per_document_max: 1 << 20,
        tombstone_retention_ms: store_suite::RETENTION_MS,
        ..StoreConfig::default()
    }
}

/// One snapshot of ten ops a day, each with a merged state in the history when `with_bases`.
fn live(store: &mut FjallStore, document: &str, days: std::ops::Range<u64>, with_bases: bool) {
    for day in days {
        let ops: Vec<_> =
            (day * 10 + 1..=day * 10 + 10).map(|sequence| op(sequence, day * DAY_MS, 100)).collect();
        let head = head((day + 1) * 10, (day + 1) * 10, 50);
        let base = StoreWrite::HistoryBase { document, unix_ms: day * DAY_MS, base: &head.base };
        let [history, write] = super::snapshot(document, &head, &ops);
        store.write(&[history, write, base][..if with_bases { 3 } else { 2 }]).expect("a write");
    }
}

/// A whole pass.
fn compact(store: &mut FjallStore, now: u64) -> Compacted {
    let mut sum = Compacted::default();
    while !sum.is_pass_done {
        let step = store.compact(now).expect("a step");
        sum.chunks += step.chunks;
        sum.bases += step.bases;
        sum.tombstones += step.tombstones;
        sum.is_pass_done = step.is_pass_done;
    }
    sum
}

/// Whether the document at `sequence` can be built: from a state and the ops after it.
fn is_there(store: &mut FjallStore, document: &str, sequence: u64) -> bool {
    let head = store.head(document).expect("a read").expect("a head");
    if head.base.sequence == sequence {
        return true;
    }
    let base = store.base_at(document, sequence).expect("a read").map_or(0, |base| base.sequence);
    let ops = store.history(document, base + 1, usize::MAX).expect("a read");
    base == sequence || ops.last().is_some_and(|last| last.sequence >= sequence)
}

#[test]
fn a_past_or_an_end_is_lost() {
    let thin = |store: &mut FjallStore, now| {
        compact(store, now);
    };
    let dir = tempdir().expect("a directory");
    store_suite::a_moment_is_lost_or_another(open_with(dir.path(), config()), thin);
    let dir = tempdir().expect("a directory");
    store_suite::a_deleted_document_comes_back(open_with(dir.path(), config()), thin);
}

#[test]
fn young_history_goes_or_old_history_stays() {
    let dir = tempdir().expect("a directory");
    let mut store = open_with(dir.path(), config());
    live(&mut store, "doc", 0..20, true);
    let gone = compact(&mut store, 20 * DAY_MS);
    // Days 0 to 10 are ten days old; the state at the end of day 10 is where the rest begins.
    assert_eq!(gone.chunks, 11);
    assert!(!is_there(&mut store, "doc", 50));
    assert!((110..=200).all(|sequence| is_there(&mut store, "doc", sequence)));
    assert_eq!(compact(&mut store, 20 * DAY_MS).chunks, 0);
    // All of it is old: the newest state is the document.
    assert_eq!(compact(&mut store, 40 * DAY_MS).chunks, 9);
    assert!(is_there(&mut store, "doc", 200));
}

#[test]
fn history_without_states_in_it_never_goes() {
    let dir = tempdir().expect("a directory");
    let mut store = open_with(dir.path(), config());
    live(&mut store, "doc", 0..15, false);
    assert_eq!(compact(&mut store, 15 * DAY_MS).chunks, 0, "what is left could not be built");
    live(&mut store, "doc", 15..28, false);
    assert_eq!(compact(&mut store, 28 * DAY_MS).chunks, 15);
    assert!((150..=280).all(|sequence| is_there(&mut store, "doc", sequence)));
}

#[test]
fn what_a_version_needs_goes() {
    let dir = tempdir().expect("a directory");
    let mut store = open_with(dir.path(), config());
    live(&mut store, "doc", 0..20, true);
    let version = Version { name: "v".into(), sequence: 55, unix_ms: 0 };
    store.write(&[StoreWrite::Version { document: "doc", version: &version }]).expect("a write");
    assert_eq!(compact(&mut store, 20 * DAY_MS).chunks, 10);
    assert!(is_there(&mut store, "doc", 55));
    assert!(!is_there(&mut store, "doc", 45));
    compact(&mut store, 60 * DAY_MS);
    assert!(is_there(&mut store, "doc", 55) && is_there(&mut store, "doc", 200));
}

#[test]
fn ops_that_no_state_covers_go() {
    let dir = tempdir().expect("a directory");
    let mut store = open_with(dir.path(), config());
    let ops: Vec<_> = (1..=10).map(|sequence| op(sequence, 0, 1 << 20)).collect();
    let mut opaque = head(10, 0, 0);
    opaque.kind = DocumentKind::Opaque;
    store.write(&super::snapshot("opaque", &opaque, &ops)).expect("a write");
    assert_eq!(compact(&mut store, 100 * DAY_MS).chunks, 0);
    assert_eq!(store.history("opaque", 1, usize::MAX).expect("a read").len(), 10);
}

#[test]
fn a_document_has_more_history_than_it_may() {
    let dir = tempdir().expect("a directory");
    let mut store = open_with(dir.path(), config());
    for day in 0..4_u64 {
        let ops = [op(day + 1, day, 500 << 10)];
        store.write(&super::snapshot("doc", &head(day + 1, day + 1, 50), &ops)).expect("a write");
    }
    assert_eq!(compact(&mut store, DAY_MS).chunks, 4, "there is no state in it but the newest");
    for day in 4..8_u64 {
        let ops = [op(day + 1, day, 500 << 10)];
        let head = head(day + 1, day + 1, 50);
        let base = StoreWrite::HistoryBase { document: "doc", unix_ms: day, base: &head.base };
        let [history, write] = super::snapshot("doc", &head, &ops);
        store.write(&[history, write, base]).expect("a write");
    }
    assert_eq!(compact(&mut store, DAY_MS).chunks, 2);
    assert!(is_there(&mut store, "doc", 7) && is_there(&mut store, "doc", 8));
}

#[test]
fn a_tombstone_goes_early_or_never_or_takes_a_new_document_with_it() {
    let dir = tempdir().expect("a directory");
    let mut store = open_with(dir.path(), config());
    let (kind, tombstone) = (DocumentKind::Yjs, Tombstone { unix_ms: 0 });
    for document in ["gone", "again"] {
        live(&mut store, document, 0..1, true);
        store.write(&[StoreWrite::Delete { document, kind, sequence: 11, tombstone }]).expect("a write");
        assert_eq!(store.history(document, 1, usize::MAX).expect("a read"), []);
    }
    assert_eq!(compact(&mut store, 9 * DAY_MS).tombstones, 0);
    assert!(store.head("gone").expect("a read").is_some_and(|head| head.tombstone.is_some()));
    live(&mut store, "again", 9..10, true);
    assert_eq!(compact(&mut store, 11 * DAY_MS).tombstones, 1);
    assert_eq!(store.head("gone"), Ok(None));
    assert_eq!(store.head("again").expect("a read").map(|head| head.sequence), Some(100));
}
