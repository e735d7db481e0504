//! What the application's handles and the driving task share: commands, the budget, each document's events.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, TryAcquireError, oneshot};
use tokio::time::Instant;
use wire::guuid::OP_COUNTER_MAX;
use wire::limits::{DOCUMENT_ID_BYTES_MAX, OP_BYTES_MAX, VERSION_NAME_BYTES_MAX};
use wire::sync::{Client, DocumentKind};
use wire::{Code, Guuid};

use crate::config::ClientConfig;
use crate::document::{JoinOptions, OpId};
use crate::error::ClientError;
use crate::event_queue::EventQueue;
use crate::placement::Route;
use crate::presence::OwnPresence;
use crate::requests::{Answer, Ask, At, Reply};
use crate::stats::ClientStats;
use crate::unacked::UnackedOp;

/// What an op costs of the budget beside its payload.
pub(crate) const OP_OVERHEAD_BYTES: usize = 64;
/// The fields before an op's payload: tag, handle, counter.
const OP_FIELDS_BYTES_MAX: usize = 1 + 5 + 6;
/// The most documents that a client has open.
const DOCUMENTS_MAX: usize = 1 << 16;
/// The most pings under way.
const PINGS_MAX: usize = 256;
/// The most requests about documents' ends and pasts under way.
const REQUESTS_MAX: usize = 256;

const _: () = assert!(OP_FIELDS_BYTES_MAX <= OP_OVERHEAD_BYTES);
const _: () = assert!(OP_BYTES_MAX + OP_FIELDS_BYTES_MAX <= wire::limits::MESSAGE_BYTES_MAX);

/// One document, as both sides see it.
#[derive(Debug)]
pub(crate) struct DocumentShared {
    pub(crate) handle: u32,
    pub(crate) id: String,
    /// Before each op a counter is left free, for what is pushed to a node that has lost ops.
    spares_counters: bool,
    events: Mutex<EventQueue>,
    /// Notified when an event came or the queue ended.
    pub(crate) readable: Notify,
    presence: Mutex<OwnPresence>,
    /// Why no op is taken any more.
    closed: OnceLock<ClientError>,
}

impl DocumentShared {
    pub(crate) fn events(&self) -> MutexGuard<'_, EventQueue> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn presence(&self) -> MutexGuard<'_, OwnPresence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_open(&self) -> Result<(), ClientError> {
        self.closed.get().map_or(Ok(()), |reason| Err(reason.clone()))
    }
}

/// Which connection to measure.
#[derive(Clone, Debug)]
pub(crate) enum PingTarget {
    /// The one that serves a document, by handle.
    Document(u32),
    /// The one to a shard, opened if need be.
    Shard(Route),
}

/// What the application asks of the driving task.
#[derive(Debug)]
pub(crate) enum Command {
    Join { document: Arc<DocumentShared>, kind: DocumentKind, options: JoinOptions },
    Op { handle: u32, op: UnackedOp },
    PushMissing { handle: u32, incarnation: u64, counter: u64, update: Bytes },
    Presence { handle: u32 },
    Request { handle: u32, ask: Ask, reply: Reply },
    Credit { handle: u32 },
    ReaderGone { handle: u32 },
    Leave { handle: u32, done: Option<oneshot::Sender<()>> },
    Ping { target: PingTarget, reply: oneshot::Sender<Duration> },
    Close { deadline: Instant, done: Option<oneshot::Sender<bool>> },
}

#[derive(Debug)]
struct Queue {
    commands: Vec<Command>,
    next_counter: u64,
    next_handle: u32,
    /// Ids of the documents that are joined and not being left.
    open: HashSet<String>,
    closed: bool,
    /// The task, when it waits for commands.
    waker: Option<Waker>,
}

impl Queue {
    /// The number of the next op. A node takes a counter that comes late for a duplicate: whoever takes one puts what it
    /// is for into `commands` before the lock is given back.
    fn take_counter(&mut self, document: &DocumentShared) -> Result<u64, ClientError> {
        let counter = self.next_counter + u64::from(document.spares_counters);
        if counter > OP_COUNTER_MAX {
            return Err(ClientError::OpIdsExhausted);
        }
        self.next_counter = counter + 1;
        Ok(counter)
    }
}

/// What a client's handles and its task share.
#[derive(Debug)]
pub(crate) struct Shared {
    writer_id: Guuid,
    event_bytes_max: usize,
    queue: Mutex<Queue>,
    /// Bytes of ops that may still be taken.
    budget: Semaphore,
    documents: Semaphore,
    pings: Semaphore,
    requests: Semaphore,
    stats: Mutex<ClientStats>,
    failure: OnceLock<ClientError>,
}

impl Shared {
    pub(crate) fn new(config: &ClientConfig, writer_id: Guuid) -> Self {
        let queue = Queue {
            commands: Vec::new(),
            next_counter: 1,
            next_handle: 1,
            open: HashSet::new(),
            closed: false,
            waker: None,
        };
        Self {
            writer_id,
            event_bytes_max: config.event_bytes_max,
            queue: Mutex::new(queue),
            budget: Semaphore::new(config.unacked_bytes_max),
            documents: Semaphore::new(DOCUMENTS_MAX),
            pings: Semaphore::new(PINGS_MAX),
            requests: Semaphore::new(REQUESTS_MAX),
            stats: Mutex::new(ClientStats::default()),
            failure: OnceLock::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a command to the task; false: there is none any more.
    pub(crate) fn command(&self, command: Command) -> bool {
        let mut queue = self.queue();
        if queue.closed {
            return false;
        }
        queue.commands.push(command);
        wake(queue);
        true
    }

    fn required(&self, command: Command) -> Result<(), ClientError> {
        if self.command(command) { Ok(()) } else { Err(self.failure()) }
    }

    /// Why the client works no more.
    pub(crate) fn failure(&self) -> ClientError {
        self.failure.get().cloned().unwrap_or(ClientError::Closed)
    }

    pub(crate) async fn apply(
        &self,
        document: &DocumentShared,
        payload: &Bytes,
    ) -> Result<OpId, ClientError> {
        let cost = op_cost(payload)?;
        document.check_open()?;
        let permit = self.budget.acquire_many(cost).await.map_err(|_| self.failure())?;
        let id = self.enqueue_op(document, payload, cost)?;
        permit.forget();
        Ok(id)
    }

    pub(crate) fn try_apply(&self, document: &DocumentShared, payload: &Bytes) -> Result<OpId, ClientError> {
        let cost = op_cost(payload)?;
        let permit = self.budget.try_acquire_many(cost).map_err(|error| match error {
            TryAcquireError::NoPermits => ClientError::Full,
            TryAcquireError::Closed => self.failure(),
        })?;
        let id = self.enqueue_op(document, payload, cost)?;
        permit.forget();
        Ok(id)
    }

    fn enqueue_op(&self, document: &DocumentShared, payload: &[u8], cost: u32) -> Result<OpId, ClientError> {
        document.check_open()?;
        let handle = document.handle;
        let mut message = Vec::with_capacity(OP_FIELDS_BYTES_MAX + payload.len());
        let mut queue = self.queue();
        if queue.closed {
            return Err(self.failure());
        }
        let counter = queue.take_counter(document)?;
        Client::Op { handle, counter, payload }.encode(&mut message);
        queue.commands.push(Command::Op { handle, op: UnackedOp { counter, message: message.into(), cost } });
        wake(queue);
        Ok(OpId { guuid: self.writer_id.with_counter(counter), counter })
    }

    /// What is too large is left out, and said to be so.
    pub(crate) fn push_missing(
        &self,
        document: &DocumentShared,
        incarnation: u64,
        update: Bytes,
    ) -> Result<(), ClientError> {
        document.check_open()?;
        let fits = op_cost(&update).map(drop);
        let update = if fits.is_ok() { update } else { Bytes::new() };
        let handle = document.handle;
        let mut queue = self.queue();
        if queue.closed {
            return Err(self.failure());
        }
        let counter = queue.take_counter(document)?;
        queue.commands.push(Command::PushMissing { handle, incarnation, counter, update });
        wake(queue);
        fits
    }

    pub(crate) fn join(
        &self,
        id: &str,
        kind: DocumentKind,
        options: JoinOptions,
    ) -> Result<Arc<DocumentShared>, ClientError> {
        if id.is_empty() || id.len() > DOCUMENT_ID_BYTES_MAX {
            return Err(ClientError::DocumentId(id.len()));
        }
        let slot = self.documents.try_acquire();
        let slot = slot.map_err(|_| ClientError::LimitReached { what: "documents", limit: DOCUMENTS_MAX })?;
        let mut queue = self.queue();
        if queue.closed {
            return Err(self.failure());
        }
        if queue.open.contains(id) {
            return Err(ClientError::AlreadyJoined(id.to_owned()));
        }
        let document = Arc::new(DocumentShared {
            handle: queue.next_handle,
            id: id.to_owned(),
            spares_counters: options.pushes_missing,
            events: Mutex::new(EventQueue::new(self.event_bytes_max)),
            readable: Notify::new(),
            presence: Mutex::default(),
            closed: OnceLock::new(),
        });
        queue.next_handle += 1;
        queue.open.insert(id.to_owned());
        queue.commands.push(Command::Join { document: Arc::clone(&document), kind, options });
        wake(queue);
        slot.forget();
        Ok(document)
    }

    /// The application has dropped a document: its id may be joined again.
    pub(crate) fn abandon(&self, document: &DocumentShared) {
        if document.closed.set(ClientError::Closed).is_ok() {
            self.queue().open.remove(&document.id);
        }
        self.command(Command::Leave { handle: document.handle, done: None });
    }

    /// For the task: the node closed a document. Its id may be joined again.
    pub(crate) fn close_document(&self, document: &DocumentShared, reason: ClientError) {
        if document.closed.set(reason).is_ok() {
            self.queue().open.remove(&document.id);
        }
    }

    /// For the task: a document is forgotten: there is room for another one.
    pub(crate) fn release_document(&self) {
        self.documents.add_permits(1);
    }

    pub(crate) fn set_presence(
        &self,
        document: &DocumentShared,
        client: u64,
        clock: Option<u32>,
        state: Bytes,
    ) -> Result<(), ClientError> {
        document.check_open()?;
        let was_dirty = document.presence().is_dirty();
        let changed = document.presence().set(client, clock, state)?;
        if changed && !was_dirty {
            self.required(Command::Presence { handle: document.handle })
        } else {
            Ok(())
        }
    }

    pub(crate) fn leave(
        &self,
        document: &DocumentShared,
        done: oneshot::Sender<()>,
    ) -> Result<(), ClientError> {
        let left = ClientError::DocumentClosed { code: Code::Done, text: "left".to_owned() };
        if document.closed.set(left).is_err() {
            return document.check_open();
        }
        self.queue().open.remove(&document.id);
        self.required(Command::Leave { handle: document.handle, done: Some(done) })
    }

    pub(crate) async fn ping(&self, target: PingTarget, timeout: Duration) -> Result<Duration, ClientError> {
        let limit = ClientError::LimitReached { what: "pings", limit: PINGS_MAX };
        let _slot = self.pings.try_acquire().map_err(|_| limit)?;
        let (reply, echo) = oneshot::channel();
        self.required(Command::Ping { target, reply })?;
        match tokio::time::timeout(timeout, echo).await {
            Ok(Ok(rtt)) => Ok(rtt),
            Ok(Err(_)) if self.queue().closed => Err(self.failure()),
            Ok(Err(_)) | Err(_) => Err(ClientError::Timeout),
        }
    }

    /// Asks the node about a document, and waits for the answer.
    pub(crate) async fn request(&self, document: &DocumentShared, ask: Ask) -> Result<Answer, ClientError> {
        if let Ask::CreateVersion(name) | Ask::ReadAt(At::Version(name)) = &ask
            && (name.is_empty() || name.len() > VERSION_NAME_BYTES_MAX)
        {
            return Err(ClientError::VersionName(name.len()));
        }
        document.check_open()?;
        let _slot = self.requests.acquire().await.map_err(|_| self.failure())?;
        let (reply, answer) = oneshot::channel();
        self.required(Command::Request { handle: document.handle, ask, reply })?;
        answer.await.unwrap_or_else(|_| Err(document.closed.get().cloned().unwrap_or_else(|| self.failure())))
    }

    pub(crate) fn stats(&self) -> ClientStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the task: publishes its counters.
    pub(crate) fn set_stats(&self, stats: ClientStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    /// For the task: takes all commands, in order. When there is none, `waker` is woken by the next one.
    pub(crate) fn take_commands(&self, into: &mut Vec<Command>, waker: &Waker) {
        debug_assert!(into.is_empty());
        let mut queue = self.queue();
        std::mem::swap(into, &mut queue.commands);
        if into.is_empty() && !queue.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            queue.waker = Some(waker.clone());
        }
    }

    /// For the task: gives bytes of the budget back.
    pub(crate) fn release_budget(&self, bytes: usize) {
        if bytes > 0 {
            self.budget.add_permits(bytes);
        }
    }

    /// For the task: no command is taken any more. Returns those that came too late.
    pub(crate) fn close(&self, failure: ClientError) -> Vec<Command> {
        let _kept = self.failure.set(failure);
        let mut queue = self.queue();
        queue.closed = true;
        let late = std::mem::take(&mut queue.commands);
        drop(queue);
        self.budget.close();
        self.requests.close();
        late
    }
}

/// Lets the task run, if it waits. The lock is given back first.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn op_cost(payload: &[u8]) -> Result<u32, ClientError> {
    if payload.len() > OP_BYTES_MAX {
        return Err(ClientError::OpTooLarge(payload.len()));
    }
    u32::try_from(payload.len() + OP_OVERHEAD_BYTES).map_err(|_| ClientError::OpTooLarge(payload.len()))
}
