//! What is done off the core of a shard: reading and writing the store, merging, comparing.
//!
//! [`StateSync::poll_job`](crate::StateSync::poll_job) hands a [`Job`] out, a
//! [`StorageWorker`](crate::StorageWorker) on another thread does it, and
//! [`StateSync::handle_job_done`](crate::StateSync::handle_job_done) takes the answer. All bytes in them are
//! shared, none are copied on the way.

use bytes::Bytes;
use wire::sync::DocumentKind;
use wire::{Code, Guuid};

/// Names a job until it is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

/// What is known of a document by counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Bytes of updates in the state whose dependencies are missing.
    pub pending_bytes: u64,
    /// Shared types in the state.
    pub shared_types: u64,
    /// Blocks in the state.
    pub blocks: u64,
    /// Bytes of all ops ever taken.
    pub op_bytes: u64,
    /// How many of them were taken when the last state was put into the history.
    pub history_base_op_bytes: u64,
}

/// A document merged up to an op.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Base {
    /// The last op in it; zero: nothing is.
    pub sequence: u64,
    /// The state as one Yjs update (v1); empty for nothing, and for an opaque document.
    pub state: Bytes,
    /// Its Yjs state vector (v1); empty for nothing.
    pub vector: Bytes,
    /// What is in it.
    pub figures: Figures,
}

/// One op, as it was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryOp {
    /// Its place in the document.
    pub sequence: u64,
    /// Its writer and the writer's counter.
    pub op_id: Guuid,
    /// When the node took it, Unix milliseconds; for one that came back out of the log, when that run of the log
    /// began.
    pub unix_ms: u64,
    /// What the writer sent.
    pub payload: Bytes,
}

/// How far a writer's ops are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriterMark {
    /// The writer: an op id with the counter zero.
    pub writer: Guuid,
    /// Its highest counter.
    pub counter: u64,
    /// The document's sequence of that op.
    pub sequence: u64,
}

/// The end of a deleted document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tombstone {
    /// When it was deleted, Unix milliseconds.
    pub unix_ms: u64,
}

/// What the store holds of a document, its history aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredDocument {
    /// What it is made of.
    pub kind: DocumentKind,
    /// The last op that is stored: in the base, or else in the history behind it.
    pub sequence: u64,
    /// The merged state. It ends with `sequence`, but for opaque and quarantined documents, whose later ops are in
    /// the history alone.
    pub base: Base,
    /// Who wrote, up to `sequence`.
    pub writers: Vec<WriterMark>,
    /// The CRDT library failed on it: nothing is merged into it any more.
    pub quarantined: bool,
    /// It was deleted: nothing else here means anything but `kind` and `sequence`.
    pub tombstone: Option<Tombstone>,
}

/// A name for a document as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// The name, unique in the document.
    pub name: Box<str>,
    /// The last op in it.
    pub sequence: u64,
    /// When it was made, Unix milliseconds.
    pub unix_ms: u64,
}

/// A moment in a document's past.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum At {
    /// After this op.
    Sequence(u64),
    /// After the last op that was taken no later than this, Unix milliseconds.
    UnixMs(u64),
    /// As a version names it.
    Version(Box<str>),
}

/// Something to do off the core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Job {
    /// Read what is stored of a document.
    Load {
        /// Its id.
        document: Box<str>,
    },
    /// Merge ops into a document and store it; durable when answered.
    Snapshot(Snapshot),
    /// Find what a client lacks.
    Diff {
        /// The document.
        document: Box<str>,
        /// Its merged state.
        base: Base,
        /// The ops after it, without gaps.
        ops: Vec<HistoryOp>,
        /// The client's state vector (v1).
        vector: Bytes,
    },
    /// Read ops out of the history.
    ReadOps {
        /// The document.
        document: Box<str>,
        /// The first op wanted.
        from: u64,
        /// Bytes after which no further op is added.
        bytes_max: usize,
    },
    /// Delete a document and leave a tombstone; durable when answered.
    Delete {
        /// The document.
        document: Box<str>,
        /// What it was made of.
        kind: DocumentKind,
        /// The number of the deletion in the document.
        sequence: u64,
        /// When, Unix milliseconds.
        unix_ms: u64,
    },
    /// Name the document as it is stored; durable when answered.
    CreateVersion {
        /// The document.
        document: Box<str>,
        /// Its name and place.
        version: Version,
    },
    /// Read the names of versions.
    ListVersions {
        /// The document.
        document: Box<str>,
    },
    /// Build a document as it was.
    ReadAt {
        /// The document.
        document: Box<str>,
        /// When.
        at: At,
    },
}

/// A snapshot to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The document.
    pub document: Box<str>,
    /// What it is made of.
    pub kind: DocumentKind,
    /// The merged state that is stored.
    pub base: Base,
    /// The ops that are not stored yet, without gaps. Never empty.
    pub ops: Vec<HistoryOp>,
    /// Who wrote, up to the last of them.
    pub writers: Vec<WriterMark>,
    /// The CRDT library failed on it before: store the ops and merge nothing.
    pub quarantined: bool,
    /// Now, Unix milliseconds.
    pub unix_ms: u64,
}

/// What became of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobDone {
    /// Of [`Job::Load`]; `None`: the store knows no such document.
    Loaded(Option<Box<StoredDocument>>),
    /// Of [`Job::Snapshot`].
    Snapshotted {
        /// The merged state that is stored now.
        base: Base,
        /// The last op that is stored now.
        sequence: u64,
        /// The CRDT library failed on it.
        quarantined: bool,
    },
    /// Of [`Job::Diff`].
    Diff {
        /// What the client lacks (update v1).
        state: Bytes,
        /// The state vector of the document (v1).
        vector: Bytes,
        /// The last op in both.
        sequence: u64,
    },
    /// Of [`Job::ReadOps`]: without gaps; none when the first is not kept any more.
    Ops(Vec<HistoryOp>),
    /// Of [`Job::Delete`].
    Deleted,
    /// Of [`Job::CreateVersion`].
    VersionCreated,
    /// Of [`Job::ListVersions`], by sequence.
    Versions(Vec<Version>),
    /// Of [`Job::ReadAt`].
    State {
        /// The last op in it.
        sequence: u64,
        /// The state (update v1); for an opaque document its ops, each after its length as a varint.
        state: Bytes,
        /// The state vector (v1); empty for an opaque document.
        vector: Bytes,
    },
    /// It could not be done.
    Failed {
        /// Why.
        code: Code,
        /// What was wrong and with what.
        text: String,
    },
}
