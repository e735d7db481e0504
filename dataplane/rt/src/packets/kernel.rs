//! The ring's dealings with the kernel: submitting, taking completions, arming what has ended.

use std::io;
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use super::{
    BELL, BUFFER_GROUP, DROP_WAIT, Filled, KIND_ALARM, KIND_ALARM_UPDATE, KIND_BELL, KIND_CANCEL, KIND_LOG,
    KIND_LOG_SYNC, KIND_MASK, KIND_RECEIVE, KIND_SEND, KIND_SEND_ZERO_COPY, PacketRing, RECEIVE_FAILURES_MAX,
    SOCKET,
};
use crate::{Result, RtError};

impl PacketRing {
    /// Whether an enter would get anything done.
    pub(super) fn kernel_has_work(&mut self) -> bool {
        let submissions = self.ring.submission();
        let has_overflowed = submissions.cq_overflow();
        let has_work = has_overflowed || !submissions.is_empty() || submissions.taskrun();
        drop(submissions);
        self.counters.completions_overflowed += u64::from(has_overflowed);
        has_work
    }

    /// Submits, and has the kernel post what it has: with deferred task work it does so only when asked.
    pub(super) fn enter(&mut self) -> Result<()> {
        let queued = self.ring.submission().len() as u32;
        self.counters.syscalls += 1;
        let flags = io_uring::EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument is passed, and each queued entry was valid when it was pushed and still is.
        let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, flags, None) };
        tolerate(entered)
    }

    pub(super) fn enter_waiting(&mut self, left: Option<Duration>) -> Result<()> {
        self.counters.syscalls += 1;
        let entered = match left {
            None => self.ring.submitter().submit_and_wait(1),
            Some(left) => {
                let timespec = types::Timespec::from(left);
                let args = types::SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        tolerate(entered)
    }

    /// Takes every completion off the ring.
    pub(super) fn reap(&mut self) -> Result<()> {
        loop {
            let Some(completion) = self.ring.completion().next() else { break };
            let (data, result, flags) = (completion.user_data(), completion.result(), completion.flags());
            let Self { receive, log, filled, alarm, counters, .. } = self;
            match data & KIND_MASK {
                KIND_RECEIVE => {
                    self.receive_armed &= cqueue::more(flags);
                    if let Some(buffer) = cqueue::buffer_select(flags) {
                        receive.taken();
                        filled.push_back(Filled { buffer, bytes: result.max(0) as usize });
                    }
                    self.is_readable |= !self.receives_multishot && result >= 0;
                    match result {
                        0.. => self.receive_failures = 0,
                        error if error == -libc::ENOBUFS => counters.receive_no_buffer += 1,
                        error if error == -libc::EINVAL && self.receives_multishot => {
                            self.receives_multishot = false;
                        }
                        error if error == -libc::ECANCELED => {}
                        error => {
                            counters.receive_errors += 1;
                            self.receive_failures += u32::from(!is_of_the_path(Some(-error)));
                        }
                    }
                }
                KIND_SEND => {
                    self.sends_waiting -= 1;
                    self.end_send(data as u16, result);
                    self.slots_freed = true;
                }
                KIND_SEND_ZERO_COPY => self.end_zero_copy(data as u16, result, flags),
                KIND_LOG => log.handle_write_failed(result),
                KIND_LOG_SYNC => log.handle_synced(result),
                KIND_ALARM => alarm.handle_completion(),
                KIND_CANCEL | KIND_ALARM_UPDATE => {}
                _ => {
                    self.bell_armed &= cqueue::more(flags);
                    self.bell_heard = true;
                    counters.doorbells += 1;
                }
            }
        }
        // The kernel keeps what finds no room, unless it has no memory for that either. Then a slot or a log write would
        // be waited for in vain.
        if self.ring.completion().overflow() > 0 {
            return Err(RtError::Ring {
                what: "completion queue",
                source: io::ErrorKind::OutOfMemory.into(),
            });
        }
        if self.receive_failures > RECEIVE_FAILURES_MAX {
            return Err(RtError::Ring {
                what: "multishot receive",
                source: io::ErrorKind::Unsupported.into(),
            });
        }
        Ok(())
    }

    /// Arms again what has ended. A receive without buffers would end at once: it waits until one is back. Where the
    /// kernel has no such receive, it only tells when there is something to be received.
    pub(super) fn arm(&mut self) {
        if !self.receive_armed && self.receive.free() > 0 {
            let header: *const libc::msghdr = &raw const *self.receive_header;
            let entry = if self.receives_multishot {
                opcode::RecvMsgMulti::new(SOCKET, header, BUFFER_GROUP).build()
            } else {
                opcode::PollAdd::new(SOCKET, libc::POLLIN as u32).build()
            };
            self.receive_armed = self.push(&entry.user_data(KIND_RECEIVE));
            self.receive_cancelled = false;
            self.counters.receive_rearmed += u64::from(self.receive_armed);
        }
        if !self.bell_armed {
            let entry =
                opcode::PollAdd::new(BELL, libc::POLLIN as u32).multi(true).build().user_data(KIND_BELL);
            self.bell_armed = self.push(&entry);
        }
    }

    /// Ends the receive operation: what it still brings is taken first, then the socket is asked.
    pub(super) fn disarm(&mut self) {
        if !self.receive_cancelled {
            let entry = opcode::AsyncCancel::new(KIND_RECEIVE).build().user_data(KIND_CANCEL);
            self.receive_cancelled = self.push(&entry);
        }
    }

    /// Entries that the submission queue takes now.
    pub(super) fn room(&mut self) -> usize {
        let submission = self.ring.submission();
        submission.capacity() - submission.len()
    }

    /// False when the submission queue is full.
    pub(super) fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the entry points at a slot's message, at the receive header, or at the alarm's time. The first two
        // stay where they are and as they are until the completion: slots are released only by `reap`, the header
        // never changes, and drop waits for the kernel or leaks them. The time is boxed and read when the entry is
        // submitted only; an entry that is not submitted goes with the ring.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }
}

/// Whether an error of a receive is about something sent before (an ICMP message): the socket itself is well.
pub(super) fn is_of_the_path(errno: Option<i32>) -> bool {
    matches!(
        errno,
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EMSGSIZE
                | libc::EPROTO
                | libc::EACCES
        )
    )
}

/// Answers that only mean "later": a signal, the time, no memory just now, completions to be taken first.
fn tolerate(entered: io::Result<usize>) -> Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY)
            ) =>
        {
            Ok(())
        }
        Err(source) => Err(RtError::Ring { what: "enter", source }),
    }
}

impl Drop for PacketRing {
    fn drop(&mut self) {
        // Closing the ring cancels its operations only some time later, so have them cancelled first.
        let wait = Some(types::Timespec::from(DROP_WAIT));
        let cancelled = self.ring.submitter().register_sync_cancel(wait, types::CancelBuilder::any());
        let none_left = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        let settled = none_left && self.enter().is_ok() && self.reap().is_ok();
        if settled && self.send.in_flight() == 0 && !self.receive_armed && !self.log.is_in_flight() {
            // The kernel frees the ring later than we close it: the socket's port must not wait for that.
            let _ = self.ring.submitter().unregister_files();
            // SAFETY: dropped once, here, and not used again.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.receive) };
            // SAFETY: as above.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.send) };
            // SAFETY: as above.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.log) };
        }
        // Otherwise the kernel may still write: a leak of some megabytes is the safe end.
    }
}
