//! Where documents are kept, as the storage worker sees it.

use bytes::Bytes;
use thiserror::Error;
use wire::Code;
use wire::sync::DocumentKind;

use crate::jobs::{Base, HistoryOp, StoredDocument, Tombstone, Version};

/// Why the store did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StoreError {
    /// What is stored of one document cannot be used. Others are not concerned.
    #[error("document {document:?}: {what} is damaged: restore the node's backup of it, or delete it")]
    Damaged {
        /// The document.
        document: String,
        /// Which part, and what is wrong with it.
        what: String,
    },
    /// The store as a whole could not be read or written.
    #[error("the document store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// The code that clients are told.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Damaged { .. } => Code::SnapshotDamaged,
            Self::Failed(_) => Code::StorageFailed,
        }
    }
}

/// A merged state in the history, from which a past moment is built with fewer ops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryBase {
    /// The last op in it.
    pub sequence: u64,
    /// When it was merged, Unix milliseconds.
    pub unix_ms: u64,
    /// The state (update v1).
    pub state: Bytes,
}

/// One change of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreWrite<'a> {
    /// Puts in place what is known of a document.
    Head {
        /// Its id.
        document: &'a str,
        /// What is known now.
        head: &'a StoredDocument,
    },
    /// Adds ops to the history.
    History {
        /// The document.
        document: &'a str,
        /// They follow those that are there without a gap. Never empty.
        ops: &'a [HistoryOp],
    },
    /// Adds a merged state to the history.
    HistoryBase {
        /// The document.
        document: &'a str,
        /// When it was merged, Unix milliseconds.
        unix_ms: u64,
        /// The state.
        base: &'a Base,
    },
    /// Adds or moves a named version.
    Version {
        /// The document.
        document: &'a str,
        /// The name and what it names.
        version: &'a Version,
    },
    /// Removes all of a document: head, history, states, versions. A tombstone takes the place of its head.
    Delete {
        /// The document.
        document: &'a str,
        /// What it was made of.
        kind: DocumentKind,
        /// The number of the deletion in the document.
        sequence: u64,
        /// The end.
        tombstone: Tombstone,
    },
}

/// Keeps the documents of a shard. All calls block; each value that is read is checked against its checksum.
pub trait DocumentStore {
    /// What is stored of a document.
    fn head(&mut self, document: &str) -> Result<Option<StoredDocument>, StoreError>;

    /// Makes all changes or none of them; they are durable on return.
    fn write(&mut self, writes: &[StoreWrite<'_>]) -> Result<(), StoreError>;

    /// The ops from `from` on, without gaps, until their payloads are over `bytes_max`; none when the op at `from`
    /// is not kept.
    fn history(&mut self, document: &str, from: u64, bytes_max: usize) -> Result<Vec<HistoryOp>, StoreError>;

    /// Whether the op at `sequence` is in the history.
    fn holds(&mut self, document: &str, sequence: u64) -> Result<bool, StoreError> {
        Ok(!self.history(document, sequence, 0)?.is_empty())
    }

    /// The merged state in the history whose last op is the last no later than `sequence`.
    fn base_at(&mut self, document: &str, sequence: u64) -> Result<Option<HistoryBase>, StoreError>;

    /// The last op in the history that was taken no later than `unix_ms`.
    fn sequence_at(&mut self, document: &str, unix_ms: u64) -> Result<Option<u64>, StoreError>;

    /// The named versions, by sequence.
    fn versions(&mut self, document: &str) -> Result<Vec<Version>, StoreError>;
}
