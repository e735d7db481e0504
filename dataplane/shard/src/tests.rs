//! A shard against a client of the transport, without a machine underneath.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quantum::{Connection, ConnectionKey, EndpointLimits, MessageSink, Now};
use statesync::{MemoryStore, Placement, StateSync, StorageWorker, SyncConfig, WorkerConfig};
use wal::memory::HeapBuffer;
use wal::{LogConfig, LogPosition, LogWriter};
use wire::sync::{Channel, Client, DocumentKind, Join, Server};
use wire::{Access, Code, Ecn, Grant, Guuid, Span, Ticket, TicketKeyRing, Time};

use crate::{Command, Offender, Probe, Report, Shard, ShardConfig, Stage};

const KEY: (u32, [u8; 32]) = (1, [7; 32]);
const COMMIT_DELAY: Span = Span::from_us(500);

#[derive(Default)]
struct Inbox(Vec<(Channel, Vec<u8>)>);

impl MessageSink for Inbox {
    fn on_message(&mut self, _: ConnectionKey, channel: Channel, message: &[u8]) {
        self.0.push((channel, message.to_vec()));
    }
}

/// Notes each stage as it is entered, and how deep.
#[derive(Default)]
struct Notes {
    open: Vec<Stage>,
    entered: Vec<(usize, Stage)>,
    samples: Vec<Stage>,
    /// Every message takes too long.
    is_slow: bool,
    blamed: Vec<Offender>,
}

impl Probe for Notes {
    fn enter(&mut self, stage: Stage) {
        self.entered.push((self.open.len(), stage));
        self.open.push(stage);
    }

    fn leave(&mut self) {
        self.samples.push(self.open.pop().expect("left more often than entered"));
    }

    fn leave_idle(&mut self) {
        self.open.pop().expect("left more often than entered");
    }

    fn message(&mut self) -> bool {
        self.is_slow
    }

    fn blame(&mut self, offender: Offender) {
        self.blamed.push(offender);
    }
}

struct Bench {
    shard: Shard<HeapBuffer, Notes>,
    worker: StorageWorker<MemoryStore>,
    client: Connection,
    inbox: Inbox,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self::without_placement();
        bench.shard.handle_command(bench.now, Command::Placement(Placement::single_node(0, 1, 8)));
        assert!(matches!(bench.shard.poll_report(), Some(Report::Ready)));
        bench
    }

    fn without_placement() -> Self {
        let sync = StateSync::new(SyncConfig::default(), Placement::single_node(0, 1, 8), 1);
        let log = LogConfig { segment_bytes: 32 << 20, ..LogConfig::new(Guuid::new(1, [1; 10])) };
        let log = LogWriter::new(log, LogPosition::START, HeapBuffer::new).unwrap();
        let config = ShardConfig {
            shard: 0,
            shards: 1,
            transport: quantum::Config::default(),
            limits: EndpointLimits::default(),
            sync: SyncConfig::default(),
            commit_delay_max: COMMIT_DELAY,
            entropy: [3; 32],
            reset_key: [4; 32],
            address: String::new(),
            start_unix_ms: 0,
        };
        let now = Now { mono: Time::from_us(1), unix_ms: 1_000_000 };
        let mut shard = Shard::with_probe(config, sync, log, Notes::default());
        shard.handle_command(now, Command::TicketKeys(vec![KEY]));
        let ticket = Ticket {
            session_id: session(),
            writer_id: Guuid::new(2, [2; 10]).writer(),
            psk: [9; 32],
            expires_unix_s: 2_000,
            grants: vec![Grant { pattern: "*".to_owned(), access: Access::Write }],
        };
        let sealed = TicketKeyRing::new([KEY]).seal(&ticket, [4; 12]).unwrap();
        let id = Guuid::new(3, [5; 10]).with_shard(0);
        let config = Arc::new(quantum::Config::default());
        let client = Connection::connect(now, config, id, &sealed, &ticket.psk, [6; 32]).unwrap();
        let worker = StorageWorker::new(MemoryStore::default(), WorkerConfig::default());
        Self { shard, worker, client, inbox: Inbox::default(), now }
    }

    fn say(&mut self, message: &Client<'_>) {
        self.client.send(Channel::Sync, Bytes::from(message.to_vec())).unwrap();
    }

    /// Carries datagrams both ways, and lets timers run, until nothing more is sent.
    fn exchange(&mut self) {
        let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let mut buffer = [0; 2_048];
        for _ in 0..64 {
            let now = Now { mono: Time::from_us(self.now.mono.as_us() + 1_000), ..self.now };
            self.now = now;
            self.client.handle_timeout(now.mono);
            while let Some(length) = self.client.poll_transmit(now.mono, &mut buffer) {
                self.shard.handle_datagram(now, from, Ecn::NotEct, &mut buffer[..length]);
            }
            self.shard.handle_timeout(now);
            while let Some((id, job)) = self.shard.poll_job(now) {
                self.shard.handle_job_done(now, id, self.worker.handle(job));
            }
            while let Some((_, length)) = self.shard.poll_transmit(now, &mut buffer) {
                self.client.handle_datagram(now.mono, &mut buffer[..length], &mut self.inbox);
            }
        }
    }

    /// Carries ops to the shard, and what it answers nowhere, while no time passes.
    fn burst(&mut self, counters: std::ops::RangeInclusive<u64>) {
        for counter in counters {
            self.say(&Client::Op { handle: 1, counter, payload: b"edit" });
        }
        let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let mut buffer = [0; 2_048];
        while let Some(length) = self.client.poll_transmit(self.now.mono, &mut buffer) {
            self.shard.handle_datagram(self.now, from, Ecn::NotEct, &mut buffer[..length]);
        }
        while self.shard.poll_transmit(self.now, &mut buffer).is_some() {}
    }

    fn acked(&self) -> Vec<u64> {
        let server = |(_, message): &(Channel, Vec<u8>)| match Server::decode(message) {
            Ok(Server::Ack { counter, .. }) => Some(counter),
            _ => None,
        };
        self.inbox.0.iter().filter_map(server).collect()
    }
}

fn session() -> Guuid {
    Guuid::new(9, [9; 10])
}

fn join() -> Client<'static> {
    Client::Join(Join {
        handle: 1,
        kind: DocumentKind::Opaque,
        content: true,
        document: "d",
        resume: None,
        state_vector: &[],
    })
}

#[test]
fn an_op_is_acknowledged_before_its_write_is_durable() {
    let mut bench = Bench::new();
    bench.say(&join());
    bench.exchange();
    bench.say(&Client::Op { handle: 1, counter: 5, payload: b"edit" });
    bench.exchange();
    assert!(bench.acked().is_empty(), "nothing is written yet");
    let write = bench.shard.poll_write(bench.now.mono).expect("the op waits to be written");
    bench.exchange();
    assert!(bench.acked().is_empty(), "the write is in flight");
    bench.shard.handle_durable(bench.now, write.at, Some(write.buffer));
    bench.exchange();
    assert_eq!(bench.acked(), [5]);
}

#[test]
fn a_stage_of_an_op_is_not_timed_or_twice() {
    let mut bench = Bench::new();
    bench.say(&join());
    bench.exchange();
    *bench.shard.probe() = Notes::default();
    bench.say(&Client::Op { handle: 1, counter: 5, payload: b"edit" });
    bench.exchange();
    let probe = std::mem::take(bench.shard.probe());
    assert!(probe.open.is_empty(), "still open: {:?}", probe.open);
    let of_op = [(0, Stage::Open), (1, Stage::Statesync), (2, Stage::Log), (0, Stage::FanOut)];
    assert_eq!(probe.entered[..4], of_op);
    let count = |stage| probe.samples.iter().filter(|sample| **sample == stage).count();
    assert_eq!((count(Stage::Statesync), count(Stage::Log)), (1, 1), "{:?}", probe.samples);
    assert_eq!(count(Stage::FanOut), 0, "nobody else has the document open: nothing is handed out");

    let write = bench.shard.poll_write(bench.now.mono).expect("the op waits to be written");
    bench.shard.handle_durable(bench.now, write.at, Some(write.buffer));
    assert_eq!(std::mem::take(bench.shard.probe()).samples, [Stage::FanOut], "the acknowledgement");
    bench.exchange();
    let probe = std::mem::take(bench.shard.probe());
    assert_eq!(probe.samples.iter().filter(|stage| **stage == Stage::Seal).count(), 1, "one datagram");
}

#[test]
fn a_slow_message_is_blamed_on_nobody() {
    let mut bench = Bench::new();
    bench.shard.probe().is_slow = true;
    bench.say(&join());
    bench.exchange();
    bench.say(&Client::Op { handle: 1, counter: 5, payload: b"edit" });
    bench.exchange();
    let blamed = std::mem::take(&mut bench.shard.probe().blamed);
    let offender = Offender { connection: Some(bench.client.id()), document: Some("d".into()) };
    assert_eq!(blamed, [offender.clone(), offender], "the join and the op");
}

#[test]
fn a_drain_ends_before_the_log_is_durable() {
    let mut bench = Bench::new();
    bench.say(&join());
    bench.exchange();
    bench.say(&Client::Op { handle: 1, counter: 1, payload: b"edit" });
    bench.exchange();
    bench.shard.handle_command(bench.now, Command::Drain);
    bench.exchange();
    assert!(!bench.shard.is_drained() && !bench.client.is_closed());
    let write = bench.shard.poll_write(bench.now.mono).unwrap();
    bench.shard.handle_durable(bench.now, write.at, Some(write.buffer));
    for _ in 0..20 {
        bench.exchange();
    }
    assert_eq!(bench.acked(), [1], "acknowledged on the way out");
    assert!(bench.shard.is_drained() && bench.client.is_closed());
}

#[test]
fn ops_under_load_are_written_at_once_or_never() {
    let mut bench = Bench::new();
    bench.say(&join());
    bench.exchange();
    let now = bench.now;
    bench.burst(1..=8);
    let write = bench.shard.poll_write(now.mono).expect("after a quiet time an op waits for nobody");
    bench.burst(9..=16);
    bench.shard.handle_durable(now, write.at, Some(write.buffer));
    let write = bench.shard.poll_write(now.mono).expect("a burst after a quiet time does not wait either");
    bench.burst(17..=17);
    bench.shard.handle_durable(now, write.at, Some(write.buffer));
    bench.burst(18..=18);
    assert!(bench.shard.poll_write(now.mono).is_none(), "the disk is free, and the ops wait for others");
    let due = now.mono + COMMIT_DELAY;
    assert!(bench.shard.poll_timeout().is_some_and(|at| at <= due), "a sleep would last beyond the delay");
    assert!(bench.shard.poll_write(Time::from_us(due.as_us() - 1)).is_none());
    let write = bench.shard.poll_write(due).expect("the delay is over");
    assert_eq!(write.at.last_lsn - write.at.first_lsn, 1, "both ops");
}

#[test]
fn a_revoked_session_keeps_its_connection() {
    let mut bench = Bench::new();
    bench.say(&join());
    bench.exchange();
    bench.shard.handle_command(bench.now, Command::RevokeSession(session()));
    bench.exchange();
    let closed = std::iter::from_fn(|| bench.client.poll_event()).find_map(|event| match event {
        quantum::Event::Closed(reason) => Some(reason.code),
        _ => None,
    });
    assert_eq!(closed, Some(Code::SessionRevoked as u16));
}

#[test]
fn a_probe_is_not_echoed() {
    let mut bench = Bench::new();
    bench.say(&join());
    bench.exchange();
    bench.client.send(Channel::Probe, Bytes::from_static(b"ping")).unwrap();
    bench.exchange();
    assert!(bench.inbox.0.contains(&(Channel::Probe, b"ping".to_vec())));
}

#[test]
fn a_client_is_served_before_it_is_known_what_is_owned_here() {
    let mut bench = Bench::without_placement();
    bench.say(&join());
    bench.exchange();
    assert!(bench.inbox.0.is_empty() && bench.shard.poll_report().is_none());
    bench.shard.handle_command(bench.now, Command::Placement(Placement::single_node(0, 1, 8)));
    assert!(matches!(bench.shard.poll_report(), Some(Report::Ready)));
    for _ in 0..20 {
        bench.exchange();
    }
    assert!(!bench.inbox.0.is_empty(), "the first packet, sent again, is taken now");
}
