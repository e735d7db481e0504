//! What can go wrong with a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The key is not as the caller believed: read it again.
    #[error("{key} was changed by somebody else")]
    Conflict {
        /// The key.
        key: String,
    },
    /// No such lease, or it has ended.
    #[error("lease {0} has ended")]
    LeaseGone(u64),
    /// An empty or overlong key.
    #[error("a key is 1 to {KEY_BYTES_MAX} bytes, found {0}")]
    Key(usize),
    /// An overlong value.
    #[error("the value of {key} is {bytes} bytes, over the limit of {VALUE_BYTES_MAX}")]
    Value {
        /// The key.
        key: String,
        /// The value's size.
        bytes: usize,
    },
    /// The store is at its limit.
    #[error("the store holds {bytes} bytes, its limit: delete something or use etcd")]
    Full {
        /// What it holds.
        bytes: u64,
    },
    /// More requests wait than are allowed: try again.
    #[error("the store has too many requests waiting: try again")]
    Overloaded,
    /// Changes before this revision are forgotten: list and watch from there.
    #[error("changes up to revision {0} are forgotten: list again")]
    Compacted(u64),
    /// The watcher was too slow, or the store went away: list again.
    #[error("the watch has ended: list again")]
    WatchEnded,
    /// Another process has the store open.
    #[error("{} is in use by another process: stop that one, or give this one another path", .0.display())]
    InUse(PathBuf),
    /// The file cannot be trusted, and is left as it is.
    #[error(
        "{} is corrupt at byte {offset} ({reason}) and whole records follow: restore it from a backup; it is left as it is",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// Reading or writing failed. After a failed write the store answers nothing more.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The store's thread has ended after an error that was logged.
    #[error("the store has stopped after an error: see the log, and start again")]
    Stopped,
    /// etcd refused, or cannot be reached.
    #[error("etcd at {endpoints}: {message}")]
    Etcd {
        /// Its endpoints.
        endpoints: String,
        /// What the client said.
        message: String,
    },
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source: Arc::new(source) }
    }
}
