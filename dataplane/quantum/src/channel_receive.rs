//! The receiving side of a reliable-ordered channel (`PROTOCOL.md`, section "Channels").

use std::collections::VecDeque;

use wire::Code;
use wire::frame::Fragment;

use crate::config::MESSAGES_AHEAD_MAX;
use crate::flow::ReceiveCredit;
use crate::ranges::RangeSet;

/// Memory taken for a message at its first fragment, so that it need not move while it grows; a longer one takes more
/// as it comes. The pages are touched only by what has been received.
const REASSEMBLY_BYTES: usize = 64 << 10;

const _: () = assert!(REASSEMBLY_BYTES >= wire::limits::STATE_CHUNK_BYTES);

/// Messages received but not delivered, because an earlier one, or a part, is missing.
#[derive(Debug)]
pub(crate) struct ReliableReceive {
    /// The sequence of the next message to deliver, and of the first slot.
    next: u64,
    ahead: VecDeque<Slot>,
    pub(crate) credit: ReceiveCredit,
    message_bytes_max: usize,
    /// The summed lengths of messages in reassembly, and their limit.
    partial_bytes: u64,
    partial_bytes_max: u64,
}

#[derive(Debug)]
enum Slot {
    Missing,
    Whole(Vec<u8>),
    Partial(Box<Partial>),
}

#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    total: u32,
    received: RangeSet,
}

/// Where received messages are counted and delivered.
pub(crate) struct Delivery<'a, F> {
    pub(crate) connection_credit: &'a mut ReceiveCredit,
    pub(crate) deliver: F,
}

impl ReliableReceive {
    pub(crate) fn new(window_bytes: u64, message_bytes_max: usize) -> Self {
        Self {
            next: 0,
            ahead: VecDeque::new(),
            credit: ReceiveCredit::new(window_bytes),
            message_bytes_max,
            partial_bytes: 0,
            partial_bytes_max: window_bytes + message_bytes_max as u64,
        }
    }

    /// A whole message: delivered from where it lies when its turn has come.
    pub(crate) fn handle_message<F: FnMut(&[u8])>(
        &mut self,
        sequence: u64,
        payload: &[u8],
        to: &mut Delivery<'_, F>,
    ) -> Result<(), Code> {
        if sequence < self.next {
            return Ok(());
        }
        if payload.len() > self.message_bytes_max {
            return Err(Code::MessageTooLarge);
        }
        if sequence == self.next && matches!(self.ahead.front(), None | Some(Slot::Missing)) {
            self.count(payload.len() as u64, to)?;
            self.ahead.pop_front();
            self.deliver(payload, to);
            self.drain(to);
            return Ok(());
        }
        match self.slot(sequence)? {
            Slot::Whole(_) => return Ok(()),
            Slot::Partial(_) => return Err(Code::Protocol),
            Slot::Missing => {}
        }
        self.count(payload.len() as u64, to)?;
        *self.slot(sequence)? = Slot::Whole(payload.to_vec());
        Ok(())
    }

    pub(crate) fn handle_fragment<F: FnMut(&[u8])>(
        &mut self,
        fragment: &Fragment<'_>,
        to: &mut Delivery<'_, F>,
    ) -> Result<(), Code> {
        if fragment.sequence < self.next {
            return Ok(());
        }
        if fragment.total as usize > self.message_bytes_max {
            return Err(Code::MessageTooLarge);
        }
        let total = u64::from(fragment.total);
        let partial_bytes = self.partial_bytes;
        let partial_bytes_max = self.partial_bytes_max;
        let slot = self.slot(fragment.sequence)?;
        let mut opened = 0;
        if matches!(slot, Slot::Missing) {
            if partial_bytes + total > partial_bytes_max {
                return Err(Code::FlowControl);
            }
            opened = total;
            *slot = Slot::Partial(Box::new(Partial::new(fragment.total)));
        }
        let Slot::Partial(partial) = slot else { return Ok(()) };
        let fresh = partial.insert(fragment)?;
        let whole = partial.take_whole();
        let is_whole = whole.is_some();
        if let Some(bytes) = whole {
            *slot = Slot::Whole(bytes);
        }
        self.partial_bytes += opened;
        if is_whole {
            self.partial_bytes -= total;
        }
        self.count(fresh, to)?;
        self.drain(to);
        Ok(())
    }

    /// Memory of messages that are not delivered yet, bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        let bytes = |slot: &Slot| match slot {
            Slot::Missing => 0,
            Slot::Whole(bytes) => bytes.len(),
            Slot::Partial(partial) => partial.bytes.len(),
        };
        self.ahead.iter().map(bytes).sum()
    }

    /// The slot of a message that is not delivered yet.
    fn slot(&mut self, sequence: u64) -> Result<&mut Slot, Code> {
        let index = sequence - self.next;
        if index >= MESSAGES_AHEAD_MAX {
            return Err(Code::Protocol);
        }
        let index = index as usize;
        while self.ahead.len() <= index {
            self.ahead.push_back(Slot::Missing);
        }
        Ok(&mut self.ahead[index])
    }

    fn count<F>(&mut self, bytes: u64, to: &mut Delivery<'_, F>) -> Result<(), Code> {
        let allowed = self.credit.receive(bytes) & to.connection_credit.receive(bytes);
        if allowed { Ok(()) } else { Err(Code::FlowControl) }
    }

    fn deliver<F: FnMut(&[u8])>(&mut self, payload: &[u8], to: &mut Delivery<'_, F>) {
        self.credit.deliver(payload.len() as u64);
        to.connection_credit.deliver(payload.len() as u64);
        self.next += 1;
        (to.deliver)(payload);
    }

    fn drain<F: FnMut(&[u8])>(&mut self, to: &mut Delivery<'_, F>) {
        while matches!(self.ahead.front(), Some(Slot::Whole(_))) {
            if let Some(Slot::Whole(payload)) = self.ahead.pop_front() {
                self.deliver(&payload, to);
            }
        }
    }
}

impl Partial {
    fn new(total: u32) -> Self {
        let bytes = Vec::with_capacity((total as usize).min(REASSEMBLY_BYTES));
        Self { bytes, total, received: RangeSet::default() }
    }

    /// Returns how many bytes are new.
    fn insert(&mut self, fragment: &Fragment<'_>) -> Result<u64, Code> {
        if fragment.total != self.total {
            return Err(Code::Protocol);
        }
        let start = fragment.offset as usize;
        let end = start + fragment.payload.len();
        if self.bytes.len() == start {
            self.bytes.extend_from_slice(fragment.payload);
        } else {
            if self.bytes.len() < end {
                self.bytes.resize(end, 0);
            }
            self.bytes[start..end].copy_from_slice(fragment.payload);
        }
        Ok(self.received.insert(start as u64, end as u64))
    }

    fn take_whole(&mut self) -> Option<Vec<u8>> {
        let is_whole = self.received.gaps(0, u64::from(self.total)).next().is_none();
        is_whole.then(|| std::mem::take(&mut self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use wire::sync::Channel;

    use super::*;

    fn fragment(sequence: u64, offset: u32, total: u32, payload: &[u8]) -> Fragment<'_> {
        Fragment { channel: Channel::Sync, sequence, offset, total, payload }
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
        let mut channel = ReliableReceive::new(1_000, 100);
        let (result, out) = receive(&mut channel, |channel, to| {
            for sequence in [2, 0, 0, 3, 2, 1, 1, 4] {
                channel.handle_message(sequence, &[sequence as u8], to)?;
            }
            Ok(())
        });
        assert_eq!(result, Ok(()));
        assert_eq!(out, [[0], [1], [2], [3], [4]]);
    }

    #[test]
    fn fragments_come_together_wrongly() {
        let mut channel = ReliableReceive::new(1_000, 100);
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
    fn a_peer_takes_memory_without_credit() {
        let far = receive(&mut ReliableReceive::new(1_000, 100), |channel, to| {
            channel.handle_message(MESSAGES_AHEAD_MAX, b"", to)
        });
        assert_eq!(far.0, Err(Code::Protocol));
        let large = receive(&mut ReliableReceive::new(1_000, 100), |channel, to| {
            channel.handle_message(0, &[0; 101], to)
        });
        assert_eq!(large.0, Err(Code::MessageTooLarge));
        let partials = receive(&mut ReliableReceive::new(1_000, 100), |channel, to| {
            (0..12).try_for_each(|sequence| channel.handle_fragment(&fragment(sequence, 99, 100, b"x"), to))
        });
        assert_eq!(partials.0, Err(Code::FlowControl));
        let credit = receive(&mut ReliableReceive::new(1_000, 100), |channel, to| {
            (0..11).try_for_each(|sequence| channel.handle_message(sequence, &[0; 100], to))
        });
        assert_eq!(credit.0, Err(Code::FlowControl));
        let two_lengths = receive(&mut ReliableReceive::new(1_000, 100), |channel, to| {
            channel.handle_fragment(&fragment(0, 0, 5, b"x"), to)?;
            channel.handle_fragment(&fragment(0, 1, 6, b"x"), to)
        });
        assert_eq!(two_lengths.0, Err(Code::Protocol));
    }
}
