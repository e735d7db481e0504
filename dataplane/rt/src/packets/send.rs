//! The slots that datagrams are sent from: each has its buffer and a preset `msghdr`, so that a send fills in a
//! length and an address and nothing is allocated. Sent at once by a plain system call; only what the socket has no
//! room for goes through the ring, which sends it when there is.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use io_uring::{cqueue, opcode};
use wire::Ecn;

use super::segments::{
    CONTROLS_MAX, Control, TRAIN_BYTES_MAX, TRAIN_DATAGRAMS_MAX, Train, is_refusal, use_ecn,
};
use super::{KIND_SEND, KIND_SEND_ZERO_COPY, PacketRing, SOCKET, Sent, zero_copy};
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

/// What lies between two slots: without it all of them would begin in the same places of the caches, and a batch would
/// throw itself out.
const APART_BYTES: usize = 5 * 64;

/// All slots; the free ones are taken last-in first-out, so that a quiet shard stays in few cache lines.
pub(super) struct SendSlots {
    buffers: Pages,
    messages: Box<[Message]>,
    free: Vec<u16>,
    slot_bytes: usize,
    /// The one that the socket is connected to: it needs no name, and no look for the way.
    peer: Option<SocketAddr>,
    /// The ECN bits that the socket sets unless told otherwise.
    pub(super) ecn: Ecn,
}

impl SendSlots {
    /// `count` slots of `slot_bytes`, for `socket`.
    pub(super) fn map(count: u16, slot_bytes: usize, socket: &UdpSocket) -> io::Result<Self> {
        let buffers = Pages::map(usize::from(count) * (slot_bytes + APART_BYTES))?;
        let mut messages: Box<[Message]> = (0..usize::from(count))
            .map(|slot| Message {
                // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
                header: unsafe { std::mem::zeroed() },
                vector: libc::iovec {
                    iov_base: buffers.at(slot * (slot_bytes + APART_BYTES)).cast(),
                    iov_len: 0,
                },
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
            let at = usize::from(slot) * (self.slot_bytes + APART_BYTES);
            self.buffers.slice_mut(at, self.slot_bytes.min(TRAIN_BYTES_MAX))
        }
    }

    /// Sets lengths and destination of a taken slot; the header to submit. It stays valid, and must stay
    /// unchanged, until the slot's completion.
    pub(super) fn message(&mut self, slot: u16, train: &Train) -> *const libc::msghdr {
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

    /// The ECN bits that the socket sets.
    pub(super) const fn ecn(&self) -> Ecn {
        self.ecn
    }

    /// The header of a taken slot, as [`Self::message`] left it.
    fn header(&self, slot: u16) -> *const libc::msghdr {
        &raw const self.messages[usize::from(slot)].header
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
        let Some(slot) = self.take_slot()? else { return Ok(Sent::Full) };
        let Some(train) = fill(self.send.buffer(slot)) else {
            self.send.release(slot);
            return Ok(Sent::Nothing);
        };
        self.send_slot(slot, &train)?;
        Ok(Sent::Queued)
    }

    /// A free slot, whose message would find room on the ring, too.
    pub(super) fn take_slot(&mut self) -> Result<Option<u16>> {
        if self.ring.submission().is_full() {
            self.flush()?;
        }
        let is_full = self.ring.submission().is_full();
        let slot = (!is_full).then(|| self.send.take()).flatten();
        self.counters.send_slots_exhausted += u64::from(slot.is_none());
        Ok(slot)
    }

    /// Sends what a taken slot was filled with.
    pub(super) fn send_slot(&mut self, slot: u16, train: &Train) -> Result<()> {
        let message = self.send.message(slot, train);
        if self.sends_waiting > 0 {
            // Behind those that wait for room.
            return self.queue_slot(slot);
        }
        if self.zero_copy.is_due(train.bytes) {
            return self.send_zero_copy(slot, message);
        }
        self.send_prepared(slot)
    }

    /// Sends from a taken slot whose message is set.
    pub(super) fn send_prepared(&mut self, slot: u16) -> Result<()> {
        let result = self.send_at_once(self.send.header(slot));
        self.settle_send(slot, result)
    }

    /// The kernel's answer to a send at once: without room it goes to the ring.
    pub(super) fn settle_send(&mut self, slot: u16, result: i32) -> Result<()> {
        if result == -libc::EAGAIN {
            return self.queue_slot(slot);
        }
        self.end_send(slot, result);
        Ok(())
    }

    /// Has the kernel send from a taken slot when there is room; without room for that either, it is lost.
    pub(super) fn queue_slot(&mut self, slot: u16) -> Result<()> {
        if self.ring.submission().is_full() {
            self.flush()?;
        }
        if self.ring.submission().is_full() {
            self.end_send(slot, -libc::EAGAIN);
        } else {
            self.queue_send(slot, self.send.header(slot));
        }
        Ok(())
    }

    /// Sends with a copy; how many bytes went, or the error below zero.
    fn send_at_once(&mut self, message: *const libc::msghdr) -> i32 {
        self.counters.syscalls += 1;
        // SAFETY: `message` points at the header of a taken slot, in which its name, vector, control and buffer live
        // too; nothing changes them before the slot is released.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), message, libc::MSG_DONTWAIT) };
        if sent < 0 { -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { sent as i32 }
    }

    /// Has the kernel send as soon as there is room.
    pub(super) fn queue_send(&mut self, slot: u16, message: *const libc::msghdr) {
        let entry = opcode::SendMsg::new(SOCKET, message).build().user_data(KIND_SEND | u64::from(slot));
        let queued = self.push(&entry);
        debug_assert!(queued, "the caller has made sure that there is room");
        self.sends_waiting += 1;
        self.counters.sends_queued += 1;
    }

    /// Has the kernel send from the slot itself, which stays taken until the kernel says that it has let go of it.
    fn send_zero_copy(&mut self, slot: u16, message: *const libc::msghdr) -> Result<()> {
        let entry = opcode::SendMsgZc::new(SOCKET, message)
            .ioprio(zero_copy::REPORT_USAGE)
            .build()
            .user_data(KIND_SEND_ZERO_COPY | u64::from(slot));
        let queued = self.push(&entry);
        debug_assert!(queued, "the caller has made sure that there is room");
        self.sends_waiting += 1;
        self.counters.zero_copy_trains += 1;
        self.enter()?;
        self.reap()
    }

    /// The kernel's answers to such a send: what became of it, and, unless it failed early, that it is done with the
    /// slot.
    pub(super) fn end_zero_copy(&mut self, slot: u16, result: i32, flags: u32) {
        if cqueue::notif(flags) {
            self.counters.zero_copy_copied += u64::from(self.zero_copy.handle_notification(result));
        } else {
            self.sends_waiting -= 1;
            let mut result = result;
            if result < 0 && zero_copy::is_refusal(-result) {
                self.zero_copy.handle_refusal(-result);
                self.counters.zero_copy_refused += 1;
                result = self.send_at_once(self.send.header(slot));
            }
            self.count_send(slot, result);
            if cqueue::more(flags) {
                return;
            }
        }
        self.send.release(slot);
        self.slots_freed = true;
    }

    /// The most datagrams that a train may have now; 1 where the kernel, the device or the path takes no trains.
    #[must_use]
    pub const fn train_datagrams_max(&self) -> usize {
        if self.sends_trains { TRAIN_DATAGRAMS_MAX } else { 1 }
    }

    /// The kernel's answer to the send of `slot`.
    pub(super) fn end_send(&mut self, slot: u16, result: i32) {
        self.count_send(slot, result);
        self.send.release(slot);
    }

    fn count_send(&mut self, slot: u16, result: i32) {
        let datagrams = self.send.datagrams(slot) as u64;
        let counters = &mut self.counters;
        if result >= 0 {
            counters.datagrams_out += datagrams;
            counters.bytes_out += result as u64;
            counters.trains_out += u64::from(datagrams > 1);
            return;
        }
        counters.send_errors += datagrams;
        match -result {
            libc::EMSGSIZE => counters.send_too_large += datagrams,
            libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN => counters.send_no_memory += datagrams,
            libc::EPERM | libc::EACCES => counters.send_forbidden += datagrams,
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ECONNREFUSED
            | libc::EADDRNOTAVAIL
            | libc::ENETDOWN => {
                counters.send_unreachable += datagrams;
            }
            _ => {}
        }
        if datagrams > 1 && is_refusal(-result) {
            counters.trains_refused += 1;
            self.sends_trains = false;
        }
    }
}
