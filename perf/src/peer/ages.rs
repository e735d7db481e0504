//! How long messages take one way: the sender stamps them, the receiver, on the same machine, looks at the same clock.

use super::{MESSAGE_HEADER_BYTES, MessageHeader, Request};

/// Where the stamp ends: the least size of a stamped message.
pub const STAMPED_BYTES_MIN: usize = MESSAGE_HEADER_BYTES + 8;
/// Ages kept at most.
const AGES_MAX: usize = 1 << 24;
/// Ages of one reply, so that it fits the messages of every transport.
const AGES_PER_REPLY: usize = 8_192;
/// Before the ages in a reply: header, count, misordered.
const REPLY_HEAD_BYTES: usize = MESSAGE_HEADER_BYTES + 16;

/// The machine's monotonic clock, nanoseconds: all processes read the same.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Makes a message of [`Request::Stamped`] of it, due at an instant of [`monotonic_ns`]; 0: it does not count.
///
/// # Panics
/// The message is shorter than [`STAMPED_BYTES_MIN`].
pub fn stamp(message: &mut [u8], number: u64, due_ns: u64) {
    MessageHeader { request: Request::Stamped, number }.write(message);
    message[MESSAGE_HEADER_BYTES..STAMPED_BYTES_MIN].copy_from_slice(&due_ns.to_le_bytes());
}

/// What a receiver of stamped messages keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct Stamped {
    next_number: u64,
    misordered: u64,
    ages_ns: Vec<u32>,
    reply: Vec<u8>,
}

impl Stamped {
    pub(super) fn take(&mut self, number: u64, message: &[u8], now_ns: u64) {
        self.misordered += u64::from(number != self.next_number);
        self.next_number = number + 1;
        let stamp = message.get(MESSAGE_HEADER_BYTES..).and_then(|rest| rest.first_chunk::<8>());
        let due_ns = stamp.map_or(0, |stamp| u64::from_le_bytes(*stamp));
        if due_ns > 0 && self.ages_ns.len() < AGES_MAX {
            let age_ns = now_ns.saturating_sub(due_ns);
            self.ages_ns.push(u32::try_from(age_ns).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn reply(&mut self, asked: MessageHeader) -> &[u8] {
        self.reply.clear();
        self.reply.resize(MESSAGE_HEADER_BYTES, 0);
        asked.write(&mut self.reply);
        self.reply.extend_from_slice(&(self.ages_ns.len() as u64).to_le_bytes());
        self.reply.extend_from_slice(&self.misordered.to_le_bytes());
        let first = usize::try_from(asked.number).unwrap_or(usize::MAX).min(self.ages_ns.len());
        for age_ns in self.ages_ns[first..].iter().take(AGES_PER_REPLY) {
            self.reply.extend_from_slice(&age_ns.to_le_bytes());
        }
        &self.reply
    }
}

/// A reply to [`Request::Ages`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ages {
    /// The number of the first age of this reply.
    pub first: u64,
    /// Ages that there are.
    pub count: u64,
    /// Messages that did not follow the one before.
    pub misordered: u64,
    /// From the instant that each was due to its delivery, nanoseconds; in the order of delivery.
    pub ages_ns: Vec<u32>,
}

impl Ages {
    /// Reads it; nothing where it is none.
    pub fn read(reply: &[u8]) -> Option<Self> {
        let header = MessageHeader::read(reply).filter(|header| header.request == Request::Ages)?;
        let (head, ages) = reply.split_at_checked(REPLY_HEAD_BYTES)?;
        let number = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk::<8>()?));
        let age = |chunk: &[u8]| chunk.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        Some(Self {
            first: header.number,
            count: number(MESSAGE_HEADER_BYTES)?,
            misordered: number(MESSAGE_HEADER_BYTES + 8)?,
            ages_ns: ages.chunks_exact(4).map(age).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_lost_between_two_replies() {
        let mut stamped = Stamped::default();
        let mut message = [0; STAMPED_BYTES_MIN];
        let count = AGES_PER_REPLY as u64 + 10;
        for number in 0..count {
            stamp(&mut message, number, 1_000);
            stamped.take(number, &message, 1_000 + number);
        }
        let ask = |number| MessageHeader { request: Request::Ages, number };
        let first = Ages::read(stamped.reply(ask(0))).unwrap();
        let second = Ages::read(stamped.reply(ask(AGES_PER_REPLY as u64))).unwrap();
        assert_eq!((first.count, second.count, first.misordered), (count, count, 0));
        let all: Vec<u32> = first.ages_ns.into_iter().chain(second.ages_ns).collect();
        assert_eq!(all, (0..count as u32).collect::<Vec<_>>());
    }

    #[test]
    fn the_warm_up_counts_or_a_message_overtakes_unseen() {
        let mut stamped = Stamped::default();
        let mut message = [0; STAMPED_BYTES_MIN];
        for (number, due_ns) in [(0, 0), (2, 5), (1, 7)] {
            stamp(&mut message, number, due_ns);
            stamped.take(number, &message, 10);
        }
        let ages = Ages::read(stamped.reply(MessageHeader { request: Request::Ages, number: 0 })).unwrap();
        assert_eq!((ages.ages_ns, ages.misordered), (vec![5, 3], 2));
    }
}
