//! Making a ring that this kernel and these limits allow, and saying what is wrong when there is none.

use std::io;

use io_uring::IoUring;

use crate::{Result, RtError};

/// Submission entries: what one turn can submit in one system call. More than that flushes early.
const SUBMISSIONS_MAX: u32 = 512;
const _: () = assert!(SUBMISSIONS_MAX.is_power_of_two());
const PROBE_COMPLETIONS: u32 = 4;

/// A ring and whether its kernel says, in shared memory, that deferred completions wait for an enter.
pub(super) struct MadeRing {
    pub(super) ring: IoUring,
    pub(super) deferred: bool,
}

/// The ways to set a ring up, best first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flavor {
    /// Linux 6.1: completions are posted only when we ask, which saves interrupting the shard, and a flag in
    /// shared memory says when asking is worth while, so that spinning makes no system call.
    Deferred,
    /// Linux 5.19: no interrupt, completions are posted at any system call; the same flag.
    Cooperative,
}

/// Makes a ring whose completion queue holds `completions`.
pub(super) fn make(completions: u32) -> Result<MadeRing> {
    make_as(&[Flavor::Deferred, Flavor::Cooperative], completions)
}

/// The same, in the first way that the kernel knows.
pub(super) fn make_as(flavors: &[Flavor], completions: u32) -> Result<MadeRing> {
    let mut last = None;
    for &flavor in flavors {
        match build(flavor, completions) {
            Ok(ring) => return Ok(MadeRing { ring, deferred: matches!(flavor, Flavor::Deferred) }),
            // The kernel does not know the flags: try the older way.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = Some(error),
            Err(error) => return Err(explain(error, completions)),
        }
    }
    Err(explain(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::Unsupported)), completions))
}

/// Whether a ring can be made at all.
pub(crate) fn probe() -> Result<()> {
    make(PROBE_COMPLETIONS).map(drop)
}

fn build(flavor: Flavor, completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_submit_all().setup_clamp().setup_cqsize(completions).setup_taskrun_flag().dontfork();
    match flavor {
        Flavor::Deferred => builder.setup_single_issuer().setup_defer_taskrun(),
        Flavor::Cooperative => builder.setup_coop_taskrun(),
    };
    builder.build(SUBMISSIONS_MAX.min(completions))
}

/// Turns the kernel's refusal into what a person can do about it.
pub(crate) fn explain(source: io::Error, entries: u32) -> RtError {
    match source.raw_os_error() {
        Some(libc::ENOMEM) => RtError::RingMemory { entries, source },
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EINVAL) => {
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            let sysctl = sysctl.map_or_else(|_| "absent".to_owned(), |value| value.trim().to_owned());
            RtError::IoUringDisabled { sysctl, source }
        }
        _ => RtError::Ring { what: "setup", source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_ring_names_the_sysctl_and_the_seccomp_profile() {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let message = explain(io::Error::from_raw_os_error(errno), 64).to_string();
            assert!(message.contains("/proc/sys/kernel/io_uring_disabled"), "{message}");
            assert!(message.contains("seccomp"), "{message}");
        }
    }

    #[test]
    fn a_lack_of_locked_memory_names_the_limit() {
        let message = explain(io::Error::from_raw_os_error(libc::ENOMEM), 64).to_string();
        assert!(message.contains("ulimit -l"), "{message}");
    }
}
