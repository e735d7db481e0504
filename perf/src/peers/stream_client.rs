//! Messages over one stream of a transport under tokio: the client's and the server's side.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::driver::Driver;
use super::framing::{Messages, StreamService, put};
use crate::peer::{Client, Sent};

/// Pieces of a stream that are read at once.
const CHUNKS: usize = 32;

/// A stream in both directions that gives and takes bytes without copying them.
pub(super) trait ByteStream {
    /// Takes from the front of `bytes`; ready when it took some.
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>>;

    /// Fills the first of `chunks`, and says how many; 0 at the end.
    fn poll_read(&mut self, context: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<io::Result<usize>>;
}

/// Answers the messages of one client until it goes.
pub(super) async fn serve(mut stream: impl ByteStream) -> io::Result<()> {
    let mut service = StreamService::default();
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    let mut replies = BytesMut::new();
    loop {
        let count = poll_fn(|context| stream.poll_read(context, &mut chunks)).await?;
        if count == 0 {
            return Ok(());
        }
        for chunk in &mut chunks[..count] {
            service.feed(&std::mem::take(chunk), &mut replies)?;
        }
        let mut outgoing = replies.split().freeze();
        while !outgoing.is_empty() {
            poll_fn(|context| stream.poll_write(context, &mut outgoing)).await?;
        }
    }
}

/// A client of one stream. `E` keeps alive what the stream lives on.
pub(super) struct StreamClient<S, E> {
    driver: Driver,
    stream: S,
    _endpoint: E,
    outgoing: Outgoing,
    /// Taken before there is no room.
    pending_bytes_max: usize,
    /// The caller was told so, and waits for room.
    full: bool,
    messages: Messages,
}

impl<S: ByteStream, E> StreamClient<S, E> {
    pub(super) fn new(driver: Driver, stream: S, pending_bytes_max: usize, endpoint: E) -> Self {
        Self {
            driver,
            stream,
            _endpoint: endpoint,
            outgoing: Outgoing::default(),
            pending_bytes_max,
            full: false,
            messages: Messages::default(),
        }
    }
}

impl<S: ByteStream, E> Client for StreamClient<S, E> {
    fn send(&mut self, message: &[u8]) -> io::Result<Sent> {
        let pending = &mut self.outgoing.pending;
        if !pending.is_empty() && pending.len() + message.len() > self.pending_bytes_max {
            self.full = true;
            return Ok(Sent::Full);
        }
        put(message, pending)?;
        Ok(Sent::Taken)
    }

    fn poll(&mut self, wait_until: Option<Instant>, on_message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let Self { driver, stream, outgoing, full, messages, .. } = self;
        driver.turn(wait_until, &mut |context| {
            let room = outgoing.poll_write(stream, context)?;
            let read = read(stream, messages, context, on_message)?;
            if read || (*full && room) {
                *full = false;
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
    }
}

/// What a client has still to write.
#[derive(Default)]
struct Outgoing {
    pending: BytesMut,
    /// What the stream is taking: it came before `pending`.
    current: Bytes,
}

impl Outgoing {
    /// Gives the stream what it takes; says whether there is room for more.
    fn poll_write(&mut self, stream: &mut impl ByteStream, context: &mut Context<'_>) -> io::Result<bool> {
        loop {
            if self.current.is_empty() {
                if self.pending.is_empty() {
                    return Ok(true);
                }
                self.current = self.pending.split().freeze();
            }
            if stream.poll_write(context, &mut self.current)?.is_pending() {
                return Ok(self.pending.is_empty());
            }
        }
    }
}

/// Hands over what has come; says whether there was a message.
fn read(
    stream: &mut impl ByteStream,
    messages: &mut Messages,
    context: &mut Context<'_>,
    on_message: &mut dyn FnMut(&[u8]),
) -> io::Result<bool> {
    let mut any = false;
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    loop {
        let count = match stream.poll_read(context, &mut chunks)? {
            Poll::Ready(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(count) => count,
            Poll::Pending => return Ok(any),
        };
        for chunk in &mut chunks[..count] {
            any |= messages.feed(&std::mem::take(chunk), on_message)? > 0;
        }
    }
}
