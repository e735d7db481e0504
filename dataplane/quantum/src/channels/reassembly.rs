//! Messages of a reliable channel that cannot be delivered yet: a part of them, or an earlier one, is missing.

use std::collections::BTreeMap;

use wire::Code;
use wire::frame::Fragment;

use crate::config::MESSAGE_CHARGE_BYTES;
use crate::ranges::RangeSet;

/// Memory taken for a message at its first fragment, so that it need not move while it grows; a longer one takes more
/// as it comes. The pages are touched only by what has been received.
const REASSEMBLY_BYTES: usize = 64 << 10;

const _: () = assert!(REASSEMBLY_BYTES >= wire::limits::STATE_CHUNK_BYTES);

/// Messages by sequence.
#[derive(Debug)]
pub(super) struct Reassembly {
    messages: BTreeMap<u64, Slot>,
    /// The memory of it all: each message at its full length, and [`MESSAGE_CHARGE_BYTES`] more.
    held_bytes: u64,
    /// The summed lengths of messages of which a part is missing, and their limit.
    partial_bytes: u64,
    partial_bytes_max: u64,
}

#[derive(Debug)]
enum Slot {
    Whole(Vec<u8>),
    Partial(Box<Partial>),
}

#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    total: u32,
    received: RangeSet,
}

/// What a fragment has brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Bytes that are new.
    pub(super) fresh_bytes: u64,
    /// Whether its message is whole now.
    pub(super) is_whole: bool,
}

const fn held_bytes(length: usize) -> u64 {
    (length + MESSAGE_CHARGE_BYTES) as u64
}

impl Reassembly {
    pub(super) const fn new(partial_bytes_max: u64) -> Self {
        Self { messages: BTreeMap::new(), held_bytes: 0, partial_bytes: 0, partial_bytes_max }
    }

    pub(super) const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Whether something of the message is here.
    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.messages.contains_key(&sequence)
    }

    /// Keeps a whole message of which nothing is here.
    pub(super) fn insert_whole(&mut self, sequence: u64, payload: &[u8]) {
        debug_assert!(!self.contains(sequence));
        self.held_bytes += held_bytes(payload.len());
        self.messages.insert(sequence, Slot::Whole(payload.to_vec()));
    }

    pub(super) fn insert_fragment(&mut self, fragment: &Fragment<'_>) -> Result<Taken, Code> {
        let total = u64::from(fragment.total);
        if !self.contains(fragment.sequence) {
            if self.partial_bytes + total > self.partial_bytes_max {
                return Err(Code::FlowControl);
            }
            self.partial_bytes += total;
            self.held_bytes += held_bytes(fragment.total as usize);
            self.messages.insert(fragment.sequence, Slot::Partial(Box::new(Partial::new(fragment.total))));
        }
        let slot = self.messages.get_mut(&fragment.sequence).ok_or(Code::Protocol)?;
        let Slot::Partial(partial) = slot else {
            // Of a message that is whole, and waits for an earlier one.
            return Ok(Taken { fresh_bytes: 0, is_whole: false });
        };
        let fresh_bytes = partial.insert(fragment)?;
        let whole = partial.take_whole();
        let is_whole = whole.is_some();
        if let Some(bytes) = whole {
            self.partial_bytes -= total;
            *slot = Slot::Whole(bytes);
        }
        Ok(Taken { fresh_bytes, is_whole })
    }

    /// Takes a message out if it is whole.
    pub(super) fn take_whole(&mut self, sequence: u64) -> Option<Vec<u8>> {
        if !matches!(self.messages.get(&sequence)?, Slot::Whole(_)) {
            return None;
        }
        let Slot::Whole(bytes) = self.messages.remove(&sequence)? else { return None };
        self.held_bytes -= held_bytes(bytes.len());
        Some(bytes)
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
        if self.bytes.capacity() < end {
            // At least double, but never more than the message.
            let capacity = (self.bytes.capacity() * 2).max(end).min(self.total as usize);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
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
