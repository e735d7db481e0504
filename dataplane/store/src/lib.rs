//! The documents of one shard on the disk: what the log no longer has to keep.
//!
//! [`FjallStore`] implements [`statesync::DocumentStore`] on an embedded LSM tree (fjall), one database per shard. For
//! each document it holds a *head* (the newest merged state, who wrote, or a tombstone), its *history* in chunks (the
//! ops as they were sent), merged *states* in the history from which a moment of the past is built, and named
//! *versions*. Keys sort by document, then by sequence number; large values live in files of their own.
//!
//! Every value carries a format version and a CRC-32C over itself and its key. One that does not fit is an error of
//! that document alone. A batch of changes is durable when [`write`](statesync::DocumentStore::write) returns, all of
//! it or nothing. A write that fails is the last one; see [`FjallStore`].
//!
//! All calls block: it runs on a storage thread, never on a shard's core. It must never know a clock: retention is
//! given the time.

mod compaction;
mod config;
mod document;
mod error;
mod export;
mod key;
mod mark;
mod open;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod value;

pub use compaction::Compacted;
pub use config::StoreConfig;
pub use error::StoreError;
pub use export::{StoreEntry, StoreExport, StoreImport};
pub use open::sync_tree;
pub use store::FjallStore;

/// The store's directory, below that of the shard.
pub const STORE_NAME: &str = "store";
