//! One document: what is stored of it, its ops since, its subscribers, who wrote, who is here.

use bytes::Bytes;
use wire::sync::DocumentKind;
use wire::{Code, Time};

use crate::config::JOIN_OPS_MIN;
use crate::connection::SubscriberKey;
use crate::count::Count;
use crate::jobs::{Base, HistoryOp, StoredDocument};
use crate::presence::Presence;
use crate::tail::Tail;
use crate::writers::Writers;

/// Whether a document can be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Residence {
    /// The store is being asked.
    Loading,
    /// It can.
    Ready,
    /// Its deletion is in the log, at this sequence; the store is yet to be told.
    Deleted { sequence: u64, unix_ms: u64 },
    /// It is deleted in the store, too.
    Gone,
    /// What is stored of it cannot be used.
    Unusable(Code),
}

/// How a snapshot of a document stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum SnapshotState {
    #[default]
    None,
    Wanted,
    InFlight,
}

/// A document's state.
pub(crate) struct Document {
    pub(crate) id: Box<str>,
    pub(crate) kind: DocumentKind,
    pub(crate) partition: u32,
    pub(crate) residence: Residence,
    /// The last op in the log.
    pub(crate) sequence: u64,
    /// The last op that is durable.
    pub(crate) durable_sequence: u64,
    /// The last op in the store.
    pub(crate) stored_sequence: u64,
    /// The merged state in the store.
    pub(crate) base: Base,
    /// The CRDT library failed on it: nothing is merged into the base any more.
    pub(crate) is_quarantined: bool,
    /// Bytes of the ops in the tail that are stored.
    pub(crate) stored_tail_bytes: usize,
    /// Bytes of its ops that are not in the base.
    pub(crate) grown_bytes: u64,
    /// Made when it is first asked for.
    pub(crate) count: Option<Box<Count>>,
    pub(crate) tail: Tail,
    pub(crate) writers: Writers,
    /// Their subscriptions, in no order.
    pub(crate) subscribers: Vec<usize>,
    pub(crate) presence: Presence,
    /// Connections with joins that wait until it is loaded.
    pub(crate) waiting: Vec<SubscriberKey>,
    /// Jobs of it that are asked for or under way: it stays where it is until they are done.
    pub(crate) jobs: u32,
    pub(crate) snapshot: SnapshotState,
    /// Something was taken out of it while it was full, and that is not merged yet.
    pub(crate) is_thinned: bool,
    /// A request waits until more of it is stored.
    pub(crate) is_awaited: bool,
    /// Since when it has ops that the store has not.
    pub(crate) dirty_since: Option<Time>,
    /// The first such op in the log, as the conductor lists it.
    pub(crate) dirty_lsn: Option<u64>,
    /// What of it is counted in the memory of all.
    pub(crate) counted_bytes: u64,
    /// When it was used last.
    pub(crate) used: Time,
    /// When the conductor looks after it next.
    pub(crate) due: Option<Time>,
}

impl Document {
    pub(crate) fn new(id: &str, kind: DocumentKind, partition: u32, residence: Residence) -> Self {
        Self {
            id: Box::from(id),
            kind,
            partition,
            residence,
            sequence: 0,
            durable_sequence: 0,
            stored_sequence: 0,
            base: Base::default(),
            is_quarantined: false,
            stored_tail_bytes: 0,
            grown_bytes: 0,
            count: None,
            tail: Tail::default(),
            writers: Writers::default(),
            subscribers: Vec::new(),
            presence: Presence::default(),
            waiting: Vec::new(),
            jobs: 0,
            snapshot: SnapshotState::None,
            is_awaited: false,
            is_thinned: false,
            dirty_since: None,
            dirty_lsn: None,
            counted_bytes: 0,
            used: Time::ZERO,
            due: None,
        }
    }

    /// Takes what the store has of it.
    pub(crate) fn fill(&mut self, stored: StoredDocument) {
        self.kind = stored.kind;
        self.sequence = stored.sequence;
        self.durable_sequence = stored.sequence;
        self.stored_sequence = stored.sequence;
        self.is_quarantined = stored.quarantined;
        self.tail = Tail::after(stored.sequence);
        self.grown_bytes = match stored.kind {
            DocumentKind::Yjs => 0,
            DocumentKind::Opaque => stored.base.figures.op_bytes,
        };
        self.base = stored.base;
        self.writers = Writers::from_marks(&stored.writers);
    }

    /// The last op that others may see: an ordered log shows none that a crash could take back, while an
    /// update that a crash takes back still merges.
    pub(crate) const fn visible_sequence(&self) -> u64 {
        match self.kind {
            DocumentKind::Yjs => self.sequence,
            DocumentKind::Opaque => self.durable_sequence,
        }
    }

    pub(crate) const fn is_merged(&self) -> bool {
        matches!(self.kind, DocumentKind::Yjs) && !self.is_quarantined
    }

    pub(crate) const fn is_dirty(&self) -> bool {
        self.sequence > self.stored_sequence
    }

    /// Whether nobody would miss it in memory.
    pub(crate) fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.presence.is_empty() && self.waiting.is_empty() && self.jobs == 0
    }

    /// Whether nothing would be lost with it, and nothing is gained by keeping it.
    pub(crate) fn is_vacant(&self) -> bool {
        let is_empty = match self.residence {
            Residence::Ready => self.sequence == 0,
            Residence::Gone => true,
            Residence::Unusable(_) => self.dirty_lsn.is_none(),
            Residence::Loading | Residence::Deleted { .. } => false,
        };
        is_empty && self.is_unused()
    }

    /// What is counted of it, up to its last op.
    pub(crate) fn counted(&mut self) -> &mut Count {
        let count = self.count.get_or_insert_with(|| Box::new(Count::of(&self.base)));
        if count.sequence < self.sequence {
            count.advance(&self.tail, self.sequence);
        }
        count
    }

    /// Its state vector; empty for an opaque one.
    pub(crate) fn vector(&mut self) -> Bytes {
        match self.kind {
            DocumentKind::Yjs => self.counted().vector(),
            DocumentKind::Opaque => Bytes::new(),
        }
    }

    /// The ops that its base lacks.
    pub(crate) fn ops_after_base(&self, last: u64) -> Vec<HistoryOp> {
        self.tail.ops(self.base.sequence + 1, last)
    }

    /// Bytes of its ops that the store has not, or more.
    pub(crate) const fn unstored_bytes(&self) -> usize {
        if self.is_dirty() { self.tail.bytes() - self.stored_tail_bytes } else { 0 }
    }

    /// Bytes in it, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.base.state.len() as u64 + self.grown_bytes
    }

    /// Whether merging it now may make it smaller. Only with a sixteenth of the limit in ops: merging stays rare.
    pub(crate) fn has_grown(&self, bytes_max: u64) -> bool {
        self.is_merged() && self.grown_bytes > 0 && self.grown_bytes >= bytes_max / 16
    }

    /// Whether the next to join it gains by a merge now: the ops are many, and not few beside what the merge encodes.
    pub(crate) const fn is_worth_merging(&self) -> bool {
        self.is_merged()
            && self.sequence - self.base.sequence >= JOIN_OPS_MIN
            && self.grown_bytes >= self.base.state.len() as u64 / 16
    }

    /// A snapshot of it is in the store.
    pub(crate) fn take_snapshot(&mut self, base: Base, sequence: u64, quarantined: bool, keep_bytes: usize) {
        self.stored_sequence = self.stored_sequence.max(sequence);
        self.is_quarantined |= quarantined;
        let is_merged = base.sequence > self.base.sequence;
        self.base = base;
        if is_merged {
            self.is_thinned = false;
            let first = self.base.sequence + 1;
            let left = (first..=self.sequence).filter_map(|at| self.tail.get(at));
            self.grown_bytes = left.map(|op| op.payload.len() as u64).sum();
            if let Some(count) = &mut self.count {
                count.restart(&self.base);
            }
        }
        self.tail.drop_through(self.stored_sequence, keep_bytes);
        self.stored_tail_bytes = self.tail.bytes_through(self.stored_sequence);
    }

    /// Lets go of what is of use only while ops come.
    pub(crate) fn rest(&mut self) {
        self.count = None;
        self.tail.drop_through(self.stored_sequence, 0);
        self.tail.shrink();
        self.stored_tail_bytes = self.tail.bytes_through(self.stored_sequence);
        self.writers.shrink();
    }
}
