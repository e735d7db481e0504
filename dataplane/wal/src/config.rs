//! The limits of the format and the settings of one log.

use thiserror::Error;
use wire::Guuid;

use crate::header::HEADER_BYTES;
use crate::record::SEGMENT_RECORD_BYTES;

/// What O_DIRECT writes in: batches begin and end on a multiple of it.
pub const BLOCK_BYTES: usize = 4_096;

/// The least that a disk writes as a whole: after a crash a sector is old or new, never a mixture.
pub const SECTOR_BYTES: usize = 512;

/// The longest body of a record that the format allows.
pub const RECORD_BODY_BYTES_LIMIT: usize = 16 << 20;

/// The longest batch that the format allows: one record of the longest kind that also begins a segment.
pub const BATCH_BYTES_LIMIT: usize = RECORD_BODY_BYTES_LIMIT + BLOCK_BYTES;

/// The longest segment that the format allows: offsets in it fit 32 bits.
pub const SEGMENT_BYTES_LIMIT: u64 = 4 << 30;

const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
const _: () = assert!(SECTOR_BYTES.is_multiple_of(8) && SECTOR_BYTES >= HEADER_BYTES);
const _: () = assert!(RECORD_BODY_BYTES_LIMIT.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(
    HEADER_BYTES + SEGMENT_RECORD_BYTES <= BLOCK_BYTES,
    "the start of a segment fits beside any record"
);
const _: () = assert!(SEGMENT_BYTES_LIMIT - 1 <= u32::MAX as u64);
const _: () = assert!(BATCH_BYTES_LIMIT as u64 <= SEGMENT_BYTES_LIMIT);

/// The settings of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The identity of this log, made once when it is created: records of another log are never taken for
    /// ours.
    pub log_id: Guuid,
    /// The size of a segment file in bytes, a multiple of [`BLOCK_BYTES`]. It may change between starts.
    pub segment_bytes: u64,
    /// A batch that has reached this size in bytes is closed; only a single larger record may exceed it.
    pub batch_bytes_max: usize,
    /// The longest record body in bytes that is taken.
    pub record_body_bytes_max: usize,
    /// Bytes that may wait to become durable; beyond them appending is refused.
    pub queue_bytes_max: usize,
}

impl LogConfig {
    /// The production values: segments of 64 MiB, batches of 1 MiB, records of 16 MiB, 32 MiB waiting.
    #[must_use]
    pub const fn new(log_id: Guuid) -> Self {
        Self {
            log_id,
            segment_bytes: 64 << 20,
            batch_bytes_max: 1 << 20,
            record_body_bytes_max: RECORD_BODY_BYTES_LIMIT,
            queue_bytes_max: 32 << 20,
        }
    }

    /// Checks the settings against the limits and against each other.
    pub const fn validate(&self) -> Result<(), ConfigError> {
        let block = BLOCK_BYTES as u64;
        if !self.segment_bytes.is_multiple_of(block) || self.segment_bytes > SEGMENT_BYTES_LIMIT {
            return Err(ConfigError::SegmentBytes(self.segment_bytes));
        }
        let batch_ok = self.batch_bytes_max >= BLOCK_BYTES && self.batch_bytes_max <= BATCH_BYTES_LIMIT;
        if !batch_ok || !self.batch_bytes_max.is_multiple_of(BLOCK_BYTES) {
            return Err(ConfigError::BatchBytes(self.batch_bytes_max));
        }
        if self.record_body_bytes_max > RECORD_BODY_BYTES_LIMIT {
            return Err(ConfigError::RecordBytes(self.record_body_bytes_max));
        }
        let largest = self.record_body_bytes_max + BLOCK_BYTES;
        let largest = if largest > self.batch_bytes_max { largest } else { self.batch_bytes_max };
        if self.segment_bytes < largest as u64 {
            return Err(ConfigError::SegmentTooSmall { segment_bytes: self.segment_bytes, needed: largest });
        }
        // The largest batch must find room behind another one that is in flight.
        let needed = largest + self.batch_bytes_max;
        if self.queue_bytes_max < needed {
            return Err(ConfigError::QueueTooSmall { queue_bytes_max: self.queue_bytes_max, needed });
        }
        Ok(())
    }
}

/// A setting that the log cannot work with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// Not whole blocks, or above [`SEGMENT_BYTES_LIMIT`].
    #[error("log segment size of {0} bytes: it must be a multiple of 4096 and at most {SEGMENT_BYTES_LIMIT}")]
    SegmentBytes(u64),
    /// Not whole blocks, or above [`BATCH_BYTES_LIMIT`].
    #[error("log batch size of {0} bytes: it must be a multiple of 4096 from 4096 to {BATCH_BYTES_LIMIT}")]
    BatchBytes(usize),
    /// Above [`RECORD_BODY_BYTES_LIMIT`].
    #[error("log record size of {0} bytes: at most {RECORD_BODY_BYTES_LIMIT} is possible")]
    RecordBytes(usize),
    /// The largest batch would not fit one segment.
    #[error(
        "log segment size of {segment_bytes} bytes: the largest batch needs {needed}; raise the segment size or lower the record size"
    )]
    SegmentTooSmall {
        /// The size that was set.
        segment_bytes: u64,
        /// The least that works.
        needed: usize,
    },
    /// The largest record could never be taken while another batch is in flight.
    #[error(
        "log queue of {queue_bytes_max} bytes: at least {needed} are needed for the largest record behind a batch in flight"
    )]
    QueueTooSmall {
        /// The size that was set.
        queue_bytes_max: usize,
        /// The least that works.
        needed: usize,
    },
}

/// `bytes` up to the next multiple of `unit`, a power of two.
pub(crate) const fn round_up(bytes: usize, unit: usize) -> usize {
    (bytes + unit - 1) & !(unit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_are_refused() {
        assert_eq!(LogConfig::new(Guuid::NIL).validate(), Ok(()));
    }

    #[test]
    fn a_record_that_no_segment_can_hold_is_configured() {
        let config = LogConfig { segment_bytes: 16 << 20, ..LogConfig::new(Guuid::NIL) };
        assert!(matches!(config.validate(), Err(ConfigError::SegmentTooSmall { .. })));
        let config = LogConfig { record_body_bytes_max: 4 << 20, ..config };
        assert_eq!(config.validate(), Ok(()));
        let config = LogConfig { queue_bytes_max: 4 << 20, ..config };
        assert!(matches!(config.validate(), Err(ConfigError::QueueTooSmall { .. })));
        let config = LogConfig { batch_bytes_max: 5_000, ..config };
        assert!(matches!(config.validate(), Err(ConfigError::BatchBytes(5_000))));
    }
}
