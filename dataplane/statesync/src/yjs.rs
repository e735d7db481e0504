//! The integrated state of a `yjs` document: a cache over its ops.
//!
//! Updates are queued when they are logged and integrated later, many in one transaction. The library may
//! panic on input that it decoded without complaint; then this cache is quarantined and the document lives
//! on as a log. Nothing here can lose an op.

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use thiserror::Error;
use wire::Malformed;
use wire::yjs_scan::{scan_state_vector, scan_update};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{ClientID, Doc, OffsetKind, Options, ReadTxn, StateVector, Transact, Update};

use crate::config::{
    CHECKPOINT_OPS, CHECKPOINTS_MAX, QUEUED_BYTES_MAX, QUEUED_UPDATES_MAX, SNAPSHOT_AGE_OPS_MAX,
    SNAPSHOT_AGE_OPS_MIN, SNAPSHOT_BYTES_PER_OP,
};

/// The client id of the cache, which never edits.
const CACHE_CLIENT_ID: u64 = 1;

/// Why an update was refused.
#[derive(Debug, Error)]
pub(crate) enum UpdateFault {
    #[error("update does not follow the Yjs v1 format: {0}")]
    Scan(#[from] Malformed),
    #[error("update does not decode: {0}")]
    Decode(yrs::encoding::read::Error),
    #[error("update does not decode")]
    Panic,
}

/// The cache was given up after a fault of the CRDT library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Quarantined;

/// The whole state at one moment, shared by all who join about then.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The last op in it.
    pub(crate) sequence: u64,
    pub(crate) state: Bytes,
    pub(crate) vector: Bytes,
}

/// The integrated document and the updates that wait for it.
pub(crate) struct YjsCache {
    /// `None`: quarantined.
    doc: Option<Doc>,
    queue: VecDeque<(Update, usize)>,
    queue_bytes: usize,
    pending_bytes: usize,
    snapshot: Option<Snapshot>,
    /// State vectors of the past, by the last op in them.
    checkpoints: VecDeque<(u64, StateVector)>,
}

/// Decodes an update, after a look at what it asks for. Answers with the number of shared types in it, too.
pub(crate) fn decode_update(update: &[u8]) -> Result<(Update, u64), UpdateFault> {
    let shared_types = scan_update(update)?;
    let decoded = catch_unwind(|| Update::decode_v1(update)).map_err(|_| UpdateFault::Panic)?;
    Ok((decoded.map_err(UpdateFault::Decode)?, shared_types))
}

/// Decodes a state vector; no bytes stand for an empty one.
pub(crate) fn decode_state_vector(vector: &[u8]) -> Option<StateVector> {
    if vector.is_empty() {
        return Some(StateVector::default());
    }
    scan_state_vector(vector).ok()?;
    StateVector::decode_v1(vector).ok()
}

impl Snapshot {
    /// Ops that may follow it before a fresh one is cheaper for all.
    pub(crate) fn age_ops_max(&self) -> u64 {
        let ops = SNAPSHOT_AGE_OPS_MIN + self.state.len() as u64 / SNAPSHOT_BYTES_PER_OP;
        ops.min(SNAPSHOT_AGE_OPS_MAX)
    }
}

impl YjsCache {
    pub(crate) fn new() -> Self {
        let mut options = Options::with_client_id(ClientID::new(CACHE_CLIENT_ID));
        options.offset_kind = OffsetKind::Utf16;
        Self {
            doc: Some(Doc::with_options(options)),
            queue: VecDeque::new(),
            queue_bytes: 0,
            pending_bytes: 0,
            snapshot: None,
            checkpoints: VecDeque::new(),
        }
    }

    /// Queues the update of op `sequence`, which has been logged. Integrates at once when too much is waiting,
    /// and answers how many.
    pub(crate) fn push(&mut self, sequence: u64, update: Update, bytes: usize) -> usize {
        if self.doc.is_none() {
            return 0;
        }
        self.queue.push_back((update, bytes));
        self.queue_bytes += bytes;
        if self.queue.len() >= QUEUED_UPDATES_MAX || self.queue_bytes >= QUEUED_BYTES_MAX {
            let integrated = self.integrate(usize::MAX);
            self.checkpoint(sequence);
            return integrated;
        }
        0
    }

    /// Whether updates wait for integration.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the cache was given up.
    pub(crate) const fn is_quarantined(&self) -> bool {
        self.doc.is_none()
    }

    /// Bytes of integrated updates whose dependencies are missing.
    pub(crate) const fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Gives the cache up. Its document is leaked, not dropped: what a panic left of it cannot be trusted to
    /// run destructors.
    pub(crate) fn quarantine(&mut self) {
        mem::forget(self.doc.take());
        mem::forget(mem::take(&mut self.queue));
        self.queue_bytes = 0;
        self.snapshot = None;
        self.checkpoints.clear();
    }

    /// Integrates up to `updates_max` queued updates in one transaction and answers how many.
    pub(crate) fn integrate(&mut self, updates_max: usize) -> usize {
        let count = updates_max.min(self.queue.len());
        let Some(doc) = self.doc.as_ref() else { return 0 };
        if count == 0 {
            return 0;
        }
        let mut bytes = 0;
        let batch: Vec<Update> = self
            .queue
            .drain(..count)
            .map(|(update, update_bytes)| {
                bytes += update_bytes;
                update
            })
            .collect();
        self.queue_bytes -= bytes;
        let applied = catch_unwind(AssertUnwindSafe(|| {
            // A transaction commits when dropped, also while a panic unwinds: a second panic would abort.
            let mut txn = mem::ManuallyDrop::new(doc.transact_mut());
            let applied = batch.into_iter().try_for_each(|update| txn.apply_update(update));
            txn.commit();
            let missing = txn.has_missing_updates();
            drop(mem::ManuallyDrop::into_inner(txn));
            applied.map(|()| missing)
        }));
        match applied {
            Ok(Ok(missing)) => self.pending_bytes = if missing { self.pending_bytes + bytes } else { 0 },
            Ok(Err(_)) | Err(_) => self.quarantine(),
        }
        count
    }

    /// Remembers the state vector now and then, once all up to op `sequence` is integrated.
    pub(crate) fn checkpoint(&mut self, sequence: u64) {
        debug_assert!(self.queue.is_empty(), "a checkpoint holds all ops before it");
        let is_due = self.checkpoints.back().is_none_or(|&(last, _)| sequence >= last + CHECKPOINT_OPS);
        if let Some(doc) = self.doc.as_ref().filter(|_| is_due) {
            if self.checkpoints.len() >= CHECKPOINTS_MAX {
                self.checkpoints.pop_front();
            }
            self.checkpoints.push_back((sequence, doc.transact().state_vector()));
        }
    }

    /// The last state vector remembered that holds no op from `sequence` on.
    pub(crate) fn vector_before(&self, sequence: u64) -> Option<&StateVector> {
        self.checkpoints.iter().rev().find(|(last, _)| *last < sequence).map(|(_, vector)| vector)
    }

    /// Whether every client of `update` goes on where the document ends, so that nothing waits for it.
    pub(crate) fn extends_without_gap(&mut self, update: &Update) -> bool {
        self.integrate(usize::MAX);
        let Some(doc) = self.doc.as_ref() else { return false };
        let held = doc.transact().state_vector();
        update.state_vector_lower().iter().all(|(client, &clock)| clock <= held.get(client))
    }

    /// Runs `read` on the document with everything integrated; a panic quarantines the cache.
    fn read<T>(&mut self, read: impl FnOnce(&yrs::Transaction<'_>) -> T) -> Result<T, Quarantined> {
        self.integrate(usize::MAX);
        let doc = self.doc.as_ref().ok_or(Quarantined)?;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let txn = mem::ManuallyDrop::new(doc.transact());
            let result = read(&txn);
            drop(mem::ManuallyDrop::into_inner(txn));
            result
        }));
        result.map_err(|_| {
            self.quarantine();
            Quarantined
        })
    }

    /// The state vector (v1).
    pub(crate) fn state_vector(&mut self) -> Result<Bytes, Quarantined> {
        self.read(|txn| Bytes::from(txn.state_vector().encode_v1()))
    }

    /// What a holder of `vector` lacks, with the document's own state vector (both v1).
    pub(crate) fn diff(&mut self, vector: &StateVector) -> Result<(Bytes, Bytes), Quarantined> {
        self.read(|txn| {
            let diff = Bytes::from(txn.encode_state_as_update_v1(vector));
            (diff, Bytes::from(txn.state_vector().encode_v1()))
        })
    }

    /// The last snapshot, of whatever age.
    pub(crate) const fn cached_snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Lets go of a snapshot that no join will share any more.
    pub(crate) fn forget_snapshot_before(&mut self, sequence: u64) {
        self.snapshot.take_if(|snapshot| snapshot.sequence < sequence);
    }

    /// Encodes the whole state, which ends with op `sequence`.
    pub(crate) fn snapshot(&mut self, sequence: u64) -> Result<Snapshot, Quarantined> {
        let (state, vector) = self.diff(&StateVector::default())?;
        let snapshot = Snapshot { sequence, state, vector };
        self.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }
}
