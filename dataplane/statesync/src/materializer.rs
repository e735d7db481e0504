//! Documents integrated by the CRDT library, for merging and comparing: a cache over bases and ops.
//!
//! The library may panic on input that it decoded without complaint, or build something else than its clocks say.
//! Then it is not asked again about that document: the caller quarantines it.

use std::collections::HashMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use thiserror::Error;
use wire::yjs_scan::{scan_update, scan_update_ranges};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{ClientID, Doc, OffsetKind, Options, ReadTxn, StateVector, Transact, Update};

use crate::FixedHasher;
use crate::clocks::Clocks;
use crate::jobs::{Base, Figures, HistoryOp};
use crate::yjs::decode_state_vector;

/// The client id of integrated documents, which never edit.
const CACHE_CLIENT_ID: u64 = 1;
/// Bytes of memory that a block takes when integrated, about.
const BLOCK_BYTES: u64 = 160;
/// Bytes of memory that each integrated document takes beside, about.
const DOCUMENT_BYTES: u64 = 4 << 10;

/// Why the library is not to be asked about a document again.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Fault {
    #[error("the CRDT library panicked")]
    Panic,
    #[error("an update that was taken does not decode or apply: {0}")]
    Update(String),
    #[error("what was built has not the clocks that it must have")]
    Divergence,
    #[error("the client's state vector does not decode")]
    StateVector,
}

/// One integrated document.
struct Integrated {
    doc: Doc,
    /// The last op in it.
    sequence: u64,
    bytes: u64,
    /// When it was used last, in uses.
    used: u64,
}

/// What is held of a document, by the clocks alone. How much of it is integrated is the library's business: of the
/// same content it integrates less when a client's blocks come in one update and one of them waits for another client.
struct Held {
    clocks: Clocks,
    /// Whether something may have come behind a gap.
    has_gaps: bool,
}

impl Held {
    fn of(base: &Base, ops: &[HistoryOp]) -> Result<Self, Fault> {
        let mut clocks = Clocks::from_v1(&base.vector).map_err(|_| Fault::Divergence)?;
        let mut has_gaps = base.figures.pending_bytes > 0;
        for op in ops {
            let scan = scan_update_ranges(&op.payload, |range| has_gaps |= !clocks.take(range));
            scan.map_err(|error| Fault::Update(error.to_string()))?;
        }
        Ok(Self { clocks, has_gaps })
    }
}

/// Integrated documents, as many as fit.
pub(crate) struct Materializer {
    documents: HashMap<Box<str>, Integrated, FixedHasher>,
    bytes: u64,
    bytes_max: u64,
    uses: u64,
    updates_integrated: u64,
}

impl Materializer {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { documents: HashMap::default(), bytes: 0, bytes_max, uses: 0, updates_integrated: 0 }
    }

    /// Merges `ops` into `base`.
    pub(crate) fn merge(&mut self, document: &str, base: &Base, ops: &[HistoryOp]) -> Result<Base, Fault> {
        let sequence = ops.last().map_or(base.sequence, |op| op.sequence);
        let op_bytes: usize = ops.iter().map(|op| op.payload.len()).sum();
        let held = Held::of(base, ops)?;
        self.with(document, base, ops, |doc| {
            let merged = encode_all(doc, &held.clocks)?;
            let figures = Figures {
                op_bytes: base.figures.op_bytes + op_bytes as u64,
                history_base_op_bytes: base.figures.history_base_op_bytes,
                ..merged.figures
            };
            Ok(Base { sequence, figures, ..merged })
        })
    }

    /// What a client with such a state vector lacks, and the document's own vector.
    pub(crate) fn diff(
        &mut self,
        document: &str,
        base: &Base,
        ops: &[HistoryOp],
        vector: &[u8],
    ) -> Result<(Bytes, Bytes), Fault> {
        let vector = decode_state_vector(vector).ok_or(Fault::StateVector)?;
        let held = Held::of(base, ops)?;
        self.with(document, base, ops, |doc| {
            let txn = mem::ManuallyDrop::new(doc.transact());
            let has_gaps = held.has_gaps || txn.has_missing_updates();
            let vector = if has_gaps { before_gaps(&txn.state_vector(), &vector) } else { vector };
            let diff = exact(txn.encode_state_as_update_v1(&vector));
            let own = exact(txn.state_vector().encode_v1());
            drop(mem::ManuallyDrop::into_inner(txn));
            Ok((diff, own))
        })
    }

    /// Lets go of a document, which may come back as another.
    pub(crate) fn forget(&mut self, document: &str) {
        if let Some(removed) = self.documents.remove(document) {
            self.bytes -= removed.bytes;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.documents.len()
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn updates_integrated(&self) -> u64 {
        self.updates_integrated
    }

    /// Runs `read` on the document with all of `base` and `ops` in it.
    fn with<T>(
        &mut self,
        document: &str,
        base: &Base,
        ops: &[HistoryOp],
        read: impl FnOnce(&Doc) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let last = ops.last().map_or(base.sequence, |op| op.sequence);
        let held = self.documents.remove(document);
        self.bytes -= held.as_ref().map_or(0, |held| held.bytes);
        let held = held.filter(|held| {
            held.sequence <= last && ops.first().is_none_or(|first| held.sequence + 1 >= first.sequence)
        });
        let held = held.filter(|held| held.sequence >= base.sequence);
        let from = held.as_ref().map_or(base.sequence, |held| held.sequence);
        let held = held.map(|held| held.doc);
        let mut integrated = 0;
        let result = catch_unwind(AssertUnwindSafe(|| {
            // What a panic left of a document cannot be trusted to run destructors: then it is leaked.
            let doc = match held {
                Some(doc) => mem::ManuallyDrop::new(doc),
                None => mem::ManuallyDrop::new(load(base)?),
            };
            let new = ops.iter().filter(|op| op.sequence > from);
            integrated = apply(&doc, new.map(|op| &op.payload[..]))?;
            let result = read(&doc)?;
            Ok((result, mem::ManuallyDrop::into_inner(doc)))
        }));
        self.updates_integrated += integrated;
        let (result, doc) = result.unwrap_or(Err(Fault::Panic))?;
        self.keep(document, doc, base, ops);
        Ok(result)
    }

    fn keep(&mut self, document: &str, doc: Doc, base: &Base, ops: &[HistoryOp]) {
        let op_bytes: usize = ops.iter().map(|op| op.payload.len()).sum();
        let blocks = base.figures.blocks + ops.len() as u64;
        let bytes = DOCUMENT_BYTES + BLOCK_BYTES * blocks + base.state.len() as u64 + op_bytes as u64;
        if bytes > self.bytes_max {
            return;
        }
        self.uses += 1;
        let sequence = ops.last().map_or(base.sequence, |op| op.sequence);
        let integrated = Integrated { doc, sequence, bytes, used: self.uses };
        self.bytes += bytes;
        self.documents.insert(Box::from(document), integrated);
        while self.bytes > self.bytes_max {
            let oldest = self.documents.iter().min_by_key(|(_, found)| found.used);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { break };
            self.forget(&oldest);
        }
    }
}

/// Builds a document that is not kept: `state`, then `updates`. Answers with its state and vector.
pub(crate) fn build<'a>(
    state: &'a [u8],
    updates: impl Iterator<Item = &'a [u8]>,
) -> Result<(Bytes, Bytes), Fault> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let doc = mem::ManuallyDrop::new(new_doc());
        let all = std::iter::once(state).filter(|state| !state.is_empty()).chain(updates);
        apply(&doc, all)?;
        let merged = encode_all(&doc, &Clocks::default())?;
        drop(mem::ManuallyDrop::into_inner(doc));
        Ok((merged.state, merged.vector))
    }));
    result.unwrap_or(Err(Fault::Panic))
}

/// Without the room that the library kept for more: it stays in memory with the document.
fn exact(bytes: Vec<u8>) -> Bytes {
    Bytes::from(bytes.into_boxed_slice())
}

fn new_doc() -> Doc {
    let mut options = Options::with_client_id(ClientID::new(CACHE_CLIENT_ID));
    options.offset_kind = OffsetKind::Utf16;
    Doc::with_options(options)
}

fn load(base: &Base) -> Result<Doc, Fault> {
    let doc = new_doc();
    if base.state.is_empty() {
        return Ok(doc);
    }
    let expected = Clocks::from_v1(&base.vector).map_err(|_| Fault::Divergence)?;
    let mut held = Clocks::default();
    let scan = scan_update_ranges(&base.state, |range| {
        held.take(range);
    });
    scan.map_err(|_| Fault::Divergence)?;
    if !held.covers(&expected) {
        return Err(Fault::Divergence);
    }
    apply(&doc, std::iter::once(&base.state[..]))?;
    Ok(doc)
}

/// The library leaves out what it has of a client behind a gap when the reader has all before it. So readers are said
/// to lack the last clock before the gap.
fn before_gaps(own: &StateVector, reader: &StateVector) -> StateVector {
    let mut vector = StateVector::default();
    for (&client, &clock) in reader.iter() {
        let own_clock = own.get(&client);
        if !own.contains_client(&client) || clock < own_clock {
            vector.set_max(client, clock);
        } else if own_clock > 1 {
            vector.set_max(client, own_clock - 1);
        }
    }
    vector
}

/// Integrates updates in one transaction; answers how many.
fn apply<'a>(doc: &Doc, updates: impl Iterator<Item = &'a [u8]>) -> Result<u64, Fault> {
    let mut count = 0;
    // A transaction commits when dropped, also while a panic unwinds: a second panic would abort.
    let mut txn = mem::ManuallyDrop::new(doc.transact_mut());
    for update in updates {
        scan_update(update).map_err(|error| Fault::Update(error.to_string()))?;
        let update = Update::decode_v1(update).map_err(|error| Fault::Update(error.to_string()))?;
        txn.apply_update(update).map_err(|error| Fault::Update(error.to_string()))?;
        count += 1;
    }
    txn.commit();
    drop(mem::ManuallyDrop::into_inner(txn));
    Ok(count)
}

/// The whole state, and the vector of what is in it. It is read back by its clocks: what the library left out of
/// `held` would be lost with the ops.
fn encode_all(doc: &Doc, held: &Clocks) -> Result<Base, Fault> {
    let txn = mem::ManuallyDrop::new(doc.transact());
    let integrated = Clocks::from_v1(&txn.state_vector().encode_v1()).map_err(|_| Fault::Divergence)?;
    let state = exact(txn.encode_state_as_update_v1(&StateVector::default()));
    let mut pending_bytes = if txn.has_missing_updates() {
        let integrated = txn.encode_diff_v1(&StateVector::default()).len();
        state.len().saturating_sub(integrated).max(1) as u64
    } else {
        0
    };
    drop(mem::ManuallyDrop::into_inner(txn));
    let mut clocks = Clocks::default();
    let mut has_gaps = false;
    let scan = scan_update_ranges(&state, |range| has_gaps |= !clocks.take(range));
    let scan = scan.map_err(|_| Fault::Divergence)?;
    if !clocks.covers(&integrated) || !clocks.covers(held) {
        return Err(Fault::Divergence);
    }
    if has_gaps {
        pending_bytes = pending_bytes.max(1);
    }
    let vector = clocks.to_v1();
    let figures =
        Figures { pending_bytes, shared_types: scan.shared_types, blocks: scan.blocks, ..Figures::default() };
    Ok(Base { sequence: 0, state, vector, figures })
}

#[cfg(test)]
mod tests {
    use wire::Guuid;

    use super::*;

    /// One letter of `client`, behind another or else the first.
    fn letter(sequence: u64, client: u8, clock: u8, origin: Option<(u8, u8)>) -> HistoryOp {
        let mut update = vec![1, 1, client, clock];
        match origin {
            Some((client, clock)) => update.extend([0x84, client, clock]),
            None => update.extend([4, 1, 1, b't']),
        }
        update.extend([1, b'x', 0]);
        HistoryOp { sequence, op_id: Guuid::NIL, unix_ms: 0, payload: update.into() }
    }

    fn ranges(update: &[u8]) -> Vec<(u64, u32, u32)> {
        let mut ranges = Vec::new();
        scan_update_ranges(update, |range| ranges.push((range.client, range.start, range.end))).unwrap();
        ranges
    }

    #[test]
    fn a_document_that_waits_for_a_lost_op_is_quarantined_when_it_is_loaded() {
        let ops = [
            letter(1, 17, 0, None),
            // What it follows was never durable.
            letter(2, 17, 1, Some((33, 5))),
            letter(3, 17, 2, Some((17, 0))),
            letter(4, 1, 0, Some((17, 2))),
        ];
        let mut base = Materializer::new(0).merge("d", &Base::default(), &ops).unwrap();
        for (sequence, clock) in [(5, 1), (6, 2)] {
            // Nothing is kept in memory: each time it is loaded.
            let op = letter(sequence, 1, clock, Some((1, clock - 1)));
            base = Materializer::new(0).merge("d", &base, &[op]).unwrap();
        }
        let mut found = ranges(&base.state);
        found.sort_unstable();
        assert_eq!(found, [(1, 0, 3), (17, 0, 3)]);
    }

    #[test]
    fn what_is_behind_a_gap_is_not_sent_to_who_has_all_before_it() {
        let ops = [letter(1, 17, 0, None), letter(2, 17, 2, Some((17, 0))), letter(3, 18, 1, Some((17, 0)))];
        let base = Materializer::new(0).merge("d", &Base::default(), &ops).unwrap();
        let reader = [2, 17, 1, 18, 0];
        for (base, ops) in [(&base, &[][..]), (&Base::default(), &ops[..])] {
            let (diff, _) = Materializer::new(0).diff("d", base, ops, &reader).unwrap();
            let found = ranges(&diff);
            assert!(found.contains(&(17, 2, 3)) && found.contains(&(18, 1, 2)), "{found:?}");
        }
    }
}
