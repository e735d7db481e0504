//! The log's writes on the packet ring: submitted with the turn's datagrams, seen by the same look, and able to
//! end the same sleep. Each is a write and a linked fdatasync.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use wal::{AlignedBuffer, BLOCK_BYTES};

use super::{KIND_LOG, KIND_LOG_SYNC, PacketRing};
use crate::{LogBuffer, LogFile, Result, RtError};

/// A write that the kernel has, with all that it reads.
struct InFlight {
    file: Rc<LogFile>,
    buffer: LogBuffer,
    bytes: usize,
    offset: u64,
}

/// Entries of one log write.
const ENTRIES: usize = 2;

/// The one log write of a ring.
#[derive(Default)]
pub(super) struct LogWrites {
    in_flight: Option<InFlight>,
    ended: Option<(LogBuffer, Result<()>)>,
}

impl LogWrites {
    /// A write that succeeds says nothing: its sync does.
    fn begin(&mut self, write: InFlight) -> [squeue::Entry; ENTRIES] {
        let write = self.in_flight.insert(write);
        let fd = types::Fd(write.file.as_raw_fd());
        let entry = opcode::Write::new(fd, write.buffer.as_slice().as_ptr(), write.bytes as u32)
            .offset(write.offset)
            .build()
            .flags(squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS)
            .user_data(KIND_LOG);
        let sync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        [entry, sync.user_data(KIND_LOG_SYNC)]
    }

    /// The kernel's answer to a write that went wrong, or was short: it says nothing of the sync behind it then, which is
    /// cancelled.
    pub(super) fn handle_write_failed(&mut self, result: i32) {
        self.end(|write| {
            let (path, offset, len) = (write.file.path().to_owned(), write.offset, write.bytes);
            Err(match usize::try_from(result) {
                Ok(written) => RtError::ShortWrite { path, offset, len, written },
                Err(_) => RtError::File { what: "write", path, source: errno(result) },
            })
        });
    }

    /// The kernel's answer to the sync: all that was written is durable, or nobody knows what is.
    pub(super) fn handle_synced(&mut self, result: i32) {
        self.end(|write| {
            let failed =
                || RtError::File { what: "sync", path: write.file.path().to_owned(), source: errno(result) };
            if result < 0 { Err(failed()) } else { Ok(()) }
        });
    }

    /// Ends the write in flight. There is none when a sync is cancelled behind a write that has failed.
    fn end(&mut self, how: impl FnOnce(&InFlight) -> Result<()>) {
        if let Some(write) = self.in_flight.take() {
            let ended = how(&write);
            self.ended = Some((write.buffer, ended));
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }
}

fn errno(result: i32) -> io::Error {
    io::Error::from_raw_os_error(-result)
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
        // Both in one submission: a link does not reach into the next.
        while self.room() < ENTRIES {
            self.enter()?;
            self.reap()?;
        }
        let entries = self.log.begin(InFlight { file: file.clone(), buffer, bytes, offset });
        let queued = entries.iter().all(|entry| self.push(entry));
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
