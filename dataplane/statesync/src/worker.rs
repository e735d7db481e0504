//! Does the jobs of a shard: merges, compares, reads and writes the store. Runs on a thread of its own.

use bytes::Bytes;
use wire::Code;
use wire::limits::VERSIONS_PER_DOCUMENT_MAX;
use wire::sync::DocumentKind;
use wire::varint::put_bytes;

use crate::jobs::{At, Base, Figures, HistoryOp, Job, JobDone, Snapshot, StoredDocument, Tombstone, Version};
use crate::materializer::{Fault, Materializer, build};
use crate::store::{DocumentStore, StoreError, StoreWrite};

/// Bytes of ops that are read from the history at a time to build a past state.
const HISTORY_READ_BYTES: usize = 4 << 20;
/// The most bytes of ops that the answer to one request for a past opaque document holds.
const OPAQUE_STATE_BYTES_MAX: usize = 64 << 20;

/// What a storage worker may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerConfig {
    /// Bytes of integrated documents that are kept for the next job.
    pub materialized_bytes_max: u64,
    /// Bytes of ops after which a merged state is put into the history beside them.
    pub history_base_bytes: u64,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { materialized_bytes_max: 256 << 20, history_base_bytes: 4 << 20 }
    }
}

/// What a worker did so far and holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerStats {
    /// Jobs done, failed ones included.
    pub jobs: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Documents stored.
    pub snapshots: u64,
    /// Bytes of merged states stored.
    pub snapshot_bytes: u64,
    /// Documents that the CRDT library failed on.
    pub faults: u64,
    /// Updates integrated.
    pub updates_integrated: u64,
    /// Integrated documents in memory now.
    pub materialized: u64,
    /// Bytes that they take, about.
    pub materialized_bytes: u64,
}

/// Does jobs one after the other. Whoever integrates needs a stack of [`STACK_BYTES_MIN`](crate::STACK_BYTES_MIN).
pub struct StorageWorker<S> {
    store: S,
    materializer: Materializer,
    config: WorkerConfig,
    stats: WorkerStats,
}

/// Why a job was not done.
struct Failure {
    code: Code,
    text: String,
}

impl Failure {
    fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl<S: DocumentStore> StorageWorker<S> {
    /// Over a store that was recovered.
    pub fn new(store: S, config: WorkerConfig) -> Self {
        let materializer = Materializer::new(config.materialized_bytes_max);
        Self { store, materializer, config, stats: WorkerStats::default() }
    }

    /// The store.
    pub const fn store(&mut self) -> &mut S {
        &mut self.store
    }

    /// The store, to look at.
    pub const fn peek(&self) -> &S {
        &self.store
    }

    /// Gives the store back.
    pub fn into_store(self) -> S {
        self.store
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        WorkerStats {
            updates_integrated: self.materializer.updates_integrated(),
            materialized: self.materializer.len() as u64,
            materialized_bytes: self.materializer.bytes(),
            ..self.stats
        }
    }

    /// Does one job. Jobs of one document are done in the order in which they were polled.
    pub fn handle(&mut self, job: Job) -> JobDone {
        self.stats.jobs += 1;
        let done = match job {
            Job::Load { document } => {
                let head = self.store.head(&document).map_err(Failure::from);
                head.map(|head| JobDone::Loaded(head.map(Box::new)))
            }
            Job::Snapshot(snapshot) => self.snapshot(&snapshot),
            Job::Diff { document, base, ops, vector } => self.diff(&document, &base, &ops, &vector),
            Job::ReadOps { document, from, bytes_max } => {
                self.store.history(&document, from, bytes_max).map(JobDone::Ops).map_err(Failure::from)
            }
            Job::Delete { document, kind, sequence, unix_ms } => {
                self.materializer.forget(&document);
                let tombstone = Tombstone { unix_ms };
                let delete = StoreWrite::Delete { document: &document, kind, sequence, tombstone };
                self.store.write(&[delete]).map(|()| JobDone::Deleted).map_err(Failure::from)
            }
            Job::CreateVersion { document, version } => self.create_version(&document, &version),
            Job::ListVersions { document } => {
                self.store.versions(&document).map(JobDone::Versions).map_err(Failure::from)
            }
            Job::ReadAt { document, at } => self.read_at(&document, &at),
        };
        done.unwrap_or_else(|Failure { code, text }| {
            self.stats.failed += 1;
            JobDone::Failed { code, text }
        })
    }

    fn snapshot(&mut self, job: &Snapshot) -> Result<JobDone, Failure> {
        let Some(last) = job.ops.last() else {
            return Err(Failure::new(Code::StorageFailed, "a snapshot without ops"));
        };
        let sequence = last.sequence;
        let mut quarantined = job.quarantined;
        let op_bytes = job.ops.iter().map(|op| op.payload.len() as u64).sum::<u64>();
        let grown = Figures { op_bytes: job.base.figures.op_bytes + op_bytes, ..job.base.figures };
        let unmerged = || Base { figures: grown, ..job.base.clone() };
        let mut base = match job.kind {
            DocumentKind::Yjs if !quarantined => {
                match self.materializer.merge(&job.document, &job.base, &job.ops) {
                    Ok(base) => base,
                    Err(_) => {
                        self.stats.faults += 1;
                        quarantined = true;
                        unmerged()
                    }
                }
            }
            _ => unmerged(),
        };
        let is_history_base_due = base.sequence == sequence
            && base.figures.op_bytes - base.figures.history_base_op_bytes >= self.config.history_base_bytes;
        if is_history_base_due {
            base.figures.history_base_op_bytes = base.figures.op_bytes;
        }
        let head = StoredDocument {
            kind: job.kind,
            sequence,
            base,
            writers: job.writers.clone(),
            quarantined,
            tombstone: None,
        };
        let document = &*job.document;
        let history = StoreWrite::History { document, ops: &job.ops };
        let head_write = StoreWrite::Head { document, head: &head };
        let base_write = |base| StoreWrite::HistoryBase { document, unix_ms: job.unix_ms, base };
        let mut writes = vec![history, head_write];
        if is_history_base_due {
            writes.push(base_write(&head.base));
        }
        // When all history up to the state has gone, what follows is built from the state.
        let is_lone = !job.quarantined && !job.base.state.is_empty();
        if is_lone && !self.store.holds(document, job.base.sequence).map_err(Failure::from)? {
            writes.push(base_write(&job.base));
        }
        self.store.write(&writes).map_err(Failure::from)?;
        self.stats.snapshots += 1;
        self.stats.snapshot_bytes += head.base.state.len() as u64;
        Ok(JobDone::Snapshotted { base: head.base, sequence, quarantined })
    }

    fn diff(
        &mut self,
        document: &str,
        base: &Base,
        ops: &[HistoryOp],
        vector: &[u8],
    ) -> Result<JobDone, Failure> {
        let sequence = ops.last().map_or(base.sequence, |op| op.sequence);
        match self.materializer.diff(document, base, ops, vector) {
            Ok((state, vector)) => Ok(JobDone::Diff { state, vector, sequence }),
            Err(Fault::StateVector) => Err(Failure::new(Code::StateVector, Fault::StateVector.to_string())),
            Err(fault) => {
                self.stats.faults += 1;
                Err(Failure::new(Code::Quarantined, fault.to_string()))
            }
        }
    }

    fn create_version(&mut self, document: &str, version: &Version) -> Result<JobDone, Failure> {
        let head = self.head(document)?;
        let versions = self.store.versions(document).map_err(Failure::from)?;
        let is_new = versions.iter().all(|known| known.name != version.name);
        if is_new && versions.len() >= VERSIONS_PER_DOCUMENT_MAX {
            return Err(Failure::new(Code::LimitReached, "the document has as many versions as it may have"));
        }
        let write = StoreWrite::Version { document, version };
        let base = StoreWrite::HistoryBase { document, unix_ms: version.unix_ms, base: &head.base };
        let writes = [write, base];
        let is_merged = head.base.sequence == version.sequence && !head.base.state.is_empty();
        let count = if is_merged { 2 } else { 1 };
        self.store.write(&writes[..count]).map_err(Failure::from)?;
        Ok(JobDone::VersionCreated)
    }

    fn head(&mut self, document: &str) -> Result<StoredDocument, Failure> {
        let head = self.store.head(document).map_err(Failure::from)?;
        let head = head.filter(|head| head.tombstone.is_none());
        head.ok_or_else(|| Failure::new(Code::HistoryNotKept, "nothing is stored of the document yet"))
    }

    fn read_at(&mut self, document: &str, at: &At) -> Result<JobDone, Failure> {
        let head = self.head(document)?;
        let sequence = self.sequence_of(document, at)?;
        if sequence > head.sequence {
            let text = format!("op {sequence} is not there yet: the last is {}", head.sequence);
            return Err(Failure::new(Code::HistoryNotKept, text));
        }
        let found = self.store.base_at(document, sequence).map_err(Failure::from)?;
        let (mut from, mut state) = found.map_or((0, Bytes::new()), |base| (base.sequence, base.state));
        if head.base.sequence <= sequence && head.base.sequence > from {
            (from, state) = (head.base.sequence, head.base.state);
        }
        let is_opaque = head.kind == DocumentKind::Opaque;
        let mut out = Vec::new();
        let mut vector = Bytes::new();
        while from < sequence || (!is_opaque && vector.is_empty()) {
            let ops = if from < sequence { self.read_history(document, from + 1)? } else { Vec::new() };
            let ops: Vec<_> = ops.into_iter().take_while(|op| op.sequence <= sequence).collect();
            from = ops.last().map_or(from, |op| op.sequence);
            if is_opaque {
                ops.iter().for_each(|op| put_bytes(&mut out, &op.payload));
                if out.len() > OPAQUE_STATE_BYTES_MAX {
                    return Err(Failure::new(
                        Code::LimitReached,
                        "the past document is too large to be read",
                    ));
                }
                continue;
            }
            let before = state.clone();
            (state, vector) = build(&before, ops.iter().map(|op| &op.payload[..]))
                .map_err(|fault| Failure::new(Code::Quarantined, fault.to_string()))?;
        }
        let state = if is_opaque { Bytes::from(out) } else { state };
        Ok(JobDone::State { sequence, state, vector })
    }

    fn sequence_of(&mut self, document: &str, at: &At) -> Result<u64, Failure> {
        match at {
            At::Sequence(sequence) => Ok(*sequence),
            At::UnixMs(unix_ms) => {
                let found = self.store.sequence_at(document, *unix_ms).map_err(Failure::from)?;
                found.ok_or_else(|| {
                    Failure::new(Code::HistoryNotKept, format!("no op is kept from before {unix_ms} ms"))
                })
            }
            At::Version(name) => {
                let versions = self.store.versions(document).map_err(Failure::from)?;
                let found = versions.iter().find(|version| version.name == *name);
                let unknown =
                    || Failure::new(Code::UnknownVersion, format!("the document has no version {name:?}"));
                found.map(|version| version.sequence).ok_or_else(unknown)
            }
        }
    }

    /// At least the op at `from`.
    fn read_history(&mut self, document: &str, from: u64) -> Result<Vec<HistoryOp>, Failure> {
        let ops = self.store.history(document, from, HISTORY_READ_BYTES).map_err(Failure::from)?;
        if ops.first().is_none_or(|op| op.sequence != from) {
            return Err(Failure::new(Code::HistoryNotKept, format!("op {from} is not kept any more")));
        }
        Ok(ops)
    }
}
