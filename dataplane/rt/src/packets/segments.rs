//! Trains: datagrams of one size to or from one peer, moved by one system call (udp(7): UDP_SEGMENT, UDP_GRO).

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use bytemuck::{Pod, Zeroable};

use wire::Ecn;

use crate::socket::{get_int, set_int};

/// The most datagrams of one train: UDP_MAX_SEGMENTS of the kernels that have the fewest.
pub(super) const TRAIN_DATAGRAMS_MAX: usize = 64;
/// The most bytes of one train: an IP packet of 65,535 bytes less its headers, IPv6 and extensions included.
pub(super) const TRAIN_BYTES_MAX: usize = 65_000;
/// Room for the control messages of what is sent or received: the size of its datagrams, and their ECN bits.
pub(super) const CONTROL_BYTES: usize = CONTROLS_MAX * size_of::<Control>();
/// The most control messages that we give or ask for.
pub(super) const CONTROLS_MAX: usize = 2;

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
    /// The ECN bits of each.
    pub ecn: Ecn,
}

/// Where a datagram came from, and in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Who sent it.
    pub from: SocketAddr,
    /// Its ECN bits.
    pub ecn: Ecn,
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

    /// Has the kernel set the ECN bits, in place of those that the socket sets.
    pub(super) fn ecn(ecn: Ecn, to: &SocketAddr) -> Self {
        // The kernel takes the first for an address of IPv4 that is written as one of IPv6, too.
        let is_v4 = match to {
            SocketAddr::V4(_) => true,
            SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().is_some(),
        };
        let (level, kind) =
            if is_v4 { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
        let mut value = [0; 8];
        value[..4].copy_from_slice(&i32::from(ecn as u8).to_ne_bytes());
        Self { length: CONTROL_HEAD_BYTES + 4, level, kind, value }
    }
}

/// What the control messages of something received say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct ReceivedControls {
    /// The size of the datagrams; none: it is one datagram.
    pub(super) segment_bytes: Option<usize>,
    pub(super) ecn: Ecn,
}

impl ReceivedControls {
    /// From the bytes that the kernel wrote.
    pub(super) fn read(control: &[u8]) -> Self {
        let mut controls = Self::default();
        let mut rest = control;
        for _ in 0..CONTROLS_MAX {
            let mut padded = [0; size_of::<Control>()];
            let length = rest.len().min(padded.len());
            padded[..length].copy_from_slice(&rest[..length]);
            let message: Control = bytemuck::cast(padded);
            if message.length < CONTROL_HEAD_BYTES || message.length > rest.len() {
                break;
            }
            controls.take(&message);
            rest = &rest[message.length.next_multiple_of(size_of::<usize>()).min(rest.len())..];
        }
        controls
    }

    fn take(&mut self, message: &Control) {
        let value_bytes = message.length - CONTROL_HEAD_BYTES;
        let [a, b, c, d, ..] = message.value;
        let value = i32::from_ne_bytes([a, b, c, d]);
        match (message.level, message.kind) {
            (libc::SOL_UDP, libc::UDP_GRO) if value_bytes >= 4 => {
                self.segment_bytes = usize::try_from(value).ok().filter(|bytes| *bytes > 0);
            }
            // One byte in a datagram of IPv4 (ip(7)), an int in one of IPv6 (ipv6(7)).
            (libc::IPPROTO_IP, libc::IP_TOS) if value_bytes >= 1 => self.ecn = Ecn::from_tos(a),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if value_bytes >= 4 => {
                self.ecn = Ecn::from_tos(value as u8);
            }
            _ => {}
        }
    }
}

/// Asks for the ECN bits of what is received, and sets those of what is sent to `ecn`, as far as the kernel does; returns
/// what it sets.
pub(super) fn use_ecn(fd: RawFd, ecn: Ecn) -> Ecn {
    // Of the two, a socket has the one of its family; one of IPv6 that takes IPv4 as well has both.
    let _ = set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1);
    let _ = set_int(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1);
    let tos = i32::from(ecn as u8);
    let v6 = set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos);
    let v4 = set_int(fd, libc::IPPROTO_IP, libc::IP_TOS, tos);
    if v4.is_ok() || v6.is_ok() { ecn } else { Ecn::NotEct }
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

    fn segment_bytes(control: &[u8]) -> Option<usize> {
        ReceivedControls::read(control).segment_bytes
    }

    #[test]
    fn a_strange_control_message_cuts_what_was_received() {
        let (udp, gro) = (libc::SOL_UDP, libc::UDP_GRO);
        assert_eq!(segment_bytes(&received(20, udp, gro, 1_200)), Some(1_200));
        for control in [
            received(20, udp, gro, 0),
            received(20, udp, gro, -1),
            received(18, udp, gro, 1_200),
            received(8, udp, gro, 1_200),
            received(usize::MAX, udp, gro, 1_200),
            received(20, libc::SOL_SOCKET, gro, 1_200),
            received(20, udp, libc::UDP_SEGMENT, 1_200),
            received(20, udp, gro, 1_200)[..18].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(segment_bytes(&control), None, "{control:?}");
        }
    }

    #[test]
    fn one_of_two_control_messages_is_not_read() {
        let train = received(20, libc::SOL_UDP, libc::UDP_GRO, 1_200);
        for bits in [
            received(17, libc::IPPROTO_IP, libc::IP_TOS, 0b11),
            received(20, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 0b11),
        ] {
            let expected = ReceivedControls { segment_bytes: Some(1_200), ecn: Ecn::Ce };
            assert_eq!(ReceivedControls::read(&[bits.clone(), train.clone()].concat()), expected);
            assert_eq!(ReceivedControls::read(&[train.clone(), bits].concat()), expected);
        }
    }
}
