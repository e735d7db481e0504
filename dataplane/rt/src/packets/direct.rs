//! Receiving by plain system calls: what a ring does while its shard is awake all the time.
//!
//! A shard that never sleeps gains nothing from the kernel's notice that a datagram is there; asking the socket is
//! the shorter way to it by more than a microsecond.

use std::io;
use std::os::fd::RawFd;

use super::receive::Received;
use super::segments::{Arrival, CONTROL_BYTES, CONTROLS_MAX, Control, ReceivedControls};
use crate::address::{self, NAME_BYTES, Name};
use crate::pages::Pages;

/// Messages of one system call, when many small ones come.
const MESSAGES_MAX: usize = 32;
/// What one call may bring before others have their turn, bytes: trains come one at a time.
const CALL_BYTES: usize = 64 << 10;
/// Room for the longest train.
const BUFFER_BYTES: usize = 64 << 10;
/// From one buffer to the next: not all of them begin in the same places of the caches.
const STRIDE_BYTES: usize = BUFFER_BYTES + 5 * 64;

/// Messages for recvmmsg(2) with their buffers.
pub(super) struct DirectReceive {
    buffers: Pages,
    names: Box<[Name]>,
    controls: Box<[[Control; CONTROLS_MAX]]>,
    // Read and written by the kernel during a call only.
    vectors: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
    /// Messages to ask for: one while they come one by one, more while all that was asked for comes.
    ask: usize,
}

impl DirectReceive {
    pub(super) fn map() -> io::Result<Self> {
        let buffers = Pages::map(MESSAGES_MAX * STRIDE_BYTES)?;
        let mut names = vec![Name::EMPTY; MESSAGES_MAX].into_boxed_slice();
        let mut controls = vec![[Control::EMPTY; CONTROLS_MAX]; MESSAGES_MAX].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = (0..MESSAGES_MAX)
            .map(|at| libc::iovec { iov_base: buffers.at(at * STRIDE_BYTES).cast(), iov_len: BUFFER_BYTES })
            .collect();
        let messages = (0..MESSAGES_MAX)
            .map(|at| {
                // SAFETY: all-zero is a valid `mmsghdr`: null pointers with zero lengths.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_name = (&raw mut names[at]).cast();
                message.msg_hdr.msg_iov = &raw mut vectors[at];
                message.msg_hdr.msg_iovlen = 1;
                message.msg_hdr.msg_control = (&raw mut controls[at]).cast();
                message
            })
            .collect();
        Ok(Self { buffers, names, controls, vectors, messages, ask: 1 })
    }

    /// Takes what waits in the socket, if anything; returns how many messages, and whether more may wait.
    pub(super) fn receive(&mut self, fd: RawFd) -> io::Result<(usize, bool)> {
        debug_assert_eq!(self.vectors.len(), MESSAGES_MAX);
        for message in &mut self.messages[..self.ask] {
            message.msg_hdr.msg_namelen = NAME_BYTES as u32;
            message.msg_hdr.msg_controllen = CONTROL_BYTES;
            message.msg_hdr.msg_flags = 0;
        }
        let Some(got) = self.ask_socket(fd) else {
            self.ask = 1;
            return Err(io::Error::last_os_error());
        };
        let is_full = got == self.ask;
        let bytes: usize = self.messages[..got].iter().map(|message| message.msg_len as usize).sum();
        self.ask = if is_full && bytes < CALL_BYTES / 2 { (self.ask * 2).min(MESSAGES_MAX) } else { 1 };
        Ok((got, is_full))
    }

    /// Asks for `ask` messages; returns how many came, or nothing when it failed.
    fn ask_socket(&mut self, fd: RawFd) -> Option<usize> {
        if self.ask > 1 {
            // SAFETY: the first `ask` messages point at names, controls, vectors and buffers that `self` owns, that
            // do not move, and that nothing else looks at during the call.
            let got = unsafe {
                libc::recvmmsg(
                    fd,
                    self.messages.as_mut_ptr(),
                    self.ask as u32,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            return usize::try_from(got).ok();
        }
        // The shorter way to a single one.
        let first = &mut self.messages[0];
        // SAFETY: as above, for the first message.
        let bytes = unsafe { libc::recvmsg(fd, &raw mut first.msg_hdr, libc::MSG_DONTWAIT) };
        first.msg_len = u32::try_from(bytes).ok()?;
        Some(1)
    }

    /// The bytes of message `at` of the last call.
    pub(super) fn peek(&self, at: usize) -> &[u8] {
        let bytes = (self.messages[at].msg_len as usize).min(BUFFER_BYTES);
        // SAFETY: the kernel looks at the buffers only during a call, and none is under way.
        unsafe { self.buffers.slice(at * STRIDE_BYTES, bytes) }
    }

    /// Reads message `at` of the last call.
    pub(super) fn read(&mut self, at: usize) -> Received<'_> {
        let message = &self.messages[at];
        let bytes = (message.msg_len as usize).min(BUFFER_BYTES);
        if message.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Received::Truncated;
        }
        let name_len = (message.msg_hdr.msg_namelen as usize).min(NAME_BYTES);
        let control_len = message.msg_hdr.msg_controllen.min(CONTROL_BYTES);
        let control = &bytemuck::bytes_of(&self.controls[at])[..control_len];
        let controls = ReceivedControls::read(control);
        let segment_bytes = controls.segment_bytes.unwrap_or(bytes);
        match address::parse(&self.names[at].0[..name_len]) {
            Some(from) if bytes > 0 => {
                // SAFETY: the kernel looks at the buffers only during a call, and none is under way.
                let payload = unsafe { self.buffers.slice_mut(at * STRIDE_BYTES, bytes) };
                Received::Datagrams { arrival: Arrival { from, ecn: controls.ecn }, payload, segment_bytes }
            }
            _ => Received::Empty,
        }
    }
}
