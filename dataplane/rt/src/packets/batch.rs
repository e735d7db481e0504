//! Sends that go with one system call (sendmmsg(2)): each saves the entry into the kernel, a sixth of what a datagram
//! costs on loopback, which tells where a thousand leave in a row.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::segments::Train;
use super::{PacketRing, Sent};
use crate::Result;

/// Messages of one system call at the most: what more would save is little, and the first waits for the last.
const MESSAGES_MAX: usize = 32;
/// A train of so many bytes is worth a system call of its own; those before it go along.
const LONG_BYTES: usize = 8 << 10;

/// Taken slots whose messages the kernel has not been told of.
pub(super) struct Batch {
    /// What the kernel reads, one for each slot.
    headers: Vec<libc::mmsghdr>,
    slots: Vec<u16>,
    messages_max: usize,
    /// Whether the kernel, or who guards it, lets us.
    is_allowed: bool,
}

impl Batch {
    /// For the socket `fd`, with half of its slots at the most.
    pub(super) fn new(fd: RawFd, send_slots: u16) -> Self {
        let messages_max = usize::from(send_slots / 2).min(MESSAGES_MAX);
        // SAFETY: no message is pointed at, and none counted.
        let asked = unsafe { libc::sendmmsg(fd, std::ptr::null_mut(), 0, libc::MSG_DONTWAIT) };
        Self {
            headers: Vec::with_capacity(messages_max),
            slots: Vec::with_capacity(messages_max),
            messages_max,
            is_allowed: asked == 0,
        }
    }

    /// Whether several messages go with one system call.
    pub(super) const fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    #[cfg(test)]
    pub(super) const fn forbid(&mut self) {
        self.is_allowed = false;
    }

    /// Adds the message of a taken slot.
    fn push(&mut self, slot: u16, message: *const libc::msghdr) {
        // SAFETY: `message` points at the header of a taken slot.
        let msg_hdr = unsafe { *message };
        self.headers.push(libc::mmsghdr { msg_hdr, msg_len: 0 });
        self.slots.push(slot);
    }

    /// Whether another message would have to wait too long.
    fn is_full(&self) -> bool {
        !self.is_allowed || self.slots.len() >= self.messages_max
    }

    /// Sends from message `at` on; how many went, or the error of the first below zero.
    fn send_from(&mut self, at: usize, fd: RawFd) -> i32 {
        let rest = &mut self.headers[at..];
        // SAFETY: each header is that of a taken slot, in which its name, vector, control and buffer live too; nothing
        // changes them before the slot is released. The kernel writes lengths into the headers, which are ours.
        let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as u32, libc::MSG_DONTWAIT) };
        if sent <= 0 { -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { sent }
    }
}

impl PacketRing {
    /// Gives `fill` one slot's buffer after the other until it has nothing, and sends what it returns, each as
    /// [`Self::send_train`] would and in this order, many with one system call. [`Sent::Queued`] if there was anything,
    /// and `fill` has said that there is no more.
    ///
    /// # Errors
    /// [`RtError::Ring`](crate::RtError::Ring) when the ring is broken.
    ///
    /// # Panics
    /// When `fill` returns a train that is longer than its buffer or has too many datagrams.
    pub fn send_trains(&mut self, mut fill: impl FnMut(&mut [u8]) -> Option<Train>) -> Result<Sent> {
        let mut sent = Sent::Nothing;
        loop {
            let Some(slot) = self.take_slot()? else {
                self.send_batch()?;
                return Ok(Sent::Full);
            };
            let Some(train) = fill(self.send.buffer(slot)) else {
                self.send.release(slot);
                self.send_batch()?;
                return Ok(sent);
            };
            sent = Sent::Queued;
            if self.sends_waiting > 0 || train.bytes >= LONG_BYTES {
                self.send_batch()?;
                self.send_slot(slot, &train)?;
                continue;
            }
            let message = self.send.message(slot, &train);
            self.batch.push(slot, message);
            if self.batch.is_full() {
                self.send_batch()?;
            }
        }
    }

    /// Sends what has been gathered. What finds no room goes to the ring, in order.
    fn send_batch(&mut self) -> Result<()> {
        let mut at = 0;
        while let Some(&slot) = self.batch.slots.get(at) {
            at += 1;
            if self.sends_waiting > 0 {
                self.queue_slot(slot)?;
                continue;
            }
            if at == self.batch.slots.len() || !self.batch.is_allowed {
                // The shorter way to a single one.
                self.send_prepared(slot)?;
                continue;
            }
            self.counters.syscalls += 1;
            let sent = self.batch.send_from(at - 1, self.socket.as_raw_fd());
            if let Ok(count) = usize::try_from(sent) {
                self.counters.batches_out += 1;
                at += count - 1;
                for sent in at - count..at {
                    let (slot, bytes) = (self.batch.slots[sent], self.batch.headers[sent].msg_len);
                    self.end_send(slot, bytes as i32);
                }
            } else {
                // Of the first alone: those behind it are tried all the same.
                self.settle_send(slot, sent)?;
            }
        }
        self.batch.slots.clear();
        self.batch.headers.clear();
        Ok(())
    }
}
