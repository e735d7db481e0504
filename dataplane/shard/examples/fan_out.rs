//! What a shard's core spends on an op for very many readers, the system calls left out: `fan_out [READERS] [OPS]`.
//!
//! Node and readers are both here, in one thread; only the node's parts are timed, each over all readers, so that every
//! connection is as cold as it is when thousands take turns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quantum::{Connection, ConnectionKey, EndpointLimits, MessageSink, Now};
use shard::{Command, Shard, ShardConfig};
use statesync::{MemoryStore, Placement, StateSync, StorageWorker, SyncConfig, WorkerConfig};
use wal::memory::HeapBuffer;
use wal::{LogConfig, LogPosition, LogWriter};
use wire::sync::{Channel, Client, DocumentKind, Join};
use wire::varint::put_varint;
use wire::{Access, Ecn, Grant, Guuid, Span, Ticket, TicketKeyRing, Time};

const KEY: (u32, [u8; 32]) = (1, [7; 32]);
const UNIX_MS: u64 = 1_700_000_000_000;
const READERS: usize = 5_000;
const OPS: u64 = 20;
/// Between two ops.
const GAP_US: u64 = 100_000;
const DATAGRAM_BYTES: usize = 1_536;
const ARENA_DATAGRAMS: usize = 1 << 14;

#[derive(Default)]
struct Inbox {
    messages: usize,
    bytes: usize,
}

impl MessageSink for Inbox {
    fn on_message(&mut self, _: ConnectionKey, _: Channel, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len();
    }
}

struct Reader {
    connection: Connection,
    from: SocketAddr,
}

struct World {
    shard: Shard<HeapBuffer>,
    worker: StorageWorker<MemoryStore>,
    readers: Vec<Reader>,
    now: Now,
    /// Room for all that leaves at once, of one size.
    arena: Vec<u8>,
    sent: Vec<(SocketAddr, usize)>,
    /// Queueing an op, what comes back, sealing, timers.
    spent: [Duration; 4],
}

impl World {
    fn new(readers: usize) -> Self {
        let placement = Placement::single_node(0, 1, 8);
        let sync = StateSync::new(SyncConfig::default(), placement.clone(), 1);
        let log = LogConfig { segment_bytes: 32 << 20, ..LogConfig::new(Guuid::new(1, [1; 10])) };
        let log = LogWriter::new(log, LogPosition::START, HeapBuffer::new).expect("a valid configuration");
        let config = ShardConfig {
            shard: 0,
            shards: 1,
            transport: quantum::Config::default(),
            limits: EndpointLimits {
                unproven_per_tick_max: u32::MAX,
                half_open_max: usize::MAX,
                half_open_retry: usize::MAX,
                ..EndpointLimits::default()
            },
            sync: SyncConfig::default(),
            commit_delay_max: Span::from_us(500),
            entropy: [3; 32],
            reset_key: [4; 32],
            address: String::new(),
            start_unix_ms: 0,
        };
        let now = Now { mono: Time::from_us(1_000_000), unix_ms: UNIX_MS };
        let mut shard = Shard::new(config, sync, log);
        shard.handle_command(now, Command::TicketKeys(vec![KEY]));
        shard.handle_command(now, Command::Placement(placement));
        let readers: Vec<_> = (0..readers).map(|at| reader(now, at)).collect();
        let worker = StorageWorker::new(MemoryStore::default(), WorkerConfig::default());
        let arena = vec![0; ARENA_DATAGRAMS * DATAGRAM_BYTES];
        Self { shard, worker, readers, now, arena, sent: Vec::new(), spent: Default::default() }
    }

    fn pass(&mut self, us: u64) {
        self.now.mono += Span::from_us(us);
        self.now.unix_ms = UNIX_MS + self.now.mono.as_us() / 1_000;
    }

    /// Everything that the readers have to say.
    fn hear(&mut self) {
        let mut buffer = [0; 2_048];
        let now = self.now;
        let mut said: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        for reader in &mut self.readers {
            reader.connection.handle_timeout(now.mono);
            while let Some(length) = reader.connection.poll_transmit(now.mono, &mut buffer) {
                said.push((reader.from, buffer[..length].to_vec()));
            }
        }
        let began = Instant::now();
        for at in 0..said.len() {
            if let Some((_, upcoming)) = said.get(at + 2) {
                self.shard.handle_upcoming(upcoming);
            }
            let (from, datagram) = &mut said[at];
            self.shard.handle_datagram(now, *from, Ecn::NotEct, datagram);
        }
        self.spent[1] += began.elapsed();
    }

    /// Everything that the node has to say.
    fn tell(&mut self) -> usize {
        let now = self.now;
        let began = Instant::now();
        if self.shard.poll_timeout().is_some_and(|due| due <= now.mono) {
            self.shard.handle_timeout(now);
        }
        self.spent[3] += began.elapsed();
        let mut sent = std::mem::take(&mut self.sent);
        let began = Instant::now();
        loop {
            let room = &mut self.arena[sent.len() % ARENA_DATAGRAMS * DATAGRAM_BYTES..][..DATAGRAM_BYTES];
            let Some((to, length)) = self.shard.poll_transmit(now, room) else { break };
            sent.push((to, length));
        }
        self.spent[2] += began.elapsed();
        while let Some((id, job)) = self.shard.poll_job(now) {
            self.shard.handle_job_done(now, id, self.worker.handle(job));
        }
        while let Some(write) = self.shard.poll_write(Time::NEVER) {
            self.shard.handle_durable(now, write.at, Some(write.buffer));
        }
        let count = sent.len();
        assert!(count < ARENA_DATAGRAMS, "overwritten before they are read");
        let mut inbox = Inbox::default();
        for (at, (to, length)) in sent.drain(..).enumerate() {
            let datagram = &mut self.arena[at * DATAGRAM_BYTES..][..length];
            let reader = &mut self.readers[usize::from(to.port()) - 1];
            reader.connection.handle_datagram(now.mono, datagram, &mut inbox);
            reader.connection.consume(Channel::Sync, std::mem::take(&mut inbox.bytes));
        }
        self.sent = sent;
        count
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            self.pass(1_000);
            self.hear();
            self.tell();
        }
    }
}

fn reader(now: Now, at: usize) -> Reader {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(at as u64 * 0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let ticket = Ticket {
        session_id: Guuid::new(2, random),
        writer_id: Guuid::new(2, random).writer(),
        psk: [9; 32],
        expires_unix_s: u64::MAX,
        grants: vec![Grant { pattern: "*".to_owned(), access: Access::Write }],
    };
    let sealed = TicketKeyRing::new([KEY]).seal(&ticket, [4; 12]).expect("a small ticket");
    let id = Guuid::new(now.unix_ms, random).with_shard(0);
    let config = Arc::new(quantum::Config::default());
    let mut connection = Connection::connect(now, config, id, &sealed, &ticket.psk, [at as u8; 32])
        .expect("a valid configuration and ticket");
    let join = Client::Join(Join {
        handle: 1,
        document: "read by all",
        kind: DocumentKind::Yjs,
        content: true,
        resume: None,
        state_vector: &[],
    });
    connection.send(Channel::Sync, Bytes::from(join.to_vec())).expect("room");
    Reader { connection, from: SocketAddr::from(([127, 0, 0, 1], at as u16 + 1)) }
}

/// A Yjs update (v1) of a client that inserts a few letters at the beginning of a text.
fn edit(client: u64) -> Vec<u8> {
    const CONTENT_STRING: u8 = 4;
    const LETTERS: &[u8] = b"a few letters as edited";
    let mut update = vec![1, 1];
    put_varint(&mut update, client);
    update.extend([0, CONTENT_STRING, 1, 4]);
    update.extend(b"text");
    update.push(LETTERS.len() as u8);
    update.extend(LETTERS);
    update.push(0);
    update
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let readers = arguments.next().map_or(READERS, |readers| readers as usize);
    let ops = arguments.next().unwrap_or(OPS);
    let mut world = World::new(readers);
    world.settle();
    let mut spent: [Vec<Duration>; 4] = Default::default();
    let mut delivered = 0;
    for counter in 1..=ops {
        world.spent = Default::default();
        world.pass(GAP_US);
        let payload = edit(counter);
        let writer = &mut world.readers[0];
        let op = Client::Op { handle: 1, counter, payload: &payload };
        writer.connection.send(Channel::Sync, Bytes::from(op.to_vec())).expect("room");
        // The op comes in, and is queued to all.
        world.hear();
        world.spent[0] = std::mem::take(&mut world.spent[1]);
        delivered += world.tell();
        world.pass(3_000);
        world.hear();
        world.tell();
        spent.iter_mut().zip(world.spent).for_each(|(all, one)| all.push(one));
    }
    let [queued, heard, told, timed] = spent.map(|mut spent| {
        let middle = spent.len() / 2;
        spent.select_nth_unstable(middle).1.as_nanos() as f64 / readers as f64
    });
    println!(
        "{readers} readers, {delivered} datagrams: queue {queued:.0} + seal {told:.0} + acknowledgement {heard:.0} + \
         timers {timed:.0} = {:.0} ns a delivery, medians of {ops} ops",
        queued + heard + told + timed
    );
}
