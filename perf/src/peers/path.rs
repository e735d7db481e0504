//! What the optional transports assume of the path: the same for each.

/// Bytes of headers before them on IPv4.
pub(super) const IP_AND_UDP_HEADER_BYTES: u16 = 28;

/// Bytes that each socket buffer is asked to hold; the kernel grants what it allows everybody.
pub(super) const SOCKET_BUFFER_BYTES: usize = 4 << 20;
