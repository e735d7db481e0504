//! The store in one file: nothing to install, one control plane.
//!
//! One thread owns the map. Requests are closures on it; those that wait together are one batch, logged as one
//! frame with one sync, and answered after it.

mod file;
mod state;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use crate::{
    Change, Compare, Entry, LeaseId, Listing, MetaStore, Pending, StoreError, WATCH_QUEUE_MAX, Watch,
    check_key, check_value,
};
use file::LogFile;
use state::{State, change_of};

/// Requests that wait for the thread.
const REQUESTS_MAX: usize = 1_024;
/// Requests in one batch.
const BATCH_MAX: usize = 256;
/// Changes that are remembered for watchers, in number and bytes.
const HISTORY_MAX: usize = 4_096;
const HISTORY_BYTES_MAX: usize = 32 << 20;
/// Watchers at one time.
const WATCHERS_MAX: usize = 1_024;
/// The longest that the thread waits before it looks at its leases again.
const LEASE_TICK: Duration = Duration::from_secs(1);
/// Leases that one look may end.
const EXPIRE_MAX: usize = 1_024;

const _: () = assert!(BATCH_MAX <= REQUESTS_MAX);

type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Request = Box<dyn FnOnce(&mut Owner) -> Answer + Send>;

/// A store in one file.
#[derive(Debug)]
pub struct EmbeddedStore {
    // `None` only while it is dropped.
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens or creates the file at `path`; beside it lie `path.lock` and, while it is compacted, `path.new`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (log, state) = LogFile::open(path)?;
        let (requests, waiting) = sync_channel(REQUESTS_MAX);
        let floor = state.revision();
        let owner = Owner { log, state, watchers: Vec::new(), history: History::new(floor), waiting };
        let thread = std::thread::Builder::new().name("meta-store".to_owned()).spawn(move || owner.run());
        let thread = thread.map_err(StoreError::io("start the thread of", path))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    fn request<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Owner) -> Result<T, StoreError> + Send + 'static,
    ) -> Pending<'_, T> {
        let (sender, answer) = oneshot::channel();
        let request: Request = Box::new(move |owner| {
            let result = run(owner);
            Box::new(move |durable| drop(sender.send(durable.and(result))))
        });
        let sent = match &self.requests {
            Some(requests) => requests.try_send(request).map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Overloaded,
                TrySendError::Disconnected(_) => StoreError::Stopped,
            }),
            None => Err(StoreError::Stopped),
        };
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or(Err(StoreError::Stopped))
        })
    }
}

impl Drop for EmbeddedStore {
    /// Ends the thread, so that the file can be opened again.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread had panicked");
        }
    }
}

fn refused<T: Send + 'static>(error: StoreError) -> Pending<'static, T> {
    Box::pin(std::future::ready(Err(error)))
}

impl MetaStore for EmbeddedStore {
    fn get(&self, key: &str) -> Pending<'_, Option<Entry>> {
        let key = key.to_owned();
        self.request(move |owner| Ok(owner.state.get(&key)))
    }

    fn put(&self, key: &str, value: Vec<u8>, compare: Compare, lease: Option<LeaseId>) -> Pending<'_, u64> {
        if let Err(error) = check_value(key, &value) {
            return refused(error);
        }
        let key = key.to_owned();
        self.request(move |owner| owner.state.put(key, value, compare, lease))
    }

    fn delete(&self, key: &str, compare: Compare) -> Pending<'_, bool> {
        if let Err(error) = check_key(key) {
            return refused(error);
        }
        let key = key.to_owned();
        self.request(move |owner| owner.state.delete(&key, compare))
    }

    fn list(&self, prefix: &str) -> Pending<'_, Listing> {
        let prefix = prefix.to_owned();
        self.request(move |owner| Ok(owner.state.list(&prefix)))
    }

    fn watch(&self, prefix: &str, from_revision: u64) -> Pending<'_, Watch> {
        let prefix = prefix.to_owned();
        self.request(move |owner| owner.watch(prefix, from_revision))
    }

    fn lease_grant(&self, ttl_s: u32) -> Pending<'_, LeaseId> {
        self.request(move |owner| owner.state.lease_grant(ttl_s, now_unix_ms()))
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Pending<'_, ()> {
        self.request(move |owner| owner.state.lease_keep_alive(lease, now_unix_ms()))
    }

    fn lease_revoke(&self, lease: LeaseId) -> Pending<'_, ()> {
        self.request(move |owner| owner.state.lease_revoke(lease))
    }
}

fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[derive(Debug)]
struct Watcher {
    prefix: String,
    from_revision: u64,
    changes: mpsc::Sender<Result<Change, StoreError>>,
}

/// The latest changes, for watchers that begin in the past.
#[derive(Debug)]
struct History {
    changes: VecDeque<Change>,
    bytes: usize,
    /// The last revision that is forgotten.
    floor: u64,
}

impl History {
    const fn new(floor: u64) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, floor }
    }

    fn push(&mut self, change: Change) {
        self.bytes += size(&change);
        self.changes.push_back(change);
        while self.changes.len() > HISTORY_MAX || self.bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.floor = oldest.revision;
        }
    }
}

fn size(change: &Change) -> usize {
    change.key.len() + change.value.as_ref().map_or(0, Vec::len)
}

/// What the thread owns.
struct Owner {
    log: LogFile,
    state: State,
    watchers: Vec<Watcher>,
    history: History,
    waiting: Receiver<Request>,
}

impl Owner {
    fn run(mut self) {
        loop {
            let first = match self.waiting.recv_timeout(self.patience()) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut answers: Vec<Answer> = Vec::new();
            let mut next = first;
            while let Some(request) = next {
                answers.push(request(&mut self));
                next = if answers.len() < BATCH_MAX { self.waiting.try_recv().ok() } else { None };
            }
            self.state.expire(now_unix_ms(), EXPIRE_MAX);
            let durable = self.make_durable();
            for answer in answers {
                answer(durable.clone());
            }
            if let Err(error) = durable {
                // What is in memory may not be on the disk: nobody is told more of it.
                tracing::error!(%error, "the store stops");
                return;
            }
        }
    }

    /// How long to wait for a request: until a lease ends, but the clock may be set meanwhile.
    fn patience(&self) -> Duration {
        let ends = self.state.next_expiry_unix_ms().unwrap_or(u64::MAX);
        Duration::from_millis(ends.saturating_sub(now_unix_ms())).min(LEASE_TICK)
    }

    fn make_durable(&mut self) -> Result<(), StoreError> {
        let ops = self.state.take_made();
        if ops.is_empty() {
            return Ok(());
        }
        self.log.append(&ops)?;
        ops.into_iter().filter_map(change_of).for_each(|change| self.publish(change));
        if self.log.is_mostly_dead(&self.state) {
            self.log.compact(&self.state)?;
        }
        Ok(())
    }

    fn publish(&mut self, change: Change) {
        // A watcher whose queue is full is let go: its end tells it to list again.
        self.watchers.retain(|watcher| {
            let concerned =
                change.revision >= watcher.from_revision && change.key.starts_with(&watcher.prefix);
            if concerned {
                watcher.changes.try_send(Ok(change.clone())).is_ok()
            } else {
                !watcher.changes.is_closed()
            }
        });
        self.history.push(change);
    }

    fn watch(&mut self, prefix: String, from_revision: u64) -> Result<Watch, StoreError> {
        self.watchers.retain(|watcher| !watcher.changes.is_closed());
        if from_revision <= self.history.floor {
            return Err(StoreError::Compacted(self.history.floor));
        }
        if self.watchers.len() >= WATCHERS_MAX {
            return Err(StoreError::Overloaded);
        }
        let concerned =
            |change: &&Change| change.revision >= from_revision && change.key.starts_with(&prefix);
        let past: Vec<_> = self.history.changes.iter().filter(concerned).cloned().collect();
        let (sender, changes) = mpsc::channel(WATCH_QUEUE_MAX + past.len());
        for change in past {
            sender.try_send(Ok(change)).expect("the queue was made for these");
        }
        self.watchers.push(Watcher { prefix, from_revision, changes: sender });
        Ok(Watch { changes })
    }
}
