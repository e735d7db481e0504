//! The slots that datagrams are sent from: each has its buffer and a preset `msghdr`, so that a send fills in a
//! length and an address and nothing is allocated. Sent at once by a plain system call; only what the socket has no
//! room for goes through the ring, which sends it when there is.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use io_uring::opcode;
use wire::Ecn;

use super::segments::{
    CONTROLS_MAX, Control, TRAIN_BYTES_MAX, TRAIN_DATAGRAMS_MAX, Train, is_refusal, use_ecn,
};
use super::{KIND_SEND, PacketRing, SOCKET, Sent};
use crate::Result;
use crate::address::Name;
use crate::pages::Pages;

/// What the kernel reads of one send.
struct Message {
    header: libc::msghdr,
    vector: libc::iovec,
    name: Name,
    controls: [Control; CONTROLS_MAX],
    datagrams: usize,
}

/// All slots; the free ones are taken last-in first-out, so that a quiet shard stays in few cache lines.
pub(super) struct SendSlots {
    buffers: Pages,
    messages: Box<[Message]>,
    free: Vec<u16>,
    slot_bytes: usize,
    /// The one that the socket is connected to: it needs no name, and no look for the way.
    peer: Option<SocketAddr>,
    /// The ECN bits that the socket sets unless told otherwise.
    ecn: Ecn,
}

impl SendSlots {
    /// `count` slots of `slot_bytes`, for `socket`.
    pub(super) fn map(count: u16, slot_bytes: usize, socket: &UdpSocket) -> io::Result<Self> {
        let buffers = Pages::map(usize::from(count) * slot_bytes)?;
        let mut messages: Box<[Message]> = (0..usize::from(count))
            .map(|slot| Message {
                // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
                header: unsafe { std::mem::zeroed() },
                vector: libc::iovec { iov_base: buffers.at(slot * slot_bytes).cast(), iov_len: 0 },
                name: Name::EMPTY,
                controls: [Control::EMPTY; CONTROLS_MAX],
                datagrams: 0,
            })
            .collect();
        for message in &mut messages {
            message.header.msg_iov = &raw mut message.vector;
            message.header.msg_iovlen = 1;
        }
        let peer = socket.peer_addr().ok();
        // Nearly everything that is sent has these bits.
        let ecn = use_ecn(socket.as_raw_fd(), Ecn::Ect0);
        Ok(Self { buffers, messages, free: (0..count).rev().collect(), slot_bytes, peer, ecn })
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

    /// The buffer of a taken slot, as long as a train may be.
    pub(super) fn buffer(&mut self, slot: u16) -> &mut [u8] {
        // SAFETY: the slot was taken and is not submitted, so the kernel does not look at its buffer.
        unsafe {
            self.buffers.slice_mut(usize::from(slot) * self.slot_bytes, self.slot_bytes.min(TRAIN_BYTES_MAX))
        }
    }

    /// Sets lengths and destination of a taken slot; the header to submit. It stays valid, and must stay
    /// unchanged, until the slot's completion.
    fn message(&mut self, slot: u16, train: &Train) -> *const libc::msghdr {
        assert!(train.bytes <= self.slot_bytes, "{train:?} in a slot of {}", self.slot_bytes);
        assert!(train.is_single() || train.datagrams() <= TRAIN_DATAGRAMS_MAX, "{train:?} is too long");
        let message = &mut self.messages[usize::from(slot)];
        message.vector.iov_len = train.bytes;
        message.datagrams = train.datagrams();
        let header = &mut message.header;
        if self.peer == Some(train.to) {
            header.msg_name = std::ptr::null_mut();
            header.msg_namelen = 0;
        } else {
            header.msg_namelen = message.name.set(train.to);
            header.msg_name = (&raw mut message.name).cast();
        }
        let mut count = 0;
        if !train.is_single() {
            // A segment is a part of the slot, which is under 64 KiB.
            message.controls[count] = Control::segment(train.segment_bytes as u16);
            count += 1;
        }
        if train.ecn != self.ecn {
            message.controls[count] = Control::ecn(train.ecn, &train.to);
            count += 1;
        }
        header.msg_control =
            if count == 0 { std::ptr::null_mut() } else { (&raw mut message.controls).cast() };
        header.msg_controllen = count * size_of::<Control>();
        &raw const *header
    }

    /// How many datagrams a taken slot holds.
    pub(super) fn datagrams(&self, slot: u16) -> usize {
        self.messages[usize::from(slot)].datagrams
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

impl PacketRing {
    /// As [`Self::send_train`], for one datagram: `fill` returns its length and destination.
    ///
    /// # Errors
    /// [`RtError::Ring`](crate::RtError::Ring) when the ring is broken.
    ///
    /// # Panics
    /// When `fill` returns a length beyond its buffer.
    pub fn send(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<(usize, SocketAddr)>) -> Result<Sent> {
        self.send_train(|buffer| {
            fill(buffer).map(|(bytes, to)| Train { to, bytes, segment_bytes: bytes, ecn: Ecn::NotEct })
        })
    }

    /// Gives `fill` a slot's buffer and sends what it returns, at most [`Self::train_datagrams_max`] datagrams. A
    /// failed send is counted, never an error: the transport repairs a loss.
    ///
    /// # Errors
    /// [`RtError::Ring`](crate::RtError::Ring) when the ring is broken.
    ///
    /// # Panics
    /// When `fill` returns a train that is longer than its buffer or has too many datagrams.
    pub fn send_train(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<Train>) -> Result<Sent> {
        if self.ring.submission().is_full() {
            self.flush()?;
        }
        let is_full = self.ring.submission().is_full();
        let Some(slot) = (!is_full).then(|| self.send.take()).flatten() else {
            self.counters.send_slots_exhausted += 1;
            return Ok(Sent::Full);
        };
        let Some(train) = fill(self.send.buffer(slot)) else {
            self.send.release(slot);
            return Ok(Sent::Nothing);
        };
        let message = self.send.message(slot, &train);
        if self.send.in_flight() > 1 {
            // Behind those that wait for room.
            self.queue_send(slot, message);
            return Ok(Sent::Queued);
        }
        self.counters.syscalls += 1;
        // SAFETY: `message` points at a header whose name, vector, control and buffer live in the slot, which is
        // taken and not submitted.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), message, libc::MSG_DONTWAIT) };
        if sent < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::WouldBlock {
                self.queue_send(slot, message);
            } else {
                self.end_send(slot, -error.raw_os_error().unwrap_or(libc::EIO));
            }
        } else {
            self.end_send(slot, sent as i32);
        }
        Ok(Sent::Queued)
    }

    /// Has the kernel send as soon as there is room.
    fn queue_send(&mut self, slot: u16, message: *const libc::msghdr) {
        let entry = opcode::SendMsg::new(SOCKET, message).build().user_data(KIND_SEND | u64::from(slot));
        let queued = self.push(&entry);
        debug_assert!(queued, "the caller has made sure that there is room");
    }

    /// The most datagrams that a train may have now; 1 where the kernel, the device or the path takes no trains.
    #[must_use]
    pub const fn train_datagrams_max(&self) -> usize {
        if self.sends_trains { TRAIN_DATAGRAMS_MAX } else { 1 }
    }

    /// The kernel's answer to the send of `slot`.
    pub(super) fn end_send(&mut self, slot: u16, result: i32) {
        let datagrams = self.send.datagrams(slot) as u64;
        self.send.release(slot);
        let counters = &mut self.counters;
        if result >= 0 {
            counters.datagrams_out += datagrams;
            counters.bytes_out += result as u64;
            counters.trains_out += u64::from(datagrams > 1);
        } else {
            counters.send_errors += datagrams;
            if datagrams > 1 && is_refusal(-result) {
                counters.trains_refused += 1;
                self.sends_trains = false;
            }
        }
    }
}
