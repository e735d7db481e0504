//! Documents, subscriptions and presence of the partitions of one shard, as a sans-I/O state machine.
//!
//! [`StateSync`] takes the messages of authenticated connections and tells what to append to the log, what
//! to send and whom to close. It knows no socket, clock, thread or random source: time is an argument, the
//! log is the [`AppendLog`] trait. What a writer sent is what is logged and relayed. A document in memory is the
//! merged state that is stored and the ops since; merging them, like all reading and writing of the store, is done
//! elsewhere by a [`StorageWorker`]. A fault of the CRDT library costs the merging of a document, not its data.
//! Messages are described in [`wire::sync`].
//!
//! The caller drives it so:
//!
//! 1. [`handle_recovered`](StateSync::handle_recovered) for each op of the log, then
//!    [`finish_recovery`](StateSync::finish_recovery);
//! 2. [`handle_open`](StateSync::handle_open), [`handle_message`](StateSync::handle_message),
//!    [`handle_durable`](StateSync::handle_durable), [`handle_close`](StateSync::handle_close) as things
//!    happen, [`handle_tick`](StateSync::handle_tick) when [`poll_timeout`](StateSync::poll_timeout) says;
//! 3. [`poll_output`](StateSync::poll_output) until `None` after each of them, or after a batch; a send that
//!    the transport refuses is reported by [`handle_blocked`](StateSync::handle_blocked) at once;
//! 4. [`poll_job`](StateSync::poll_job) until `None`, each job to the storage worker, and its answer to
//!    [`handle_job_done`](StateSync::handle_job_done);
//! 5. [`poll_log_needed`](StateSync::poll_log_needed) now and then, to let go of the log before it.

mod admission;
mod append_log;
mod clocks;
mod config;
mod connection;
mod count;
mod delivery;
mod document;
mod documents;
pub mod jobs;
mod join;
mod lookup;
mod materializer;
mod memory;
#[cfg(any(test, feature = "testing"))]
mod memory_store;
mod ops;
mod output;
mod pending_acks;
mod placement;
mod presence;
mod presence_flow;
mod rates;
mod recovery;
mod requests;
mod sessions;
mod small_messages;
mod stats;
mod storage;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod store_suite;
mod subscription;
mod tail;
mod worker;
mod writers;
mod yjs;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};

use slab::Slab;
use wire::sync::{Channel, Client};
use wire::yjs_scan::ClockRange;
use wire::{Code, Time};

pub use append_log::{AppendLog, LogFull, LogOp};
pub use config::{Limits, STACK_BYTES_MIN, SyncConfig};
pub use connection::{Session, SubscriberKey};
pub use documents::DocumentInfo;
pub use jobs::{Job, JobDone, JobId, StoredDocument};
#[cfg(any(test, feature = "testing"))]
pub use memory_store::MemoryStore;
pub use output::Output;
pub use placement::{Owner, Placement};
pub use rates::SessionRates;
pub use recovery::{RecoveredOp, RecoveryError};
pub use stats::SyncStats;
pub use store::{DocumentStore, HistoryBase, StoreError, StoreWrite};
pub use worker::{StorageWorker, WorkerConfig, WorkerStats};

use connection::Connection;
use document::Document;
use memory::Memory;
use output::{Queued, What};
use pending_acks::PendingAcks;
use requests::{Asked, Request};
use sessions::Sessions;
use small_messages::SmallMessages;
use storage::{InFlight, Wanted};
use subscription::Subscription;

/// A hasher without a random key: the same input gives the same run.
type FixedHasher = BuildHasherDefault<DefaultHasher>;

/// The documents, subscriptions and presence of the partitions of one shard.
pub struct StateSync {
    config: SyncConfig,
    placement: Placement,
    incarnation: u64,
    /// In boxes: a place that is free again costs next to nothing.
    documents: Slab<Box<Document>>,
    document_ids: HashMap<Box<str>, usize, FixedHasher>,
    connections: HashMap<SubscriberKey, Connection, FixedHasher>,
    sessions: Sessions,
    subscriptions: Slab<Subscription>,
    pending_acks: PendingAcks,
    /// Subscriptions to acknowledge to at the end of this call.
    acks_due: Vec<usize>,
    outputs: VecDeque<Queued>,
    /// Subscriptions to catch up, in turn.
    catching_up: VecDeque<usize>,
    /// Bytes that they may be handed before the next tick.
    catch_up_bytes_left: usize,
    /// The output polled last, in case it is refused.
    last_polled: Option<Queued>,
    /// Connections that are blocked or closing.
    impaired: usize,
    /// Whether the queue may hold outputs whose time has passed, though none is impaired any more.
    is_degraded: bool,
    presence_due: BTreeSet<(Time, usize)>,
    /// When documents are looked after: stored, unloaded.
    documents_due: BTreeSet<(Time, usize)>,
    /// Documents with ops that only the log holds, by the first of those.
    dirty: BTreeSet<(u64, usize)>,
    /// The log is durable up to here.
    durable_lsn: Option<u64>,
    /// Jobs asked for, with their documents.
    wanted: VecDeque<(usize, Wanted)>,
    /// Documents that are to be stored.
    snapshots_wanted: VecDeque<usize>,
    in_flight: HashMap<u64, InFlight, FixedHasher>,
    snapshots_in_flight: usize,
    jobs_made: u64,
    subscriptions_made: u64,
    waiting_joins: usize,
    memory: Memory,
    /// What in the log did not fit, until the end of its document is found there.
    misfits: BTreeMap<usize, RecoveryError>,
    requests: Slab<Request>,
    requests_made: u64,
    /// Requests whose jobs are wanted: document, request, its number.
    requests_wanted: VecDeque<(usize, usize, u64)>,
    /// Jobs of requests that are handed out.
    requests_in_flight: usize,
    /// Requests whose answers go on, with their numbers.
    answering: VecDeque<(usize, u64)>,
    /// Bytes of answers that are being sent.
    answers_bytes: u64,
    /// When room for what is gone was given back last.
    shrunk: Time,
    /// The latest time that was told.
    now: Time,
    /// Unix milliseconds when that clock stood at zero.
    unix_ms_at_zero: u64,
    /// The clocks of the op at hand.
    ranges: Vec<ClockRange>,
    small_messages: SmallMessages,
    stats: SyncStats,
}

impl StateSync {
    /// An empty shard. `incarnation` is the number of this run of the log: greater than any before.
    #[must_use]
    pub fn new(config: SyncConfig, placement: Placement, incarnation: u64) -> Self {
        let catch_up_bytes_left = config.limits.catch_up_bytes_per_tick;
        Self {
            config,
            placement,
            incarnation,
            documents: Slab::new(),
            document_ids: HashMap::default(),
            connections: HashMap::default(),
            sessions: Sessions::default(),
            subscriptions: Slab::new(),
            pending_acks: PendingAcks::default(),
            acks_due: Vec::new(),
            outputs: VecDeque::new(),
            catching_up: VecDeque::new(),
            catch_up_bytes_left,
            last_polled: None,
            impaired: 0,
            is_degraded: false,
            presence_due: BTreeSet::new(),
            documents_due: BTreeSet::new(),
            dirty: BTreeSet::new(),
            durable_lsn: None,
            wanted: VecDeque::new(),
            snapshots_wanted: VecDeque::new(),
            in_flight: HashMap::default(),
            snapshots_in_flight: 0,
            jobs_made: 0,
            subscriptions_made: 0,
            waiting_joins: 0,
            memory: Memory::default(),
            misfits: BTreeMap::new(),
            requests: Slab::new(),
            requests_made: 0,
            requests_wanted: VecDeque::new(),
            requests_in_flight: 0,
            answering: VecDeque::new(),
            answers_bytes: 0,
            shrunk: Time::ZERO,
            now: Time::ZERO,
            unix_ms_at_zero: 0,
            ranges: Vec::new(),
            small_messages: SmallMessages::default(),
            stats: SyncStats::default(),
        }
    }

    /// A connection was authenticated. What an earlier one left open under the same key is closed first.
    pub fn handle_open(&mut self, key: SubscriberKey, session: Session) {
        self.handle_close(self.now, key);
        let session_use = self.sessions.open(session.session_id);
        self.connections.insert(key, Connection::new(session, session_use));
    }

    /// The time of day is `unix_ms` in Unix milliseconds when the clock is at `now`. For people: nothing depends on it.
    pub fn handle_clock(&mut self, now: Time, unix_ms: u64) {
        self.unix_ms_at_zero = unix_ms.saturating_sub(now.as_us() / 1_000);
    }

    pub(crate) const fn unix_ms(&self) -> u64 {
        self.unix_ms_at_zero + self.now.as_us() / 1_000
    }

    fn advance_clock(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// A connection is gone.
    pub fn handle_close(&mut self, now: Time, key: SubscriberKey) {
        self.advance_clock(now);
        let Some(connection) = self.connections.get_mut(&key) else { return };
        self.impaired += usize::from(!connection.is_impaired());
        connection.closing = true;
        let session = connection.session_use;
        let open = std::mem::take(&mut connection.open);
        self.waiting_joins -= std::mem::take(&mut connection.waiting).len();
        for &subscription in open.values() {
            self.unsubscribe(now, subscription);
        }
        self.connections.remove(&key);
        self.sessions.close(now, session);
        self.impaired -= 1;
        self.is_degraded = true;
    }

    /// A message came on a connection. What does not follow the format closes it.
    pub fn handle_message(
        &mut self,
        now: Time,
        key: SubscriberKey,
        channel: Channel,
        message: &[u8],
        log: &mut impl AppendLog,
    ) {
        self.advance_clock(now);
        if channel == Channel::Probe || self.connections.get(&key).is_none_or(|found| found.closing) {
            return;
        }
        let decoded = match channel {
            Channel::Sync | Channel::Presence => Client::decode(message).ok(),
            // Sync messages are not said here.
            _ => None,
        };
        match decoded {
            Some(Client::Op { handle, counter, payload }) => {
                if self.admit_op(now, key, (handle, counter), payload.len()) {
                    self.handle_op(key, handle, counter, payload, log);
                }
            }
            Some(Client::Presence { handle, entries }) => {
                if self.admit_presence(now, key, handle, &entries) {
                    self.handle_presence(now, key, handle, &entries);
                }
            }
            Some(Client::Join(join)) => {
                if self.admit_join(now, key, join.handle) {
                    self.handle_join(now, key, &join);
                }
            }
            Some(Client::Leave { handle }) => self.handle_leave(now, key, handle),
            Some(request) => {
                if let Some(asked) = Asked::of(&request)
                    && self.admit_request(now, key, asked.0, asked.1)
                {
                    self.handle_request(key, asked, log);
                }
            }
            None => {
                self.stats.messages_malformed += 1;
                self.close(key, Code::MalformedMessage, "a sync message does not follow the format");
            }
        }
        self.flush_acks();
    }

    /// The time is `now`: broadcasts the presence that is due, asks for documents to be stored or lets them go, and
    /// lets those who are behind have more.
    pub fn handle_tick(&mut self, now: Time) {
        while let Some(&(due, slot)) = self.presence_due.first() {
            if due > now {
                break;
            }
            self.presence_due.pop_first();
            self.broadcast_presence(now, slot);
        }
        self.catch_up_bytes_left = self.config.limits.catch_up_bytes_per_tick;
        self.advance_clock(now);
        self.look_after_due(now);
        self.shrink();
        self.relieve_memory();
    }

    /// When [`handle_tick`](Self::handle_tick) is next wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.is_catch_up_waiting() {
            return Some(self.now);
        }
        let due = [self.presence_due.first(), self.documents_due.first()];
        due.into_iter().flatten().map(|&(due, _)| due).min()
    }

    /// Takes new settings.
    pub fn set_config(&mut self, config: SyncConfig) {
        self.config = config;
    }

    /// What happened so far, and how much there is now.
    #[must_use]
    pub fn stats(&self) -> SyncStats {
        SyncStats {
            connections: self.connections.len() as u64,
            subscriptions: self.subscriptions.len() as u64,
            documents: self.documents.len() as u64,
            documents_dirty: self.dirty.len() as u64,
            jobs_waiting: (self.wanted.len() + self.snapshots_wanted.len() + self.in_flight.len()) as u64,
            joins_waiting: self.waiting_joins as u64,
            document_memory_bytes: self.memory.documents,
            diff_bytes: self.memory.diffs,
            ops_unacknowledged: self.pending_acks.len() as u64,
            sessions: self.sessions.len() as u64,
            requests_waiting: self.requests.len() as u64,
            ..self.stats
        }
    }

    /// Tells the caller to close a connection, and takes nothing more from it.
    fn close(&mut self, key: SubscriberKey, code: Code, reason: &'static str) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if !connection.closing {
            self.impaired += usize::from(!connection.is_impaired());
            connection.closing = true;
            let message = bytes::Bytes::new();
            let what = What::Close(code, reason);
            self.outputs.push_back(Queued { to: key, channel: Channel::Sync, message, what });
        }
    }
}

#[cfg(test)]
mod tests;
