//! Naming what a client means, and who it is, for whoever has to pass that on.

use crate::{Session, StateSync, SubscriberKey};

impl StateSync {
    /// The document that a connection has open under `handle`.
    #[must_use]
    pub fn document_of(&self, key: SubscriberKey, handle: u32) -> Option<&str> {
        let subscription = *self.connections.get(&key)?.open.get(&handle)?;
        let document = self.subscriptions.get(subscription)?.document;
        self.documents.get(document).map(|document| &*document.id)
    }

    /// Who speaks on a connection.
    #[must_use]
    pub fn session_of(&self, key: SubscriberKey) -> Option<&Session> {
        self.connections.get(&key).map(|connection| &connection.session)
    }
}
