//! With real files.

mod damage;
mod full;
mod kill;
mod model;
mod retention;

use std::path::Path;

use bytes::Bytes;
use statesync::StoreWrite;
use statesync::jobs::{Base, Figures, HistoryOp, StoredDocument, WriterMark};
use wire::Guuid;
use wire::sync::DocumentKind;

use crate::{FjallStore, StoreConfig};

pub(crate) fn log_id() -> Guuid {
    Guuid::new(1_700_000_000_000, [3; 10])
}

pub(crate) fn open(dir: &Path) -> FjallStore {
    open_with(dir, StoreConfig::default())
}

fn open_with(dir: &Path, config: StoreConfig) -> FjallStore {
    FjallStore::open(dir.join("store"), log_id(), config).expect("a store")
}

fn bytes(seed: u64, length: usize) -> Bytes {
    (0..length).map(|index| (seed as usize * 31 + index) as u8).collect()
}

pub(crate) fn op(sequence: u64, unix_ms: u64, length: usize) -> HistoryOp {
    let op_id = Guuid::new(1, [7; 10]).writer().with_counter(sequence);
    HistoryOp { sequence, op_id, unix_ms, payload: bytes(sequence, length) }
}

pub(crate) fn head(sequence: u64, merged: u64, state_bytes: usize) -> StoredDocument {
    let figures =
        Figures { pending_bytes: 1, shared_types: 2, blocks: 3, op_bytes: 4, history_base_op_bytes: 5 };
    let base = Base {
        sequence: merged,
        state: bytes(sequence, state_bytes),
        vector: bytes(sequence + 1, 9),
        figures,
    };
    let writer = Guuid::new(1, [7; 10]).writer();
    StoredDocument {
        kind: DocumentKind::Yjs,
        sequence,
        base,
        writers: vec![WriterMark { writer, counter: sequence, sequence }],
        quarantined: false,
        tombstone: None,
    }
}

/// A snapshot as a storage worker writes it.
pub(crate) fn snapshot<'a>(
    document: &'a str,
    head: &'a StoredDocument,
    ops: &'a [HistoryOp],
) -> [StoreWrite<'a>; 2] {
    [StoreWrite::History { document, ops }, StoreWrite::Head { document, head }]
}
