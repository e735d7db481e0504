//! A warm shard takes an op from the datagram into the log's buffer, and out into the sealed packets of its readers,
//! without allocating, but for what is kept of the op itself.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quantum::{Connection, ConnectionKey, EndpointLimits, MessageSink, Now};
use shard::{Command, Shard, ShardConfig};
use statesync::{MemoryStore, Placement, StateSync, StorageWorker, SyncConfig, WorkerConfig};
use wal::memory::HeapBuffer;
use wal::{LogConfig, LogPosition, LogWriter};
use wire::sync::{Channel, Client, DocumentKind, Join, Server};
use wire::{Access, Ecn, Grant, Guuid, Span, Ticket, TicketKeyRing, Time};

#[global_allocator]
static ALLOCATOR: heap::CountingAllocator = heap::CountingAllocator;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// What the shard does in `run` is counted; what the clients of the test do is not.
fn counted<T>(run: impl FnOnce() -> T) -> T {
    let before = heap::allocations();
    let done = run();
    ALLOCATIONS.set(ALLOCATIONS.get() + heap::allocations() - before);
    done
}

const KEY: (u32, [u8; 32]) = (1, [7; 32]);
/// One writer and two readers.
const CLIENTS: usize = 3;
/// Ops of one turn: they come in one datagram or two.
const OPS_PER_TURN: u64 = 10;

/// What is kept of an op until its last reader has it: one message, and the count by which they share it.
const KEPT_ALLOCATIONS: u64 = 2;
/// What is asked for once in many ops: room in the document for more of them, snapshots of it.
const TURNS_PER_ALLOCATION: u64 = 2;

#[derive(Default)]
struct Inbox {
    ops: u64,
    acked: u64,
    bytes: usize,
}

impl MessageSink for Inbox {
    fn on_message(&mut self, _: ConnectionKey, channel: Channel, message: &[u8]) {
        self.bytes += if channel == Channel::Sync { message.len() } else { 0 };
        match Server::decode(message) {
            Ok(Server::Op { .. }) => self.ops += 1,
            Ok(Server::Ack { counter, .. }) => self.acked = self.acked.max(counter),
            _ => {}
        }
    }
}

struct World {
    shard: Shard<HeapBuffer>,
    worker: StorageWorker<MemoryStore>,
    clients: Vec<(Connection, Inbox)>,
    now: Now,
    counter: u64,
}

impl World {
    fn new() -> Self {
        let sync = StateSync::new(SyncConfig::default(), Placement::single_node(0, 1, 8), 1);
        let log = LogConfig { segment_bytes: 1 << 30, ..LogConfig::new(Guuid::new(1, [1; 10])) };
        let log = LogWriter::new(log, LogPosition::START, HeapBuffer::new).unwrap();
        let config = ShardConfig {
            shard: 0,
            shards: 1,
            transport: quantum::Config::default(),
            limits: EndpointLimits::default(),
            sync: SyncConfig::default(),
            commit_delay_max: Span::ZERO,
            entropy: [3; 32],
            reset_key: [4; 32],
            address: String::new(),
            start_unix_ms: 0,
        };
        let now = Now { mono: Time::from_us(1), unix_ms: 1_000_000 };
        let mut shard = Shard::new(config, sync, log);
        shard.handle_command(now, Command::TicketKeys(vec![KEY]));
        shard.handle_command(now, Command::Placement(Placement::single_node(0, 1, 8)));
        let clients = (0..CLIENTS as u8).map(|client| (connect(now, client), Inbox::default())).collect();
        let worker = StorageWorker::new(MemoryStore::default(), WorkerConfig::default());
        Self { shard, worker, clients, now, counter: 0 }
    }

    /// One turn, as the loop of a core makes it, and what the clients do meanwhile.
    fn turn(&mut self) {
        self.now.mono += Span::from_us(200);
        let now = self.now;
        let mut buffer = [0; 4_096];
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at].0;
            client.handle_timeout(now.mono);
            while let Some(length) = client.poll_transmit(now.mono, &mut buffer) {
                let shard = &mut self.shard;
                counted(|| shard.handle_datagram(now, address(at), Ecn::NotEct, &mut buffer[..length]));
            }
        }
        let (shard, clients) = (&mut self.shard, &mut self.clients);
        counted(|| shard.handle_timeout(now));
        while let Some(write) = counted(|| shard.poll_write(now.mono)) {
            counted(|| shard.handle_durable(now, write.at, Some(write.buffer)));
        }
        while let Some((id, job)) = counted(|| shard.poll_job(now)) {
            // On the storage thread.
            let done = self.worker.handle(job);
            counted(|| shard.handle_job_done(now, id, done));
        }
        while let Some((to, length)) = counted(|| shard.poll_transmit(now, &mut buffer)) {
            let (client, inbox) = &mut clients[usize::from(to.port())];
            client.handle_datagram(now.mono, &mut buffer[..length], inbox);
            client.consume(Channel::Sync, std::mem::take(&mut inbox.bytes));
        }
    }

    fn join(&mut self) {
        for (client, _) in &mut self.clients {
            let join = Client::Join(Join {
                handle: 1,
                kind: DocumentKind::Opaque,
                content: true,
                document: "d",
                resume: None,
                state_vector: &[],
            });
            client.send(Channel::Sync, Bytes::from(join.to_vec())).unwrap();
        }
        (0..100).for_each(|_| self.turn());
    }

    fn write(&mut self, turns: u64) {
        for _ in 0..turns {
            for _ in 0..OPS_PER_TURN {
                self.counter += 1;
                let op = Client::Op { handle: 1, counter: self.counter, payload: &[7; 40] };
                self.clients[0].0.send(Channel::Sync, Bytes::from(op.to_vec())).unwrap();
            }
            self.turn();
        }
    }
}

fn address(client: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], client as u16))
}

fn connect(now: Now, client: u8) -> Connection {
    let ticket = Ticket {
        session_id: Guuid::new(9, [client; 10]),
        writer_id: Guuid::new(2, [client; 10]).writer(),
        psk: [9; 32],
        expires_unix_s: 2_000,
        grants: vec![Grant { pattern: "*".to_owned(), access: Access::Write }],
    };
    let sealed = TicketKeyRing::new([KEY]).seal(&ticket, [client; 12]).unwrap();
    let id = Guuid::new(3, [client + 1; 10]).with_shard(0);
    Connection::connect(now, Arc::new(quantum::Config::default()), id, &sealed, &ticket.psk, [client; 32])
        .unwrap()
}

#[test]
fn a_warm_shard_allocates_per_packet_or_op() {
    const TURNS: u64 = 2_000;
    let mut world = World::new();
    world.join();
    world.write(5_000);
    let (before, ops) = (ALLOCATIONS.get(), world.clients[1].1.ops);
    world.write(TURNS);
    (0..100).for_each(|_| world.turn());
    let allocations = ALLOCATIONS.get() - before;
    assert_eq!(world.clients[0].1.acked, world.counter, "every op is acknowledged");
    let delivered = world.clients[1].1.ops - ops;
    assert!(delivered >= TURNS * OPS_PER_TURN, "{delivered} ops to a reader");
    let growth = TURNS * OPS_PER_TURN * KEPT_ALLOCATIONS;
    assert!(
        allocations < growth + TURNS / TURNS_PER_ALLOCATION,
        "{} allocations in {TURNS} turns beside the {growth} of what is kept of the ops",
        allocations.saturating_sub(growth)
    );
}
