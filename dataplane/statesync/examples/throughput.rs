//! Ops a second through the state machine alone: one writer, two readers, a log that takes everything.
//!
//! `cargo run --release -p statesync --features testing --example throughput`

use std::time::Instant;

use statesync::{
    AppendLog, LogFull, LogOp, MemoryStore, Placement, Session, SessionRates, StateSync, StorageWorker,
    SubscriberKey, SyncConfig, WorkerConfig,
};
use wire::sync::{Channel, Client, DocumentKind, Join};
use wire::{Access, Grant, Guuid, Time};
use yrs::{Doc, Text, Transact, WriteTxn};

const OPS: u64 = 260_000;
/// Ops that become durable together.
const BATCH: u64 = 64;

struct CountingLog(u64);

impl AppendLog for CountingLog {
    fn append(&mut self, _: &LogOp<'_>) -> Result<u64, LogFull> {
        self.0 += 1;
        Ok(self.0)
    }
}

fn work(machine: &mut StateSync, worker: &mut StorageWorker<MemoryStore>) {
    while let Some((id, job)) = machine.poll_job(Time::ZERO) {
        machine.handle_job_done(Time::ZERO, id, worker.handle(job));
    }
}

fn main() {
    let doc = Doc::with_client_id(1);
    let ops: Vec<Vec<u8>> = (1..=OPS)
        .map(|counter| {
            let mut txn = doc.transact_mut();
            let text = txn.get_or_insert_text("t");
            let end = text.len(&txn);
            text.insert(&mut txn, end, "x");
            Client::Op { handle: 1, counter, payload: &txn.encode_update_v1() }.to_vec()
        })
        .collect();
    // Else the writer is held to its rate, and refusals are what is timed.
    let config = SyncConfig { session_rates: SessionRates::UNLIMITED, ..SyncConfig::default() };
    let mut machine = StateSync::new(config, Placement::single_node(0, 1, 256), 1);
    let mut worker = StorageWorker::new(MemoryStore::default(), WorkerConfig::default());
    let mut log = CountingLog(0);
    let now = Time::ZERO;
    for key in 1..=3_u8 {
        let session_id = Guuid::new(u64::from(key), [key; 10]);
        let grants = vec![Grant { pattern: "*".to_owned(), access: Access::Write }];
        let key = SubscriberKey::alone(u64::from(key));
        machine.handle_open(key, Session { session_id, writer_id: session_id.writer(), grants });
        let kind = DocumentKind::Yjs;
        let join = Join { handle: 1, kind, content: true, document: "d", resume: None, state_vector: &[] };
        machine.handle_message(now, key, Channel::Sync, &Client::Join(join).to_vec(), &mut log);
        work(&mut machine, &mut worker);
        while machine.poll_output().is_some() {}
    }
    let start = Instant::now();
    let mut outputs = 0_u64;
    for (count, op) in (1..).zip(&ops) {
        machine.handle_message(now, SubscriberKey::alone(1), Channel::Sync, op, &mut log);
        if count % BATCH == 0 {
            machine.handle_durable(log.0);
            work(&mut machine, &mut worker);
        }
        while machine.poll_output().is_some() {
            outputs += 1;
        }
    }
    let answered = start.elapsed();
    machine.handle_durable(log.0);
    machine.handle_log_pressure();
    work(&mut machine, &mut worker);
    let integrated = start.elapsed();
    println!(
        "{OPS} ops, {outputs} outputs: {:.0} ops/s, {:.0} ops/s with the document stored",
        OPS as f64 / answered.as_secs_f64(),
        OPS as f64 / integrated.as_secs_f64(),
    );
    assert_eq!(machine.stats().ops_logged, OPS, "all were taken");
}
