//! What a storage thread measures of itself.

use rt::Histogram;
use shard::Figure;
use statesync::{Job, WorkerStats};

/// What a job is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum JobKind {
    /// A document is read.
    Load,
    /// A document is merged and stored.
    Snapshot,
    /// What a client lacks is found.
    Diff,
    /// Ops are read from the history.
    ReadOps,
    /// A document is deleted.
    Delete,
    /// A version is named.
    CreateVersion,
    /// Versions are listed.
    ListVersions,
    /// A past state is built.
    ReadAt,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Load,
        Self::Snapshot,
        Self::Diff,
        Self::ReadOps,
        Self::Delete,
        Self::CreateVersion,
        Self::ListVersions,
        Self::ReadAt,
    ];

    pub(super) const fn of(job: &Job) -> Self {
        match job {
            Job::Load { .. } => Self::Load,
            Job::Snapshot(_) => Self::Snapshot,
            Job::Diff { .. } => Self::Diff,
            Job::ReadOps { .. } => Self::ReadOps,
            Job::Delete { .. } => Self::Delete,
            Job::CreateVersion { .. } => Self::CreateVersion,
            Job::ListVersions { .. } => Self::ListVersions,
            Job::ReadAt { .. } => Self::ReadAt,
        }
    }

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Snapshot => "snapshot",
            Self::Diff => "diff",
            Self::ReadOps => "read_ops",
            Self::Delete => "delete",
            Self::CreateVersion => "create_version",
            Self::ListVersions => "list_versions",
            Self::ReadAt => "read_at",
        }
    }
}

/// What a storage thread has done since its start, and holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct StorageStats {
    /// Jobs by [`JobKind`]: from the shard's asking to the answer.
    pub(crate) jobs: [Histogram; JobKind::ALL.len()],
    /// What was merged, and what it came to.
    pub(crate) worker: WorkerStats,
    /// Jobs that panicked.
    pub(crate) panics: u64,
    /// Times the store stopped to take writes.
    pub(crate) failures: u64,
    /// Why it takes none now; `None`: it does.
    pub(crate) failure: Option<String>,
    /// Bytes of the store's files.
    pub(crate) disk_bytes: u64,
    /// Bytes of ops that retention let go of.
    pub(crate) dropped_bytes: u64,
    /// Tombstones that it let go of.
    pub(crate) tombstones_dropped: u64,
    /// Compaction steps that failed.
    pub(crate) compaction_errors: u64,
    /// Times that the store's mark could not be written.
    pub(crate) mark_errors: u64,
    /// Jobs that wait on the thread.
    pub(crate) queue: u64,
    /// Bytes that the engine's cache holds.
    pub(crate) cache_bytes: u64,
}

impl StorageStats {
    /// As figures of the shard.
    pub(crate) fn figures(&self) -> [Figure; 18] {
        let worker = &self.worker;
        [
            Figure::counter("store_jobs", worker.jobs).help("Jobs done by the storage thread."),
            Figure::counter("store_jobs_failed", worker.failed)
                .help("Jobs of the storage thread that were answered by an error code."),
            Figure::counter("store_panics", self.panics).help("Jobs of the storage thread that panicked."),
            Figure::counter("store_snapshots", worker.snapshots).help("Documents merged and stored."),
            Figure::counter("store_snapshot_bytes", worker.snapshot_bytes)
                .help("Bytes of merged states that were stored."),
            Figure::counter("store_faults", worker.faults)
                .help("Documents that the CRDT library failed on: from then on they are ops only."),
            Figure::counter("store_updates_integrated", worker.updates_integrated)
                .help("Updates integrated by the storage thread."),
            Figure::gauge("store_jobs_queued", self.queue)
                .help("Jobs that the storage thread has been given and has not begun."),
            Figure::gauge("store_cache_bytes", self.cache_bytes).help(
                "Memory of the store's block cache that is in use; `[node.store] cache_bytes` is its limit.",
            ),
            Figure::gauge("store_materialized_documents", worker.materialized)
                .help("Integrated documents that the storage thread holds."),
            Figure::gauge("store_materialized_bytes", worker.materialized_bytes)
                .help("Memory that they take, about."),
            Figure::counter("store_failures", self.failures)
                .help("Times that the store stopped to take writes."),
            Figure::gauge("store_failed", u64::from(self.failure.is_some()))
                .help("1: the store takes no writes, so the log grows; the node's log says why."),
            Figure::gauge("store_disk_bytes", self.disk_bytes).help("Bytes of the store's files."),
            Figure::counter("store_history_dropped_bytes", self.dropped_bytes)
                .help("Bytes of ops that were older than the retention."),
            Figure::counter("store_tombstones_dropped", self.tombstones_dropped)
                .help("Deleted documents that are no longer remembered."),
            Figure::counter("store_mark_errors", self.mark_errors)
                .help("Times that the number of the store's writes could not be noted beside it."),
            Figure::counter("store_compaction_errors", self.compaction_errors)
                .help("Steps of the retention that failed."),
        ]
    }
}
