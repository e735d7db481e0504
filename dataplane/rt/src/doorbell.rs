//! Waking a shard from another thread.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rings::Parking;

/// Wakes the shard that sleeps in [`crate::PacketRing::wait`]. Cheap to clone, and nearly free to ring while the
/// shard is awake: the eventfd is written only when the shard has said that it is going to sleep.
///
/// Ring after the message has been put where the shard looks. The shard, before it sleeps, says so and then looks
/// once more ([`crate::PacketRing::wait`]'s `still_idle`), so either it sees the message or we see it asleep.
#[derive(Clone, Debug)]
pub struct Doorbell {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    event: OwnedFd,
    parking: Parking,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nothing else owns.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        Ok(Self { inner: Arc::new(Inner { event, parking: Parking::new() }) })
    }

    /// Wakes the shard if it sleeps or is about to.
    pub fn ring(&self) {
        if self.inner.parking.must_wake() {
            let one = 1u64.to_ne_bytes();
            // SAFETY: eight readable bytes, and a descriptor that `inner` keeps open.
            let written =
                unsafe { libc::write(self.inner.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
            // The counter cannot fill: it would take 2^64 - 2 sleeps.
            debug_assert_eq!(written, 8, "eventfd refused a count of one");
        }
    }

    /// The shard says that it is going to sleep; it must look at its queues once more after this.
    pub(crate) fn park(&self) {
        self.inner.parking.park();
    }

    /// The shard is awake: no need to ring.
    pub(crate) fn unpark(&self) {
        self.inner.parking.unpark();
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.inner.event.as_raw_fd()
    }
}
