//! Trains: datagrams of one size to or from one peer, moved by one system call (udp(7): UDP_SEGMENT, UDP_GRO).

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use bytemuck::{Pod, Zeroable};

use crate::socket::{get_int, set_int};

/// The most datagrams of one train: UDP_MAX_SEGMENTS of the kernels that have the fewest.
pub(super) const TRAIN_DATAGRAMS_MAX: usize = 64;
/// The most bytes of one train: an IP packet of 65,535 bytes less its headers, IPv6 and extensions included.
pub(super) const TRAIN_BYTES_MAX: usize = 65_000;
/// Room for the one control message that a train has.
pub(super) const CONTROL_BYTES: usize = size_of::<Control>();

/// The head of a control message: what its length counts besides the value.
const CONTROL_HEAD_BYTES: usize = size_of::<usize>() + 2 * size_of::<i32>();

const _: () = assert!(CONTROL_HEAD_BYTES == size_of::<libc::cmsghdr>());

/// Datagrams of one size, one behind the other; the last may be shorter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Train {
    /// Whom they are for.
    pub to: SocketAddr,
    /// All of them, bytes.
    pub bytes: usize,
    /// Each but the last, bytes; that of a single datagram is its length.
    pub segment_bytes: usize,
}

impl Train {
    /// How many datagrams these are.
    pub(super) const fn datagrams(&self) -> usize {
        self.bytes.div_ceil(if self.segment_bytes == 0 { 1 } else { self.segment_bytes })
    }

    pub(super) const fn is_single(&self) -> bool {
        self.bytes <= self.segment_bytes
    }
}

/// One control message, `struct cmsghdr` and its value padded.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable, Debug)]
pub(super) struct Control {
    length: usize,
    level: i32,
    kind: i32,
    value: [u8; 8],
}

impl Control {
    pub(super) const EMPTY: Self = Self { length: 0, level: 0, kind: 0, value: [0; 8] };

    /// Has the kernel cut what is sent.
    pub(super) fn segment(segment_bytes: u16) -> Self {
        let mut value = [0; 8];
        value[..2].copy_from_slice(&segment_bytes.to_ne_bytes());
        Self { length: CONTROL_HEAD_BYTES + 2, level: libc::SOL_UDP, kind: libc::UDP_SEGMENT, value }
    }
}

/// The size of the datagrams in what was received, from its control bytes; none: it is one datagram.
pub(super) fn received_segment_bytes(control: &[u8]) -> Option<usize> {
    let mut padded = [0; CONTROL_BYTES];
    let length = control.len().min(CONTROL_BYTES);
    padded[..length].copy_from_slice(&control[..length]);
    let message: Control = bytemuck::cast(padded);
    let is_ours = message.level == libc::SOL_UDP && message.kind == libc::UDP_GRO;
    if !is_ours || message.length < CONTROL_HEAD_BYTES + 4 || control.len() < CONTROL_HEAD_BYTES + 4 {
        return None;
    }
    let [a, b, c, d, ..] = message.value;
    usize::try_from(i32::from_ne_bytes([a, b, c, d])).ok().filter(|bytes| *bytes > 0)
}

/// Asks for received datagrams to be handed over in trains; a kernel that cannot goes on one by one.
pub(super) fn receive_trains(fd: RawFd) -> io::Result<()> {
    set_int(fd, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Whether the kernel knows how to cut what is sent.
pub(super) fn can_send_trains(fd: RawFd) -> bool {
    get_int(fd, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok()
}

/// Whether an error of a send says that this kernel, device or path takes no trains.
pub(super) fn is_refusal(errno: i32) -> bool {
    matches!(errno, libc::EINVAL | libc::EIO | libc::EOPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(length: usize, level: i32, kind: i32, bytes: i32) -> Vec<u8> {
        let mut value = [0; 8];
        value[..4].copy_from_slice(&bytes.to_ne_bytes());
        bytemuck::bytes_of(&Control { length, level, kind, value }).to_vec()
    }

    #[test]
    fn a_strange_control_message_cuts_what_was_received() {
        let (udp, gro) = (libc::SOL_UDP, libc::UDP_GRO);
        assert_eq!(received_segment_bytes(&received(20, udp, gro, 1_200)), Some(1_200));
        for control in [
            received(20, udp, gro, 0),
            received(20, udp, gro, -1),
            received(18, udp, gro, 1_200),
            received(20, libc::SOL_SOCKET, gro, 1_200),
            received(20, udp, libc::UDP_SEGMENT, 1_200),
            received(20, udp, gro, 1_200)[..18].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(received_segment_bytes(&control), None, "{control:?}");
        }
    }
}
