//! The slots that datagrams are sent from: each has its buffer and a preset `msghdr`, so that a send fills in a
//! length and an address and nothing is allocated.

use std::io;
use std::net::SocketAddr;

use crate::address::Name;
use crate::pages::Pages;

/// What the kernel reads of one send.
struct Message {
    header: libc::msghdr,
    vector: libc::iovec,
    name: Name,
}

/// All slots; the free ones are taken last-in first-out, so that a quiet shard stays in few cache lines.
pub(super) struct SendSlots {
    buffers: Pages,
    messages: Box<[Message]>,
    free: Vec<u16>,
    slot_bytes: usize,
}

impl SendSlots {
    /// `count` slots of `slot_bytes`.
    pub(super) fn map(count: u16, slot_bytes: usize) -> io::Result<Self> {
        let buffers = Pages::map(usize::from(count) * slot_bytes)?;
        let mut messages: Box<[Message]> = (0..usize::from(count))
            .map(|slot| Message {
                // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
                header: unsafe { std::mem::zeroed() },
                vector: libc::iovec { iov_base: buffers.at(slot * slot_bytes).cast(), iov_len: 0 },
                name: Name::EMPTY,
            })
            .collect();
        for message in &mut messages {
            message.header.msg_name = (&raw mut message.name).cast();
            message.header.msg_iov = &raw mut message.vector;
            message.header.msg_iovlen = 1;
        }
        Ok(Self { buffers, messages, free: (0..count).rev().collect(), slot_bytes })
    }

    /// Takes a free slot.
    pub(super) fn take(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// The slot's completion has come, or it was never submitted.
    pub(super) fn release(&mut self, slot: u16) {
        assert!(self.free.len() < self.messages.len(), "slot {slot} released twice");
        self.free.push(slot);
    }

    /// The buffer of a taken slot.
    pub(super) fn buffer(&mut self, slot: u16) -> &mut [u8] {
        // SAFETY: the slot was taken and is not submitted, so the kernel does not look at its buffer.
        unsafe { self.buffers.slice_mut(usize::from(slot) * self.slot_bytes, self.slot_bytes) }
    }

    /// Sets length and destination of a taken slot; the header to submit. It stays valid, and must stay
    /// unchanged, until the slot's completion.
    pub(super) fn message(&mut self, slot: u16, len: usize, to: SocketAddr) -> *const libc::msghdr {
        assert!(len <= self.slot_bytes, "a datagram of {len} bytes in a slot of {}", self.slot_bytes);
        let message = &mut self.messages[usize::from(slot)];
        message.vector.iov_len = len;
        message.header.msg_namelen = message.name.set(to);
        &raw const message.header
    }

    /// Slots that can be taken.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Slots that the kernel has.
    pub(super) fn in_flight(&self) -> usize {
        self.messages.len() - self.free.len()
    }
}
