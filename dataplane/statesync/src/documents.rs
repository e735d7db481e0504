//! The table of documents: finding, making, letting go, background work.

use wire::Time;
use wire::sync::{DocumentKind, Server};

use crate::document::Document;
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
            is_quarantined: document.cache.as_ref().is_some_and(crate::yjs::YjsCache::is_quarantined),
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
            self.unsubscribe(Time::ZERO, subscription);
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
    pub(crate) fn insert_document(&mut self, id: &str, kind: DocumentKind, partition: u32) -> usize {
        let slot = self.documents.insert(Document::new(id, kind, partition));
        self.document_ids.insert(Box::from(id), slot);
        slot
    }

    /// Removes a subscription from its document, with its presence. The connection's own table is the caller's.
    pub(crate) fn unsubscribe(&mut self, now: Time, subscription: usize) {
        let Some(removed) = self.subscriptions.try_remove(subscription) else { return };
        let slot = removed.document;
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
            self.remove_if_vacant(slot);
        } else if document.presence.has_changes() {
            self.schedule_presence(now, slot);
        }
    }

    /// Lets go of a document that holds nothing.
    pub(crate) fn remove_if_vacant(&mut self, slot: usize) {
        if self.documents[slot].is_vacant() {
            let document = self.documents.remove(slot);
            self.document_ids.remove(&document.id);
        }
    }

    /// Whether there is anything for [`run_background`](Self::run_background) to do.
    #[must_use]
    pub fn has_background(&self) -> bool {
        !self.queued_documents.is_empty()
    }

    /// Integrates up to `updates_max` queued updates into their caches. True when more are left.
    pub fn run_background(&mut self, updates_max: usize) -> bool {
        let mut left = updates_max;
        while left > 0 {
            let Some(&slot) = self.queued_documents.front() else { return false };
            let document = &mut self.documents[slot];
            if let Some(cache) = document.cache.as_mut() {
                let was_quarantined = cache.is_quarantined();
                let done = cache.integrate(left);
                left -= done;
                self.stats.updates_integrated += done as u64;
                self.stats.quarantined += u64::from(!was_quarantined && cache.is_quarantined());
                if cache.has_queued() {
                    continue;
                }
                cache.checkpoint(document.sequence);
            }
            document.is_queued = false;
            self.queued_documents.pop_front();
        }
        !self.queued_documents.is_empty()
    }
}
