//! The log of one shard: what an op must be written to before anybody is told that it is safe.
//!
//! A log is a row of segment files of one fixed size, zeroed before use. [`LogWriter`] gathers records into
//! batches of whole 4 KiB blocks and hands them out one at a time: while one batch is on its way to the disk
//! the next one gathers, so the cost of a sync is shared by all that arrived meanwhile. A batch counts as a
//! whole or not at all. [`Recovery`] reads the segments back, proves that every record follows the one before
//! it, drops a last batch that a crash tore, and refuses everything else that does not add up: an
//! acknowledged op is never left out in silence. [`header`] describes the bytes.
//!
//! Segments whose records nobody needs any more are taken away from the front: a [`Trim`] record says so first, and a
//! log that begins late is believed only with it.
//!
//! This crate never does I/O by itself, reads no clock and awaits nothing. Whoever drives it owns the files
//! and three duties: a batch is reported durable only after its sync; an I/O error on the log stops the
//! process, for after a failed sync nobody knows what the disk holds, and a second sync may lie; a repair that
//! recovery asks for is on disk before the first append ([`recover`] sees to that one). Segments that are removed go
//! one by one, each durably before the next.

mod batch;
mod config;
mod error;
pub mod header;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod record;
mod recovery;
mod storage;
mod survivors;
mod tail;
#[cfg(test)]
mod tests;
mod trimming;
mod writer;

pub use config::{
    BATCH_BYTES_LIMIT, BLOCK_BYTES, ConfigError, LogConfig, RECORD_BODY_BYTES_LIMIT, SECTOR_BYTES,
    SEGMENT_BYTES_LIMIT,
};
pub use error::{AppendError, Damage, RecoverError, RecoveryError};
pub use record::{Body, Delete, Op, Open, Record, SegmentMark, SegmentStart, Trim};
pub use recovery::{LogPosition, Progress, Recovered, Recovery, Repair};
pub use storage::{
    AlignedBuffer, Storage, parse_segment_file_name, recover, recover_observed, scan, segment_file_name,
};
pub use survivors::find_survivors;
pub use writer::{LogStats, LogWriter, Write, WriteAt};
