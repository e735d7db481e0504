//! What an endpoint says where it has no connection: short packets, so many a millisecond, and none longer than what it
//! answers.

use std::collections::VecDeque;
use std::net::SocketAddr;

use wire::Time;

/// The budgets below are for spans of this length: long enough that all clients of a node that was started again are
/// answered in one go.
const TICK_US: u64 = 16_000;
/// Replies that wait to be sent; more are not made.
const WAITING_MAX: usize = 1_024;
/// The longest reply.
pub(crate) const REPLY_BYTES_MAX: usize = 96;

/// What is said, and in answer to what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReplyKind {
    /// RETRY, to a first packet under load.
    Retry,
    /// VERSIONS, to a first packet of another version.
    Versions,
    /// RESET, to data for a connection that is not known.
    Reset,
}

impl ReplyKind {
    /// How many are made in one tick: what is over would only help somebody who floods others through us.
    const fn per_tick_max(self) -> u32 {
        match self {
            Self::Retry => 1_024,
            Self::Versions => 32,
            Self::Reset => 256,
        }
    }
}

struct Reply {
    to: SocketAddr,
    bytes: [u8; REPLY_BYTES_MAX],
    length: usize,
}

/// Replies that wait to be sent, and how many were made in this tick.
#[derive(Default)]
pub(crate) struct StatelessReplies {
    waiting: VecDeque<Reply>,
    tick: u64,
    in_tick: [u32; 3],
}

impl StatelessReplies {
    /// Whether one more of `kind` may be made now; if so it counts.
    pub(crate) fn admit(&mut self, now: Time, kind: ReplyKind) -> bool {
        let tick = now.as_us() / TICK_US;
        if tick != self.tick {
            self.tick = tick;
            self.in_tick = Default::default();
        }
        let made = &mut self.in_tick[kind as usize];
        let is_admitted = *made < kind.per_tick_max() && self.waiting.len() < WAITING_MAX;
        *made += u32::from(is_admitted);
        is_admitted
    }

    /// Takes a reply of at most [`REPLY_BYTES_MAX`] that was admitted.
    pub(crate) fn push(&mut self, to: SocketAddr, packet: &[u8]) {
        let mut bytes = [0; REPLY_BYTES_MAX];
        bytes[..packet.len()].copy_from_slice(packet);
        self.waiting.push_back(Reply { to, bytes, length: packet.len() });
    }

    /// Writes the next reply into `buffer`.
    pub(crate) fn poll(&mut self, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let reply = self.waiting.pop_front()?;
        buffer.get_mut(..reply.length)?.copy_from_slice(&reply.bytes[..reply.length]);
        Some((reply.to, reply.length))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_made_or_kept_without_bound() {
        let mut replies = StatelessReplies::default();
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut made = 0;
        for turn in 0..10 {
            let now = Time::from_us(turn * TICK_US);
            while replies.admit(now, ReplyKind::Reset) {
                replies.push(to, &[7; 48]);
                made += 1;
            }
        }
        assert_eq!(made, WAITING_MAX);
        let mut buffer = [0; 100];
        let first = replies.poll(&mut buffer).expect("a reply that waits");
        assert_eq!((first, &buffer[..48]), ((to, 48), &[7; 48][..]));
        while replies.poll(&mut buffer).is_some() {}
        let later = Time::from_us(2_000_000);
        assert_eq!((0..100).filter(|_| replies.admit(later, ReplyKind::Versions)).count(), 32);
        assert!(replies.admit(later, ReplyKind::Reset), "one kind takes the budget of another");
    }
}
