//! What documents and answers hold of memory, and what is done when it is as much as it may be: documents that nobody
//! uses are stored and let go of first, then no more are loaded, and at last no more ops are taken. Who is refused is told
//! when to come again.

use wire::{Code, Span, Time};

use crate::StateSync;
use crate::document::{Document, Residence};

/// What an op costs in a tail, beside its bytes.
pub(crate) const TAIL_OP_BYTES: u64 = 32;
/// What a document costs that holds nothing.
const DOCUMENT_BYTES: u64 = 1 << 10;
/// What a writer costs that is remembered.
const WRITER_BYTES: u64 = 72;
/// Ops are refused when documents hold so much more than they may, in parts of that: what is loaded goes on for a while.
const OPS_EXCESS_PARTS: u64 = 4;
/// Documents are let go of when this part of what they may hold is left.
const RELIEF_PARTS: u64 = 8;
/// How often documents are looked through that may be let go of, at the most.
const RELIEF_INTERVAL: Span = Span::from_ms(1);
/// How many are looked at then.
const RELIEF_DOCUMENTS: usize = 256;
/// A document in use is stored before its time when its ops hold so much.
const RELIEF_TAIL_BYTES: usize = 16 << 10;

/// The memory of all documents, and of the diffs made for single subscribers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Bytes of documents.
    pub(crate) documents: u64,
    /// Bytes of diffs that are being sent.
    pub(crate) diffs: u64,
    /// Who has them, the oldest first.
    diff_holders: std::collections::BTreeSet<(u64, usize)>,
    diffs_made: u64,
    relief_due: Time,
    /// Where the last look ended.
    relief_at: (Time, usize),
}

/// A diff that a subscriber is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeldDiff {
    order: u64,
    bytes: u64,
}

impl Document {
    fn memory_bytes(&self) -> u64 {
        let base = self.base.state.len() + self.base.vector.len() + self.id.len();
        let tail = self.tail.bytes() as u64 + self.tail.len() * TAIL_OP_BYTES;
        DOCUMENT_BYTES + base as u64 + tail + self.writers.len() as u64 * WRITER_BYTES
    }
}

impl StateSync {
    /// Counts what a document holds by now.
    pub(crate) fn settle_memory(&mut self, slot: usize) {
        let document = &mut self.documents[slot];
        let bytes = document.memory_bytes();
        let before = std::mem::replace(&mut document.counted_bytes, bytes);
        self.memory.documents = self.memory.documents - before + bytes;
    }

    /// Whether documents hold nearly as much as they may: it is time to let go of some.
    const fn is_memory_pressed(&self) -> bool {
        let bytes_max = self.config.limits.document_memory_bytes_max;
        self.memory.documents >= bytes_max - bytes_max / RELIEF_PARTS
    }

    /// Whether documents hold as much as they may.
    pub(crate) const fn is_memory_short(&self) -> bool {
        self.memory.documents >= self.config.limits.document_memory_bytes_max
    }

    /// Whether they hold so much that not even ops are taken.
    pub(crate) const fn is_memory_spent(&self) -> bool {
        let bytes_max = self.config.limits.document_memory_bytes_max;
        self.memory.documents >= bytes_max.saturating_add(bytes_max / OPS_EXCESS_PARTS)
    }

    /// Lets go of a document that is stored and that nobody uses, if memory runs short.
    pub(crate) fn relieve_of(&mut self, slot: usize) {
        if !self.is_memory_pressed() {
            return;
        }
        let Some(document) = self.documents.get_mut(slot) else { return };
        if document.residence != Residence::Ready {
            return;
        }
        if document.is_dirty() {
            if document.is_unused() || document.tail.bytes() >= RELIEF_TAIL_BYTES {
                self.want_snapshot(slot, false);
            }
        } else if document.is_unused() {
            self.stats.unloads += 1;
            self.stats.unloads_pressed += 1;
            self.remove(slot);
        } else if document.tail.bytes() >= RELIEF_TAIL_BYTES {
            document.rest();
            self.settle_memory(slot);
        }
    }

    /// Looks for documents to let go of, now and then, while memory runs short: those first that are due first, and goes on
    /// where it ended.
    pub(crate) fn relieve_memory(&mut self) {
        if !self.is_memory_pressed() || self.now < self.memory.relief_due {
            return;
        }
        self.memory.relief_due = self.now + RELIEF_INTERVAL;
        let after = (std::ops::Bound::Excluded(self.memory.relief_at), std::ops::Bound::Unbounded);
        let found: Vec<_> = self.documents_due.range(after).take(RELIEF_DOCUMENTS).copied().collect();
        let is_last = found.len() < RELIEF_DOCUMENTS;
        self.memory.relief_at = found.last().filter(|_| !is_last).copied().unwrap_or_default();
        for (_, slot) in found {
            self.relieve_of(slot);
        }
    }

    /// A subscriber is sent a diff made for it. When all hold too much, those that have not taken theirs for longest lose
    /// them, and are told to come again.
    pub(crate) fn hold_diff(&mut self, subscription: usize, bytes: usize) {
        self.release_diff(subscription);
        let memory = &mut self.memory;
        memory.diffs_made += 1;
        memory.diffs += bytes as u64;
        let held = HeldDiff { order: memory.diffs_made, bytes: bytes as u64 };
        memory.diff_holders.insert((held.order, subscription));
        self.subscriptions[subscription].held_diff = Some(held);
        while self.memory.diffs > self.config.limits.diff_bytes_max
            && self.memory.diff_holders.len() > 1
            && let Some(&(_, oldest)) = self.memory.diff_holders.first()
        {
            self.stats.diffs_shed += 1;
            let text = "too much waits for subscribers that do not take it: join again later";
            self.expel(oldest, Code::DocumentBusy, text);
        }
    }

    /// It has been sent, or is of no use any more.
    pub(crate) fn release_diff(&mut self, subscription: usize) {
        let held = self.subscriptions.get_mut(subscription).and_then(|found| found.held_diff.take());
        self.forget_diff(subscription, held);
    }

    /// The same, of a subscription that is gone.
    pub(crate) fn forget_diff(&mut self, subscription: usize, held: Option<HeldDiff>) {
        if let Some(held) = held {
            self.memory.diffs -= held.bytes;
            self.memory.diff_holders.remove(&(held.order, subscription));
        }
    }
}
