//! The receiving side of a reliable channel (`PROTOCOL.md`, section "Reliable").

use std::collections::VecDeque;

use wire::Code;
use wire::channel::ChannelKind;
use wire::frame::Fragment;

use super::reassembly::Reassembly;
use crate::config::MESSAGES_AHEAD_MAX;
use crate::flow::ReceiveCredit;

/// Delivers every message once: in order, or as soon as it is whole.
#[derive(Debug)]
pub(super) struct ReliableReceive {
    /// Every message below has been delivered, and this one has not.
    next: u64,
    /// Of an unordered channel: which messages above have been delivered.
    delivered: Option<Delivered>,
    waiting: Reassembly,
    pub(super) credit: ReceiveCredit,
    message_bytes_max: usize,
}

/// Where received messages are counted and delivered.
pub(super) struct Delivery<'a, F> {
    pub(super) connection_credit: &'a mut ReceiveCredit,
    pub(super) deliver: F,
}

impl ReliableReceive {
    pub(super) fn new(kind: ChannelKind, window_bytes: u64, message_bytes_max: usize) -> Self {
        Self {
            next: 0,
            delivered: (kind == ChannelKind::ReliableUnordered).then(Delivered::default),
            waiting: Reassembly::new(window_bytes + message_bytes_max as u64),
            credit: ReceiveCredit::new(window_bytes),
            message_bytes_max,
        }
    }

    /// The memory of what waits.
    pub(super) const fn held_bytes(&self) -> u64 {
        self.waiting.held_bytes()
    }

    /// A whole message: delivered from where it lies when its turn has come.
    pub(super) fn handle_message<F: FnMut(&[u8])>(
        &mut self,
        message: &Fragment<'_>,
        to: &mut Delivery<'_, F>,
    ) -> Result<(), Code> {
        if self.waiting.contains(message.sequence) {
            // It went in parts when it was sent again, or before.
            return self.handle_fragment(message, to);
        }
        if !self.is_new(message)? {
            return Ok(());
        }
        self.count(message.payload.len() as u64, to)?;
        if self.delivered.is_some() || message.sequence == self.next {
            self.deliver(message.sequence, message.payload, to);
            self.deliver_waiting(to);
        } else {
            self.waiting.insert_whole(message.sequence, message.payload);
        }
        Ok(())
    }

    pub(super) fn handle_fragment<F: FnMut(&[u8])>(
        &mut self,
        fragment: &Fragment<'_>,
        to: &mut Delivery<'_, F>,
    ) -> Result<(), Code> {
        if !self.is_new(fragment)? {
            return Ok(());
        }
        let taken = self.waiting.insert_fragment(fragment)?;
        self.count(taken.fresh_bytes, to)?;
        if taken.is_whole && self.delivered.is_some() {
            if let Some(payload) = self.waiting.take_whole(fragment.sequence) {
                self.deliver(fragment.sequence, &payload, to);
            }
        } else if taken.is_whole {
            self.deliver_waiting(to);
        }
        Ok(())
    }

    /// Whether a message has not been delivered; an error when it may not be taken.
    fn is_new(&self, message: &Fragment<'_>) -> Result<bool, Code> {
        let Some(ahead) = message.sequence.checked_sub(self.next) else { return Ok(false) };
        if message.total as usize > self.message_bytes_max {
            return Err(Code::MessageTooLarge);
        }
        if ahead >= MESSAGES_AHEAD_MAX {
            return Err(Code::Protocol);
        }
        Ok(self.delivered.as_ref().is_none_or(|delivered| !delivered.contains(ahead as usize)))
    }

    fn count<F>(&mut self, bytes: u64, to: &mut Delivery<'_, F>) -> Result<(), Code> {
        let allowed = self.credit.receive(bytes) & to.connection_credit.receive(bytes);
        if allowed { Ok(()) } else { Err(Code::FlowControl) }
    }

    fn deliver<F: FnMut(&[u8])>(&mut self, sequence: u64, payload: &[u8], to: &mut Delivery<'_, F>) {
        self.credit.deliver(payload.len() as u64);
        to.connection_credit.deliver(payload.len() as u64);
        self.next += match &mut self.delivered {
            Some(delivered) => delivered.insert((sequence - self.next) as usize),
            None => 1,
        };
        (to.deliver)(payload);
    }

    /// Delivers what has waited for an earlier message.
    fn deliver_waiting<F: FnMut(&[u8])>(&mut self, to: &mut Delivery<'_, F>) {
        if self.delivered.is_some() {
            return;
        }
        while let Some(payload) = self.waiting.take_whole(self.next) {
            self.deliver(self.next, &payload, to);
        }
    }
}

/// Which messages have been delivered, from the first that has not: a bit each, at most [`MESSAGES_AHEAD_MAX`].
#[derive(Default, Debug)]
struct Delivered {
    /// The lowest bit of the first word is that of message `next - next % 64`.
    words: VecDeque<u64>,
    /// Bits of the first word that lie below `next`.
    skipped: usize,
}

impl Delivered {
    fn contains(&self, ahead: usize) -> bool {
        let at = self.skipped + ahead;
        self.words.get(at / 64).is_some_and(|word| word & 1 << (at % 64) != 0)
    }

    /// Notes a message; returns by how much the first that has not been delivered moves on.
    fn insert(&mut self, ahead: usize) -> u64 {
        let at = self.skipped + ahead;
        while self.words.len() <= at / 64 {
            self.words.push_back(0);
        }
        self.words[at / 64] |= 1 << (at % 64);
        let mut moved = 0;
        while let Some(&word) = self.words.front() {
            let end = (word | ((1 << self.skipped) - 1)).trailing_ones() as usize;
            moved += (end - self.skipped) as u64;
            self.skipped = end % 64;
            if end < 64 {
                break;
            }
            self.words.pop_front();
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use wire::channel::Channel;

    use super::*;

    fn fragment(sequence: u64, offset: u32, total: u32, payload: &[u8]) -> Fragment<'_> {
        Fragment { channel: Channel::Sync, sequence, offset, total, payload }
    }

    fn ordered() -> ReliableReceive {
        ReliableReceive::new(ChannelKind::ReliableOrdered, 1_000, 100)
    }

    fn unordered() -> ReliableReceive {
        ReliableReceive::new(ChannelKind::ReliableUnordered, 1_000, 100)
    }

    fn whole(sequence: u64, payload: &[u8]) -> Fragment<'_> {
        fragment(sequence, 0, payload.len() as u32, payload)
    }

    fn receive(
        channel: &mut ReliableReceive,
        work: impl FnOnce(&mut ReliableReceive, &mut Delivery<'_, &mut dyn FnMut(&[u8])>) -> Result<(), Code>,
    ) -> (Result<(), Code>, Vec<Vec<u8>>) {
        let mut out = Vec::new();
        let mut credit = ReceiveCredit::new(1 << 40);
        let mut deliver = |payload: &[u8]| out.push(payload.to_vec());
        let result = work(channel, &mut Delivery { connection_credit: &mut credit, deliver: &mut deliver });
        (result, out)
    }

    #[test]
    fn messages_come_out_of_order_or_twice() {
        let mut channel = ordered();
        let (result, out) = receive(&mut channel, |channel, to| {
            for sequence in [2, 0, 0, 3, 2, 1, 1, 4] {
                channel.handle_message(&whole(sequence, &[sequence as u8]), to)?;
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
        assert_eq!(out, [[0], [1], [2], [3], [4]]);
    }

    #[test]
    fn fragments_come_together_wrongly() {
        let mut channel = ordered();
        let (result, out) = receive(&mut channel, |channel, to| {
            channel.handle_fragment(&fragment(1, 3, 6, b"def"), to)?;
            channel.handle_fragment(&fragment(0, 2, 4, b"34"), to)?;
            channel.handle_fragment(&fragment(1, 2, 6, b"cd"), to)?;
            channel.handle_fragment(&fragment(0, 0, 4, b"123"), to)?;
            channel.handle_fragment(&fragment(1, 0, 6, b"ab"), to)?;
            channel.handle_fragment(&fragment(1, 0, 6, b"ab"), to)
        });
        assert_eq!(result, Ok(()));
        assert_eq!(out, [&b"1234"[..], b"abcdef"]);
    }

    #[test]
    fn a_message_in_parts_that_comes_whole_as_well_is_refused_or_doubled() {
        for channel in [&mut ordered(), &mut unordered()] {
            let (result, out) = receive(channel, |channel, to| {
                channel.handle_fragment(&fragment(0, 0, 4, b"ze"), to)?;
                channel.handle_message(&whole(0, b"zero"), to)?;
                channel.handle_fragment(&fragment(0, 2, 4, b"ro"), to)?;
                channel.handle_message(&whole(1, b"one"), to)?;
                channel.handle_fragment(&fragment(1, 0, 3, b"one"), to)
            });
            assert_eq!(result, Ok(()));
            assert_eq!(out, [&b"zero"[..], b"one"]);
            assert_eq!((channel.held_bytes(), channel.credit.received()), (0, 7));
        }
    }

    #[test]
    fn a_peer_takes_memory_without_credit() {
        let far = receive(&mut ordered(), |channel, to| {
            channel.handle_message(&whole(MESSAGES_AHEAD_MAX, b""), to)
        });
        assert_eq!(far.0, Err(Code::Protocol));
        let large = receive(&mut ordered(), |channel, to| channel.handle_message(&whole(0, &[0; 101]), to));
        assert_eq!(large.0, Err(Code::MessageTooLarge));
        let partials = receive(&mut ordered(), |channel, to| {
            (0..12).try_for_each(|sequence| channel.handle_fragment(&fragment(sequence, 99, 100, b"x"), to))
        });
        assert_eq!(partials.0, Err(Code::FlowControl));
        let credit = receive(&mut ordered(), |channel, to| {
            (0..11).try_for_each(|sequence| channel.handle_message(&whole(sequence, &[0; 100]), to))
        });
        assert_eq!(credit.0, Err(Code::FlowControl));
        let parts_and_whole = receive(&mut ordered(), |channel, to| {
            channel.handle_fragment(&fragment(0, 0, 5, b"x"), to)?;
            channel.handle_message(&whole(0, b"four"), to)
        });
        assert_eq!(parts_and_whole.0, Err(Code::Protocol));
        let two_lengths = receive(&mut ordered(), |channel, to| {
            channel.handle_fragment(&fragment(0, 0, 5, b"x"), to)?;
            channel.handle_fragment(&fragment(0, 1, 6, b"x"), to)
        });
        assert_eq!(two_lengths.0, Err(Code::Protocol));
    }
    #[test]
    fn an_unordered_message_waits_or_comes_twice() {
        let (result, out) = receive(&mut unordered(), |channel, to| {
            channel.handle_message(&whole(2, b"2"), to)?;
            channel.handle_fragment(&fragment(0, 0, 4, b"ze"), to)?;
            channel.handle_message(&whole(2, b"2"), to)?;
            channel.handle_message(&whole(1, b"1"), to)?;
            channel.handle_fragment(&fragment(0, 2, 4, b"ro"), to)?;
            channel.handle_fragment(&fragment(0, 2, 4, b"ro"), to)?;
            (0..3).try_for_each(|sequence| channel.handle_message(&whole(sequence, b"again"), to))
        });
        assert_eq!(result, Ok(()));
        assert_eq!(out, [&b"2"[..], b"1", b"zero"]);
    }

    #[test]
    fn a_peer_takes_memory_of_an_unordered_channel() {
        let far = receive(&mut unordered(), |channel, to| {
            channel.handle_message(&whole(0, b""), to)?;
            channel.handle_message(&whole(MESSAGES_AHEAD_MAX, b""), to)?;
            channel.handle_message(&whole(MESSAGES_AHEAD_MAX + 1, b""), to)
        });
        assert_eq!((far.0, far.1.len()), (Err(Code::Protocol), 2));
        let credit = receive(&mut unordered(), |channel, to| {
            (0..11).try_for_each(|sequence| channel.handle_message(&whole(sequence, &[0; 100]), to))
        });
        assert_eq!((credit.0, credit.1.len()), (Err(Code::FlowControl), 10));
        let mut channel = unordered();
        let partials = receive(&mut channel, |channel, to| {
            (0..12).try_for_each(|sequence| channel.handle_fragment(&fragment(sequence, 99, 100, b"x"), to))
        });
        assert_eq!(partials.0, Err(Code::FlowControl));
        assert_eq!(channel.held_bytes(), 11 * 164, "at their full length");
    }

    proptest! {
        #[test]
        fn the_delivered_disagree_with_a_plain_set(order in prop::collection::vec(0_u64..300, 0..600)) {
            let mut delivered = Delivered::default();
            let (mut next, mut model) = (0, BTreeSet::new());
            for sequence in order {
                if sequence < next || delivered.contains((sequence - next) as usize) {
                    prop_assert!(model.contains(&sequence));
                    continue;
                }
                next += delivered.insert((sequence - next) as usize);
                prop_assert!(model.insert(sequence));
                prop_assert_eq!((0..).find(|n| !model.contains(n)), Some(next));
            }
        }
    }
}
