//! The disk's side of a shard's log: one write in flight, segment files made ready and taken away beside it.

use std::rc::Rc;

use rt::{LogBuffer, LogFile, PacketRing, RtError, SegmentEvent, SegmentFiles};
use tracing::{error, info};
use wal::{Write, WriteAt};

/// Segments that are ready and not used up: the one in use and the one behind it.
const READY_SEGMENTS: usize = 2;

/// Writes the batches of one log, in order. Any error is final: what the disk holds is unknown then, and the
/// shard stops.
pub(crate) struct LogDriver {
    shard: usize,
    files: SegmentFiles,
    ready: Vec<(u32, Rc<LogFile>)>,
    /// Whether it was said that the disk is full.
    is_disk_full: bool,
    /// A batch whose segment is not ready yet.
    waiting: Option<Write<LogBuffer>>,
    in_flight: Option<InFlight>,
}

/// A batch that the kernel has.
struct InFlight {
    at: WriteAt,
    /// When it got it, for whoever times that.
    began: Option<u64>,
}

/// A batch that is on the disk.
pub(crate) struct Durable {
    pub(crate) at: WriteAt,
    pub(crate) buffer: LogBuffer,
    /// What [`LogDriver::advance`] was told when its write began.
    pub(crate) began: Option<u64>,
}

/// What has become of a segment that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentNews {
    Ready(u32),
    DiskFull(u32),
}

impl LogDriver {
    pub(crate) fn new(shard: usize, files: SegmentFiles) -> Self {
        let ready = Vec::with_capacity(READY_SEGMENTS);
        Self { shard, files, ready, is_disk_full: false, waiting: None, in_flight: None }
    }

    /// Makes a segment ready in the background, after those asked for before.
    pub(crate) fn prepare(&mut self, segment: u32) {
        self.files.prepare(segment);
    }

    /// Takes away a segment that is not needed any more, in the background.
    pub(crate) fn remove(&mut self, segment: u32) {
        self.files.remove(segment);
    }

    /// Whether [`Self::poll_segment`] has something to say.
    pub(crate) fn has_news(&self) -> bool {
        self.files.has_event()
    }

    /// What has become of the segments that were asked for.
    pub(crate) fn poll_segment(&mut self) -> Result<Option<SegmentNews>, RtError> {
        let shard = self.shard;
        while let Some(event) = self.files.poll() {
            match event? {
                SegmentEvent::Ready { segment, file } => {
                    if std::mem::take(&mut self.is_disk_full) {
                        info!(shard, segment, "the disk has room again: the log goes on");
                    }
                    self.ready.push((segment, Rc::new(file)));
                    return Ok(Some(SegmentNews::Ready(segment)));
                }
                SegmentEvent::DiskFull { segment } => {
                    if !std::mem::replace(&mut self.is_disk_full, true) {
                        error!(
                            shard,
                            segment,
                            "the disk has no room for the log's next segment: make room, or edits are refused when \
                             the present one is full"
                        );
                    }
                    return Ok(Some(SegmentNews::DiskFull(segment)));
                }
                SegmentEvent::Removed { segment, is_spare } => {
                    info!(shard, segment, is_spare, "log segment removed");
                }
            }
        }
        Ok(None)
    }

    /// The segment that a batch waits for and that the disk has no room for.
    pub(crate) fn stuck_segment(&self) -> Option<u32> {
        let wanted = self.waiting.as_ref().map(|write| write.at.segment);
        wanted
            .filter(|_| self.is_disk_full)
            .filter(|wanted| !self.ready.iter().any(|(segment, _)| segment == wanted))
    }

    /// Takes a batch; it is written as soon as its segment is ready.
    pub(crate) fn write(&mut self, write: Write<LogBuffer>) {
        assert!(self.waiting.is_none() && self.in_flight.is_none(), "one batch is in flight at a time");
        self.waiting = Some(write);
    }

    /// Begins the waiting write when its segment is ready, and says whether it did; `now` comes back with the batch.
    pub(crate) fn advance(&mut self, ring: &mut PacketRing, now: Option<u64>) -> Result<bool, RtError> {
        let Some(write) = &self.waiting else { return Ok(false) };
        let wanted = write.at.segment;
        let Some(file) =
            self.ready.iter().find(|(segment, _)| *segment == wanted).map(|(_, file)| file.clone())
        else {
            return Ok(false);
        };
        // Segments are written in order: those before this one are done with.
        self.ready.retain(|&(segment, _)| segment >= wanted);
        let Some(Write { at, buffer }) = self.waiting.take() else { return Ok(false) };
        ring.begin_log_write(&file, buffer, at.bytes, at.offset)?;
        self.in_flight = Some(InFlight { at, began: now });
        Ok(true)
    }

    /// The batch that has become durable, if one has.
    pub(crate) fn poll_durable(&mut self, ring: &mut PacketRing) -> Result<Option<Durable>, RtError> {
        let Some((buffer, ended)) = ring.poll_log_write() else { return Ok(None) };
        ended?;
        let InFlight { at, began } = self.in_flight.take().expect("only what was begun ends");
        Ok(Some(Durable { at, buffer, began }))
    }
}
