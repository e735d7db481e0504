//! Taking the log back into memory, before anybody is served.

use thiserror::Error;
use wire::Guuid;
use wire::sync::DocumentKind;

use crate::StateSync;
use crate::yjs::decode_update;

/// A log that does not fit together. Whoever recovers must stop: what follows cannot be trusted.
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
}

impl StateSync {
    /// Takes one op of the log, in order of the log. An update that does not decode quarantines the
    /// document's cache and nothing else.
    pub fn handle_recovered(
        &mut self,
        document: &str,
        kind: DocumentKind,
        sequence: u64,
        op_id: Guuid,
        payload: &[u8],
    ) -> Result<(), RecoveryError> {
        let slot = match self.document_ids.get(document) {
            Some(&slot) => slot,
            None => {
                let (partition, _) = self.placement.locate(document);
                self.insert_document(document, kind, partition)
            }
        };
        let found = &mut self.documents[slot];
        if found.kind != kind {
            let document = document.to_owned();
            return Err(RecoveryError::Kind { document, sequence, expected: found.kind, found: kind });
        }
        let expected = found.sequence + 1;
        if sequence != expected {
            let document = document.to_owned();
            return Err(RecoveryError::Sequence { document, expected, found: sequence });
        }
        let update = match found.cache.as_mut() {
            None => None,
            Some(cache) if cache.is_quarantined() => None,
            Some(cache) => match decode_update(payload) {
                Ok((update, shared_types)) => {
                    found.shared_types += shared_types;
                    Some(update)
                }
                Err(_) => {
                    cache.quarantine();
                    self.stats.quarantined += 1;
                    None
                }
            },
        };
        self.keep_op(slot, op_id, payload, update);
        self.stats.ops_recovered += 1;
        let found = &mut self.documents[slot];
        found.durable_sequence = sequence;
        let progress = found.writers.get_mut(op_id.writer()).expect("kept with the op");
        progress.durable_counter = progress.logged_counter;
        progress.durable_sequence = sequence;
        Ok(())
    }

    /// The log is at its end: integrates what waits. `incarnation` is the number of this run of the log, greater
    /// than any before.
    pub fn finish_recovery(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
        while self.run_background(usize::MAX) {}
    }
}
