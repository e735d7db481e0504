//! Shards, lanes and clients in memory.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quantum::{Connection, ConnectionKey, EndpointLimits, MessageSink, Now};
use statesync::{MemoryStore, Placement, StateSync, StorageWorker, SyncConfig, WorkerConfig};
use wal::memory::HeapBuffer;
use wal::{LogConfig, LogPosition, LogWriter};
use wire::sync::{Channel, Client, DocumentKind, Join, Server};
use wire::{Access, Code, Ecn, Grant, Guuid, Span, Ticket, TicketKeyRing, Time};

use crate::lanes::LaneMessage;
use crate::{Command, Shard, ShardConfig};

const KEY: (u32, [u8; 32]) = (1, [7; 32]);
const SHARDS: u32 = 2;
const PARTITIONS: u32 = 8;
/// The handle of every client's join.
const HANDLE: u32 = 5;
/// Small, so that a client that is not heard from blocks soon.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// What one client has seen of its document.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Ops of others: sequence and payload.
    pub(super) ops: Vec<(u64, Vec<u8>)>,
    pub(super) acked: u64,
    pub(super) joined: usize,
    pub(super) advice: Vec<u32>,
    pub(super) errors: Vec<Code>,
    /// Bytes of past states, announced and come.
    pub(super) past_bytes: (u64, u64),
    /// Requests that were done.
    pub(super) done: Vec<u32>,
    pub(super) others: usize,
}

impl MessageSink for Seen {
    fn on_message(&mut self, _: ConnectionKey, _: Channel, message: &[u8]) {
        match Server::decode(message).expect("well formed") {
            Server::Joined(_) => self.joined += 1,
            Server::Op { sequence, payload, .. } => self.ops.push((sequence, payload.to_vec())),
            Server::Ack { counter, .. } => self.acked = self.acked.max(counter),
            Server::Advice { shard, .. } => self.advice.push(shard),
            Server::Error { code, .. } => self.errors.push(code),
            Server::Past(past) => self.past_bytes.0 += past.state_bytes,
            Server::PastState { bytes, .. } => self.past_bytes.1 += bytes.len() as u64,
            Server::Done { request, .. } => self.done.push(request),
            _ => self.others += 1,
        }
    }
}

pub(super) struct TestClient {
    pub(super) connection: Connection,
    pub(super) seen: Seen,
    pub(super) shard: u32,
    address: SocketAddr,
    pub(super) said: u64,
    /// Nothing reaches it.
    pub(super) is_deaf: bool,
}

pub(super) struct World {
    pub(super) shards: Vec<Shard<HeapBuffer>>,
    workers: Vec<StorageWorker<MemoryStore>>,
    /// From, to.
    lanes: BTreeMap<(u32, u32), VecDeque<LaneMessage>>,
    pub(super) clients: Vec<TestClient>,
    pub(super) now: Now,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_send_buffer(SEND_BUFFER_BYTES)
    }

    /// With room for so many bytes that a connection has not sent.
    pub(super) fn with_send_buffer(bytes: usize) -> Self {
        let now = Now { mono: Time::from_us(1), unix_ms: 1_000_000 };
        let shards = (0..SHARDS).map(|number| shard(now, number, bytes)).collect();
        let worker = |_| StorageWorker::new(MemoryStore::default(), WorkerConfig::default());
        let workers = (0..SHARDS).map(worker).collect();
        Self { shards, workers, lanes: BTreeMap::new(), clients: Vec::new(), now }
    }

    /// A client that connects to `shard`; its number.
    pub(super) fn connect(&mut self, shard: u32, access: Access) -> usize {
        let number = self.clients.len() as u8 + 1;
        let ticket = Ticket {
            session_id: Guuid::new(u64::from(number), [number; 10]),
            writer_id: Guuid::new(u64::from(number), [number; 10]).writer(),
            psk: [9; 32],
            expires_unix_s: 2_000,
            grants: vec![Grant { pattern: "*".to_owned(), access }],
        };
        let sealed = TicketKeyRing::new([KEY]).seal(&ticket, [number; 12]).unwrap();
        let id = Guuid::new(3, [number; 10]).with_shard(shard as u8);
        let config = Arc::new(quantum::Config::default());
        let connection =
            Connection::connect(self.now, config, id, &sealed, &ticket.psk, [number; 32]).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + u16::from(number)));
        let seen = Seen::default();
        self.clients.push(TestClient { connection, seen, shard, address, said: 0, is_deaf: false });
        self.clients.len() - 1
    }

    pub(super) fn say(&mut self, client: usize, message: &Client<'_>) -> bool {
        self.clients[client].connection.send(Channel::Sync, Bytes::from(message.to_vec())).is_ok()
    }

    pub(super) fn join(&mut self, client: usize, document: &str) {
        let join = Join {
            handle: HANDLE,
            kind: DocumentKind::Opaque,
            content: true,
            document,
            resume: None,
            state_vector: &[],
        };
        assert!(self.say(client, &Client::Join(join)));
    }

    /// Writes an op of `bytes` bytes that names its writer and counter.
    pub(super) fn write(&mut self, client: usize, bytes: usize) {
        let counter = self.clients[client].said + 1;
        let mut payload = vec![client as u8; bytes.max(9)];
        payload[1..9].copy_from_slice(&counter.to_be_bytes());
        if self.say(client, &Client::Op { handle: HANDLE, counter, payload: &payload }) {
            self.clients[client].said = counter;
        }
    }

    /// A millisecond: what clients said arrives, lanes of so many slots are filled and emptied, writes become durable.
    pub(super) fn turn(&mut self, lane_slots: usize) {
        self.now = Now { mono: self.now.mono + Span::from_ms(1), ..self.now };
        let now = self.now;
        let mut buffer = [0; 2_048];
        for client in &mut self.clients {
            client.connection.handle_timeout(now.mono);
            while let Some(length) = client.connection.poll_transmit(now.mono, &mut buffer) {
                let shard = &mut self.shards[client.shard as usize];
                shard.handle_datagram(now, client.address, Ecn::NotEct, &mut buffer[..length]);
            }
        }
        for number in 0..SHARDS {
            self.turn_shard(number, lane_slots);
        }
    }

    fn turn_shard(&mut self, number: u32, lane_slots: usize) {
        let now = self.now;
        let shard = &mut self.shards[number as usize];
        for other in (0..SHARDS).filter(|&other| other != number) {
            while let Some(message) = self.lanes.entry((other, number)).or_default().pop_front() {
                shard.handle_lane_message(now, other, message);
            }
            shard.finish_lane_messages(now);
        }
        shard.handle_timeout(now);
        while let Some((id, job)) = shard.poll_job(now) {
            shard.handle_job_done(now, id, self.workers[number as usize].handle(job));
        }
        if let Some(write) = shard.poll_write(now.mono) {
            shard.handle_durable(now, write.at, Some(write.buffer));
        }
        for other in (0..SHARDS).filter(|&other| other != number) {
            let lane = self.lanes.entry((number, other)).or_default();
            while lane.len() < lane_slots {
                let Some(message) = shard.poll_lane_message(now, other) else { break };
                lane.push_back(message);
            }
        }
        let mut buffer = [0; 2_048];
        while let Some((to, length)) = shard.poll_transmit(now, &mut buffer) {
            let client = self.clients.iter_mut().find(|client| client.address == to).expect("known");
            if !client.is_deaf {
                client.connection.handle_datagram(now.mono, &mut buffer[..length], &mut client.seen);
            }
        }
    }

    /// Turns until everybody has all there is, or long enough.
    pub(super) fn settle(&mut self) {
        self.clients.iter_mut().for_each(|client| client.is_deaf = false);
        for _ in 0..4_000 {
            self.turn(usize::MAX);
        }
    }

    pub(super) fn figure(&self, shard: u32, name: &str) -> u64 {
        let figures = self.shards[shard as usize].status();
        figures.iter().find(|figure| figure.name == name).expect("a known figure").value
    }
}

/// A document that `shard` owns.
pub(super) fn document_of(shard: u32) -> String {
    let is_there = |id: &String| wire::partition_of(id, PARTITIONS) % SHARDS == shard;
    (0..).map(|number| format!("d{number}")).find(is_there).expect("some id")
}

fn shard(now: Now, number: u32, send_buffer_bytes_max: usize) -> Shard<HeapBuffer> {
    let placement = Placement::single_node(number, SHARDS, PARTITIONS);
    let sync = StateSync::new(SyncConfig::default(), placement.clone(), 1);
    let log = LogConfig { segment_bytes: 32 << 20, ..LogConfig::new(Guuid::new(1, [1; 10])) };
    let log = LogWriter::new(log, LogPosition::START, HeapBuffer::new).unwrap();
    let config = ShardConfig {
        shard: number,
        shards: SHARDS,
        transport: quantum::Config { send_buffer_bytes_max, ..quantum::Config::default() },
        limits: EndpointLimits::default(),
        sync: SyncConfig::default(),
        commit_delay_max: Span::ZERO,
        entropy: [3; 32],
        reset_key: [4; 32],
        address: String::new(),
        start_unix_ms: 0,
    };
    let mut shard = Shard::new(config, sync, log);
    shard.handle_command(now, Command::TicketKeys(vec![KEY]));
    shard.handle_command(now, Command::Placement(placement));
    shard
}
