//! Scenarios: model clients, some of them real Yjs documents, against one machine with a log in memory.

mod admission;
mod converge;
mod deletion;
mod hostile;
mod joins;
mod memory;
mod opaque;
mod ops;
mod presence;
mod recovery;
mod requests;
mod slow;
mod worker;

use std::collections::{BTreeMap, BTreeSet};

use wire::sync::{Channel, Client, DocumentKind, Join, PresenceEntry, ResumePoint, Server};
use wire::{Access, Code, Grant, Guuid, Time};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update, WriteTxn};

use crate::{
    AppendLog, JobDone, JobId, LogFull, LogOp, MemoryStore, Output, Placement, RecoveredOp, Session,
    StateSync, StorageWorker, SubscriberKey, SyncConfig, WorkerConfig,
};

const INCARNATION: u64 = 7;
const HANDLE: u32 = 5;

/// One op in the log.
#[derive(Clone, PartialEq, Debug)]
struct Record {
    document: String,
    kind: DocumentKind,
    sequence: u64,
    op_id: Guuid,
    payload: Vec<u8>,
    is_deletion: bool,
}

impl Record {
    fn as_recovered(&self, lsn: u64) -> RecoveredOp<'_> {
        RecoveredOp {
            document: &self.document,
            kind: self.kind,
            sequence: self.sequence,
            op_id: self.op_id,
            lsn,
            unix_ms: 0,
            payload: &self.payload,
            is_deletion: self.is_deletion,
        }
    }
}

/// A log in memory; each op has its own sequence number, from 1.
#[derive(Default)]
struct MemoryLog {
    records: Vec<Record>,
    is_full: bool,
}

impl AppendLog for MemoryLog {
    fn append(&mut self, op: &LogOp<'_>) -> Result<u64, LogFull> {
        if self.is_full {
            return Err(LogFull);
        }
        self.records.push(Record {
            document: op.document.to_owned(),
            kind: op.kind,
            sequence: op.sequence,
            op_id: op.op_id,
            payload: op.payload.to_vec(),
            is_deletion: op.is_deletion,
        });
        Ok(self.records.len() as u64)
    }
}

/// What the last JOINED said.
#[derive(Clone, PartialEq, Debug, Default)]
struct LastJoined {
    document: u32,
    incarnation: u64,
    sequence: u64,
    state_sequence: u64,
    writer_counter: u64,
    state_bytes: u64,
    state_vector: Vec<u8>,
}

/// A client of one document, which sees what its connection delivers.
struct ModelClient {
    session: Session,
    doc: Doc,
    counter: u64,
    joins: Vec<LastJoined>,
    state: Vec<u8>,
    /// Bytes of the last state that came whole.
    last_state_bytes: u64,
    ops: Vec<(u64, Vec<u8>)>,
    acked: Vec<u64>,
    rejects: Vec<(u64, Code)>,
    errors: Vec<Code>,
    /// Requests answered: the request and the sequence.
    done: Vec<(u32, u64)>,
    versions: Vec<(String, u64)>,
    /// Past states: the request, the sequence, how long the state is, what came of it.
    pasts: Vec<(u32, u64, u64, Vec<u8>)>,
    /// Requests refused: the request, why, when to ask again.
    refused: Vec<(u32, Code, u32)>,
    moved: Vec<(u64, u32, String)>,
    here: BTreeMap<u64, (u32, Vec<u8>)>,
    presence_messages: usize,
    closed: Option<Code>,
}

impl ModelClient {
    fn new(number: u8, access: Access) -> Self {
        let grants = vec![Grant { pattern: "*".to_owned(), access }];
        let session_id = Guuid::new(u64::from(number), [number; 10]);
        Self {
            session: Session { session_id, writer_id: session_id.writer(), grants },
            doc: Doc::with_client_id(100 + u64::from(number)),
            counter: 0,
            joins: Vec::new(),
            state: Vec::new(),
            last_state_bytes: 0,
            ops: Vec::new(),
            acked: Vec::new(),
            rejects: Vec::new(),
            errors: Vec::new(),
            done: Vec::new(),
            versions: Vec::new(),
            pasts: Vec::new(),
            refused: Vec::new(),
            moved: Vec::new(),
            here: BTreeMap::new(),
            presence_messages: 0,
            closed: None,
        }
    }

    fn joined(&self) -> &LastJoined {
        self.joins.last().expect("joined")
    }

    fn text(&self) -> String {
        let mut txn = self.doc.transact_mut();
        txn.get_or_insert_text("t").get_string(&txn)
    }

    fn vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    /// Types at the end; answers with the update.
    fn type_text(&mut self, text: &str) -> Vec<u8> {
        let mut txn = self.doc.transact_mut();
        let field = txn.get_or_insert_text("t");
        let end = field.len(&txn);
        field.insert(&mut txn, end, text);
        txn.encode_update_v1()
    }

    fn apply(&mut self, update: &[u8]) {
        let update = Update::decode_v1(update).expect("the node relays what decodes");
        self.doc.transact_mut().apply_update(update).expect("applies");
    }

    fn receive(&mut self, message: &[u8], is_yjs: bool) {
        match Server::decode(message).expect("the node keeps to the format") {
            Server::Joined(joined) => {
                self.state.clear();
                self.last_state_bytes = 0;
                self.joins.push(LastJoined {
                    document: joined.document,
                    incarnation: joined.incarnation,
                    sequence: joined.sequence,
                    state_sequence: joined.state_sequence,
                    writer_counter: joined.writer_counter,
                    state_bytes: joined.state_bytes,
                    state_vector: joined.state_vector.to_vec(),
                });
            }
            Server::State { bytes, .. } => {
                self.state.extend_from_slice(bytes);
                if self.state.len() as u64 == self.joined().state_bytes {
                    let state = std::mem::take(&mut self.state);
                    self.last_state_bytes = state.len() as u64;
                    self.apply(&state);
                }
            }
            Server::Op { document, sequence, payload } => {
                assert_eq!(document, self.joined().document);
                let last = self.ops.last().map_or(0, |&(last, _)| last);
                assert!(sequence > last || self.joins.len() > 1, "op {sequence} after {last}");
                self.ops.push((sequence, payload.to_vec()));
                if is_yjs {
                    self.apply(payload);
                }
            }
            Server::Ack { counter, .. } => self.acked.push(counter),
            Server::Reject { counter, code, .. } => self.rejects.push((counter, code)),
            Server::Presence { entries, .. } => {
                self.presence_messages += 1;
                for entry in entries {
                    if entry.state.is_empty() {
                        self.here.remove(&entry.client);
                    } else {
                        self.here.insert(entry.client, (entry.clock, entry.state.to_vec()));
                    }
                }
            }
            Server::Moved { epoch, shard, address, .. } => {
                self.moved.push((epoch, shard, address.to_owned()));
            }
            Server::Error { code, .. } => self.errors.push(code),
            Server::Done { request, sequence, .. } => self.done.push((request, sequence)),
            Server::Versions { versions, .. } => {
                let entry = |found: &wire::sync::VersionEntry<'_>| (found.name.to_owned(), found.sequence);
                self.versions = versions.iter().map(entry).collect();
            }
            Server::Past(past) => {
                self.pasts.push((past.request, past.sequence, past.state_bytes, Vec::new()));
            }
            Server::PastState { request, bytes, .. } => {
                let past = self.pasts.iter_mut().find(|past| past.0 == request).expect("announced");
                past.3.extend_from_slice(bytes);
                assert!(past.3.len() as u64 <= past.2);
            }
            Server::Refused { request, code, retry_after_ms, .. } => {
                self.refused.push((request, code, retry_after_ms));
            }
            Server::Advice { .. } => unreachable!("said by the shard that passes messages on"),
        }
    }
}

/// One machine, its log, its clients and a transport that can refuse.
struct Rig {
    machine: StateSync,
    log: MemoryLog,
    worker: StorageWorker<MemoryStore>,
    /// Whether jobs are done as soon as they are there.
    is_working: bool,
    clients: BTreeMap<u64, ModelClient>,
    refusing: BTreeSet<u64>,
    kind: DocumentKind,
    now: Time,
}

impl Rig {
    fn new(kind: DocumentKind) -> Self {
        Self::with(kind, SyncConfig::default())
    }

    fn with(kind: DocumentKind, config: SyncConfig) -> Self {
        let machine = StateSync::new(config, Placement::single_node(0, 1, 256), INCARNATION);
        Self {
            machine,
            log: MemoryLog::default(),
            worker: StorageWorker::new(MemoryStore::default(), WorkerConfig::default()),
            is_working: true,
            clients: BTreeMap::new(),
            refusing: BTreeSet::new(),
            kind,
            now: Time::from_us(1_000_000),
        }
    }

    /// Opens a connection `key` for a new client.
    fn open(&mut self, key: u8, access: Access) {
        let client = ModelClient::new(key, access);
        self.machine.handle_open(SubscriberKey::alone(u64::from(key)), client.session.clone());
        self.clients.insert(u64::from(key), client);
    }

    /// Moves the client of connection `old` to a new connection.
    fn reopen(&mut self, old: u8, new: u8) {
        let client = self.clients.remove(&u64::from(old)).expect("open");
        self.machine.handle_open(SubscriberKey::alone(u64::from(new)), client.session.clone());
        self.clients.insert(u64::from(new), client);
    }

    fn client(&mut self, key: u8) -> &mut ModelClient {
        self.clients.get_mut(&u64::from(key)).expect("open")
    }

    fn send(&mut self, key: u8, message: &Client<'_>) {
        self.send_bytes(key, &message.to_vec());
    }

    fn send_bytes(&mut self, key: u8, message: &[u8]) {
        let key = SubscriberKey::alone(u64::from(key));
        self.machine.handle_message(self.now, key, Channel::Sync, message, &mut self.log);
        self.pump();
    }

    fn pump(&mut self) {
        self.pump_outputs();
        while self.is_working && self.work() {
            self.pump_outputs();
        }
    }

    /// Does the next job; false when there is none.
    fn work(&mut self) -> bool {
        let Some((id, job)) = self.machine.poll_job(self.now) else { return false };
        let done = self.worker.handle(job);
        self.job_done(id, done);
        true
    }

    fn job_done(&mut self, id: JobId, done: JobDone) {
        self.machine.handle_job_done(self.now, id, done);
    }

    fn pump_outputs(&mut self) {
        self.pump_turn();
        while self.machine.is_catch_up_waiting() {
            self.machine.handle_tick(self.now);
            self.pump_turn();
        }
    }

    /// What comes out before the next tick.
    fn pump_turn(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { to, .. } if self.refusing.contains(&to.connection) => {
                    self.machine.handle_blocked(to);
                }
                Output::Send { to, message, .. } => {
                    if let Some(client) = self.clients.get_mut(&to.connection) {
                        client.receive(&message, self.kind == DocumentKind::Yjs);
                    }
                }
                Output::Close { to, code, .. } => {
                    self.clients.get_mut(&to.connection).expect("open").closed = Some(code);
                    self.machine.handle_close(self.now, to);
                }
            }
        }
    }

    fn close(&mut self, key: u8) {
        self.machine.handle_close(self.now, SubscriberKey::alone(u64::from(key)));
        self.pump();
    }

    fn join_with(&mut self, key: u8, document: &str, resume: Option<ResumePoint>, state_vector: &[u8]) {
        let kind = self.kind;
        let join = Join { handle: HANDLE, kind, content: true, document, resume, state_vector };
        self.send(key, &Client::Join(join));
    }

    fn join(&mut self, key: u8) {
        self.join_with(key, "doc", None, &[]);
    }

    fn op(&mut self, key: u8, counter: u64, payload: &[u8]) {
        self.send(key, &Client::Op { handle: HANDLE, counter, payload });
    }

    /// Types into the client's own document and sends the update.
    fn type_text(&mut self, key: u8, text: &str) {
        let client = self.client(key);
        let update = client.type_text(text);
        client.counter += 1;
        let counter = client.counter;
        self.op(key, counter, &update);
    }

    fn presence(&mut self, key: u8, client: u64, clock: u32, state: &[u8]) {
        let entries = vec![PresenceEntry { client, clock, state }];
        self.send(key, &Client::Presence { handle: HANDLE, entries });
    }

    fn durable(&mut self) {
        self.machine.handle_durable(self.log.records.len() as u64);
        self.pump();
    }

    fn refuse(&mut self, key: u8) {
        self.refusing.insert(u64::from(key));
    }

    fn writable(&mut self, key: u8) {
        self.refusing.remove(&u64::from(key));
        self.machine.handle_writable(SubscriberKey::alone(u64::from(key)));
        self.pump();
    }

    fn later(&mut self, ms: u64) {
        self.now += wire::Span::from_ms(ms);
        self.machine.handle_tick(self.now);
        self.pump();
    }

    /// The document as somebody new would get it.
    fn text_of_a_newcomer(&mut self) -> String {
        self.open(99, Access::Read);
        self.join(99);
        let text = self.client(99).text();
        self.close(99);
        text
    }
}
