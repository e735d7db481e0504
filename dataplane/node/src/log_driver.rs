//! The disk's side of a shard's log: one write in flight, the next segment made ready behind it.

use std::collections::VecDeque;
use std::rc::Rc;

use rt::{Doorbell, LogBuffer, LogDir, LogFile, PacketRing, PreparingSegment, RtError};
use wal::{Write, WriteAt};

/// The segment that is being written.
struct OpenSegment {
    segment: u32,
    file: Rc<LogFile>,
}

/// Writes the batches of one log, in order. Any error is final: what the disk holds is unknown then, and the
/// shard stops.
pub(crate) struct LogDriver {
    dir: LogDir,
    segment_bytes: u64,
    /// Rung when a segment is ready.
    doorbell: Doorbell,
    /// Segments to make ready, in the order in which they will be written: one at a time, so that the one that is
    /// needed first does not share the device, or the last of its room, with the next.
    wanted: VecDeque<u32>,
    preparing: Option<PreparingSegment>,
    prepared: Vec<u32>,
    open: Option<OpenSegment>,
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

impl LogDriver {
    pub(crate) fn new(dir: LogDir, segment_bytes: u64, doorbell: Doorbell) -> Self {
        Self {
            dir,
            segment_bytes,
            doorbell,
            wanted: VecDeque::new(),
            preparing: None,
            prepared: Vec::new(),
            open: None,
            waiting: None,
            in_flight: None,
        }
    }

    /// Makes a segment ready in the background, after those asked for before.
    pub(crate) fn prepare(&mut self, segment: u32) -> Result<(), RtError> {
        self.wanted.push_back(segment);
        self.prepare_next()
    }

    fn prepare_next(&mut self) -> Result<(), RtError> {
        if self.preparing.is_none()
            && let Some(segment) = self.wanted.pop_front()
        {
            let doorbell = self.doorbell.clone();
            self.preparing = Some(self.dir.prepare_in_background(segment, self.segment_bytes, doorbell)?);
        }
        Ok(())
    }

    /// Whether a segment is being made ready: its end may have to be looked for.
    pub(crate) const fn is_preparing(&self) -> bool {
        self.preparing.is_some()
    }

    /// Takes a batch; it is written as soon as its segment is ready.
    pub(crate) fn write(&mut self, write: Write<LogBuffer>) {
        assert!(self.waiting.is_none() && self.in_flight.is_none(), "one batch is in flight at a time");
        self.waiting = Some(write);
    }

    /// Begins the waiting write when its segment is ready, and says whether it did; `now` comes back with the batch.
    pub(crate) async fn advance(&mut self, ring: &mut PacketRing, now: Option<u64>) -> Result<bool, RtError> {
        while let Some(done) = self.preparing.take_if(|preparing| preparing.is_finished()) {
            self.prepared.push(done.segment());
            done.finish()?;
            self.prepare_next()?;
        }
        let is_ready = |write: &mut Write<LogBuffer>| self.prepared.contains(&write.at.segment);
        let Some(Write { at, buffer }) = self.waiting.take_if(is_ready) else { return Ok(false) };
        // Segments are written in order: those before this one are done with.
        self.prepared.retain(|&segment| segment >= at.segment);
        let file = match &self.open {
            Some(open) if open.segment == at.segment => open.file.clone(),
            _ => {
                let file = Rc::new(self.dir.open_segment(at.segment).await?);
                self.open = Some(OpenSegment { segment: at.segment, file: file.clone() });
                file
            }
        };
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
