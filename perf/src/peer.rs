//! What every transport under test has to offer: messages there, replies back.
//!
//! A server runs in a process of its own (`aether-perf serve`), pinned to a core of its own, so that its CPU time and
//! memory are its own; the client runs where the generator runs. Both wait in the same [`Waiting`] form.
//!
//! A message begins with [`MessageHeader`]: what the server shall do, and its number. Transports of bytes put a
//! 32-bit length before each message; transports of messages do not.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

/// Bytes of [`MessageHeader`], the least size of a message.
pub const MESSAGE_HEADER_BYTES: usize = 16;

/// What a server does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Request {
    /// Send it back as it is.
    Echo = 0,
    /// Count it.
    Sink = 1,
    /// Reply with a message of 24 bytes: this header, then the bytes of [`Request::Sink`] messages so far (64 bits,
    /// little endian).
    Total = 2,
}

/// Request (1 byte), 7 bytes of zero, number (64 bits, little endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// What to do.
    pub request: Request,
    /// Counts up from 0 within a repeat.
    pub number: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Taken by the transport.
    Taken,
    /// No room now: poll, then try again.
    Full,
}

/// One association with a server.
pub trait Client {
    /// Gives a message to the transport, which may send it at the next [`Self::poll`], not later.
    ///
    /// # Errors
    /// The transport is broken.
    fn send(&mut self, message: &[u8]) -> io::Result<Sent>;

    /// Does what is due and hands over the messages that have come. With a `wait_until` it sleeps until something
    /// comes or that instant passes; with none it returns at once.
    ///
    /// # Errors
    /// The transport is broken.
    fn poll(&mut self, wait_until: Option<Instant>, on_message: &mut dyn FnMut(&[u8])) -> io::Result<()>;
}

/// A server that is ready: its address and what a client needs besides, such as a certificate.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Ready {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whatever its own client needs, hexadecimal.
    pub secret: String,
}
