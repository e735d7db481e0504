//! A disk in memory that does what real ones do wrong, all of it drawn from a seed.
//!
//! It holds two images of each segment: what is *there*, and what a disk without defects would hold after the same
//! writes and crashes. Where they differ the disk has damaged something that was acknowledged: only then may a log be
//! refused. What a crash takes of a write in flight is no defect: it goes in both.

mod faults;
mod tear;

use std::collections::BTreeMap;
use std::ops::Range;

use netem::Random;
use thiserror::Error;
use wal::{BLOCK_BYTES, SECTOR_BYTES, Storage};
use wire::Span;

pub(crate) use self::faults::DiskFaults;
use crate::draw::Draw;

/// Why a call of the disk failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum DiskError {
    /// The device says so.
    #[error("input/output error (EIO)")]
    Io,
    /// There is no room for one more segment.
    #[error("no space left on device (ENOSPC)")]
    NoSpace,
    /// The node is killed in the middle of this call.
    #[error("killed")]
    Killed,
}

/// A segment is made in so many microseconds at most.
const PREPARE_US_MAX: u64 = 20_000;
/// A failing read is one of so many.
const RECOVERY_CALLS: u64 = 8;

/// What the next call of recovery but some runs into.
#[derive(Clone, Copy, Debug)]
struct Interruption {
    calls: u64,
    error: DiskError,
}

/// How long a write takes, and whether it ends well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WriteFate {
    pub(crate) latency: Span,
    pub(crate) result: Result<(), DiskError>,
}

/// What a crash left of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CrashReport {
    /// Sectors under way that differ from what was there.
    pub(crate) sectors: usize,
    /// Of them, those that arrived.
    pub(crate) kept: usize,
    /// How many of them the device writes in one piece.
    pub(crate) unit_sectors: usize,
}

impl CrashReport {
    /// Whether some arrived and some did not.
    pub(crate) const fn is_torn(&self) -> bool {
        self.kept > 0 && self.kept < self.sectors
    }
}

/// How often it has done something wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DiskCounts {
    pub(crate) stalls: u64,
    pub(crate) io_errors: u64,
    pub(crate) read_errors: u64,
    pub(crate) no_space: u64,
    pub(crate) misdirected: u64,
    pub(crate) lost: u64,
    pub(crate) rot: u64,
}

/// A sector that is not known to be on the disk.
#[derive(Clone, Debug)]
struct Unsynced {
    /// Where it belongs.
    place: (u32, usize),
    before: [u8; SECTOR_BYTES],
    /// Where it went and what was there; none: nowhere.
    landed: Option<((u32, usize), [u8; SECTOR_BYTES])>,
}

impl Unsynced {
    /// Whether it went where it belongs.
    fn is_in_place(&self) -> bool {
        self.landed.is_some_and(|(to, _)| to == self.place)
    }
}

/// A sector that was reported as written and is not where it belongs.
#[derive(Clone, Copy, Debug)]
struct Missing {
    place: (u32, usize),
    /// The segment where it went instead; none: nowhere.
    stray: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    there: Vec<u8>,
    meant: Vec<u8>,
}

/// The segment files of one log.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    segments: BTreeMap<u32, Segment>,
    /// In the order of writing.
    unsynced: Vec<Unsynced>,
    faults: DiskFaults,
    random: Random,
    /// The last write that ended, if the disk has not done it, or elsewhere. Without a trace nobody could tell that
    /// from a write that never was, so it is lost only once another one follows.
    missing_last: Vec<Missing>,
    interruption: Option<Interruption>,
    counts: DiskCounts,
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new(faults: DiskFaults, random: Random) -> Self {
        Self {
            segments: BTreeMap::new(),
            unsynced: Vec::new(),
            faults,
            random,
            missing_last: Vec::new(),
            interruption: None,
            counts: DiskCounts::default(),
        }
    }

    /// What went wrong so far.
    pub(crate) const fn counts(&self) -> DiskCounts {
        self.counts
    }

    /// From now on it has no defects; what is damaged already stays so.
    pub(crate) const fn heal(&mut self) {
        self.faults = self.faults.healed();
        self.interruption = None;
    }

    /// A recovery begins. After so many calls it is killed, or a read may fail.
    pub(crate) fn begin_recovery(&mut self, killed_after: Option<u64>) {
        let fails = self.random.percent(self.faults.read_errors);
        self.interruption = match killed_after {
            Some(calls) => Some(Interruption { calls, error: DiskError::Killed }),
            None if fails => {
                Some(Interruption { calls: self.random.below(RECOVERY_CALLS), error: DiskError::Io })
            }
            None => None,
        };
    }

    /// A recovery is over.
    pub(crate) const fn end_recovery(&mut self) {
        self.interruption = None;
    }

    /// How long it takes to make a segment.
    pub(crate) fn prepare_latency(&mut self) -> Span {
        Span::from_us(self.random.scaled_between(100, PREPARE_US_MAX))
    }

    /// Makes a segment of zeros, or lengthens the one that is there, durably: all of it or nothing.
    pub(crate) fn prepare(&mut self, segment: u32, bytes: u64) -> Result<(), DiskError> {
        if !self.segments.contains_key(&segment) && self.random.percent(self.faults.no_space) {
            self.counts.no_space += 1;
            return Err(DiskError::NoSpace);
        }
        let Segment { there, meant } = self.segments.entry(segment).or_default();
        let bytes = (bytes as usize).max(there.len());
        there.resize(bytes, 0);
        meant.resize(bytes, 0);
        Ok(())
    }

    /// Takes a segment away, durably.
    pub(crate) fn remove(&mut self, segment: u32) {
        self.segments.remove(&segment);
        self.unsynced.retain(|write| write.place.0 != segment);
        self.missing_last.retain(|missing| missing.place.0 != segment);
    }

    /// Begins to write whole blocks. They are on the disk once [`sync`](Storage::sync) is called; before, a crash takes
    /// any of them.
    pub(crate) fn begin_write(&mut self, segment: u32, offset: u64, bytes: &[u8]) -> WriteFate {
        let fate = self.faults.write_fate(&mut self.random);
        let is_lost = fate.result.is_ok() && self.random.percent(self.faults.lost);
        let elsewhere = (fate.result.is_ok() && !is_lost && self.random.percent(self.faults.misdirected))
            .then(|| self.wrong_place(segment, offset as usize, bytes.len()))
            .flatten();
        let counts = &mut self.counts;
        counts.stalls += u64::from(fate.latency.as_us() > self.faults.latency_us_max);
        counts.io_errors += u64::from(fate.result.is_err());
        counts.lost += u64::from(is_lost);
        counts.misdirected += u64::from(elsewhere.is_some());
        for (index, sector) in bytes.chunks_exact(SECTOR_BYTES).enumerate() {
            let place = (segment, offset as usize + index * SECTOR_BYTES);
            let landing = match elsewhere {
                _ if is_lost => None,
                Some((segment, at)) => Some((segment, at + index * SECTOR_BYTES)),
                None => Some(place),
            };
            self.write_sector(place, landing, sector);
        }
        fate
    }

    /// A place for as many bytes in a segment that is there, but not where they belong.
    fn wrong_place(&mut self, segment: u32, offset: usize, bytes: usize) -> Option<(u32, usize)> {
        let segments: Vec<(u32, usize)> =
            self.segments.iter().map(|(&segment, found)| (segment, found.there.len())).collect();
        let (to, length) = self.random.pick(&segments);
        let unit = self.random.pick(&[SECTOR_BYTES, BLOCK_BYTES, BLOCK_BYTES]);
        let at = unit * self.random.below((length.checked_sub(bytes)? / unit) as u64 + 1) as usize;
        ((to, at) != (segment, offset)).then_some((to, at))
    }

    fn write_sector(&mut self, place: (u32, usize), landing: Option<(u32, usize)>, sector: &[u8]) {
        let before = self.exchange(place, sector, |found| &mut found.meant);
        let landed = landing.map(|to| (to, self.exchange(to, sector, |found| &mut found.there)));
        self.unsynced.push(Unsynced { place, before, landed });
    }

    /// Puts a sector into an image and answers with what was there.
    fn exchange(
        &mut self,
        (segment, at): (u32, usize),
        sector: &[u8],
        image: impl FnOnce(&mut Segment) -> &mut Vec<u8>,
    ) -> [u8; SECTOR_BYTES] {
        let found = image(self.segments.get_mut(&segment).expect("a segment is made before it is written"));
        let place = &mut found[at..at + SECTOR_BYTES];
        let before = (&*place).try_into().expect("a sector");
        place.copy_from_slice(sector);
        before
    }

    /// The node is killed, or the power fails: of what is not synced some arrives and some does not. What goes nowhere
    /// or elsewhere was never promised: a disk without defects need not have it either.
    pub(crate) fn crash(&mut self) -> CrashReport {
        self.interruption = None;
        let tear = tear::Tear::draw(&mut self.random, self.unsynced.len());
        let (mut sectors, mut kept) = (0, 0);
        let unsynced = std::mem::take(&mut self.unsynced);
        for (index, write) in unsynced.into_iter().enumerate().rev() {
            let is_in_place = write.is_in_place();
            let Unsynced { place, before, landed } = write;
            let meant = &self.segments[&place.0].meant[place.1..place.1 + SECTOR_BYTES];
            let is_changed = usize::from(*meant != before);
            sectors += is_changed;
            let is_kept = tear.keeps(index);
            if is_kept && is_in_place {
                kept += is_changed;
                continue;
            }
            self.exchange(place, &before, |found| &mut found.meant);
            let undone = landed.filter(|(to, _)| !is_kept && self.segments.contains_key(&to.0));
            if let Some((to, before)) = undone {
                self.exchange(to, &before, |found| &mut found.there);
            }
        }
        self.find_missing();
        CrashReport { sectors, kept, unit_sectors: tear.unit_sectors() }
    }

    /// Does the last write after all, if it is missing and has left no trace.
    fn find_missing(&mut self) {
        for Missing { place: (segment, at), stray } in std::mem::take(&mut self.missing_last) {
            if stray.is_some_and(|stray| self.segments.contains_key(&stray)) {
                continue;
            }
            if let Some(Segment { there, meant }) = self.segments.get_mut(&segment) {
                there[at..at + SECTOR_BYTES].copy_from_slice(&meant[at..at + SECTOR_BYTES]);
            }
        }
    }

    /// Flips a bit or a few where something was written; says where.
    pub(crate) fn rot(&mut self) -> Option<(u32, usize)> {
        if !self.random.percent(self.faults.rot) {
            return None;
        }
        let mut written: Vec<(u32, usize)> = Vec::new();
        for (&segment, Segment { meant, .. }) in &self.segments {
            let sectors = meant.chunks(SECTOR_BYTES).enumerate();
            let held = sectors.filter(|(_, sector)| sector.iter().any(|&byte| byte != 0));
            written.extend(held.map(|(index, _)| (segment, index * SECTOR_BYTES)));
        }
        if written.is_empty() {
            return None;
        }
        let (segment, sector) = self.random.pick(&written);
        self.counts.rot += 1;
        let bytes = self.random.between(1, 3);
        let there = &mut self.segments.get_mut(&segment)?.there;
        for _ in 0..bytes {
            there[sector + self.random.below(SECTOR_BYTES as u64) as usize] ^= 1 << self.random.below(8);
        }
        Some((segment, sector))
    }

    /// Whether it holds anything else than a disk without defects would.
    pub(crate) fn is_damaged(&self) -> bool {
        self.segments.values().any(|found| found.there != found.meant)
    }

    /// Somebody has put back a good copy.
    pub(crate) fn restore(&mut self) {
        for Segment { there, meant } in self.segments.values_mut() {
            there.copy_from_slice(meant);
        }
    }

    fn call(&mut self) -> Result<(), DiskError> {
        match &mut self.interruption {
            None => Ok(()),
            Some(Interruption { calls: 0, error }) => {
                self.counts.read_errors += u64::from(*error == DiskError::Io);
                Err(*error)
            }
            Some(Interruption { calls, .. }) => {
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
        let rest =
            self.segments.get(&segment).and_then(|found| found.there.get(offset as usize..)).unwrap_or(&[]);
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }

    fn zero(&mut self, segment: u32, range: Range<u64>) -> Result<(), DiskError> {
        let end = self.segments.get(&segment).map_or(0, |found| range.end.min(found.there.len() as u64));
        for at in (range.start as usize..end as usize).step_by(SECTOR_BYTES) {
            self.write_sector((segment, at), Some((segment, at)), &[0; SECTOR_BYTES]);
        }
        // Killed with all of it under way.
        self.call()
    }

    fn sync(&mut self, segment: u32) -> Result<(), DiskError> {
        self.call()?;
        let (synced, rest) =
            std::mem::take(&mut self.unsynced).into_iter().partition(|found| found.place.0 == segment);
        self.unsynced = rest;
        let synced: Vec<Unsynced> = synced;
        if !synced.is_empty() {
            let missing = synced.iter().filter(|found| !found.is_in_place());
            let stray = |found: &Unsynced| found.landed.map(|((segment, _), _)| segment);
            self.missing_last =
                missing.map(|found| Missing { place: found.place, stray: stray(found) }).collect();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
