//! Memory for what comes over a lane on its way into a connection's send queue.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes of one piece of it. A message that waits long keeps its piece.
const CHUNK_BYTES: usize = 16 << 10;
/// Messages beyond this have memory of their own.
const MESSAGE_BYTES_MAX: usize = CHUNK_BYTES / 8;
/// Pieces at the most; when all are in use, messages have memory of their own.
const CHUNKS_MAX: usize = 256;
/// Pieces that are looked at for one that is free again.
const LOOKS_MAX: usize = 4;

/// Pieces of memory that messages share and that come back when the last of them has been acknowledged: nothing is
/// allocated once there are enough.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The first is being filled.
    chunks: VecDeque<BytesMut>,
}

impl Buffers {
    /// A message of these two parts.
    pub(super) fn join(&mut self, head: &[u8], rest: &[u8]) -> Bytes {
        let length = head.len() + rest.len();
        if length > MESSAGE_BYTES_MAX || !self.make_room(length) {
            return Bytes::from([head, rest].concat());
        }
        let chunk = &mut self.chunks[0];
        chunk.extend_from_slice(head);
        chunk.extend_from_slice(rest);
        chunk.split().freeze()
    }

    /// Sees to it that the first piece has room; false: there is none to be had.
    fn make_room(&mut self, length: usize) -> bool {
        if self.chunks.front().is_some_and(|chunk| chunk.capacity() >= length) {
            return true;
        }
        for _ in 0..LOOKS_MAX.min(self.chunks.len()) {
            self.chunks.rotate_left(1);
            if self.chunks[0].try_reclaim(CHUNK_BYTES) {
                return true;
            }
        }
        let has_place = self.chunks.len() < CHUNKS_MAX;
        if has_place {
            self.chunks.push_front(BytesMut::with_capacity(CHUNK_BYTES));
        }
        has_place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_share_bytes_or_memory_grows_for_ever() {
        let mut buffers = Buffers::default();
        let mut waiting: VecDeque<(u8, Bytes)> = VecDeque::new();
        for number in 0..20_000_u32 {
            let value = number as u8;
            let message = buffers.join(&[value], &[value; 200]);
            waiting.push_back((value, message));
            if waiting.len() > 300
                && let Some((value, message)) = waiting.pop_front()
            {
                assert!(message.len() == 201 && message.iter().all(|&byte| byte == value));
            }
        }
        let needed = 300 * 201 / CHUNK_BYTES + 2;
        assert!(buffers.chunks.len() <= needed, "{} pieces", buffers.chunks.len());
        assert_eq!(buffers.join(b"large", &[1; MESSAGE_BYTES_MAX]).len(), MESSAGE_BYTES_MAX + 5);
    }

    #[test]
    fn messages_that_nobody_takes_grow_the_pool() {
        let mut buffers = Buffers::default();
        let kept: Vec<Bytes> = (0..CHUNKS_MAX * 20).map(|_| buffers.join(&[7], &[7; 1_500])).collect();
        assert_eq!(buffers.chunks.len(), CHUNKS_MAX);
        assert!(kept.iter().all(|message| message.len() == 1_501));
    }
}
