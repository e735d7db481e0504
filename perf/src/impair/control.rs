//! How a running relay is told something: by a signal, by standard input, or by another thread.

use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crate::error::{Error, Result};

/// The line on standard input that asks for the counters.
pub(super) const ASK_SUMMARY: &str = "summary";

/// A byte of this value asks for the counters; any other, such as the one that a signal leaves, ends the relay.
const SUMMARY_BYTE: u8 = b'S';
/// Ends the relay.
const END_BYTE: u8 = b'E';

/// What a relay was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Print the counters, and go on.
    Summary,
    /// Stop.
    End,
}

/// The relay's ear.
#[derive(Debug)]
pub struct Control {
    ear: UnixStream,
}

/// Ends a relay from another thread.
#[derive(Debug)]
pub struct Remote {
    mouth: UnixStream,
}

impl Control {
    /// An ear, and who can speak to it.
    ///
    /// # Errors
    /// The system has no more file descriptors.
    pub fn new() -> Result<(Self, Remote)> {
        let pair = || {
            let (ear, mouth) = UnixStream::pair()?;
            ear.set_nonblocking(true)?;
            Ok::<_, std::io::Error>((Self { ear }, Remote { mouth }))
        };
        pair().map_err(|error| Error::doing("the relay's control socket cannot be made", error))
    }

    /// What it was told, if anything. All ends count as one, and so do all requests for counters.
    pub(super) fn take(&mut self) -> Option<Order> {
        let mut bytes = [0; 64];
        let count = self.ear.read(&mut bytes).unwrap_or(0);
        let bytes = &bytes[..count];
        let order = if bytes.iter().all(|&byte| byte == SUMMARY_BYTE) { Order::Summary } else { Order::End };
        (!bytes.is_empty()).then_some(order)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }
}

impl Remote {
    /// Ends the relay.
    pub fn end(&self) {
        self.say(END_BYTE);
    }

    /// Lets SIGINT and SIGTERM end the relay.
    pub(super) fn watch_signals(&self) -> Result<()> {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            self.mouth
                .try_clone()
                .and_then(|mouth| signal_hook::low_level::pipe::register(signal, mouth))
                .map_err(|error| Error::doing("signals cannot be watched", error))?;
        }
        Ok(())
    }

    /// Lets standard input ask for the counters, and end the relay by closing.
    pub(super) fn watch_input(self) -> Result<()> {
        let watch = move || {
            for line in std::io::stdin().lock().lines() {
                match line.as_deref().map(str::trim) {
                    Ok(ASK_SUMMARY) => self.say(SUMMARY_BYTE),
                    Ok(_) => (),
                    Err(_) => break,
                }
            }
            self.end();
        };
        let thread = std::thread::Builder::new().name("stdin".to_owned()).spawn(watch);
        thread.map(drop).map_err(|error| Error::doing("no thread can be made", error))
    }

    fn say(&self, byte: u8) {
        // A relay that no longer listens has ended already.
        let _ = (&self.mouth).write_all(&[byte]);
    }
}
