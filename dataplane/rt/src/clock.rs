//! Time and entropy: the arguments that the machines are given.

use std::io;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use wire::Time;

use crate::{Result, RtError};

/// The process's monotonic clock in [`Time`] (microseconds since the first clock was made): the same origin on
/// every thread. Reading it is one vDSO call, no system call.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// The process's clock.
    #[must_use]
    pub fn new() -> Self {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        Self { origin: *ORIGIN.get_or_init(Instant::now) }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        // 2^64 us are 584,000 years.
        Time::from_us(self.origin.elapsed().as_micros() as u64)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Wall-clock milliseconds since 1970; 0 when the clock is set before that.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Fills `bytes` from the kernel's random source.
///
/// # Errors
/// [`RtError::Entropy`] when the kernel has none.
pub fn entropy(bytes: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: `rest` is writable for its whole length.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) => {
                let source = io::Error::last_os_error();
                if source.kind() != io::ErrorKind::Interrupted {
                    return Err(RtError::Entropy { source });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_two_threads_share_their_origin() {
        let here = Clock::new();
        let before = here.now();
        let there = std::thread::spawn(|| Clock::new().now()).join().expect("clock thread");
        assert!(before <= there && there <= here.now());
    }

    #[test]
    fn entropy_fills_the_whole_buffer() {
        let mut bytes = [0u8; 4096];
        entropy(&mut bytes).expect("entropy");
        assert!(bytes.chunks(64).all(|chunk| chunk.iter().any(|byte| *byte != 0)), "a chunk stayed zero");
    }
}
