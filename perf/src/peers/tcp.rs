//! TCP with NODELAY, unencrypted: each message after its length, 32 bits, little endian.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use super::{ClientContext, Peer, ServerContext, wait_ready};
use crate::peer::{Client, MESSAGE_HEADER_BYTES, Ready, Responder, Sent};
use crate::result::Waiting;

/// In the registry.
pub const PEER: Peer = Peer {
    name: "tcp",
    encrypted: false,
    reliable: true,
    packet_bytes_max: None,
    message_bytes_max: |_| MESSAGE_BYTES_MAX,
    serve,
    connect,
    prepare_early: None,
    gather: None,
};

/// Largest message that either side takes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes of the length before a message.
const LENGTH_BYTES: usize = 4;
/// What is read at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes that wait for the socket to have room; with more there is none.
const BACKLOG_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(MESSAGE_BYTES_MAX >= MESSAGE_HEADER_BYTES && BACKLOG_BYTES_MAX >= MESSAGE_BYTES_MAX);

/// Cuts a stream into messages.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// What of it is still to be handed over.
    begin: usize,
    end: usize,
}

impl Inbox {
    /// Where to read to.
    fn room(&mut self) -> &mut [u8] {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        if self.bytes.len() < self.end + READ_BYTES {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            self.bytes.resize(self.bytes.len().max(self.end + READ_BYTES), 0);
        }
        &mut self.bytes[self.end..]
    }

    fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// The next message, where all of it has come.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let waiting = &self.bytes[self.begin..self.end];
        let Some((prefix, rest)) = waiting.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MESSAGE_BYTES_MAX {
            let text = format!("a message of {length} bytes; at most {MESSAGE_BYTES_MAX} are taken");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let begin = self.begin + LENGTH_BYTES;
        self.begin = begin + length;
        Ok(Some(&self.bytes[begin..self.begin]))
    }
}

/// What waits to be written.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    begin: usize,
}

impl Outbox {
    fn put(&mut self, message: &[u8]) {
        // A message is at most `MESSAGE_BYTES_MAX` long on either side.
        self.bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(message);
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// Writes as much as the socket takes.
    fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.begin < self.bytes.len() {
            match stream.write(&self.bytes[self.begin..]) {
                Ok(count) => self.begin += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.begin = 0;
        Ok(())
    }
}

fn serve(context: &ServerContext<'_>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    (context.ready)(Ready { address: listener.local_addr()?, secret: String::new() });
    loop {
        let (stream, _) = listener.accept()?;
        // A client that goes away ends its connection, not the server.
        match serve_connection(stream, context) {
            Err(error) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return Err(error);
            }
            _ => {}
        }
    }
}

fn serve_connection(mut stream: TcpStream, context: &ServerContext<'_>) -> io::Result<()> {
    let polling = context.waiting == Waiting::Polling;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(polling)?;
    let (mut inbox, mut outbox, mut responder) = (Inbox::default(), Outbox::default(), Responder::default());
    loop {
        // A client that does not take its replies is not read from.
        if outbox.len() < BACKLOG_BYTES_MAX {
            match stream.read(inbox.room()) {
                Ok(0) => return Ok(()),
                Ok(count) => inbox.filled(count),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        while let Some(message) = inbox.next()? {
            if let Some(reply) = responder.handle_message(message) {
                outbox.put(reply);
            }
        }
        outbox.flush(&mut stream)?;
        if polling {
            context.stalls.turn(Instant::now());
        }
    }
}

fn connect(context: &ClientContext<'_>) -> io::Result<Box<dyn Client>> {
    let stream = TcpStream::connect(context.ready.address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(Box::new(TcpClient { stream, inbox: Inbox::default(), outbox: Outbox::default() }))
}

struct TcpClient {
    stream: TcpStream,
    inbox: Inbox,
    outbox: Outbox,
}

impl Client for TcpClient {
    fn send(&mut self, message: &[u8]) -> io::Result<Sent> {
        if self.outbox.len() > 0 {
            self.outbox.flush(&mut self.stream)?;
        }
        if self.outbox.len() > 0 && self.outbox.len() + LENGTH_BYTES + message.len() > BACKLOG_BYTES_MAX {
            return Ok(Sent::Full);
        }
        self.outbox.put(message);
        self.outbox.flush(&mut self.stream)?;
        Ok(Sent::Taken)
    }

    fn poll(&mut self, wait_until: Option<Instant>, on_message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.outbox.flush(&mut self.stream)?;
        if let Some(deadline) = wait_until
            && !wait_ready(&self.stream, self.outbox.len() > 0, deadline)?
        {
            return Ok(());
        }
        match self.stream.read(self.inbox.room()) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.inbox.filled(count),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        while let Some(message) = self.inbox.next()? {
            on_message(message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_pieces_is_put_together() {
        let mut outbox = Outbox::default();
        outbox.put(&[1; 20]);
        outbox.put(&[2; 300]);
        let mut inbox = Inbox::default();
        let mut messages = Vec::new();
        for piece in outbox.bytes.chunks(7) {
            inbox.room()[..piece.len()].copy_from_slice(piece);
            inbox.filled(piece.len());
            while let Some(message) = inbox.next().unwrap() {
                messages.push(message.to_vec());
            }
        }
        assert_eq!(messages, [vec![1; 20], vec![2; 300]]);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_awaited() {
        let mut inbox = Inbox::default();
        inbox.room()[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        inbox.filled(4);
        assert!(inbox.next().is_err());
    }
}
