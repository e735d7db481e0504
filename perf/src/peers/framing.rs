//! Messages in a stream of bytes: each after its length, 32 bits, little endian.

use std::io;

use bytes::BytesMut;

use crate::peer::{MESSAGE_HEADER_BYTES, MessageHeader, Request, Responder};

/// Bytes of the length before a message.
const LENGTH_BYTES: usize = 4;

/// Bytes that tell a server what to do with a message: its length and its header.
const PREFIX_BYTES: usize = LENGTH_BYTES + MESSAGE_HEADER_BYTES;

/// The longest message that either side takes.
pub(super) const STREAM_MESSAGE_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(STREAM_MESSAGE_BYTES_MAX >= MESSAGE_HEADER_BYTES);

/// Appends `message` with its length.
pub(super) fn put(message: &[u8], stream: &mut BytesMut) -> io::Result<()> {
    let length = checked_length(message.len())?;
    stream.extend_from_slice(&length.to_le_bytes());
    stream.extend_from_slice(message);
    Ok(())
}

/// What a client does with the stream that comes back.
#[derive(Debug, Default)]
pub(super) struct Messages {
    partial: Vec<u8>,
}

impl Messages {
    /// Hands over the messages that `bytes` complete; says how many.
    pub(super) fn feed(&mut self, mut bytes: &[u8], on_message: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let mut count = 0;
        while !bytes.is_empty() {
            if self.partial.is_empty()
                && let Some(total) = message_end(bytes)?.filter(|&total| total <= bytes.len())
            {
                on_message(&bytes[LENGTH_BYTES..total]);
                bytes = &bytes[total..];
                count += 1;
                continue;
            }
            let wanted = message_end(&self.partial)?.unwrap_or(LENGTH_BYTES);
            bytes = fill(&mut self.partial, wanted, bytes);
            if message_end(&self.partial)? == Some(self.partial.len()) {
                on_message(&self.partial[LENGTH_BYTES..]);
                self.partial.clear();
                count += 1;
            }
        }
        Ok(count)
    }
}

/// What a server does with the stream of one client: it answers as [`Request`] says.
#[derive(Debug, Default)]
pub(super) struct StreamService {
    /// The beginning of a message that has to be whole.
    partial: Vec<u8>,
    /// Bytes still to come of a message that is only counted: nobody needs it in one piece.
    sink_rest_bytes: usize,
    responder: Responder,
}

impl StreamService {
    /// Takes what has come and appends the replies to `replies`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], replies: &mut BytesMut) -> io::Result<()> {
        loop {
            let skipped = self.sink_rest_bytes.min(bytes.len());
            self.sink_rest_bytes -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            if self.partial.is_empty() {
                let used = self.answer(bytes, replies)?;
                if used > 0 {
                    bytes = &bytes[used..];
                    continue;
                }
            }
            let wanted = match message_end(&self.partial)? {
                Some(total) if self.partial.len() >= PREFIX_BYTES => total,
                _ => PREFIX_BYTES,
            };
            let mut partial = std::mem::take(&mut self.partial);
            bytes = fill(&mut partial, wanted, bytes);
            if self.answer(&partial, replies)? > 0 {
                partial.clear();
            }
            self.partial = partial;
        }
    }

    /// Answers the first message of `bytes`; says how many bytes it took, 0 when more are needed.
    fn answer(&mut self, bytes: &[u8], replies: &mut BytesMut) -> io::Result<usize> {
        let (Some(total), Some(prefix)) = (message_end(bytes)?, bytes.get(LENGTH_BYTES..PREFIX_BYTES)) else {
            return Ok(0);
        };
        if MessageHeader::read(prefix).is_some_and(|header| header.request == Request::Sink) {
            self.responder.sink_bytes += (total - LENGTH_BYTES) as u64;
            let used = total.min(bytes.len());
            self.sink_rest_bytes = total - used;
            return Ok(used);
        }
        let Some(message) = bytes.get(LENGTH_BYTES..total) else { return Ok(0) };
        if let Some(reply) = self.responder.handle_message(message) {
            put(reply, replies)?;
        }
        Ok(total)
    }
}

/// Where the first message of `bytes` ends; none while its length has not come.
fn message_end(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    checked_length(length)?;
    Ok(Some(LENGTH_BYTES + length))
}

fn checked_length(length: usize) -> io::Result<u32> {
    if !(MESSAGE_HEADER_BYTES..=STREAM_MESSAGE_BYTES_MAX).contains(&length) {
        return Err(invalid(format!(
            "a message of {length} bytes: it must have {MESSAGE_HEADER_BYTES} to {STREAM_MESSAGE_BYTES_MAX}"
        )));
    }
    u32::try_from(length).map_err(io::Error::other)
}

/// Moves bytes from the front of `bytes` until `partial` has `wanted`; gives back the rest.
fn fill<'a>(partial: &mut Vec<u8>, wanted: usize, bytes: &'a [u8]) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(wanted.saturating_sub(partial.len()).min(bytes.len()));
    partial.extend_from_slice(taken);
    rest
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::read_total;

    fn message(request: Request, length: usize, number: u64) -> Vec<u8> {
        let mut message = vec![7; length];
        MessageHeader { request, number }.write(&mut message);
        message
    }

    #[test]
    fn however_the_stream_is_cut_the_replies_are_the_same() {
        let mut stream = BytesMut::new();
        for (number, (request, length)) in [
            (Request::Echo, 16),
            (Request::Sink, 500),
            (Request::Echo, 64),
            (Request::Sink, 16),
            (Request::Total, 16),
        ]
        .into_iter()
        .enumerate()
        {
            put(&message(request, length, number as u64), &mut stream).unwrap();
        }
        for cut in 1..=stream.len() {
            let mut service = StreamService::default();
            let mut replies = BytesMut::new();
            for piece in stream.chunks(cut) {
                service.feed(piece, &mut replies).unwrap();
            }
            let mut messages = Messages::default();
            let mut received = Vec::new();
            for piece in replies.chunks(cut) {
                messages.feed(piece, &mut |message| received.push(message.to_vec())).unwrap();
            }
            assert_eq!(received[0], message(Request::Echo, 16, 0), "cut into {cut}");
            assert_eq!(received[1], message(Request::Echo, 64, 2), "cut into {cut}");
            assert_eq!(read_total(&received[2]), Some(516), "cut into {cut}");
            assert_eq!(received.len(), 3);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_awaited() {
        let stream = u32::MAX.to_le_bytes();
        assert!(StreamService::default().feed(&stream, &mut BytesMut::new()).is_err());
        assert!(Messages::default().feed(&stream, &mut |_| {}).is_err());
    }
}
