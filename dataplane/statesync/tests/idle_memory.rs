//! What a document costs when nothing happens in it, and what it leaves behind.

use heap::live_bytes;
use statesync::jobs::{HistoryOp, StoredDocument, Version};
use statesync::{
    AppendLog, DocumentStore, HistoryBase, LogFull, LogOp, Output, Placement, Session, SessionRates,
    StateSync, StorageWorker, StoreError, StoreWrite, SubscriberKey, SyncConfig, WorkerConfig,
};
use wire::sync::{Channel, Client, DocumentKind, Join};
use wire::{Access, Grant, Guuid, Span, Time};
use yrs::{Doc, ReadTxn, StateVector, Text, Transact, WriteTxn};

/// An idle document with two subscribers may take so much of the heap, beside its state and state vector.
const IDLE_BYTES_MAX: i64 = 2 << 10;
/// A document that has left memory may leave so much behind: the tables' room for others.
const UNLOADED_BYTES_MAX: i64 = 64;
const DOCUMENTS: u64 = 4_096;
const OPS: u64 = 20;

#[global_allocator]
static ALLOCATOR: heap::CountingAllocator = heap::CountingAllocator;

/// Forgets all, and counts the bytes of states and vectors that documents in memory share with it.
#[derive(Default)]
struct Forgetful {
    data_bytes: i64,
}

impl DocumentStore for Forgetful {
    fn head(&mut self, _document: &str) -> Result<Option<StoredDocument>, StoreError> {
        Ok(None)
    }

    fn write(&mut self, writes: &[StoreWrite<'_>]) -> Result<(), StoreError> {
        for write in writes {
            if let StoreWrite::Head { head, .. } = write {
                self.data_bytes += (head.base.state.len() + head.base.vector.len()) as i64;
            }
        }
        Ok(())
    }

    fn history(
        &mut self,
        _document: &str,
        _from: u64,
        _bytes_max: usize,
    ) -> Result<Vec<HistoryOp>, StoreError> {
        Ok(Vec::new())
    }

    fn base_at(&mut self, _document: &str, _sequence: u64) -> Result<Option<HistoryBase>, StoreError> {
        Ok(None)
    }

    fn sequence_at(&mut self, _document: &str, _unix_ms: u64) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    fn versions(&mut self, _document: &str) -> Result<Vec<Version>, StoreError> {
        Ok(Vec::new())
    }
}

#[derive(Default)]
struct Log {
    lsn: u64,
}

impl AppendLog for Log {
    fn append(&mut self, _op: &LogOp<'_>) -> Result<u64, LogFull> {
        self.lsn += 1;
        Ok(self.lsn)
    }
}

struct Rig {
    sync: StateSync,
    worker: StorageWorker<Forgetful>,
    log: Log,
    now: Time,
}

impl Rig {
    fn pump(&mut self) {
        loop {
            while let Some(output) = self.sync.poll_output() {
                assert!(matches!(output, Output::Send { .. }), "{output:?}");
            }
            let Some((id, job)) = self.sync.poll_job(self.now) else { break };
            let done = self.worker.handle(job);
            self.sync.handle_job_done(self.now, id, done);
        }
    }

    fn say(&mut self, connection: u64, message: &Client<'_>) {
        let key = SubscriberKey::alone(connection);
        self.sync.handle_message(self.now, key, Channel::Sync, &message.to_vec(), &mut self.log);
        self.pump();
    }

    fn later(&mut self, ms: u64) {
        self.now += Span::from_ms(ms);
        self.sync.handle_durable(self.log.lsn);
        self.sync.handle_tick(self.now);
        self.pump();
    }
}

/// One writer's updates, each a word at the end.
fn updates() -> Vec<Vec<u8>> {
    let doc = Doc::with_client_id(7);
    let word = |_| {
        let mut txn = doc.transact_mut();
        let text = txn.get_or_insert_text("t");
        text.push(&mut txn, "some forty bytes of text as people type");
        txn.encode_update_v1()
    };
    let all = (0..OPS).map(word).collect();
    assert!(doc.transact().encode_diff_v1(&StateVector::default()).len() > 500);
    all
}

#[test]
fn an_idle_document_takes_more_than_its_data_or_an_unloaded_one_takes_anything() {
    let config = SyncConfig { session_rates: SessionRates::UNLIMITED, ..SyncConfig::default() };
    let joins_max = config.limits.joins_per_connection_max as u64;
    let placement = Placement::single_node(0, 1, 256);
    let worker = StorageWorker::new(
        Forgetful::default(),
        WorkerConfig { materialized_bytes_max: 0, ..WorkerConfig::default() },
    );
    let mut rig = Rig {
        sync: StateSync::new(config, placement, 1),
        worker,
        log: Log::default(),
        now: Time::from_us(1),
    };
    let connections = 2 * DOCUMENTS.div_ceil(joins_max);
    for connection in 0..connections {
        let id = Guuid::new(connection + 1, [1; 10]);
        let grants = vec![Grant { pattern: "*".to_owned(), access: Access::Write }];
        let session = Session { session_id: id, writer_id: id.writer(), grants };
        rig.sync.handle_open(SubscriberKey::alone(connection), session);
    }
    let updates = updates();
    let before = live_bytes();
    let mut id_bytes = 0;
    for number in 0..DOCUMENTS {
        let document = format!("team/folder/document-{number:05}");
        id_bytes += document.len() as i64;
        let handle = (number % joins_max) as u32;
        let writer = number / joins_max * 2;
        for connection in [writer, writer + 1] {
            let kind = DocumentKind::Yjs;
            let join =
                Join { handle, kind, content: true, document: &document, resume: None, state_vector: &[] };
            rig.say(connection, &Client::Join(join));
        }
        for (counter, payload) in (1..).zip(&updates) {
            let counter = number * OPS + counter;
            rig.say(writer, &Client::Op { handle, counter, payload });
        }
        rig.later(1);
    }
    rig.later(31_000);
    for _ in 0..10 {
        rig.later(31_000);
    }
    let stats = rig.sync.stats();
    assert_eq!((stats.documents, stats.documents_dirty, stats.snapshots), (DOCUMENTS, 0, DOCUMENTS));
    let data_bytes = rig.worker.peek().data_bytes + id_bytes;
    let idle = live_bytes() - before - data_bytes;
    let each = idle / DOCUMENTS as i64;
    println!("an idle document: {each} B beside {} B of data", data_bytes / DOCUMENTS as i64);
    assert!(each <= IDLE_BYTES_MAX, "{each} B beside its data");
    for connection in 0..connections {
        rig.sync.handle_close(rig.now, SubscriberKey::alone(connection));
    }
    for _ in 0..10 {
        rig.later(31_000);
    }
    assert_eq!((rig.sync.stats().documents, rig.sync.stats().unloads), (0, DOCUMENTS));
    let left = (live_bytes() - before) / DOCUMENTS as i64;
    println!("an unloaded document: {left} B");
    assert!(left <= UNLOADED_BYTES_MAX, "{left} B stay for each document");
}
