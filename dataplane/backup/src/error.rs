//! Why a backup could not be made or used.

use std::path::PathBuf;

use thiserror::Error;

/// Why a backup could not be made or used.
#[derive(Debug, Error)]
pub enum BackupError {
    /// A place that is none.
    #[error("{url:?} is no place for backups: it must be file:///DIRECTORY or s3://BUCKET/PREFIX ({reason})")]
    Target {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The place could not be read or written.
    #[error("{doing} {path} failed: {source}")]
    Object {
        /// What was done.
        doing: &'static str,
        /// With which object.
        path: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// A file of this machine could not be read or written.
    #[error("{doing} {} failed: {source}", path.display())]
    File {
        /// What was done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is nothing whole under this name.
    #[error("{id} is no whole backup: it has no manifest, so it was interrupted; take another one")]
    Unfinished {
        /// The backup.
        id: String,
    },
    /// There is no backup at all.
    #[error("there is no backup in {place}")]
    None {
        /// Where was looked.
        place: String,
    },
    /// A part is missing, or not what was written.
    #[error("backup {id} is damaged: {part}: {reason}; use another one")]
    Damaged {
        /// The backup.
        id: String,
        /// Which part.
        part: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Made by a later release.
    #[error(
        "backup {id} is of format {found} and this release knows formats up to {known}: use a later release"
    )]
    TooNew {
        /// The backup.
        id: String,
        /// Its format.
        found: u32,
        /// The latest that this release reads.
        known: u32,
    },
    /// Where it would be restored there is something.
    #[error("{} is not empty: restore into a new directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The store of the restored node could not be made.
    #[error(transparent)]
    Store(#[from] docstore::StoreError),
    /// The data directory of the restored node could not be made.
    #[error(transparent)]
    Machine(#[from] rt::RtError),
}

impl BackupError {
    /// A name that never changes its meaning, for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Target { .. } => "backup-place",
            Self::Object { .. } => "backup-object",
            Self::File { .. } => "backup-file",
            Self::Unfinished { .. } => "backup-unfinished",
            Self::None { .. } => "backup-none",
            Self::Damaged { .. } => "backup-damaged",
            Self::TooNew { .. } => "backup-too-new",
            Self::NotEmpty { .. } => "restore-not-empty",
            Self::Store(_) => "restore-store",
            Self::Machine(_) => "restore-machine",
        }
    }
}
