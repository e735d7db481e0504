//! What the optional transports assume of the path: the same for each.

/// Bytes of headers before them on IPv4.
pub(super) const IP_AND_UDP_HEADER_BYTES: u16 = 28;

/// Bytes that each socket buffer is asked to hold; the kernel grants what it allows everybody.
pub(super) const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Bytes that may be under way on a stream or a connection, and that either side holds of it.
pub(super) const WINDOW_BYTES: u32 = 8 << 20;

/// Bytes that a client takes before it is full.
pub(super) const PENDING_BYTES_MAX: usize = 256 << 10;

const _: () = assert!(PENDING_BYTES_MAX < WINDOW_BYTES as usize);
