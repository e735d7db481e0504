//! What can be wrong with a log, and what to do then.

use thiserror::Error;
use wire::Guuid;

use crate::header::{VERSION, VERSION_MIN};

/// A record that was not taken. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AppendError {
    /// The disk is behind: push back and come again when something has become durable.
    #[error(
        "the log has {queue_bytes} bytes waiting for the disk, its limit is {queue_bytes_max}: try again"
    )]
    Full {
        /// Bytes that wait.
        queue_bytes: usize,
        /// The limit from the settings.
        queue_bytes_max: usize,
    },
    /// The disk has no room for the next segment: push back and come again later.
    #[error(
        "the log cannot go on: the disk has no room for segment {segment}. Make room on it, the log goes on by itself"
    )]
    DiskFull {
        /// The segment.
        segment: u32,
    },
    /// No later attempt will do better.
    #[error("a record of {bytes} bytes exceeds the log's limit of {bytes_max}")]
    TooLarge {
        /// The length of the body.
        bytes: usize,
        /// The limit from the settings.
        bytes_max: usize,
    },
}

/// Why bytes of the log cannot be what the writer wrote there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Damage {
    /// The header's checksum does not match, and no missing sector explains it.
    #[error("a record header is damaged")]
    Header,
    /// The body's checksum does not match, and no missing sector explains it.
    #[error("a record body is damaged")]
    Body,
    /// Zeros where a record must be, in a sector that was written.
    #[error("a record is missing inside a written sector")]
    Missing,
    /// Something behind the last record of a batch.
    #[error("the padding behind a batch is not zero")]
    Padding,
    /// A sound record of another place, file or time: a misdirected or a lost write, or files mixed up.
    #[error("a sound record that does not belong here (its {0} is wrong)")]
    OutOfPlace(&'static str),
    /// Behind the last batch lies a record of this log that was written for another place: the disk has put it where it does not
    /// belong, and where it belongs it is missing.
    #[error("a sound record of another place lies at offset {at} of segment {segment}: a misdirected write")]
    Stray {
        /// Where it is.
        segment: u32,
        /// Its offset in bytes.
        at: u64,
    },
    /// The checksum is right, the content makes no sense.
    #[error("a sound record with an impossible content: {0}")]
    Content(&'static str),
    /// The last batch looks torn, but the writer went on behind it, which it does only after a sync.
    #[error("the batch is incomplete, yet later records follow at offset {at} of segment {segment}")]
    Followed {
        /// Where the later data is.
        segment: u32,
        /// Its offset in bytes.
        at: u64,
    },
}

/// A log that this node must not start over.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RecoveryError {
    /// Something that was durable is damaged.
    #[error(
        "log segment {segment} at offset {offset}: {damage}. Acknowledged edits may be affected, so the node will not \
         start over this log. Check the disk, keep the data directory for examination, and put back a copy of it or \
         start with an empty one"
    )]
    Corrupt {
        /// The segment.
        segment: u32,
        /// The offset in bytes of the record that failed.
        offset: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// A segment file is not there, though a later one is.
    #[error(
        "log segment {missing} is missing (the next one found is {found}). Put the file back into the data directory: \
         without it acknowledged edits would be lost"
    )]
    Hole {
        /// The segment that should come next.
        missing: u32,
        /// The one that was found instead.
        found: u32,
    },
    /// Written by a newer program.
    #[error(
        "log segment {segment} at offset {offset} has format version {found}; this program knows versions {VERSION_MIN} to \
         {VERSION}. \
         Start the version of AetherFlow that wrote it"
    )]
    Version {
        /// The segment.
        segment: u32,
        /// The offset in bytes of the record.
        offset: u64,
        /// The version found.
        found: u8,
    },
    /// A segment of another log.
    #[error(
        "log segment {segment} belongs to log {found}, this is log {expected}: a file of another data directory was put here; put the right one back"
    )]
    Foreign {
        /// The segment.
        segment: u32,
        /// The log that it belongs to.
        found: Guuid,
        /// The log that is being opened.
        expected: Guuid,
    },
}

/// Why [`recover`](crate::recover) failed.
#[derive(Debug, Error)]
pub enum RecoverError<E> {
    /// The log is not to be trusted.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// The storage failed.
    #[error("reading the log back: {0}")]
    Storage(E),
}
