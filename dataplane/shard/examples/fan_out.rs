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
use statesync::{Placement, StateSync, SyncConfig};
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
/// As many datagrams leave in one turn of a node's loop.
const SENDS_PER_TURN: usize = 64;

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
    readers: Vec<Reader>,
    now: Now,
    spent: [Duration; 3],
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
        Self { shard, readers, now, spent: Default::default() }
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
        for (from, datagram) in &mut said {
            self.shard.handle_datagram(now, *from, Ecn::NotEct, datagram);
        }
        self.spent[1] += began.elapsed();
    }

    /// Everything that the node has to say.
    fn tell(&mut self) -> usize {
        let now = self.now;
        let mut sent: Vec<(SocketAddr, Vec<u8>)> = Vec::with_capacity(self.readers.len());
        let mut buffer = vec![0; 2_048];
        let began = Instant::now();
        loop {
            if self.shard.poll_timeout().is_some_and(|due| due <= now.mono) {
                self.shard.handle_timeout(now);
            }
            let before = sent.len();
            while sent.len() < before + SENDS_PER_TURN
                && let Some((to, length)) = self.shard.poll_transmit(now, &mut buffer)
            {
                sent.push((to, buffer[..length].to_vec()));
            }
            if sent.len() == before {
                break;
            }
        }
        self.spent[2] += began.elapsed();
        while let Some(write) = self.shard.poll_write(Time::NEVER) {
            self.shard.handle_durable(now, write.at, Some(write.buffer));
        }
        let count = sent.len();
        let mut inbox = Inbox::default();
        for (to, mut datagram) in sent {
            let reader = &mut self.readers[usize::from(to.port()) - 1];
            reader.connection.handle_datagram(now.mono, &mut datagram, &mut inbox);
            reader.connection.consume(Channel::Sync, std::mem::take(&mut inbox.bytes));
        }
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
    world.spent = Default::default();
    let (mut delivered, mut acked) = (0, 0);
    for counter in 1..=ops {
        world.pass(GAP_US);
        let payload = edit(counter);
        let writer = &mut world.readers[0];
        let op = Client::Op { handle: 1, counter, payload: &payload };
        writer.connection.send(Channel::Sync, Bytes::from(op.to_vec())).expect("room");
        // The op comes in, and is queued to all.
        let before = world.spent[1];
        world.hear();
        world.spent[0] += world.spent[1] - before;
        world.spent[1] = before;
        delivered += world.tell();
        world.pass(3_000);
        world.hear();
        acked += world.tell();
    }
    let per_delivery = |spent: Duration| spent.as_nanos() as f64 / (ops as f64 * readers as f64);
    let [queued, heard, told] = world.spent.map(per_delivery);
    println!(
        "{readers} readers, {ops} ops: queue {queued:.0} + seal {told:.0} + acknowledgement {heard:.0} = {:.0} ns a \
         delivery ({delivered} datagrams, {acked} more)",
        queued + heard + told
    );
}
