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

mod ages;

use ages::Stamped;
pub use ages::{Ages, STAMPED_BYTES_MIN, monotonic_ns, stamp};

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
    /// Count how old it is: it carries the instant at which it was due ([`stamp`]).
    Stamped = 3,
    /// Reply with the ages of [`Request::Stamped`] messages, from that of this number on: see [`Ages`].
    Ages = 4,
    /// Reply with what the server's transport has counted: this header, then a JSON object of numbers by name. Only of
    /// transports that count.
    Counters = 5,
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

    /// What the transport has counted, by name; nothing where it does not count.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Makes connections whose first message does not wait for the server.
pub trait EarlyConnector {
    /// Does what has to be done once for each connection before it is wanted; takes its time.
    ///
    /// # Errors
    /// The server cannot be spoken to.
    fn prepare(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// A new connection: its first message may be sent at once, and leaves with the first packet.
    ///
    /// # Errors
    /// The transport is broken, or would have to wait.
    fn connect(&mut self) -> io::Result<Box<dyn Client>>;
}

/// A server that is ready: its address and what a client needs besides, such as a certificate.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Ready {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whatever its own client needs, hexadecimal.
    pub secret: String,
}

/// Many connections of one process, for what connecting and staying connected costs.
pub trait Crowd {
    /// Makes so many more connections, several at a time where that is faster, and keeps them. Returns when each is
    /// established on both sides.
    ///
    /// # Errors
    /// A connection failed; how many there are then is not known.
    fn grow(&mut self, count: usize) -> io::Result<()>;

    /// Does what is due on all of them, so that none is given up; to be called now and then while they idle.
    ///
    /// # Errors
    /// A connection was lost.
    fn poll(&mut self) -> io::Result<()>;
}

impl MessageHeader {
    /// Writes it to the front of a message.
    ///
    /// # Panics
    /// The message is shorter than [`MESSAGE_HEADER_BYTES`].
    pub fn write(self, message: &mut [u8]) {
        message[0] = self.request as u8;
        message[1..8].fill(0);
        message[8..MESSAGE_HEADER_BYTES].copy_from_slice(&self.number.to_le_bytes());
    }

    /// Reads it from the front of a message; nothing where that is none.
    pub fn read(message: &[u8]) -> Option<Self> {
        let (header, _) = message.split_first_chunk::<MESSAGE_HEADER_BYTES>()?;
        let request = match header[0] {
            0 => Request::Echo,
            1 => Request::Sink,
            2 => Request::Total,
            3 => Request::Stamped,
            4 => Request::Ages,
            5 => Request::Counters,
            _ => return None,
        };
        let (_, number) = header.split_last_chunk::<8>()?;
        Some(Self { request, number: u64::from_le_bytes(*number) })
    }
}

/// What a server does with messages: the same for every transport.
#[derive(Clone, Debug, Default)]
pub struct Responder {
    /// Bytes of [`Request::Sink`] messages.
    pub sink_bytes: u64,
    total: [u8; TOTAL_BYTES],
    ages: Stamped,
}

/// Bytes of the reply to [`Request::Total`].
pub const TOTAL_BYTES: usize = MESSAGE_HEADER_BYTES + 8;

impl Responder {
    /// The reply to a message, if it has one.
    pub fn handle_message<'a>(&'a mut self, message: &'a [u8]) -> Option<&'a [u8]> {
        let header = MessageHeader::read(message)?;
        match header.request {
            Request::Echo => Some(message),
            Request::Sink => {
                self.sink_bytes += message.len() as u64;
                None
            }
            Request::Total => {
                header.write(&mut self.total);
                self.total[MESSAGE_HEADER_BYTES..].copy_from_slice(&self.sink_bytes.to_le_bytes());
                Some(&self.total)
            }
            Request::Stamped => {
                self.ages.take(header.number, message, monotonic_ns());
                None
            }
            Request::Ages => Some(self.ages.reply(header)),
            Request::Counters => None,
        }
    }
}

/// The bytes of [`Request::Sink`] messages that a reply to [`Request::Total`] tells of.
pub fn read_total(reply: &[u8]) -> Option<u64> {
    let header = MessageHeader::read(reply)?;
    let (_, bytes) = reply.split_last_chunk::<8>()?;
    (header.request == Request::Total && reply.len() == TOTAL_BYTES).then(|| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_garbage_is_not_answered() {
        let mut responder = Responder::default();
        assert_eq!(responder.handle_message(&[0; MESSAGE_HEADER_BYTES - 1]), None);
        assert_eq!(responder.handle_message(&[9; 64]), None);
    }

    #[test]
    fn bytes_are_counted_at_the_receiver() {
        let mut responder = Responder::default();
        let mut message = [7; 100];
        MessageHeader { request: Request::Sink, number: 1 }.write(&mut message);
        assert_eq!(responder.handle_message(&message), None);
        assert_eq!(responder.handle_message(&message), None);
        MessageHeader { request: Request::Total, number: 2 }.write(&mut message);
        let reply = responder.handle_message(&message).expect("it asks");
        assert_eq!(read_total(reply), Some(200));
        assert_eq!(MessageHeader::read(reply), Some(MessageHeader { request: Request::Total, number: 2 }));
    }
}
