//! Having the kernel look at the network device itself while a shard sleeps (IORING_REGISTER_NAPI, Linux 6.9).
//!
//! A datagram then ends the sleep without the interrupt, the softirq and the wake-up in between. The device must have
//! NAPI (loopback has not), and the core is busy meanwhile.

use std::io;
use std::os::fd::RawFd;

use io_uring::IoUring;
use std::os::fd::AsRawFd;

use crate::socket::{get_int, set_int};

/// IORING_REGISTER_NAPI of linux/io_uring.h.
const REGISTER_NAPI: libc::c_uint = 27;
/// SO_BUSY_POLL and SO_PREFER_BUSY_POLL: the same for plain system calls.
const SO_BUSY_POLL: i32 = 46;
const SO_PREFER_BUSY_POLL: i32 = 69;
/// SO_INCOMING_NAPI_ID: the queue that the last packet came by; 0: none that can be polled.
const SO_INCOMING_NAPI_ID: i32 = 56;

/// `struct io_uring_napi`.
#[repr(C)]
struct Napi {
    busy_poll_us: u32,
    prefers_busy_poll: u8,
    opcode: u8,
    pad: [u8; 2],
    parameter: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Napi>() == 16);

/// What came of asking for it.
#[derive(Debug)]
pub(super) enum BusyPoll {
    /// It was not asked for.
    Off,
    /// The kernel does so, for so many microseconds of each sleep.
    On { us: u32 },
    /// The kernel does not.
    Refused(io::Error),
}

impl BusyPoll {
    /// Asks for `us` of polling before `ring` sleeps; 0: none.
    pub(super) fn register(ring: &IoUring, socket: RawFd, us: u32) -> Self {
        if us == 0 {
            return Self::Off;
        }
        let mut napi = Napi {
            busy_poll_us: us,
            prefers_busy_poll: 1,
            opcode: 0,
            pad: [0; 2],
            parameter: 0,
            reserved: 0,
        };
        // SAFETY: the kernel reads and writes the 16 bytes of `napi`, asserted above, which lives through the call.
        let result = unsafe {
            libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), REGISTER_NAPI, &raw mut napi, 1)
        };
        if result < 0 {
            return Self::Refused(io::Error::last_os_error());
        }
        // Beyond the system's own value it needs a privilege; the ring's polling does not.
        let _ = set_int(socket, libc::SOL_SOCKET, SO_BUSY_POLL, i32::try_from(us).unwrap_or(i32::MAX));
        let _ = set_int(socket, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1);
        Self::On { us }
    }
}

/// Whether what came last came by a queue that can be polled; false before anything has come.
pub(super) fn device_can_be_polled(socket: RawFd) -> bool {
    get_int(socket, libc::SOL_SOCKET, SO_INCOMING_NAPI_ID).is_ok_and(|id| id != 0)
}
