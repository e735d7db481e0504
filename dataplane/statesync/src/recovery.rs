//! Taking the log back into memory, before anybody is served. Nothing is integrated.

use thiserror::Error;
use wire::sync::DocumentKind;
use wire::{Code, Guuid};

use crate::StateSync;
use crate::document::Residence;
use crate::jobs::StoredDocument;
use crate::storage::Wanted;
use crate::store::StoreError;
use crate::tail::NewOp;

/// A log that does not fit together, or not to the store. Whoever recovers must stop: what follows cannot be
/// trusted.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RecoveryError {
    /// An op is missing or comes twice.
    #[error("document {document:?}: the log continues with op {found} where op {expected} belongs")]
    Sequence {
        /// The document.
        document: String,
        /// The op that would have been next.
        expected: u64,
        /// The op in the log.
        found: u64,
    },
    /// The kind of a document changes.
    #[error("document {document:?}: op {sequence} is {found:?} in a document that is {expected:?}")]
    Kind {
        /// The document.
        document: String,
        /// The op.
        sequence: u64,
        /// What the document is.
        expected: DocumentKind,
        /// What the op says.
        found: DocumentKind,
    },
    /// The store cannot be read.
    #[error("{0}")]
    Store(StoreError),
}

/// One op or deletion of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveredOp<'a> {
    /// The document's id.
    pub document: &'a str,
    /// What it is made of.
    pub kind: DocumentKind,
    /// Its place in the document.
    pub sequence: u64,
    /// The writer and its op counter.
    pub op_id: Guuid,
    /// Its place in the log.
    pub lsn: u64,
    /// When it was taken, Unix milliseconds; 0: nobody knows.
    pub unix_ms: u64,
    /// The bytes that the writer sent.
    pub payload: &'a [u8],
    /// The document ends here.
    pub is_deletion: bool,
}

impl StateSync {
    /// Takes one op of the log, in order of the log. `head` looks a document up in the store: it is asked at the first
    /// op of each. What the store has already is passed over.
    ///
    /// A log can hold the end of a document and then another one of the same id, made anew after the tombstone was
    /// forgotten. What is stored belongs to the newer one then, and does not fit to the ops of the older: whether they are
    /// a fault is known at the end alone.
    pub fn handle_recovered(
        &mut self,
        op: &RecoveredOp<'_>,
        head: &mut impl FnMut(&str) -> Result<Option<StoredDocument>, StoreError>,
    ) -> Result<(), RecoveryError> {
        let slot = match self.document_ids.get(op.document) {
            Some(&slot) => slot,
            None => self.recover_head(op, head)?,
        };
        self.stats.ops_recovered += 1;
        let mut slot = slot;
        if let Residence::Deleted { .. } = self.documents[slot].residence
            && op.sequence == 1
        {
            // Another one of the same id: nothing of the one before concerns it.
            self.remove(slot);
            slot = self.recover_head(op, head)?;
        }
        if op.is_deletion {
            self.recover_deletion(slot, op);
            return Ok(());
        }
        let found = &mut self.documents[slot];
        if let Residence::Unusable(_) = found.residence {
            // Only the log has it, then: it stays.
            if found.dirty_lsn.is_none() {
                self.mark_dirty_from(slot, Some(op.lsn));
            }
            return Ok(());
        }
        if self.misfits.contains_key(&slot) {
            return Ok(());
        }
        if found.kind != op.kind {
            let (expected, document) = (found.kind, op.document.to_owned());
            let error = RecoveryError::Kind { document, sequence: op.sequence, expected, found: op.kind };
            self.misfits.insert(slot, error);
            return Ok(());
        }
        if op.sequence <= found.stored_sequence {
            self.stats.ops_recovered_stored += 1;
            return Ok(());
        }
        let expected = found.sequence + 1;
        if op.sequence != expected {
            let document = op.document.to_owned();
            let error = RecoveryError::Sequence { document, expected, found: op.sequence };
            self.misfits.insert(slot, error);
            return Ok(());
        }
        let new = NewOp { op_id: op.op_id, lsn: op.lsn, unix_ms: op.unix_ms, payload: op.payload };
        self.keep_op(slot, &new);
        let found = &mut self.documents[slot];
        found.durable_sequence = op.sequence;
        if let Some(progress) = found.writers.get_mut(op.op_id.writer()) {
            progress.durable_counter = progress.logged_counter;
            progress.durable_sequence = op.sequence;
        }
        if found.dirty_lsn.is_none() {
            self.mark_dirty_from(slot, Some(op.lsn));
        }
        Ok(())
    }

    /// All before it is gone, whether it fitted or not.
    fn recover_deletion(&mut self, slot: usize, op: &RecoveredOp<'_>) {
        self.misfits.remove(&slot);
        let found = &self.documents[slot];
        if found.residence == Residence::Gone && op.sequence <= found.stored_sequence {
            return;
        }
        let partition = found.partition;
        self.remove(slot);
        let residence = Residence::Deleted { sequence: op.sequence, unix_ms: op.unix_ms };
        let slot = self.insert_document(op.document, op.kind, partition, residence);
        self.documents[slot].durable_sequence = op.sequence;
        self.mark_dirty_from(slot, Some(op.lsn));
    }

    fn recover_head(
        &mut self,
        op: &RecoveredOp<'_>,
        head: &mut impl FnMut(&str) -> Result<Option<StoredDocument>, StoreError>,
    ) -> Result<usize, RecoveryError> {
        let (partition, _) = self.placement.locate(op.document);
        let stored = match head(op.document) {
            Ok(stored) => stored,
            Err(StoreError::Damaged { .. }) => {
                self.stats.loads_failed += 1;
                let residence = Residence::Unusable(Code::SnapshotDamaged);
                return Ok(self.insert_document(op.document, op.kind, partition, residence));
            }
            Err(error) => return Err(RecoveryError::Store(error)),
        };
        let slot = self.insert_document(op.document, op.kind, partition, Residence::Ready);
        if let Some(stored) = stored {
            let document = &mut self.documents[slot];
            if stored.tombstone.is_some() {
                document.residence = Residence::Gone;
            }
            document.fill(stored);
            self.settle_memory(slot);
        }
        Ok(slot)
    }

    /// The log is at its end, up to and with `lsn`. `incarnation` is the number of this run of the log, greater than
    /// any before. What only the log holds is stored as the jobs are polled.
    ///
    /// # Errors
    /// When ops did not fit together, or not to the store.
    pub fn finish_recovery(&mut self, incarnation: u64, lsn: u64) -> Result<(), RecoveryError> {
        if let Some((_, error)) = std::mem::take(&mut self.misfits).pop_first() {
            return Err(error);
        }
        self.incarnation = incarnation;
        self.durable_lsn = Some(lsn);
        let slots: Vec<_> = self.documents.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let document = &self.documents[slot];
            match document.residence {
                Residence::Deleted { .. } => self.want(slot, Wanted::Delete { slot }),
                Residence::Unusable(_) => {}
                // All of it is stored: it is loaded when somebody asks for it.
                Residence::Gone => self.remove(slot),
                _ if !document.is_dirty() => self.remove(slot),
                _ => {}
            }
        }
        let dirty: Vec<_> = self.dirty.iter().map(|&(_, slot)| slot).collect();
        for slot in dirty {
            self.want_snapshot(slot, false);
        }
        Ok(())
    }
}
