//! When a train is sent from the slot's own pages instead of a copy (io_uring_prep_sendmsg_zc(3)).
//!
//! It pays only for long trains, and only where the device takes the pages: loopback, and a device without
//! scatter-gather or checksums, have the kernel copy anyway, after it has pinned and counted the pages for nothing.
//! The kernel tells which it was when it lets go of the pages.

use io_uring::Probe;

/// A shorter train is copied in less time than its pages are pinned and their notification is read.
pub(super) const ZERO_COPY_BYTES_MIN: usize = 16 << 10;
/// Long trains that are copied after one that the kernel copied anyway, before the next is tried; doubled each time.
const TRY_TRAINS_MIN: u32 = 64;
const TRY_TRAINS_MAX: u32 = 1 << 16;

/// IORING_SEND_ZC_REPORT_USAGE of linux/io_uring.h: the notification is to say whether it was a copy.
pub(super) const REPORT_USAGE: u16 = 1 << 3;
/// IORING_NOTIF_USAGE_ZC_COPIED: it was.
const COPIED: u32 = 1 << 31;

const _: () = assert!(TRY_TRAINS_MIN.is_power_of_two() && TRY_TRAINS_MIN < TRY_TRAINS_MAX);

/// Whether long trains are sent without a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ZeroCopySend {
    /// Where the kernel says that it did so; tried now and then where it copied anyway.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always, where the kernel can at all.
    On,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// So many long trains are copied before the next is tried.
    Copying { left: u32 },
    /// One is under way, and the kernel has not said yet.
    Trying,
    /// The last one was not copied.
    Proven,
}

/// Decides train by train.
#[derive(Debug)]
pub(super) struct ZeroCopy {
    mode: ZeroCopySend,
    is_supported: bool,
    state: State,
    try_trains: u32,
}

impl ZeroCopy {
    pub(super) const fn new(mode: ZeroCopySend, is_supported: bool) -> Self {
        Self { mode, is_supported, state: State::Copying { left: 0 }, try_trains: TRY_TRAINS_MIN }
    }

    /// Whether a train of `bytes` is to go without a copy.
    pub(super) fn is_due(&mut self, bytes: usize) -> bool {
        if bytes < ZERO_COPY_BYTES_MIN || !self.is_supported {
            return false;
        }
        match (self.mode, self.state) {
            (ZeroCopySend::Off, _) | (ZeroCopySend::Auto, State::Trying) => false,
            (ZeroCopySend::On, _) | (ZeroCopySend::Auto, State::Proven) => true,
            (ZeroCopySend::Auto, State::Copying { left: 0 }) => {
                self.state = State::Trying;
                true
            }
            (ZeroCopySend::Auto, State::Copying { left }) => {
                self.state = State::Copying { left: left - 1 };
                false
            }
        }
    }

    /// What the kernel said of one that it has let go of; true when it was copied.
    pub(super) fn handle_notification(&mut self, result: i32) -> bool {
        let is_copied = result as u32 & COPIED != 0;
        if is_copied {
            self.back_off();
        } else {
            (self.state, self.try_trains) = (State::Proven, TRY_TRAINS_MIN);
        }
        is_copied
    }

    /// The kernel, the path or the limit of locked memory did not take one.
    pub(super) fn handle_refusal(&mut self, errno: i32) {
        if matches!(errno, libc::EOPNOTSUPP | libc::EINVAL) {
            self.is_supported = false;
        }
        self.back_off();
    }

    fn back_off(&mut self) {
        self.state = State::Copying { left: self.try_trains };
        self.try_trains = (self.try_trains * 2).min(TRY_TRAINS_MAX);
    }

    pub(super) const fn mode(&self) -> ZeroCopySend {
        self.mode
    }

    pub(super) const fn is_supported(&self) -> bool {
        self.is_supported
    }

    /// Whether the kernel is known to copy nothing.
    pub(super) fn is_proven(&self) -> bool {
        self.is_supported && self.state == State::Proven
    }
}

/// Whether an error of such a send says that the same train may go with a copy.
pub(super) fn is_refusal(errno: i32) -> bool {
    matches!(errno, libc::EOPNOTSUPP | libc::EINVAL | libc::ENOMEM | libc::ENOBUFS)
}

/// Whether the kernel of `ring` has the operation (Linux 6.1).
pub(super) fn is_in_kernel(ring: &io_uring::IoUring) -> bool {
    let mut probe = Probe::new();
    let asked = ring.submitter().register_probe(&mut probe);
    asked.is_ok() && probe.is_supported(io_uring::opcode::SendMsgZc::CODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: usize = ZERO_COPY_BYTES_MIN;

    #[test]
    fn a_kernel_that_copies_anyway_is_asked_each_time() {
        let mut zero_copy = ZeroCopy::new(ZeroCopySend::Auto, true);
        assert!(!zero_copy.is_due(LONG - 1), "too short");
        let mut asked = 0;
        for _ in 0..10_000 {
            if zero_copy.is_due(LONG) {
                asked += 1;
                assert!(zero_copy.handle_notification(COPIED as i32));
            }
        }
        // 64, 128, ... trains in between.
        assert!((5..=9).contains(&asked), "{asked}");
        assert!(!zero_copy.is_proven());
    }

    #[test]
    fn a_kernel_that_does_not_copy_is_not_used() {
        let mut zero_copy = ZeroCopy::new(ZeroCopySend::Auto, true);
        assert!(zero_copy.is_due(LONG));
        assert!(!zero_copy.is_due(LONG), "one at a time until it is known");
        assert!(!zero_copy.handle_notification(0));
        assert!(zero_copy.is_proven() && (0..100).all(|_| zero_copy.is_due(LONG)));
        zero_copy.handle_notification(COPIED as i32);
        assert!(!zero_copy.is_due(LONG), "the path has changed");
    }

    #[test]
    fn what_is_off_or_refused_is_tried() {
        assert!(!ZeroCopy::new(ZeroCopySend::Off, true).is_due(LONG));
        assert!(!ZeroCopy::new(ZeroCopySend::On, false).is_due(LONG));
        let mut zero_copy = ZeroCopy::new(ZeroCopySend::On, true);
        assert!(zero_copy.is_due(LONG));
        zero_copy.handle_notification(COPIED as i32);
        assert!(zero_copy.is_due(LONG), "told to");
        zero_copy.handle_refusal(libc::EOPNOTSUPP);
        assert!(!zero_copy.is_due(LONG) && !zero_copy.is_supported());
    }
}
