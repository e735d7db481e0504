//! The disk's side of a shard's log: one write in flight, the next segment made ready behind it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use rt::{Doorbell, LogBuffer, LogDir, LogFile, PreparingSegment, RtError, Sync};
use wal::{Write, WriteAt};

type Flight = Pin<Box<dyn Future<Output = Result<OpenSegment, RtError>>>>;

/// The segment that is being written.
#[derive(Clone)]
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
    preparing: Vec<PreparingSegment>,
    prepared: Vec<u32>,
    open: Option<OpenSegment>,
    /// A batch whose segment is not ready yet.
    waiting: Option<Write<LogBuffer>>,
    flight: Option<(WriteAt, Flight)>,
}

impl LogDriver {
    pub(crate) fn new(dir: LogDir, segment_bytes: u64, doorbell: Doorbell) -> Self {
        let (preparing, prepared) = (Vec::new(), Vec::new());
        Self { dir, segment_bytes, doorbell, preparing, prepared, open: None, waiting: None, flight: None }
    }

    /// Makes a segment ready in the background.
    pub(crate) fn prepare(&mut self, segment: u32) -> Result<(), RtError> {
        let preparing = self.dir.prepare_in_background(segment, self.segment_bytes, self.doorbell.clone())?;
        self.preparing.push(preparing);
        Ok(())
    }

    /// Takes a batch; it is written as soon as its segment is ready.
    pub(crate) fn write(&mut self, write: Write<LogBuffer>) {
        assert!(self.waiting.is_none() && self.flight.is_none(), "one batch is in flight at a time");
        self.waiting = Some(write);
    }

    /// Whether a batch is under way, so that the executor's rings have to be looked at.
    pub(crate) const fn is_busy(&self) -> bool {
        self.flight.is_some() || self.waiting.is_some()
    }

    /// Moves things on; the batch that has become durable, if one has.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Result<Option<WriteAt>, RtError> {
        self.take_prepared()?;
        self.take_off();
        let Some((at, flight)) = &mut self.flight else { return Ok(None) };
        let at = *at;
        match flight.as_mut().poll(cx) {
            Poll::Pending => Ok(None),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(open)) => {
                self.open = Some(open);
                self.flight = None;
                Ok(Some(at))
            }
        }
    }

    fn take_prepared(&mut self) -> Result<(), RtError> {
        while let Some(at) = self.preparing.iter().position(PreparingSegment::is_finished) {
            let done = self.preparing.swap_remove(at);
            let segment = done.segment();
            done.finish()?;
            self.prepared.push(segment);
        }
        Ok(())
    }

    /// Begins the waiting write when its segment is ready.
    fn take_off(&mut self) {
        let Some(write) = self.waiting.take_if(|write| self.prepared.contains(&write.at.segment)) else {
            return;
        };
        let at = write.at;
        // Segments are written in order: those before this one are done with.
        self.prepared.retain(|&segment| segment >= at.segment);
        let open = self.open.clone().filter(|open| open.segment == at.segment);
        let dir = self.dir.clone();
        let flight = async move {
            let open = match open {
                Some(open) => open,
                None => OpenSegment {
                    segment: at.segment,
                    file: Rc::new(dir.open_segment(at.segment, Sync::WithWrite).await?),
                },
            };
            open.file.write(write.buffer, at.bytes, at.offset).await?;
            Ok(open)
        };
        self.flight = Some((at, Box::pin(flight)));
    }
}
