//! A state-sync machine with a log in memory, and the connections to it.

use statesync::{
    MemoryStore, Placement, Session, SessionRates, StateSync, StorageWorker, SubscriberKey, SyncConfig,
    WorkerConfig,
};
use wire::sync::{Channel, Client, DocumentKind, Join};
use wire::{Access, Grant, Guuid, Time};

use crate::log::MemoryLog;

const DOCUMENT: &str = "design/plan";
const HANDLE: u32 = 1;

/// The machine of a node with one shard.
pub(crate) struct Machine {
    sync: StateSync,
    log: MemoryLog,
    worker: StorageWorker<MemoryStore>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        // Time stands still here.
        let config = SyncConfig { session_rates: SessionRates::UNLIMITED, ..SyncConfig::default() };
        let sync = StateSync::new(config, Placement::single_node(0, 1, 256), 1);
        let worker = StorageWorker::new(MemoryStore::default(), WorkerConfig::default());
        Self { sync, log: MemoryLog::new(), worker }
    }

    /// A connection that may write.
    pub(crate) fn open(&mut self, number: u8) -> SubscriberKey {
        let session_id = Guuid::new(u64::from(number), [number; 10]);
        let grants = vec![Grant { pattern: "*".to_owned(), access: Access::Write }];
        let key = SubscriberKey::alone(u64::from(number));
        self.sync.handle_open(key, Session { session_id, writer_id: session_id.writer(), grants });
        key
    }

    /// Takes a message and everything that follows from it; how many messages went out.
    pub(crate) fn handle(&mut self, from: SubscriberKey, message: &[u8]) -> usize {
        self.sync.handle_message(Time::ZERO, from, Channel::Sync, message, &mut self.log);
        self.drain()
    }

    /// Makes all ops durable and acknowledges them.
    pub(crate) fn commit(&mut self) -> usize {
        let lsn = self.log.commit();
        self.sync.handle_durable(lsn);
        self.drain()
    }

    /// Stores the document.
    pub(crate) fn store(&mut self) {
        self.sync.handle_log_pressure();
        self.drain();
    }

    fn drain(&mut self) -> usize {
        let mut count = 0;
        loop {
            count += std::iter::from_fn(|| self.sync.poll_output()).count();
            // Long catch-ups go on with the next turn.
            if self.sync.poll_timeout().is_some_and(|due| due <= Time::ZERO) {
                self.sync.handle_tick(Time::ZERO);
                continue;
            }
            let Some((id, job)) = self.sync.poll_job(Time::ZERO) else { return count };
            self.sync.handle_job_done(Time::ZERO, id, self.worker.handle(job));
        }
    }
}

/// The message that joins the document with what the client has.
pub(crate) fn join_message(state_vector: &[u8]) -> Vec<u8> {
    let kind = DocumentKind::Yjs;
    let join = Join { handle: HANDLE, kind, content: true, document: DOCUMENT, resume: None, state_vector };
    Client::Join(join).to_vec()
}

/// The message of a writer's op.
pub(crate) fn op_message(counter: u64, payload: &[u8]) -> Vec<u8> {
    Client::Op { handle: HANDLE, counter, payload }.to_vec()
}
