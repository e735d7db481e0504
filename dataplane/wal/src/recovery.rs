//! Reading a log back: proves each record, delivers batch after batch, finds where to go on.

use std::ops::Range;

use wire::Guuid;
use zerocopy::FromBytes;

use crate::config::{BATCH_BYTES_LIMIT, BLOCK_BYTES, RECORD_BODY_BYTES_LIMIT, SECTOR_BYTES, round_up};
use crate::error::{Damage, RecoveryError};
use crate::header::{HEADER_BYTES, RecordHeader, Seed, VERSION, VERSION_MIN, kind};
use crate::record::{Body, Record, SEGMENT_RECORD_BYTES, SegmentMark, Trim, record_bytes};
use crate::tail::{Tail, is_torn, is_zero};

/// Where a log continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPosition {
    /// The segment.
    pub segment: u32,
    /// The offset in it in bytes, a multiple of [`BLOCK_BYTES`].
    pub offset: u64,
    /// The number of the last record; 0 when there is none.
    pub lsn: u64,
    /// The number of the last batch; 0 when there is none.
    pub batch: u64,
    /// The header checksum of the last record.
    pub chain: u32,
    /// The last incarnation that an [`Open`](crate::Open) or [`Trim`] record names; the next opening writes one more.
    pub incarnation: u64,
}

impl LogPosition {
    /// The beginning of a new log.
    pub const START: Self = Self { segment: 0, offset: 0, lsn: 0, batch: 0, chain: 0, incarnation: 0 };
}

/// The blocks of a torn last batch. They must be zero on the disk before anything is appended, or its remains
/// could later pass for records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// The segment.
    pub segment: u32,
    /// The bytes to overwrite with zeros: whole blocks.
    pub range: Range<u64>,
}

/// How far reading has come, for a progress display.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Records delivered.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Segments begun.
    pub segments: u32,
}

/// The outcome of reading a log that can be trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Where it continues. Segment files behind `position.segment` hold nothing and are to be made ready anew.
    pub position: LogPosition,
    /// The segments with anything in them, in order.
    pub segments: Vec<SegmentMark>,
    /// The first segment that the log still needs: those before it are there because a crash came before they were
    /// taken away.
    pub first_kept: u32,
    /// What to do first, if a crash tore the last batch.
    pub repair: Option<Repair>,
    /// What was read.
    pub progress: Progress,
}

/// Reads a log back, as a state machine: for each segment in ascending order
/// [`handle_segment_start`](Self::handle_segment_start), [`handle_bytes`](Self::handle_bytes) with its content
/// in pieces of any size, [`handle_segment_end`](Self::handle_segment_end); then [`finish`](Self::finish).
/// After an error it is of no further use. [`recover`](crate::recover) does all of this over a
/// [`Storage`](crate::Storage).
#[derive(Debug)]
pub struct Recovery {
    log_id: Guuid,
    seed: Seed,
    /// The end of the last complete batch.
    position: LogPosition,
    /// The first segment that there is, and the current one.
    first: Option<u32>,
    segment: u32,
    segments: Vec<SegmentMark>,
    trim: Option<Trim>,
    /// Bytes of the current segment that are not done with; the first one lies at `base`.
    buffer: Vec<u8>,
    done: usize,
    base: u64,
    batch: Unproven,
    tail: Option<Tail>,
    progress: Progress,
}

/// The batch being read: how many of its bytes are proven, and what the next record must continue.
#[derive(Clone, Copy, Debug, Default)]
struct Unproven {
    bytes: usize,
    lsn: u64,
    chain: u32,
}

/// What came of an attempt to read one record.
enum Step {
    Proven { last: bool },
    NeedsMore,
    Ended,
}

impl Recovery {
    /// Starts before the first segment of the log with this id.
    #[must_use]
    pub fn new(log_id: Guuid) -> Self {
        Self {
            log_id,
            seed: Seed::of(log_id),
            position: LogPosition::START,
            first: None,
            segment: 0,
            segments: Vec::new(),
            trim: None,
            buffer: Vec::new(),
            done: 0,
            base: 0,
            batch: Unproven::default(),
            tail: None,
            progress: Progress::default(),
        }
    }

    /// A segment begins. They must come without a gap; that the first is not 0 must be explained by a
    /// [`Trim`] that is read before [`finish`](Self::finish).
    pub fn handle_segment_start(&mut self, segment: u32) -> Result<(), RecoveryError> {
        if self.first.is_none() {
            self.first = Some(segment);
        } else if self.segment.checked_add(1) != Some(segment) {
            return Err(RecoveryError::Hole { missing: self.segment.saturating_add(1), found: segment });
        }
        self.segment = segment;
        self.progress.segments += 1;
        self.buffer.clear();
        (self.done, self.base) = (0, 0);
        self.begin_batch();
        Ok(())
    }

    /// The next bytes of the segment.
    pub fn handle_bytes(
        &mut self,
        bytes: &[u8],
        mut on_record: impl FnMut(&Record<'_>),
    ) -> Result<(), RecoveryError> {
        self.buffer.drain(..self.done);
        self.base += self.done as u64;
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
        self.progress.bytes += bytes.len() as u64;
        self.read(false, &mut on_record)
    }

    /// The segment has no more bytes; what is missing counts as zero.
    pub fn handle_segment_end(
        &mut self,
        mut on_record: impl FnMut(&Record<'_>),
    ) -> Result<(), RecoveryError> {
        self.read(true, &mut on_record)?;
        // Only zeros behind the last batch: the log may go on in the next segment.
        if self.tail.is_some_and(|tail| tail.is_clean()) {
            self.tail = None;
        }
        Ok(())
    }

    /// All segments have been read.
    pub fn finish(self) -> Result<Recovered, RecoveryError> {
        let first_kept = self.trim.map_or(0, |trim| trim.kept.segment);
        if let Some(found) = self.first.filter(|&first| first > first_kept) {
            return Err(RecoveryError::Hole { missing: first_kept, found });
        }
        let repair = self.tail.map(|tail| Repair {
            segment: tail.segment,
            range: tail.cut..tail.dirty_end.next_multiple_of(BLOCK_BYTES as u64),
        });
        let Self { position, segments, progress, .. } = self;
        Ok(Recovered { position, segments, first_kept, repair, progress })
    }

    /// How far reading has come.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// The end of the last complete batch that was read.
    #[must_use]
    pub const fn position(&self) -> LogPosition {
        self.position
    }

    /// The first segment that was read, and the first one that the log still needs as far as it was read.
    #[must_use]
    pub fn first_segments(&self) -> (u32, u32) {
        (self.first.unwrap_or(0), self.trim.map_or(0, |trim| trim.kept.segment))
    }

    const fn segment(&self) -> u32 {
        self.segment
    }

    /// Where the record that is read next lies in the segment.
    const fn offset(&self) -> u64 {
        self.base + (self.done + self.batch.bytes) as u64
    }

    const fn begin_batch(&mut self) {
        self.batch = Unproven { bytes: 0, lsn: self.position.lsn, chain: self.position.chain };
    }

    const fn corrupt(&self, damage: Damage) -> RecoveryError {
        RecoveryError::Corrupt { segment: self.segment(), offset: self.offset(), damage }
    }

    fn read(&mut self, at_end: bool, on_record: &mut impl FnMut(&Record<'_>)) -> Result<(), RecoveryError> {
        while self.tail.is_none() {
            match self.read_record(at_end)? {
                Step::Proven { last: false } => {}
                Step::Proven { last: true } => self.deliver_batch(on_record)?,
                Step::NeedsMore => return Ok(()),
                Step::Ended => {
                    self.tail = Some(Tail::new(
                        self.segment(),
                        self.base + self.done as u64,
                        self.position.batch + 1,
                    ));
                }
            }
        }
        self.read_tail(at_end)
    }

    /// Whether `bytes` more than the proven ones of this batch are there; at the end of the segment zeros are
    /// put in for those that the file does not have.
    fn has(&mut self, bytes: usize, at_end: bool) -> bool {
        let end = self.done + self.batch.bytes + bytes;
        if end > self.buffer.len() && at_end {
            self.buffer.resize(round_up(end, BLOCK_BYTES), 0);
        }
        end <= self.buffer.len()
    }

    fn read_record(&mut self, at_end: bool) -> Result<Step, RecoveryError> {
        let at = self.done + self.batch.bytes;
        if at_end && self.batch.bytes == 0 && at == self.buffer.len() {
            return Ok(Step::Ended);
        }
        // Up to the end of the sector behind the header's: what judging a broken header needs.
        if !self.has(2 * SECTOR_BYTES, at_end) {
            return Ok(Step::NeedsMore);
        }
        let header = *RecordHeader::peek(&self.buffer[at..]).expect("the bytes are there");
        if !header.is_sound(self.seed) {
            return self.judge_header(at);
        }
        self.check_header(&header)?;
        let body_bytes = header.body_bytes.get() as usize;
        let whole = record_bytes(body_bytes);
        // A last record reaches to the end of its block, any other has one behind it: either way the rest of
        // its sector belongs to the batch.
        let padded = round_up(self.batch.bytes + whole, BLOCK_BYTES) - self.batch.bytes;
        if !self.has(padded, at_end) {
            return Ok(Step::NeedsMore);
        }
        let body = &self.buffer[at + HEADER_BYTES..at + whole];
        if crc32c::crc32c(body) != header.body_crc.get() {
            if is_torn(&self.buffer[self.done..], self.base + self.done as u64, self.offset(), whole) {
                return Ok(Step::Ended);
            }
            return Err(self.corrupt(Damage::Body));
        }
        self.check_segment_start(&header)?;
        if header.is_last() && !is_zero(&self.buffer[at + whole..at + padded]) {
            return Err(self.corrupt(Damage::Padding));
        }
        self.batch.bytes += if header.is_last() { padded } else { whole };
        self.batch.lsn = header.lsn.get();
        self.batch.chain = header.header_crc.get();
        Ok(Step::Proven { last: header.is_last() })
    }

    /// No sound header where a record must be, or may be: the end, a tear, or damage?
    fn judge_header(&self, at: usize) -> Result<Step, RecoveryError> {
        if is_torn(&self.buffer[self.done..], self.base + self.done as u64, self.offset(), HEADER_BYTES) {
            return Ok(Step::Ended);
        }
        let missing = is_zero(&self.buffer[at..at + HEADER_BYTES]);
        Err(self.corrupt(if missing { Damage::Missing } else { Damage::Header }))
    }

    /// Whether a record with a sound header follows the one before it, and was written to this place.
    fn check_header(&mut self, header: &RecordHeader) -> Result<(), RecoveryError> {
        let (segment, offset) = (self.segment(), self.offset());
        if !(VERSION_MIN..=VERSION).contains(&header.version) {
            return Err(RecoveryError::Version { segment, offset, found: header.version });
        }
        let body_bytes = header.body_bytes.get() as usize;
        let begins_segment = offset == 0;
        if begins_segment && header.kind == kind::SEGMENT && self.progress.records == 0 {
            self.begin_trimmed(header);
        }
        let place = if !header.is_at(segment, offset) {
            Some("place")
        } else if header.batch.get() != self.position.batch + 1 {
            Some("batch")
        } else if header.lsn.get() != self.batch.lsn + 1 {
            Some("log sequence number")
        } else if header.previous.get() != self.batch.chain {
            Some("checksum of the record before")
        } else if begins_segment != (header.kind == kind::SEGMENT) {
            Some("segment start")
        } else {
            None
        };
        if header.kind == kind::SEGMENT && place.is_some() {
            self.check_log_id()?;
        }
        if let Some(place) = place {
            return Err(self.corrupt(Damage::OutOfPlace(place)));
        }
        if body_bytes > RECORD_BODY_BYTES_LIMIT
            || self.batch.bytes + record_bytes(body_bytes) > BATCH_BYTES_LIMIT
        {
            return Err(self.corrupt(Damage::Content("longer than the format allows")));
        }
        Ok(())
    }

    /// What a log that was trimmed continues is taken from its first record: the [`Trim`] record vouches for it.
    fn begin_trimmed(&mut self, header: &RecordHeader) {
        if self.first.is_none_or(|first| first == 0 || first != self.segment) {
            return;
        }
        self.position.lsn = header.lsn.get().saturating_sub(1);
        self.position.batch = header.batch.get().saturating_sub(1);
        self.position.chain = header.previous.get();
        self.begin_batch();
    }

    /// A segment start must name this log, and the segment that comes next in it.
    fn check_segment_start(&self, header: &RecordHeader) -> Result<(), RecoveryError> {
        if header.kind != kind::SEGMENT {
            return Ok(());
        }
        self.check_log_id()?;
        let expected = self.segments.last().map_or(self.first, |last| last.segment.checked_add(1));
        if Some(self.segment()) != expected {
            return Err(self.corrupt(Damage::OutOfPlace("segment")));
        }
        Ok(())
    }

    /// Refuses a segment start of another log by name, rather than as damage. Says nothing on a damaged one.
    fn check_log_id(&self) -> Result<(), RecoveryError> {
        let at = self.done + self.batch.bytes;
        let Some(bytes) = self.buffer.get(at..at + SEGMENT_RECORD_BYTES) else {
            return Ok(());
        };
        let (header, body) = RecordHeader::ref_from_prefix(bytes).expect("a header has no alignment");
        if crc32c::crc32c(body) != header.body_crc.get() {
            return Ok(());
        }
        match Record::decode(header, body).map(|record| record.body) {
            Ok(Body::Segment(start)) if start.log_id != self.log_id => Err(RecoveryError::Foreign {
                segment: self.segment(),
                found: start.log_id,
                expected: self.log_id,
            }),
            _ => Ok(()),
        }
    }

    /// Every record of the batch is proven: hands them out.
    fn deliver_batch(&mut self, on_record: &mut impl FnMut(&Record<'_>)) -> Result<(), RecoveryError> {
        let mut at = self.done;
        loop {
            let header = *RecordHeader::peek(&self.buffer[at..]).expect("the record is proven");
            let body_bytes = header.body_bytes.get() as usize;
            let body = &self.buffer[at + HEADER_BYTES..at + HEADER_BYTES + body_bytes];
            let record = match Record::decode(&header, body) {
                Ok(record) => record,
                Err(malformed) => {
                    let offset = self.base + at as u64;
                    let damage = Damage::Content(malformed.what);
                    return Err(RecoveryError::Corrupt { segment: self.segment(), offset, damage });
                }
            };
            match record.body {
                Body::Open(open) => self.position.incarnation = open.incarnation,
                Body::Segment(_) => self.segments.push(SegmentMark {
                    segment: self.segment,
                    previous: header.previous.get(),
                    first_lsn: record.lsn,
                }),
                Body::Trim(trim) => {
                    if !is_possible(&trim, self.trim.as_ref(), self.first.unwrap_or(0), &self.segments) {
                        let offset = self.base + at as u64;
                        let damage = Damage::OutOfPlace("first segment kept");
                        return Err(RecoveryError::Corrupt { segment: self.segment, offset, damage });
                    }
                    self.position.incarnation = self.position.incarnation.max(trim.incarnation);
                    self.trim = Some(trim);
                }
                Body::Op(_) | Body::Delete(_) => {}
            }
            on_record(&record);
            self.progress.records += 1;
            at += record_bytes(body_bytes);
            if header.is_last() {
                break;
            }
        }
        self.done += self.batch.bytes;
        self.position.segment = self.segment();
        self.position.offset = self.base + self.done as u64;
        self.position.lsn = self.batch.lsn;
        self.position.chain = self.batch.chain;
        self.position.batch += 1;
        self.begin_batch();
        Ok(())
    }

    /// Goes through what follows the last good batch, sector by sector.
    fn read_tail(&mut self, at_end: bool) -> Result<(), RecoveryError> {
        let (segment, seed) = (self.segment(), self.seed);
        self.batch.bytes = 0;
        let Some(tail) = &mut self.tail else {
            return Ok(());
        };
        if at_end {
            let end = round_up(self.buffer.len() - self.done, SECTOR_BYTES) + SECTOR_BYTES;
            self.buffer.resize(self.done + end, 0);
        }
        while self.buffer.len() - self.done >= 2 * SECTOR_BYTES {
            let bytes = &self.buffer[self.done..self.done + 2 * SECTOR_BYTES];
            let at = self.base + self.done as u64;
            tail.handle_sector(segment, at, bytes, seed).map_err(|damage| RecoveryError::Corrupt {
                segment: tail.segment,
                offset: tail.cut,
                damage,
            })?;
            self.done += SECTOR_BYTES;
        }
        Ok(())
    }
}

/// Whether this log can say so: a trim goes forward, never beyond the segment that it is in, and what it kept is what
/// was found.
fn is_possible(trim: &Trim, before: Option<&Trim>, first: u32, segments: &[SegmentMark]) -> bool {
    let kept = trim.kept;
    let goes_forward = before.is_none_or(|before| kept.segment > before.kept.segment);
    let is_gone = kept.segment < first;
    goes_forward && (is_gone || segments.contains(&kept))
}
