//! Backups of a node, in a directory or in any S3-compatible object store.
//!
//! A backup is a folder of *parts* of some megabytes: for each shard what its store held at one moment, and behind it
//! the segments of its log up to a durable end. Its *manifest* names every part with its length and CRC-32C. It is
//! written last, so what has none is no backup: a copy that was interrupted is never taken for a whole one.
//!
//! [`BackupWriter`] writes one part after the other; [`list`], [`verify`] and [`restore`] read them. What is in a node
//! and how to take it while it serves is the node's business; this crate must never talk to one.

mod error;
mod frames;
mod manifest;
mod reader;
mod restore;
mod target;
#[cfg(test)]
mod tests;
mod writer;

pub use error::BackupError;
pub use frames::encode_entry;
pub use manifest::{Manifest, Part, PartKind};
pub use reader::{Listed, Verified, list, verify};
pub use restore::{Restored, restore};
pub use target::Target;
pub use writer::{BackupWriter, Subject};

/// The most bytes of one part: parts are held in memory one at a time.
pub const PART_BYTES_MAX: usize = 8 << 20;
