//! The buffers that the kernel receives into, and how one is read.
//!
//! A provided-buffer ring (io_uring_register_buf_ring(3)): the kernel takes buffers from its head, we give them
//! back at its tail. Each filled buffer holds `io_uring_recvmsg_out`, the sender's name, the control messages, then the
//! payload (io_uring_prep_recvmsg_multishot(3)).

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use bytemuck::{Pod, Zeroable};
use io_uring::types::BufRingEntry;

use super::segments::{Arrival, CONTROL_BYTES, ReceivedControls};
use crate::address::{self, NAME_BYTES};
use crate::pages::Pages;

/// What the kernel puts before the sender's name: `struct io_uring_recvmsg_out`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ReceivedHeader {
    name_len: u32,
    control_len: u32,
    payload_len: u32,
    flags: u32,
}

const HEADER_BYTES: usize = size_of::<ReceivedHeader>();
/// Where the payload begins in a filled buffer, bytes.
pub(super) const PAYLOAD_OFFSET: usize = HEADER_BYTES + NAME_BYTES + CONTROL_BYTES;

const ENTRY_BYTES: usize = size_of::<BufRingEntry>();
const _: () = assert!(ENTRY_BYTES == 16 && HEADER_BYTES == 16);

/// What a filled buffer turned out to hold.
pub(super) enum Received<'a> {
    /// One datagram, or several of `segment_bytes` of which the last may be shorter.
    Datagrams { arrival: Arrival, payload: &'a mut [u8], segment_bytes: usize },
    /// A datagram longer than the buffer; what is left of it is of no use.
    Truncated,
    /// No payload, or a sender that is no IP address.
    Empty,
}

/// The provided-buffer ring and its buffers.
pub(super) struct ReceiveBuffers {
    entries: Pages,
    buffers: Pages,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
    free: u16,
}

impl ReceiveBuffers {
    /// `count` (a power of two) buffers of `buffer_bytes`, all of them ready to be given to the kernel.
    pub(super) fn map(count: u16, buffer_bytes: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the ring's index wraps by a mask");
        assert!(buffer_bytes > PAYLOAD_OFFSET, "no room for a payload");
        let entries = Pages::map(usize::from(count) * ENTRY_BYTES)?;
        let buffers = Pages::map(usize::from(count) * buffer_bytes)?;
        let mut ring = Self { entries, buffers, count, buffer_bytes, tail: 0, free: 0 };
        for id in 0..count {
            ring.give_back(id);
        }
        ring.publish();
        Ok(ring)
    }

    /// The address and length to register with the kernel.
    pub(super) fn registration(&self) -> (u64, u16) {
        (self.entries.at(0) as u64, self.count)
    }

    /// How many buffers the kernel may fill.
    pub(super) fn free(&self) -> u16 {
        self.free
    }

    /// The kernel has filled a buffer: it is ours until it is given back.
    pub(super) fn taken(&mut self) {
        debug_assert!(self.free > 0, "the kernel filled a buffer that it did not have");
        self.free = self.free.saturating_sub(1);
    }

    /// Reads buffer `id`, in which the kernel put `filled` bytes.
    pub(super) fn read(&mut self, id: u16, filled: usize) -> Received<'_> {
        assert!(id < self.count, "the kernel named buffer {id} of {}", self.count);
        let filled = filled.min(self.buffer_bytes);
        if filled <= PAYLOAD_OFFSET {
            return Received::Empty;
        }
        // SAFETY: a completion has handed this buffer to us, and it is given back only after this borrow ends.
        let buffer = unsafe { self.buffers.slice_mut(usize::from(id) * self.buffer_bytes, filled) };
        let (head, payload) = buffer.split_at_mut(PAYLOAD_OFFSET);
        let header: ReceivedHeader = bytemuck::pod_read_unaligned(&head[..HEADER_BYTES]);
        let cut = (libc::MSG_TRUNC | libc::MSG_CTRUNC) as u32;
        if header.flags & cut != 0 || header.payload_len as usize != payload.len() {
            return Received::Truncated;
        }
        let name_len = (header.name_len as usize).min(NAME_BYTES);
        match address::parse(&head[HEADER_BYTES..HEADER_BYTES + name_len]) {
            Some(from) => {
                let control_len = (header.control_len as usize).min(CONTROL_BYTES);
                let control = &head[HEADER_BYTES + NAME_BYTES..][..control_len];
                let controls = ReceivedControls::read(control);
                let segment_bytes = controls.segment_bytes.unwrap_or(payload.len());
                Received::Datagrams { arrival: Arrival { from, ecn: controls.ecn }, payload, segment_bytes }
            }
            None => Received::Empty,
        }
    }

    /// Puts buffer `id` back at the tail; the kernel sees it after [`Self::publish`].
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count && self.free < self.count, "a buffer given back twice");
        let slot = usize::from(self.tail & (self.count - 1));
        let buffer = self.buffers.at(usize::from(id) * self.buffer_bytes) as u64;
        // SAFETY: the slot is inside the mapped ring, aligned to 16, and behind the published tail, so the kernel
        // does not read it now. Only address, length and id are written, never the tail that shares slot 0.
        let entry = unsafe { &mut *self.entries.at(slot * ENTRY_BYTES).cast::<BufRingEntry>() };
        entry.set_addr(buffer);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
    }

    /// Shows the kernel the buffers given back so far.
    pub(super) fn publish(&mut self) {
        // SAFETY: `at(0)` is the ring's first entry, whose reserved field is the tail by the interface; it is two
        // bytes, aligned, and only ever accessed atomically once registered.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.at(0).cast()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
