//! What can go wrong with the store.

use std::path::PathBuf;

use thiserror::Error;

/// Why the store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A value is not what was written. The document is out of reach, others are not touched.
    #[error("the stored document {document:?} is damaged: {what}; restore it from a backup, or delete it")]
    Damaged {
        /// The document.
        document: String,
        /// What was found.
        what: String,
    },
    /// A value was written by a later release.
    #[error(
        "the stored document {document:?} is of format {found} and this release knows formats up to {known}: \
         start the release that wrote it, or a later one"
    )]
    TooNew {
        /// The document.
        document: String,
        /// The format of the value.
        found: u8,
        /// The latest format that this release reads.
        known: u8,
    },
    /// A key is none of ours.
    #[error("the store holds a key that nobody wrote: {key}; restore the node from a backup")]
    Key {
        /// The key, escaped.
        key: String,
    },
    /// It could not be opened again after its disk was full, and is closed.
    #[error("the store in {} is closed: it could not be opened again after its disk was full", path.display())]
    Closed {
        /// The store's directory.
        path: PathBuf,
    },
    /// The store belongs to another log.
    #[error(
        "the store in {} belongs to log {found}, not to {wanted}: it was copied from another node or shard; \
         move it away, or restore the whole data directory from one backup", path.display()
    )]
    Foreign {
        /// The store's directory.
        path: PathBuf,
        /// The log that it was made for.
        found: String,
        /// The log beside it.
        wanted: String,
    },
    /// Durable writes are gone. The log was perhaps trimmed behind them.
    #[error(
        "the store in {} has lost writes: {noted} were durable and {found} are there, so its disk has damaged it, or it is an \
         older copy; restore the node from a backup, or remove {} to go on without what is lost", path.display(),
        mark.display()
    )]
    Lost {
        /// The store's directory.
        path: PathBuf,
        /// Where their number is noted.
        mark: PathBuf,
        /// How many were durable.
        noted: u64,
        /// How many there are.
        found: u64,
    },
    /// The disk has no room left. What is there can still be read.
    #[error("the disk of the store in {} is full: free some space; it is tried again", path.display())]
    DiskFull {
        /// The store's directory.
        path: PathBuf,
    },
    /// The directory or a file in it cannot be written or read.
    #[error("the store in {} failed to {doing}: {source}; check the disk, then restart the node", path.display())]
    Io {
        /// The store's directory.
        path: PathBuf,
        /// What it was doing.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The engine underneath failed, or found damage of its own.
    #[error("the store in {} failed to {doing}: {source}; check the disk, then restart the node", path.display())]
    Engine {
        /// The store's directory.
        path: PathBuf,
        /// What it was doing.
        doing: &'static str,
        /// What the engine said.
        source: fjall::Error,
    },
    /// An earlier write failed, so no more are taken. Kept as the reason, it is the engine's own thread that failed.
    #[error("the store in {} takes no more writes since one failed: check the disk; it is tried again where that is safe, \
             else restart the node", path.display())]
    Stopped {
        /// The store's directory.
        path: PathBuf,
    },
}

impl StoreError {
    /// Whether it concerns one document alone.
    #[must_use]
    pub const fn is_of_one_document(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::TooNew { .. })
    }
}

impl From<StoreError> for statesync::StoreError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { document, what } => Self::Damaged { document, what },
            StoreError::TooNew { ref document, .. } => {
                Self::Damaged { document: document.clone(), what: error.to_string() }
            }
            error => Self::Failed(error.to_string()),
        }
    }
}
