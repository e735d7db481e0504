//! The bytes of a record.
//!
//! All integers are little endian. A record is a header of 64 bytes, its body, and zeros up to a multiple of
//! 8. Records follow one another without a gap to the end of their batch; a batch begins at a multiple of
//! 4,096 in its segment and zeros follow it up to the next one. The first record of a segment is a *segment
//! start*. Bytes that were never written are zero.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic, "AFWL" |
//! | 4 | 1 | version: 2, or 1 |
//! | 5 | 1 | kind: 1 segment start, 2 open, 3 op, 4 trim, 5 delete |
//! | 6 | 1 | flags: bit 0, last record of its batch |
//! | 7 | 1 | zero |
//! | 8 | 4 | length of the body |
//! | 12 | 2 | partition |
//! | 14 | 2 | zero |
//! | 16 | 8 | log sequence number: 1 for the first record, then one more each |
//! | 24 | 8 | sequence in the document |
//! | 32 | 8 | number of the batch: 1 for the first, then one more each |
//! | 40 | 4 | epoch of the partition |
//! | 44 | 4 | segment that the record was written to |
//! | 48 | 4 | offset in the segment that it was written to |
//! | 52 | 4 | header checksum of the record before, 0 for the first |
//! | 56 | 4 | CRC-32C of the body with its padding |
//! | 60 | 4 | header checksum: CRC-32C of bytes 0 to 59 |
//!
//! The header checksum continues that of the log's id, so that no record of another log, nor a look-alike in
//! somebody's payload, passes; only a segment start is computed without, because it tells the log's id.
//! A later version keeps magic, version and header checksum in place.
//!
//! Version 1 has no trim and no delete records, and its op bodies have no time. A log that was begun by a program of
//! version 1 is read and continued: each record says which version it is of.

use wire::Guuid;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first four bytes of each record, "AFWL".
pub const MAGIC: u32 = u32::from_le_bytes(*b"AFWL");

/// The version of the format that is written.
pub const VERSION: u8 = 2;

/// The oldest version that is read.
pub const VERSION_MIN: u8 = 1;

/// The length of a header.
pub const HEADER_BYTES: usize = 64;

/// Set on the last record of a batch.
pub const FLAG_LAST: u8 = 1;

/// What a body holds: the value of the header's kind field.
pub(crate) mod kind {
    pub(crate) const SEGMENT: u8 = 1;
    pub(crate) const OPEN: u8 = 2;
    pub(crate) const OP: u8 = 3;
    pub(crate) const TRIM: u8 = 4;
    pub(crate) const DELETE: u8 = 5;
}

const CHECKED_BYTES: usize = HEADER_BYTES - 4;
const _: () = assert!(size_of::<RecordHeader>() == HEADER_BYTES);
const _: () = assert!(HEADER_BYTES.is_multiple_of(8));

/// A record header, read and written in place. The module's documentation has the layout.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RecordHeader {
    pub magic: U32,
    pub version: u8,
    pub kind: u8,
    pub flags: u8,
    pub zero: u8,
    pub body_bytes: U32,
    pub partition: U16,
    pub zero_too: U16,
    pub lsn: U64,
    pub sequence: U64,
    pub batch: U64,
    pub epoch: U32,
    pub segment: U32,
    pub offset: U32,
    pub previous: U32,
    pub body_crc: U32,
    pub header_crc: U32,
}

/// The start value of the header checksums of one log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn of(log_id: Guuid) -> Self {
        Self(crc32c::crc32c(log_id.as_bytes()))
    }
}

impl RecordHeader {
    /// The header that begins `bytes`, unproven.
    pub(crate) fn peek(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    fn checksum(&self, seed: Seed) -> u32 {
        let seed = if self.kind == kind::SEGMENT { 0 } else { seed.0 };
        crc32c::crc32c_append(seed, &self.as_bytes()[..CHECKED_BYTES])
    }

    /// Sets the header checksum and returns it.
    pub(crate) fn seal(&mut self, seed: Seed) -> u32 {
        let checksum = self.checksum(seed);
        self.header_crc = checksum.into();
        checksum
    }

    /// Whether magic and header checksum are right. The version may still be unknown.
    pub(crate) fn is_sound(&self, seed: Seed) -> bool {
        self.magic.get() == MAGIC && self.header_crc.get() == self.checksum(seed)
    }

    /// Whether this header says that it was written at this place.
    pub(crate) fn is_at(&self, segment: u32, offset: u64) -> bool {
        self.segment.get() == segment && u64::from(self.offset.get()) == offset
    }

    pub(crate) const fn is_last(&self) -> bool {
        self.flags & FLAG_LAST != 0
    }
}
