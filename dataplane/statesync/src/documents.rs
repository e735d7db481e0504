//! The table of documents: finding, making, letting go, background work.

use wire::Time;
use wire::sync::{DocumentKind, Server};

use crate::config::{SHRINK_AFTER, SHRINK_MIN};
use crate::document::{Document, Residence};
use crate::{Placement, StateSync};

/// What is known of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DocumentInfo<'a> {
    /// Its id.
    pub id: &'a str,
    /// What it is made of.
    pub kind: DocumentKind,
    /// Its partition.
    pub partition: u32,
    /// The last op in the log.
    pub sequence: u64,
    /// The last op that is durable.
    pub durable_sequence: u64,
    /// Connections that have it open.
    pub subscribers: usize,
    /// Whether its cache was given up.
    pub is_quarantined: bool,
}

impl StateSync {
    /// All documents in memory.
    pub fn documents(&self) -> impl Iterator<Item = DocumentInfo<'_>> {
        self.documents.iter().map(|(_, document)| DocumentInfo {
            id: &document.id,
            kind: document.kind,
            partition: document.partition,
            sequence: document.sequence,
            durable_sequence: document.durable_sequence,
            subscribers: document.subscribers.len(),
            is_quarantined: document.is_quarantined,
        })
    }

    /// Takes a new placement. Subscribers of documents that live elsewhere now are sent there.
    pub fn set_placement(&mut self, placement: Placement) {
        self.placement = placement;
        let mut moved = Vec::new();
        for (_, document) in &self.documents {
            if !self.placement.is_here(self.placement.locate(&document.id).1) {
                moved.extend_from_slice(&document.subscribers);
            }
        }
        for subscription in moved {
            let Some(found) = self.subscriptions.get(subscription) else { continue };
            let (key, handle) = (found.key, found.handle);
            let id = self.documents[found.document].id.clone();
            self.send_moved(key, handle, &id);
            if let Some(connection) = self.connections.get_mut(&key) {
                connection.open.remove(&handle);
            }
            self.unsubscribe(self.now, subscription);
        }
    }

    /// Tells a client where a document lives.
    pub(crate) fn send_moved(&mut self, key: crate::SubscriberKey, handle: u32, id: &str) {
        self.stats.moved += 1;
        let (_, owner) = self.placement.locate(id);
        let moved = Server::Moved { handle, epoch: owner.epoch, shard: owner.shard, address: &owner.address };
        let message = moved.to_vec();
        self.send_control(key, message);
    }

    /// Makes a document that is not there yet.
    pub(crate) fn insert_document(
        &mut self,
        id: &str,
        kind: DocumentKind,
        partition: u32,
        residence: Residence,
    ) -> usize {
        let slot = self.documents.insert(Box::new(Document::new(id, kind, partition, residence)));
        self.document_ids.insert(Box::from(id), slot);
        self.settle_memory(slot);
        slot
    }

    /// Removes a subscription from its document, with its presence. The connection's own table is the caller's.
    pub(crate) fn unsubscribe(&mut self, now: Time, subscription: usize) {
        let Some(removed) = self.subscriptions.try_remove(subscription) else { return };
        let slot = removed.document;
        self.forget_diff(subscription, removed.held_diff);
        self.drop_requests(removed.key, removed.handle);
        let document = &mut self.documents[slot];
        document.subscribers.retain(|&other| other != subscription);
        let released = document.presence.remove_owner(removed.key);
        if let Some(connection) = self.connections.get_mut(&removed.key) {
            connection.presence.release(released);
        }
        let document = &mut self.documents[slot];
        if document.subscribers.is_empty() {
            if let Some(due) = document.presence.forget_changes() {
                self.presence_due.remove(&(due, slot));
            }
            document.used = self.now;
            let due = self.now + self.config.unload_after;
            self.look_after(slot, due);
            self.remove_if_vacant(slot);
        } else if document.presence.has_changes() {
            self.schedule_presence(now, slot);
        }
    }

    /// Gives back the room of what is gone, when that is most of it: now and then, since it looks at all that is left.
    pub(crate) fn shrink(&mut self) {
        if self.now < self.shrunk + SHRINK_AFTER {
            return;
        }
        self.shrunk = self.now;
        let is_much = |len: usize, capacity: usize| capacity > SHRINK_MIN && len < capacity / 4;
        if is_much(self.documents.len(), self.documents.capacity()) {
            self.documents.shrink_to_fit();
        }
        if is_much(self.document_ids.len(), self.document_ids.capacity()) {
            self.document_ids.shrink_to_fit();
        }
        if is_much(self.subscriptions.len(), self.subscriptions.capacity()) {
            self.subscriptions.shrink_to_fit();
        }
    }

    /// Lets go of a document that holds nothing.
    pub(crate) fn remove_if_vacant(&mut self, slot: usize) {
        if self.documents[slot].is_vacant() {
            self.remove(slot);
        }
    }

    /// Lets go of a document. Nobody has it open, and nothing waits for it.
    pub(crate) fn remove(&mut self, slot: usize) {
        let document = self.documents.remove(slot);
        debug_assert!(document.subscribers.is_empty() && document.jobs == 0, "nobody looks for it");
        self.document_ids.remove(&document.id);
        self.memory.documents -= document.counted_bytes;
        if let Some(due) = document.due {
            self.documents_due.remove(&(due, slot));
        }
        if let Some(lsn) = document.dirty_lsn {
            self.dirty.remove(&(lsn, slot));
        }
        if let Some(due) = document.presence.due {
            self.presence_due.remove(&(due, slot));
        }
    }
}
