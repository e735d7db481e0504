//! Naming what a client means, for whoever has to tell a person.

use crate::{StateSync, SubscriberKey};

impl StateSync {
    /// The document that a connection has open under `handle`.
    #[must_use]
    pub fn document_of(&self, key: SubscriberKey, handle: u32) -> Option<&str> {
        let subscription = *self.connections.get(&key)?.open.get(&handle)?;
        let document = self.subscriptions.get(subscription)?.document;
        self.documents.get(document).map(|document| &*document.id)
    }
}
