//! The documents that are open in this gateway, one hub each, however many sockets.

mod hub;
mod pending;

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use aetherflow_client::DocumentWriter;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use wire::limits::DOCUMENT_ID_BYTES_MAX;
use wire::{Access, Guuid};

use crate::config::{DOCUMENTS_MAX, INBOX_BYTES_MAX, INBOX_COMMANDS_MAX};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::presence::SocketId;
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::yproto::Entry;

/// Refuses ids that no node would take, or that would be lost in logs and addresses.
pub(crate) fn check_document_id(id: &str) -> Result<(), Refusal> {
    if id.is_empty() || id.len() > DOCUMENT_ID_BYTES_MAX {
        let found = id.len();
        return Err(Refusal::DocumentId(format!("1 to {DOCUMENT_ID_BYTES_MAX} bytes, not {found}")));
    }
    if id.chars().any(char::is_control) {
        return Err(Refusal::DocumentId("no control characters".to_owned()));
    }
    Ok(())
}

/// What a hub is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// A socket is here; it is sent step 1 and the presence of all.
    Join { socket: SocketId, session: Option<Guuid>, access: Access, outbox: Outbox },
    /// A socket has closed.
    Leave { socket: SocketId },
    /// A socket wants what the state vector, which has been checked, lacks.
    Step1 { socket: SocketId, state_vector: Bytes },
    /// A socket's update, which has been checked.
    Update { socket: SocketId, update: Bytes, may_be_old: bool },
    /// A socket's presence.
    Awareness { socket: SocketId, entries: Vec<Entry>, opening: bool },
    /// A socket wants the presence of all.
    QueryAwareness { socket: SocketId },
    /// Reads, once the state has arrived.
    Read { query: Query, reply: oneshot::Sender<Result<Reading, Refusal>> },
    /// Applies an update, which has been checked; answered when it is durable.
    Apply { update: Bytes, reply: oneshot::Sender<Result<Applied, Refusal>> },
    /// Lends the way to the node, once the state has arrived.
    Writer { reply: oneshot::Sender<Result<DocumentWriter, Refusal>> },
}

/// What is read of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Query {
    /// The text of a root type.
    Text(String),
    /// One or all root types as JSON.
    Json(Option<String>),
    /// The update (v1) that the state vector, which has been checked, lacks; empty: everything.
    Update(Bytes),
    /// The state vector (v1).
    StateVector,
}

/// What was read.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Reading {
    Text(String),
    Json(Value),
    Bytes(Bytes),
}

/// An op that is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Applied {
    pub(crate) op_id: Guuid,
    /// The document's sequence at which it was known to be durable.
    pub(crate) sequence: u64,
}

/// A command, with its share of the hub's budget until it is done.
#[derive(Debug)]
struct Queued {
    command: Command,
    budget: OwnedSemaphorePermit,
}

/// The way to a hub.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    commands: mpsc::Sender<Queued>,
    budget: Arc<Semaphore>,
    /// Held by all who may still send; the hub does not end before they have gone.
    users: Arc<()>,
}

impl Hub {
    /// Hands a command over; waits while too many bytes are waiting. False: the hub has ended.
    pub(crate) async fn send(&self, command: Command) -> bool {
        let bytes = match &command {
            Command::Update { update, .. } | Command::Apply { update, .. } => update.len(),
            Command::Step1 { state_vector, .. } => state_vector.len(),
            Command::Awareness { entries, .. } => entries.iter().map(|entry| entry.state.len() + 32).sum(),
            _ => 0,
        };
        let bytes = bytes.min(INBOX_BYTES_MAX) as u32;
        let Ok(budget) = Arc::clone(&self.budget).acquire_many_owned(bytes).await else { return false };
        self.commands.send(Queued { command, budget }).await.is_ok()
    }
}

/// All open documents.
#[derive(Debug)]
pub(crate) struct Documents {
    open: Mutex<HashMap<String, Hub>>,
    upstream: Arc<Upstream>,
    metrics: Arc<Metrics>,
}

impl Documents {
    pub(crate) fn new(upstream: Arc<Upstream>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), upstream, metrics })
    }

    /// The hub of a document, which begins to load when it was not open.
    pub(crate) fn hub(self: &Arc<Self>, document: &str) -> Result<Hub, Refusal> {
        check_document_id(document)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = open.get(document) {
            return Ok(hub.clone());
        }
        if open.len() >= DOCUMENTS_MAX {
            return Err(Refusal::Limit { what: "open documents", limit: DOCUMENTS_MAX });
        }
        let (sender, commands) = mpsc::channel(INBOX_COMMANDS_MAX);
        let budget = Arc::new(Semaphore::new(INBOX_BYTES_MAX));
        let hub = Hub { commands: sender, budget, users: Arc::new(()) };
        open.insert(document.to_owned(), hub.clone());
        self.metrics.documents.store(open.len() as u64, Relaxed);
        let users = Arc::downgrade(&hub.users);
        tokio::spawn(hub::run(Arc::clone(self), document.to_owned(), commands, users));
        Ok(hub)
    }

    /// Takes a hub out, unless somebody still uses it; true: nobody can reach it any more.
    fn close_unused(&self, document: &str) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(document).is_some_and(|hub| Arc::strong_count(&hub.users) > 1) {
            return false;
        }
        open.remove(document);
        self.metrics.documents.store(open.len() as u64, Relaxed);
        true
    }

    /// Takes a hub out that cannot go on.
    fn close(&self, document: &str, users: &std::sync::Weak<()>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |hub: &Hub| std::ptr::eq(Arc::as_ptr(&hub.users), users.as_ptr());
        if open.get(document).is_some_and(same) {
            open.remove(document);
        }
        self.metrics.documents.store(open.len() as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_id_that_no_node_takes_is_let_through() {
        assert!(check_document_id("team/notes ü").is_ok());
        assert!(check_document_id(&"x".repeat(DOCUMENT_ID_BYTES_MAX)).is_ok());
        for id in ["", "a\nb", "\0", &"x".repeat(DOCUMENT_ID_BYTES_MAX + 1)] {
            assert!(matches!(check_document_id(id), Err(Refusal::DocumentId(_))), "{id:?}");
        }
    }
}
