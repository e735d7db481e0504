//! Group commit: gathers records while a batch is in flight.

use std::collections::VecDeque;

use wire::varint::Writer;

use crate::batch::Batch;
use crate::config::{BLOCK_BYTES, ConfigError, LogConfig, round_up};
use crate::error::AppendError;
use crate::header::{MAGIC, RecordHeader, Seed, VERSION, kind};
use crate::record::{Delete, Op, Open, SEGMENT_RECORD_BYTES, SegmentMark, SegmentStart, Trim, record_bytes};
use crate::recovery::{LogPosition, Recovered};
use crate::storage::AlignedBuffer;
use crate::trimming::Trimming;

/// Room at the end of a segment that only trim records take when the disk is full: they are what makes room.
const TRIM_RESERVE_BYTES: u64 = 4 * BLOCK_BYTES as u64;

/// Buffers kept for reuse: one in flight, one closed behind it, one that gathers.
const POOLED_BUFFERS: usize = 3;

/// Where a batch goes, and what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteAt {
    /// The segment file.
    pub segment: u32,
    /// The offset in it in bytes, a multiple of [`BLOCK_BYTES`].
    pub offset: u64,
    /// How much of the buffer is to be written, from its beginning: whole blocks.
    pub bytes: usize,
    /// The number of the first record.
    pub first_lsn: u64,
    /// The number of the last record.
    pub last_lsn: u64,
}

/// A batch on its way to the disk.
#[derive(Debug)]
pub struct Write<B> {
    /// Where to, and how much.
    pub at: WriteAt,
    /// What to write: the first `at.bytes` bytes.
    pub buffer: B,
}

wire::counters! {
    /// What a writer has done.
    LogStats {
        /// Records appended to the log.
        log_records,
        /// Bytes of the records appended, headers included, before padding.
        log_record_bytes,
        /// Batches of the log that became durable.
        log_batches,
        /// Bytes of those batches on the disk, padding included.
        log_batch_bytes,
        /// Segments of the log begun.
        log_segments,
        /// Records refused because too much was waiting for the disk.
        log_refused,
        /// Records refused because the disk has no room for the next segment.
        log_refused_disk_full,
        /// Attempts to make a segment ready that found the disk full.
        log_disk_full,
        /// Segments of the log that were found not to be needed any more, and taken away.
        log_segments_removed,
    }
}

/// The writing end of a log, as a state machine. [`append`](Self::append_op) gathers;
/// [`poll_write`](Self::poll_write) hands out the next batch, one at a time; when it is written *and synced*,
/// [`handle_durable`](Self::handle_durable) says so and the next one may go. If either fails the process stops.
pub struct LogWriter<B> {
    config: LogConfig,
    seed: Seed,
    allocate: Box<dyn FnMut(usize) -> B>,
    pool: Vec<B>,
    gathering: Option<Batch<B>>,
    closed: VecDeque<Batch<B>>,
    /// Bytes on the disk of the closed batches and the one in flight.
    closed_bytes: usize,
    in_flight: Option<WriteAt>,
    /// Where the batch after the gathering one begins; numbers and checksum of what was appended last.
    next: LogPosition,
    durable_lsn: u64,
    /// Segments below this one have been named as wanted.
    segments_named: u32,
    trimming: Trimming,
    /// The first segment that the disk has no room for.
    disk_full: Option<u32>,
    stats: LogStats,
}

impl<B: AlignedBuffer> LogWriter<B> {
    /// Continues a log that was read back. `allocate` makes buffers of exactly the given length in bytes, a multiple of
    /// [`BLOCK_BYTES`].
    pub fn recovered(
        config: LogConfig,
        recovered: &Recovered,
        allocate: impl FnMut(usize) -> B + 'static,
    ) -> Result<Self, ConfigError> {
        let mut writer = Self::new(config, recovered.position, allocate)?;
        writer.trimming = Trimming::recovered(&recovered.segments, recovered.first_kept);
        Ok(writer)
    }

    /// Continues a log behind `position`, or begins one at [`LogPosition::START`]. Of segments before it nothing is
    /// known, so that they, and all that follow, are kept.
    /// `allocate` makes buffers of exactly the given length in bytes, a multiple of [`BLOCK_BYTES`].
    pub fn new(
        config: LogConfig,
        position: LogPosition,
        allocate: impl FnMut(usize) -> B + 'static,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            seed: Seed::of(config.log_id),
            config,
            allocate: Box::new(allocate),
            pool: Vec::with_capacity(POOLED_BUFFERS),
            gathering: None,
            closed: VecDeque::with_capacity(POOLED_BUFFERS),
            closed_bytes: 0,
            in_flight: None,
            durable_lsn: position.lsn,
            segments_named: position.segment,
            disk_full: None,
            trimming: if position.lsn == 0 { Trimming::default() } else { Trimming::keep_all() },
            next: position,
            stats: LogStats::default(),
        })
    }

    /// Appends an op and returns its number in the log.
    pub fn append_op(&mut self, op: &Op<'_>) -> Result<u64, AppendError> {
        let header = RecordHeader {
            kind: kind::OP,
            partition: op.partition.into(),
            epoch: op.epoch.into(),
            sequence: op.sequence.into(),
            ..RecordHeader::default()
        };
        self.append(header, op.body_bytes(), |body| op.encode(body))
    }

    /// Appends the deletion of a document and returns its number in the log.
    pub fn append_delete(&mut self, delete: &Delete<'_>) -> Result<u64, AppendError> {
        let op = delete.as_op();
        let header = RecordHeader {
            kind: kind::DELETE,
            partition: op.partition.into(),
            epoch: op.epoch.into(),
            sequence: op.sequence.into(),
            ..RecordHeader::default()
        };
        self.append(header, op.body_bytes(), |body| op.encode(body))
    }

    /// Nobody needs the records below `lsn` any more: the segments that hold no others may go, though never one that is
    /// not durable to its end. They are named by [`poll_segment_removed`](Self::poll_segment_removed) once the disk
    /// knows that they are not missed. A number below an earlier one changes nothing.
    pub fn handle_trim_below(&mut self, lsn: u64) {
        self.trimming.handle_trim_below(lsn);
        self.trim();
    }

    /// Lets go of nothing while the log is copied. What was let go of before is still named by
    /// [`poll_segment_removed`](Self::poll_segment_removed).
    pub fn hold_trimming(&mut self, is_held: bool) {
        self.trimming.hold(is_held);
        self.trim();
    }

    /// A segment that nobody needs any more, the oldest first. Each is taken away, durably, before the next.
    pub fn poll_segment_removed(&mut self) -> Option<u32> {
        self.trimming.poll_removed().inspect(|_| self.stats.log_segments_removed += 1)
    }

    /// Appends the note that segments are not needed, if there are any. When the queue is full, a batch that becomes
    /// durable gives the next chance.
    fn trim(&mut self) {
        let Some(kept) = self.trimming.due(self.durable_lsn) else { return };
        let header = RecordHeader { kind: kind::TRIM, ..RecordHeader::default() };
        let trim = Trim { kept, incarnation: self.next.incarnation };
        if let Ok(lsn) = self.append(header, Trim::BODY_BYTES, |body| trim.encode(body)) {
            self.trimming.begin(kept, lsn);
        }
    }

    /// Bytes of the segments that are kept, as far as they are used.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        let whole = self.next.segment.saturating_sub(self.trimming.first_kept());
        u64::from(whole) * self.config.segment_bytes + self.next.offset
    }

    /// Appends the note that the log was opened: the first record after each recovery. Nobody is told the
    /// incarnation before this record is durable, or a crash could make the node use it twice.
    pub fn append_open(&mut self, open: Open) -> Result<u64, AppendError> {
        let header = RecordHeader { kind: kind::OPEN, ..RecordHeader::default() };
        let lsn = self.append(header, Open::BODY_BYTES, |body| open.encode(body))?;
        self.next.incarnation = open.incarnation;
        Ok(lsn)
    }

    /// The next batch to write; `None` while one is in flight or when there is nothing. The segment named in
    /// it must be ready, zeroed to its full size, before it is written.
    pub fn poll_write(&mut self) -> Option<Write<B>> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.closed.is_empty() {
            self.close();
        }
        let batch = self.closed.pop_front()?;
        let at = WriteAt {
            segment: batch.segment,
            offset: batch.offset,
            bytes: batch.bytes,
            first_lsn: batch.first_lsn,
            last_lsn: batch.last_lsn,
        };
        self.in_flight = Some(at);
        Some(Write { at, buffer: batch.buffer })
    }

    /// The batch in flight is on the disk. Returns the number of the last durable record. `buffer` is used
    /// again when it comes back.
    ///
    /// # Panics
    ///
    /// When `at` is not the batch in flight: the driver has lost track of the log.
    pub fn handle_durable(&mut self, at: WriteAt, buffer: Option<B>) -> u64 {
        assert_eq!(self.in_flight.take(), Some(at), "a batch became durable that is not in flight");
        assert_eq!(at.first_lsn, self.durable_lsn + 1, "batches become durable in order");
        self.durable_lsn = at.last_lsn;
        self.trimming.handle_durable(at.last_lsn);
        self.closed_bytes -= at.bytes;
        self.stats.log_batches += 1;
        self.stats.log_batch_bytes += at.bytes as u64;
        if let Some(buffer) = buffer {
            let usual = buffer.as_slice().len() == self.config.batch_bytes_max;
            if usual && self.pool.len() < POOLED_BUFFERS {
                self.pool.push(buffer);
            }
        }
        self.trim();
        self.durable_lsn
    }

    /// A segment that should be made ready now, in the background; each is named once: the one that the log
    /// continues in, and always the one behind the one in use. To be ready it has its full size and is on the
    /// disk with its directory entry; the one that the log continues in keeps what it holds and is at most made
    /// longer, any other is all zero.
    pub const fn poll_segment_wanted(&mut self) -> Option<u32> {
        if self.segments_named > self.next.segment + 1 {
            return None;
        }
        self.segments_named += 1;
        Some(self.segments_named - 1)
    }

    /// The disk has no room for a segment that is wanted. Until [`handle_segment_ready`](Self::handle_segment_ready) says
    /// otherwise records are taken as far as the segments before it go, and refused then.
    pub const fn handle_disk_full(&mut self, segment: u32) {
        self.stats.log_disk_full += 1;
        self.disk_full = Some(segment);
    }

    /// A segment that is wanted is ready.
    pub fn handle_segment_ready(&mut self, segment: u32) {
        self.disk_full.take_if(|full| *full <= segment);
    }

    /// The number of the last record that is on the disk; 0 before the first.
    #[must_use]
    pub const fn durable_lsn(&self) -> u64 {
        self.durable_lsn
    }

    /// The number of the last record appended; 0 before the first.
    #[must_use]
    pub const fn last_lsn(&self) -> u64 {
        self.next.lsn
    }

    /// Whether all that was appended is on the disk.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.durable_lsn == self.next.lsn
    }

    /// Whether [`poll_write`](Self::poll_write) has a batch to hand out now.
    #[must_use]
    pub fn is_write_waiting(&self) -> bool {
        self.in_flight.is_none() && !self.is_idle()
    }

    /// Bytes that are not durable yet, the batch in flight included.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.closed_bytes + self.gathering.as_ref().map_or(0, |batch| batch.padded_with(0))
    }

    /// Running counts.
    #[must_use]
    pub const fn stats(&self) -> &LogStats {
        &self.stats
    }

    fn append(
        &mut self,
        header: RecordHeader,
        body_bytes: usize,
        encode: impl FnOnce(&mut Writer<'_>),
    ) -> Result<u64, AppendError> {
        let bytes_max = self.config.record_body_bytes_max;
        if body_bytes > bytes_max {
            return Err(AppendError::TooLarge { bytes: body_bytes, bytes_max });
        }
        let queue_bytes = self.queue_bytes();
        let grown = queue_bytes + round_up(SEGMENT_RECORD_BYTES + record_bytes(body_bytes), BLOCK_BYTES);
        if grown > self.config.queue_bytes_max {
            self.stats.log_refused += 1;
            let queue_bytes_max = self.config.queue_bytes_max;
            return Err(AppendError::Full { queue_bytes, queue_bytes_max });
        }
        if let Some(segment) = self.disk_full.filter(|&full| !self.fits_before(full, header.kind, body_bytes))
        {
            self.stats.log_refused_disk_full += 1;
            return Err(AppendError::DiskFull { segment });
        }
        self.make_room(record_bytes(body_bytes));
        self.put(header, body_bytes, encode);
        Ok(self.next.lsn)
    }

    /// Whether a record finds its place before this segment begins.
    fn fits_before(&self, segment: u32, kind: u8, body_bytes: usize) -> bool {
        let reserve = if kind == kind::TRIM { 0 } else { TRIM_RESERVE_BYTES };
        let gathering =
            self.gathering.as_ref().map(|batch| (batch.segment, batch.offset + batch.padded_with(0) as u64));
        let (current, end) = gathering.unwrap_or((self.next.segment, self.next.offset));
        let record = round_up(record_bytes(body_bytes), BLOCK_BYTES) as u64;
        current < segment && end + record + reserve <= self.config.segment_bytes
    }

    /// Sees to it that the gathering batch can take a record of `bytes`, in this segment or the next.
    fn make_room(&mut self, bytes: usize) {
        let segment_bytes = self.config.segment_bytes;
        if let Some(batch) = &self.gathering {
            let end = batch.offset + batch.padded_with(bytes) as u64;
            if batch.fits(bytes) && end <= segment_bytes {
                return;
            }
            self.close();
        }
        let fits = self.next.offset + round_up(bytes, BLOCK_BYTES) as u64 <= segment_bytes;
        if self.next.offset > 0 && !fits {
            self.next.segment += 1;
            self.next.offset = 0;
        }
        let begins_segment = self.next.offset == 0;
        let needed = if begins_segment { SEGMENT_RECORD_BYTES + bytes } else { bytes };
        let buffer = self.take_buffer(round_up(needed, BLOCK_BYTES));
        self.next.batch += 1;
        let LogPosition { segment, offset, batch, lsn, chain, .. } = self.next;
        self.gathering = Some(Batch::new(buffer, segment, offset, batch, lsn + 1));
        if begins_segment {
            self.trimming.handle_segment_start(SegmentMark { segment, previous: chain, first_lsn: lsn + 1 });
            let start = SegmentStart { log_id: self.config.log_id, segment_bytes };
            let header = RecordHeader { kind: kind::SEGMENT, ..RecordHeader::default() };
            self.put(header, SegmentStart::BODY_BYTES, |body| start.encode(body));
            self.stats.log_segments += 1;
        }
    }

    fn put(&mut self, mut header: RecordHeader, body_bytes: usize, encode: impl FnOnce(&mut Writer<'_>)) {
        let batch = self.gathering.as_mut().expect("room was made");
        self.next.lsn += 1;
        header.magic = MAGIC.into();
        header.version = VERSION;
        header.lsn = self.next.lsn.into();
        header.previous = self.next.chain.into();
        self.next.chain = batch.put(header, body_bytes, encode, self.seed);
        self.stats.log_records += 1;
        self.stats.log_record_bytes += record_bytes(body_bytes) as u64;
    }

    fn close(&mut self) {
        let Some(mut batch) = self.gathering.take() else {
            return;
        };
        self.next.chain = batch.close(self.seed);
        self.next.offset = batch.offset + batch.bytes as u64;
        assert!(self.next.offset <= self.config.segment_bytes, "a batch beyond the end of its segment");
        self.closed_bytes += batch.bytes;
        self.closed.push_back(batch);
    }

    fn take_buffer(&mut self, bytes: usize) -> B {
        let bytes = bytes.max(self.config.batch_bytes_max);
        if bytes == self.config.batch_bytes_max
            && let Some(buffer) = self.pool.pop()
        {
            return buffer;
        }
        let buffer = (self.allocate)(bytes);
        assert_eq!(buffer.as_slice().len(), bytes, "a buffer of another length than asked for");
        buffer
    }
}
