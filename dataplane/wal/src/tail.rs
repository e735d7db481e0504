//! Behind the last good batch: is this the end, a torn batch, or damage?
//!
//! The writer sends a batch only when the one before is on the disk, into blocks that hold zeros. After a
//! crash the sectors of the last batch are therefore each as sent or still zero, and nothing follows it. All
//! that can be explained so is a torn batch, was never acknowledged and is cut; everything else is damage. A batch
//! that was acknowledged and went elsewhere leaves its place empty, too: a record that is not where it was written
//! for gives it away.

use crate::config::{BATCH_BYTES_LIMIT, SECTOR_BYTES};
use crate::error::Damage;
use crate::header::{HEADER_BYTES, MAGIC, RecordHeader, Seed, kind};

/// What follows the last good batch, from where reading failed to the end of the last segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    /// Where the batch begins that is missing or incomplete.
    pub(crate) segment: u32,
    pub(crate) cut: u64,
    /// The number that this batch has, if there is one.
    batch: u64,
    /// The end of the last sector that is not zero; equal to `cut` while there is none.
    pub(crate) dirty_end: u64,
}

impl Tail {
    pub(crate) const fn new(segment: u32, cut: u64, batch: u64) -> Self {
        Self { segment, cut, batch, dirty_end: cut }
    }

    /// Whether nothing but zeros follows: no batch was begun.
    pub(crate) const fn is_clean(&self) -> bool {
        self.dirty_end == self.cut
    }

    /// Looks at the sector at `offset`; `bytes` holds it and the [`HEADER_BYTES`] behind it.
    pub(crate) fn handle_sector(
        &mut self,
        segment: u32,
        offset: u64,
        bytes: &[u8],
        seed: Seed,
    ) -> Result<(), Damage> {
        if is_zero(&bytes[..SECTOR_BYTES]) {
            return Ok(());
        }
        let end = offset + SECTOR_BYTES as u64;
        if segment != self.segment || end - self.cut > BATCH_BYTES_LIMIT as u64 {
            return Err(Damage::Followed { segment, at: offset });
        }
        self.dirty_end = end;
        for at in (0..SECTOR_BYTES).step_by(8) {
            let here = &bytes[at..at + HEADER_BYTES];
            if here[..4] != MAGIC.to_le_bytes() {
                continue;
            }
            let at = offset + at as u64;
            let header = RecordHeader::peek(here).expect("a header's worth of bytes");
            // Anybody can make a segment start in a payload: its checksum does not know the log's id.
            if header.kind == kind::SEGMENT || !header.is_sound(seed) {
                continue;
            }
            if !header.is_at(segment, at) {
                return Err(Damage::Stray { segment, at });
            }
            if header.batch.get() != self.batch {
                return Err(Damage::Followed { segment, at });
            }
        }
        Ok(())
    }
}

/// Whether a sector that never reached the disk explains that the record at `offset` is broken. `bytes` begins
/// at `base`, holds the record and whole sectors around it.
pub(crate) fn is_torn(bytes: &[u8], base: u64, offset: u64, record_bytes: usize) -> bool {
    let sector = SECTOR_BYTES as u64;
    let first = offset / sector;
    let last = (offset + record_bytes as u64 - 1) / sector;
    (first..=last).any(|index| {
        let start = (index * sector - base) as usize;
        is_zero(&bytes[start..start + SECTOR_BYTES])
    })
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // No early exit inside a sector, so that the compiler compares whole vectors.
    bytes.chunks(SECTOR_BYTES).all(|sector| sector.iter().fold(0, |any, &byte| any | byte) == 0)
}
