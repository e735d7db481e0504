//! The log's writes on the packet ring: submitted with the turn's datagrams, seen by the same look, and able to
//! end the same sleep.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use wal::{AlignedBuffer, BLOCK_BYTES};

use super::{KIND_LOG, PacketRing};
use crate::{LogBuffer, LogFile, Result, RtError};

/// A write that the kernel has, with all that it reads.
struct InFlight {
    file: Rc<LogFile>,
    buffer: LogBuffer,
    bytes: usize,
    offset: u64,
}

/// The one log write of a ring.
#[derive(Default)]
pub(super) struct LogWrites {
    in_flight: Option<InFlight>,
    ended: Option<(LogBuffer, Result<()>)>,
}

impl LogWrites {
    fn begin(&mut self, write: InFlight) -> squeue::Entry {
        let write = self.in_flight.insert(write);
        let fd = types::Fd(write.file.as_raw_fd());
        opcode::Write::new(fd, write.buffer.as_slice().as_ptr(), write.bytes as u32)
            .offset(write.offset)
            .build()
            .user_data(KIND_LOG)
    }

    /// The kernel's answer to the write in flight.
    pub(super) fn handle_completion(&mut self, result: i32) {
        let Some(InFlight { file, buffer, bytes, offset }) = self.in_flight.take() else {
            debug_assert!(false, "a log write ended that was not begun");
            return;
        };
        let path = || file.path().to_owned();
        let ended = match usize::try_from(result) {
            Ok(written) if written == bytes => Ok(()),
            Ok(written) => Err(RtError::ShortWrite { path: path(), offset, len: bytes, written }),
            Err(_) => {
                let source = io::Error::from_raw_os_error(-result);
                Err(RtError::File { what: "write", path: path(), source })
            }
        };
        self.ended = Some((buffer, ended));
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }
}

impl PacketRing {
    /// Begins a durable write of the first `bytes` of `buffer` at `offset` (both multiples of 4 KiB); the next
    /// flush, poll or wait submits it. One at a time: the next one after [`Self::poll_log_write`] gave this back.
    ///
    /// # Errors
    /// [`RtError::Misaligned`]: nothing was begun. [`RtError::Ring`] when the ring is broken.
    ///
    /// # Panics
    /// While another write is in flight or has ended unseen: the caller has lost track of its log.
    pub fn begin_log_write(
        &mut self,
        file: &Rc<LogFile>,
        buffer: LogBuffer,
        bytes: usize,
        offset: u64,
    ) -> Result<()> {
        assert!(!self.log.is_in_flight() && !self.log.has_ended(), "one log write at a time");
        let whole = bytes.is_multiple_of(BLOCK_BYTES) && offset.is_multiple_of(BLOCK_BYTES as u64);
        if !whole || bytes == 0 || bytes > buffer.as_slice().len() || u32::try_from(bytes).is_err() {
            let path = file.path().to_owned();
            return Err(RtError::Misaligned { path, offset, len: bytes, align: BLOCK_BYTES });
        }
        while self.ring.submission().is_full() {
            self.enter()?;
            self.reap()?;
        }
        let entry = self.log.begin(InFlight { file: file.clone(), buffer, bytes, offset });
        let queued = self.push(&entry);
        debug_assert!(queued, "there was room a moment ago");
        Ok(())
    }

    /// The write that has ended, with its buffer: durable, or an error after which the process must stop, for
    /// nobody knows what the disk holds.
    pub fn poll_log_write(&mut self) -> Option<(LogBuffer, Result<()>)> {
        self.log.ended.take()
    }

    /// Whether a log write is begun and not yet ended.
    #[must_use]
    pub fn log_write_in_flight(&self) -> bool {
        self.log.is_in_flight()
    }
}
