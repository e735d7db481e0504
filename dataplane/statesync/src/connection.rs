//! One connection: its session, what it has open, what is owed to it.

use std::collections::{BTreeMap, VecDeque};

use wire::Guuid;
use wire::access::Grant;

use crate::output::Queued;

/// Names a connection, which may live on another shard of the node. Chosen by the caller, and not used again before
/// [`handle_close`](crate::StateSync::handle_close).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubscriberKey {
    /// The shard where its packets arrive.
    pub origin: u32,
    /// The connection, as that shard numbers it.
    pub connection: u64,
}

impl SubscriberKey {
    /// A connection of the first shard: all there are where a machine is driven alone.
    #[must_use]
    pub const fn alone(connection: u64) -> Self {
        Self { origin: 0, connection }
    }
}

/// Who speaks on a connection, out of its ticket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The session.
    pub session_id: Guuid,
    /// The client instance: its op ids are this plus a counter.
    pub writer_id: Guuid,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// Presence entries that a connection owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PresenceUse {
    pub(crate) clients: usize,
    pub(crate) bytes: usize,
}

impl PresenceUse {
    pub(crate) const fn release(&mut self, released: Self) {
        self.clients = self.clients.saturating_sub(released.clients);
        self.bytes = self.bytes.saturating_sub(released.bytes);
    }
}

/// A connection's state.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) session: Session,
    /// Where its session's use is counted.
    pub(crate) session_use: usize,
    /// Handle to subscription.
    pub(crate) open: BTreeMap<u32, usize>,
    /// The transport takes no more for it.
    pub(crate) blocked: bool,
    /// It was told to close; nothing is sent or taken any more.
    pub(crate) closing: bool,
    /// Control messages that wait for it to become writable.
    pub(crate) owed: VecDeque<Queued>,
    pub(crate) owed_bytes: usize,
    pub(crate) presence: PresenceUse,
    /// Joins of documents that are being loaded.
    pub(crate) waiting: Vec<WaitingJoin>,
    /// Requests that are not answered.
    pub(crate) requests: Vec<usize>,
}

/// A join that waits until its document is loaded.
#[derive(Debug)]
pub(crate) struct WaitingJoin {
    pub(crate) handle: u32,
    pub(crate) document: usize,
    pub(crate) message: Box<[u8]>,
    /// An op that came behind it: none after that is taken before it.
    pub(crate) refused_counter: Option<u64>,
}

impl Connection {
    pub(crate) fn new(session: Session, session_use: usize) -> Self {
        Self {
            session,
            session_use,
            open: BTreeMap::new(),
            blocked: false,
            closing: false,
            owed: VecDeque::new(),
            owed_bytes: 0,
            presence: PresenceUse::default(),
            waiting: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// Whether messages to it must not be sent now.
    pub(crate) const fn is_impaired(&self) -> bool {
        self.blocked || self.closing
    }
}
