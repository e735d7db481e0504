//! One document: its ops, its subscribers, who wrote, who is here.

use wire::sync::DocumentKind;

use crate::op_log::OpLog;
use crate::presence::Presence;
use crate::writers::Writers;
use crate::yjs::YjsCache;

/// A document's state.
pub(crate) struct Document {
    pub(crate) id: Box<str>,
    pub(crate) kind: DocumentKind,
    pub(crate) partition: u32,
    /// The last op in the log.
    pub(crate) sequence: u64,
    /// The last op that is durable.
    pub(crate) durable_sequence: u64,
    /// Bytes of its ops since `base_bytes` was measured.
    pub(crate) grown_bytes: u64,
    /// Bytes of its state when last measured.
    pub(crate) base_bytes: u64,
    /// Shared types in all of its ops: it nests no deeper.
    pub(crate) shared_types: u64,
    pub(crate) log: OpLog,
    pub(crate) writers: Writers,
    /// Their subscriptions, in no order.
    pub(crate) subscribers: Vec<usize>,
    pub(crate) presence: Presence,
    /// The integrated state, for `yjs`.
    pub(crate) cache: Option<YjsCache>,
    /// Whether the conductor has it in its list of those with queued updates.
    pub(crate) is_queued: bool,
}

impl Document {
    pub(crate) fn new(id: &str, kind: DocumentKind, partition: u32) -> Self {
        Self {
            id: Box::from(id),
            kind,
            partition,
            sequence: 0,
            durable_sequence: 0,
            grown_bytes: 0,
            base_bytes: 0,
            shared_types: 0,
            log: OpLog::default(),
            writers: Writers::default(),
            subscribers: Vec::new(),
            presence: Presence::default(),
            cache: (kind == DocumentKind::Yjs).then(YjsCache::new),
            is_queued: false,
        }
    }

    /// The last op that others may see: an ordered log shows none that a crash could take back, while an
    /// update that a crash takes back still merges.
    pub(crate) const fn visible_sequence(&self) -> u64 {
        match self.kind {
            DocumentKind::Yjs => self.sequence,
            DocumentKind::Opaque => self.durable_sequence,
        }
    }

    /// Whether nothing would be lost with it.
    pub(crate) fn is_vacant(&self) -> bool {
        self.sequence == 0 && self.subscribers.is_empty() && self.presence.is_empty()
    }

    /// Whether `bytes` more would go over `bytes_max`. The sum of a Yjs document's ops says little about its
    /// size: it is measured when the sum reaches the limit, and refused with less than a sixteenth left,
    /// so that measuring stays rare.
    pub(crate) fn is_full_for(&mut self, bytes: usize, bytes_max: u64) -> bool {
        let wanted = self.base_bytes + self.grown_bytes + bytes as u64;
        if wanted <= bytes_max {
            return false;
        }
        let Some(cache) = self.cache.as_mut() else { return true };
        if self.grown_bytes >= bytes_max / 16
            && let Ok(snapshot) = cache.snapshot(self.sequence)
        {
            self.base_bytes = snapshot.state.len() as u64;
            self.grown_bytes = 0;
        }
        self.base_bytes + self.grown_bytes + bytes as u64 > bytes_max
    }
}
