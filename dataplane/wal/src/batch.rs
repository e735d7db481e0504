//! A batch in its buffer: records one behind the other, padded to whole blocks when it is closed.

use wire::varint::Writer;
use zerocopy::{FromBytes, IntoBytes};

use crate::config::{BLOCK_BYTES, round_up};
use crate::header::{FLAG_LAST, HEADER_BYTES, RecordHeader, Seed};
use crate::record::record_bytes;
use crate::storage::AlignedBuffer;

/// Records that are written to the disk as one.
#[derive(Debug)]
pub(crate) struct Batch<B> {
    pub(crate) buffer: B,
    pub(crate) bytes: usize,
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    pub(crate) number: u64,
    pub(crate) first_lsn: u64,
    pub(crate) last_lsn: u64,
    last_header: usize,
}

impl<B: AlignedBuffer> Batch<B> {
    pub(crate) const fn new(buffer: B, segment: u32, offset: u64, number: u64, first_lsn: u64) -> Self {
        Self { buffer, bytes: 0, segment, offset, number, first_lsn, last_lsn: first_lsn, last_header: 0 }
    }

    /// What the batch would take on the disk with `more` bytes in it.
    pub(crate) const fn padded_with(&self, more: usize) -> usize {
        round_up(self.bytes + more, BLOCK_BYTES)
    }

    pub(crate) fn fits(&self, more: usize) -> bool {
        self.padded_with(more) <= self.buffer.as_slice().len()
    }

    /// Writes a record behind the others and returns its header checksum. The caller gives what the header
    /// says of the record and has made sure that it fits; place, batch and checksums are added here.
    pub(crate) fn put(
        &mut self,
        mut header: RecordHeader,
        body_bytes: usize,
        encode: impl FnOnce(&mut Writer<'_>),
        seed: Seed,
    ) -> u32 {
        let record = &mut self.buffer.as_mut_slice()[self.bytes..self.bytes + record_bytes(body_bytes)];
        let (head, body) = record.split_at_mut(HEADER_BYTES);
        let mut writer = Writer::new(&mut body[..body_bytes]);
        encode(&mut writer);
        assert_eq!(writer.len(), body_bytes, "a record body of another length than announced");
        body[body_bytes..].fill(0);
        header.body_bytes = u32::try_from(body_bytes).expect("bodies are limited to 16 MiB").into();
        header.batch = self.number.into();
        header.segment = self.segment.into();
        let offset = self.offset + self.bytes as u64;
        header.offset = u32::try_from(offset).expect("segments are limited to 4 GiB").into();
        header.body_crc = crc32c::crc32c(body).into();
        let checksum = header.seal(seed);
        head.copy_from_slice(header.as_bytes());
        self.last_header = self.bytes;
        self.last_lsn = header.lsn.get();
        self.bytes += record_bytes(body_bytes);
        checksum
    }

    /// Marks the last record as such, pads the batch to whole blocks, and returns the last header checksum.
    pub(crate) fn close(&mut self, seed: Seed) -> u32 {
        assert!(self.bytes > 0, "an empty batch is never written");
        let padded = self.padded_with(0);
        let bytes = self.buffer.as_mut_slice();
        bytes[self.bytes..padded].fill(0);
        let (header, _) = RecordHeader::mut_from_prefix(&mut bytes[self.last_header..])
            .expect("a header has no alignment and its bytes were just written");
        header.flags |= FLAG_LAST;
        self.bytes = padded;
        header.seal(seed)
    }
}
