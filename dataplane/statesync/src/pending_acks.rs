//! Ops, and the ends of documents, that are in the log and not durable yet, in order of the log.

use std::collections::VecDeque;

use wire::Guuid;

/// One such op.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingAck {
    pub(crate) lsn: u64,
    pub(crate) document: usize,
    pub(crate) writer: Guuid,
    /// Zero: the end of the document.
    pub(crate) counter: u64,
    pub(crate) sequence: u64,
}

/// The queue of them.
#[derive(Debug, Default)]
pub(crate) struct PendingAcks {
    queue: VecDeque<PendingAck>,
}

impl PendingAcks {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The log sequence number of the last one.
    pub(crate) fn last_lsn(&self) -> Option<u64> {
        self.queue.back().map(|pending| pending.lsn)
    }

    pub(crate) fn push(&mut self, pending: PendingAck) {
        debug_assert!(self.last_lsn().is_none_or(|last| last <= pending.lsn), "log order");
        self.queue.push_back(pending);
    }

    /// The next one that is durable once the log is up to `lsn`.
    pub(crate) fn pop_durable(&mut self, lsn: u64) -> Option<PendingAck> {
        self.queue.front().filter(|pending| pending.lsn <= lsn)?;
        self.queue.pop_front()
    }
}
