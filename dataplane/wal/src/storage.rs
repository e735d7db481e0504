//! What the log needs of a disk, as plain calls, and the opening of a log on top of it.

use std::ops::Range;

use crate::config::LogConfig;
use crate::error::{RecoverError, RecoveryError};
use crate::record::Record;
use crate::recovery::{Progress, Recovered, Recovery};

/// Memory that the storage can write from without a copy: aligned as O_DIRECT asks.
pub trait AlignedBuffer {
    /// The whole buffer.
    fn as_slice(&self) -> &[u8];
    /// The whole buffer, to be filled.
    fn as_mut_slice(&mut self) -> &mut [u8];
}

/// The segment files of one log, as blocking calls. Opening a log uses it, when a shard has nothing else to
/// do; once it serves, the shard writes the batches of [`LogWriter`](crate::LogWriter) in its own way.
///
/// A file may be shorter than a segment: what lies behind its end counts as zero.
pub trait Storage {
    /// What can go wrong. No call is ever repeated after an error.
    type Error;

    /// The indices of all segment files, in any order.
    fn segments(&mut self) -> Result<Vec<u32>, Self::Error>;

    /// Fills the beginning of `buffer` with the bytes at `offset`; 0 at the end of the file only.
    fn read(&mut self, segment: u32, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error>;

    /// Overwrites the range, whole blocks, with zeros.
    fn zero(&mut self, segment: u32, range: Range<u64>) -> Result<(), Self::Error>;

    /// Returns when the content of the segment is on the disk, with the entry in its directory.
    fn sync(&mut self, segment: u32) -> Result<(), Self::Error>;
}

const READ_BYTES: usize = 1 << 20;

/// Opens a log: reads all its segments, calls `on_record` with each record in order, zeroes a torn last batch,
/// and makes sure that all that was read is on the disk and not only in a cache.
///
/// Records of the last batch are delivered when the whole batch is proven. After an error the caller throws
/// away what it made of the records.
pub fn recover<S: Storage>(
    storage: &mut S,
    config: &LogConfig,
    on_record: impl FnMut(&Record<'_>),
) -> Result<Recovered, RecoverError<S::Error>> {
    recover_observed(storage, config, on_record, |_| ())
}

/// [`recover`], and tells how far it has come after each piece that is read.
pub fn recover_observed<S: Storage>(
    storage: &mut S,
    config: &LogConfig,
    on_record: impl FnMut(&Record<'_>),
    on_progress: impl FnMut(&Progress),
) -> Result<Recovered, RecoverError<S::Error>> {
    let mut recovery = Recovery::new(config.log_id);
    scan(storage, &mut recovery, on_record, on_progress)?;
    let recovered = recovery.finish()?;
    if let Some(repair) = &recovered.repair {
        storage.zero(repair.segment, repair.range.clone()).map_err(RecoverError::Storage)?;
        storage.sync(repair.segment).map_err(RecoverError::Storage)?;
    }
    if !recovered.segments.is_empty() {
        storage.sync(recovered.position.segment).map_err(RecoverError::Storage)?;
    }
    Ok(recovered)
}

/// Puts all segments through a recovery that has seen none, and changes nothing.
pub fn scan<S: Storage>(
    storage: &mut S,
    recovery: &mut Recovery,
    mut on_record: impl FnMut(&Record<'_>),
    mut on_progress: impl FnMut(&Progress),
) -> Result<(), RecoverError<S::Error>> {
    let mut segments = storage.segments().map_err(RecoverError::Storage)?;
    segments.sort_unstable();
    let mut buffer = vec![0; READ_BYTES];
    for segment in segments {
        recovery.handle_segment_start(segment)?;
        let mut offset = 0;
        loop {
            let bytes = storage.read(segment, offset, &mut buffer).map_err(RecoverError::Storage)?;
            if bytes == 0 {
                break;
            }
            offset += bytes as u64;
            recovery.handle_bytes(&buffer[..bytes], &mut on_record)?;
            on_progress(&recovery.progress());
        }
        recovery.handle_segment_end(&mut on_record)?;
    }
    Ok(())
}

/// The file name of a segment: `segment-0000000012.log`.
#[must_use]
pub fn segment_file_name(segment: u32) -> String {
    format!("segment-{segment:010}.log")
}

/// The segment that a file name names; `None` for any other file.
#[must_use]
pub fn parse_segment_file_name(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".log")?;
    let exact = digits.len() == 10 && digits.bytes().all(|digit| digit.is_ascii_digit());
    exact.then(|| digits.parse().ok()).flatten()
}

impl<E> RecoverError<E> {
    /// The finding about the log, when it was not the storage that failed.
    pub const fn log(&self) -> Option<&RecoveryError> {
        match self {
            Self::Log(error) => Some(error),
            Self::Storage(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_file_is_taken_for_a_segment() {
        for segment in [0, 12, u32::MAX] {
            assert_eq!(parse_segment_file_name(&segment_file_name(segment)), Some(segment));
        }
        for name in
            ["segment-1.log", "segment-+000000001.log", "segment-9999999999.log", "LOCK", "segment-.log"]
        {
            assert_eq!(parse_segment_file_name(name), None, "{name}");
        }
    }
}
