//! A disk in memory that fails as real ones do, for tests and for the simulator.

use std::collections::BTreeMap;
use std::ops::Range;

use thiserror::Error;

use crate::config::SECTOR_BYTES;
use crate::storage::{AlignedBuffer, Storage};

/// A buffer on the heap; nothing here asks for an alignment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeapBuffer(Vec<u8>);

impl HeapBuffer {
    /// A buffer of `bytes` bytes with remains of something else in it, as a reused one has.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(vec![0xa5; bytes])
    }
}

impl AlignedBuffer for HeapBuffer {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }
    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The error that [`Disk::fail_after`] asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("input/output error (injected)")]
pub struct DiskError;

/// Segment files in memory. What is written is in a volatile cache until it is synced; a crash keeps any part
/// of that, in whole sectors.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    segments: BTreeMap<u32, Vec<u8>>,
    /// What the cache has overwritten, oldest first: the sector's segment, offset and former content.
    unsynced: Vec<(u32, usize, [u8; SECTOR_BYTES])>,
    calls_until_error: Option<u64>,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `calls` calls pass, then fails every one.
    pub const fn fail_after(&mut self, calls: u64) {
        self.calls_until_error = Some(calls);
    }

    /// Makes a segment of zeros, or lengthens the one that is there, durably.
    pub fn prepare(&mut self, segment: u32, bytes: u64) -> Result<(), DiskError> {
        self.call()?;
        let file = self.segments.entry(segment).or_default();
        let bytes = bytes as usize;
        file.resize(bytes.max(file.len()), 0);
        Ok(())
    }

    /// Writes whole sectors into the cache.
    ///
    /// # Panics
    ///
    /// When the range is not in a prepared segment or not made of whole sectors.
    pub fn write(&mut self, segment: u32, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.call()?;
        let offset = offset as usize;
        assert!(offset.is_multiple_of(SECTOR_BYTES) && bytes.len().is_multiple_of(SECTOR_BYTES), "unaligned");
        let file = self.segments.get_mut(&segment).expect("a prepared segment");
        for (index, sector) in bytes.chunks_exact(SECTOR_BYTES).enumerate() {
            let at = offset + index * SECTOR_BYTES;
            let place = &mut file[at..at + SECTOR_BYTES];
            self.unsynced.push((segment, at, (&*place).try_into().expect("a sector")));
            place.copy_from_slice(sector);
        }
        Ok(())
    }

    /// The power fails: of the unsynced sectors, only those stay for which `keep` (given their number in the
    /// order of writing) says so. Ends the failing that [`fail_after`](Self::fail_after) began.
    pub fn crash(&mut self, mut keep: impl FnMut(usize) -> bool) {
        self.calls_until_error = None;
        for (index, (segment, at, before)) in self.unsynced.drain(..).enumerate().rev() {
            if keep(index) {
                continue;
            }
            if let Some(file) = self.segments.get_mut(&segment) {
                file[at..at + SECTOR_BYTES].copy_from_slice(&before);
            }
        }
    }

    /// How many sectors a crash could take.
    #[must_use]
    pub const fn unsynced_sectors(&self) -> usize {
        self.unsynced.len()
    }

    /// The content of a segment, to damage it.
    pub fn segment_mut(&mut self, segment: u32) -> Option<&mut Vec<u8>> {
        self.segments.get_mut(&segment)
    }

    /// Takes a segment file away.
    pub fn remove(&mut self, segment: u32) -> Option<Vec<u8>> {
        self.segments.remove(&segment)
    }

    /// Exchanges the contents of two segments.
    pub fn swap(&mut self, one: u32, other: u32) {
        if let (Some(a), Some(b)) = (self.segments.remove(&one), self.segments.remove(&other)) {
            self.segments.insert(one, b);
            self.segments.insert(other, a);
        }
    }

    const fn call(&mut self) -> Result<(), DiskError> {
        match &mut self.calls_until_error {
            None => Ok(()),
            Some(0) => Err(DiskError),
            Some(calls) => {
                *calls -= 1;
                Ok(())
            }
        }
    }
}

impl Storage for Disk {
    type Error = DiskError;

    fn segments(&mut self) -> Result<Vec<u32>, DiskError> {
        self.call()?;
        Ok(self.segments.keys().copied().collect())
    }

    fn read(&mut self, segment: u32, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        self.call()?;
        let file = self.segments.get(&segment).map_or(&[][..], |file| file);
        let rest = file.get(offset as usize..).unwrap_or(&[]);
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }

    fn zero(&mut self, segment: u32, range: Range<u64>) -> Result<(), DiskError> {
        let end = self.segments.get(&segment).map_or(0, |file| range.end.min(file.len() as u64));
        self.write(segment, range.start, &vec![0; (end - range.start) as usize])
    }

    fn sync(&mut self, segment: u32) -> Result<(), DiskError> {
        self.call()?;
        self.unsynced.retain(|(unsynced, ..)| *unsynced != segment);
        Ok(())
    }
}
