//! Messages of a few bytes that live for a moment, encoded one behind the other into one buffer, so that none of them
//! asks for memory of its own.

use bytes::{Bytes, BytesMut};
use wire::sync::Server;

/// Room for some hundreds of acknowledgements. It is used again once the transport has let go of all of them.
const CHUNK_BYTES: usize = 4 << 10;

/// An encoder with a buffer.
#[derive(Debug, Default)]
pub(crate) struct SmallMessages {
    chunk: BytesMut,
    /// What is being encoded.
    scratch: Vec<u8>,
}

impl SmallMessages {
    /// The message's bytes. One that would keep the buffer for long, or fill it, must not be encoded here.
    pub(crate) fn encode(&mut self, message: &Server<'_>) -> Bytes {
        self.scratch.clear();
        message.encode(&mut self.scratch);
        if self.chunk.capacity() < self.scratch.len() {
            self.chunk.reserve(CHUNK_BYTES.max(self.scratch.len()));
        }
        self.chunk.extend_from_slice(&self.scratch);
        self.chunk.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_overwritten_while_it_is_on_its_way() {
        let mut messages = SmallMessages::default();
        let ack = |counter| Server::Ack { handle: 1, counter, sequence: counter };
        let held: Vec<_> = (0..5_000).map(|counter| messages.encode(&ack(counter))).collect();
        for (counter, bytes) in held.iter().enumerate() {
            assert_eq!(Server::decode(bytes), Ok(ack(counter as u64)));
        }
    }
}
