//! A state-sync machine with a log in memory, and the connections to it.

use statesync::{Placement, Session, SessionRates, StateSync, SubscriberKey, SyncConfig};
use wire::sync::{Channel, Client, DocumentKind, Join};
use wire::{Access, Grant, Guuid, Time};

use crate::log::MemoryLog;

const DOCUMENT: &str = "design/plan";
const HANDLE: u32 = 1;

/// The machine of a node with one shard.
pub(crate) struct Machine {
    sync: StateSync,
    log: MemoryLog,
}

impl Machine {
    pub(crate) fn new() -> Self {
        // Time stands still here.
        let config = SyncConfig { session_rates: SessionRates::UNLIMITED, ..SyncConfig::default() };
        let sync = StateSync::new(config, Placement::single_node(0, 1, 256), 1);
        Self { sync, log: MemoryLog::new() }
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

    /// Makes all ops durable, acknowledges them, and integrates up to `updates_max` of them.
    pub(crate) fn commit(&mut self, updates_max: usize) -> usize {
        let lsn = self.log.commit();
        self.sync.handle_durable(lsn);
        let sent = self.drain();
        self.sync.run_background(updates_max);
        sent
    }

    fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.sync.poll_output()).count()
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
