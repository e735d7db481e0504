//! A node for tests: the transport's endpoint and the document machine on one UDP socket, with a log in
//! memory that outlives it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aetherflow_client::{
    Client, ClientConfig, Document, DocumentEvent, IssuedTicket, PlacementMap, TicketRefusal, TicketSource,
};
use bytes::Bytes;
use quantum::{
    Channel, ConnectionKey, Endpoint, EndpointLimits, Event, MessageSink, Now, ResetKey, SendError,
};
use statesync::{
    AppendLog, LogFull, LogOp, MemoryStore, Output, Placement, RecoveredOp, Session, SessionRates, StateSync,
    StorageWorker, SubscriberKey, SyncConfig, WorkerConfig,
};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use wire::sync::DocumentKind;
use wire::{Access, Code, Grant, Guuid, Ticket, TicketKeyRing, Time};

const TICKET_KEY: (u32, [u8; 32]) = (1, [7; 32]);
const PSK: [u8; 32] = [5; 32];
const RESET_KEY: [u8; 32] = [6; 32];
/// Nothing in a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Logged {
    document: String,
    kind: DocumentKind,
    sequence: u64,
    op_id: Guuid,
    payload: Vec<u8>,
    is_deletion: bool,
}

/// What survives a kill, and what a test sets.
#[derive(Default)]
pub(crate) struct Disk {
    ops: Mutex<Vec<Logged>>,
    starts: AtomicU64,
    /// The log is not synced.
    pub(crate) hold: AtomicBool,
    /// The log takes nothing.
    pub(crate) busy: AtomicBool,
    /// What each session may do; none: as usual.
    pub(crate) rates: Mutex<Option<SessionRates>>,
    changed: Notify,
}

impl Disk {
    /// Lets the node look at what was set.
    pub(crate) fn set(&self, flag: &AtomicBool, value: bool) {
        flag.store(value, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// The durable ops of a document.
    pub(crate) fn payloads(&self, document: &str) -> Vec<Vec<u8>> {
        let ops = self.ops.lock().unwrap();
        ops.iter().filter(|op| op.document == document).map(|op| op.payload.clone()).collect()
    }
}

struct Log {
    disk: Arc<Disk>,
    pending: Vec<Logged>,
    lsn: u64,
}

impl AppendLog for Log {
    fn append(&mut self, op: &LogOp<'_>) -> Result<u64, LogFull> {
        if self.disk.busy.load(Ordering::SeqCst) {
            return Err(LogFull);
        }
        self.pending.push(Logged {
            document: op.document.to_owned(),
            kind: op.kind,
            sequence: op.sequence,
            op_id: op.op_id,
            payload: op.payload.to_vec(),
            is_deletion: op.is_deletion,
        });
        self.lsn += 1;
        Ok(self.lsn)
    }
}

#[derive(Default)]
struct Received(Vec<(ConnectionKey, Option<Session>, Channel, Vec<u8>)>);

impl MessageSink for Received {
    fn on_open(&mut self, from: ConnectionKey, ticket: &Ticket) {
        let session = Session {
            session_id: ticket.session_id,
            writer_id: ticket.writer_id,
            grants: ticket.grants.clone(),
        };
        self.0.push((from, Some(session), Channel::Sync, Vec::new()));
    }

    fn on_message(&mut self, from: ConnectionKey, channel: Channel, message: &[u8]) {
        self.0.push((from, None, channel, message.to_vec()));
    }
}

/// A running node, on a thread of its own.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// A node alone, which owns all partitions.
    pub(crate) fn start(disk: &Arc<Disk>) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), disk, Placement::single_node(0, 1, 16))
    }

    pub(crate) fn at(address: SocketAddr, disk: &Arc<Disk>, placement: Placement) -> Self {
        let socket = std::net::UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let disk = Arc::clone(disk);
        let (kill, killed) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let mut machine = Machine::new(UdpSocket::from_std(socket).unwrap(), &disk, placement);
                tokio::select! {
                    _ = killed => {}
                    () = machine.run() => {}
                }
            });
        });
        Self { address, kill: Some(kill), thread: Some(thread) }
    }

    /// Ends it without a word; what was not durable is gone.
    pub(crate) fn kill(self) -> SocketAddr {
        self.address
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill.take();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()), "the node panicked");
    }
}

struct Machine {
    socket: UdpSocket,
    start: Instant,
    endpoint: Endpoint,
    sync: StateSync,
    log: Log,
    worker: StorageWorker<MemoryStore>,
}

impl Machine {
    fn new(socket: UdpSocket, disk: &Arc<Disk>, placement: Placement) -> Self {
        let starts = disk.starts.fetch_add(1, Ordering::SeqCst) + 1;
        let limits = EndpointLimits::default();
        let mut endpoint = Endpoint::new(Arc::new(quantum::Config::default()), limits, [starts as u8; 32]);
        endpoint.set_ticket_keys(TicketKeyRing::new([TICKET_KEY]));
        endpoint.set_reset_key(ResetKey::new(&RESET_KEY));
        endpoint.set_audience(quantum::audience(&socket.local_addr().unwrap().to_string()));
        let mut config = SyncConfig::default();
        if let Some(rates) = *disk.rates.lock().unwrap() {
            config.session_rates = rates;
        }
        let mut sync = StateSync::new(config, placement, starts);
        for op in &*disk.ops.lock().unwrap() {
            let op = RecoveredOp {
                document: &op.document,
                kind: op.kind,
                sequence: op.sequence,
                op_id: op.op_id,
                lsn: 0,
                unix_ms: 0,
                payload: &op.payload,
                is_deletion: op.is_deletion,
            };
            // Nothing outlives a node but its log.
            sync.handle_recovered(&op, &mut |_| Ok(None)).unwrap();
        }
        sync.finish_recovery(starts, 0).unwrap();
        let log = Log { disk: Arc::clone(disk), pending: Vec::new(), lsn: 0 };
        let worker = StorageWorker::new(MemoryStore::default(), WorkerConfig::default());
        Self { socket, start: Instant::now(), endpoint, sync, log, worker }
    }

    fn now(&self) -> Time {
        Time::from_us(self.start.elapsed().as_micros() as u64)
    }

    async fn run(&mut self) {
        let mut buffer = vec![0; 2_048];
        loop {
            let due = [self.endpoint.poll_timeout(), self.sync.poll_timeout()].into_iter().flatten().min();
            let due = due.map_or(PATIENCE, |due| due.since(self.now()).as_duration());
            let disk = Arc::clone(&self.log.disk);
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    // The kernel tells of clients that are gone.
                    if let Ok((bytes, from)) = received {
                        self.receive(from, &mut buffer[..bytes]);
                    }
                    while let Ok((bytes, from)) = self.socket.try_recv_from(&mut buffer) {
                        self.receive(from, &mut buffer[..bytes]);
                    }
                }
                () = tokio::time::sleep(due) => {}
                () = disk.changed.notified() => {}
            }
            self.work().await;
        }
    }

    fn receive(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let now = Now { mono: self.now(), unix_ms };
        let mut received = Received::default();
        self.endpoint.handle_datagram(now, from, datagram, &mut received);
        for (key, session, channel, message) in received.0 {
            let subscriber = SubscriberKey::alone(key.as_u64());
            match session {
                Some(session) => self.sync.handle_open(subscriber, session),
                None if channel == Channel::Probe => {
                    let _lost = self.endpoint.send(key, channel, message.into());
                }
                None => {
                    self.sync.handle_message(now.mono, subscriber, channel, &message, &mut self.log);
                    self.endpoint.consume(key, channel, message.len());
                }
            }
        }
    }

    async fn work(&mut self) {
        let now = self.now();
        self.endpoint.handle_timeout(now);
        self.sync.handle_tick(now);
        if !self.log.disk.hold.load(Ordering::SeqCst) {
            self.log.disk.ops.lock().unwrap().append(&mut self.log.pending);
            self.sync.handle_durable(self.log.lsn);
        }
        while let Some((key, event)) = self.endpoint.poll_event() {
            match event {
                Event::Connected | Event::Finishing => {}
                Event::Writable => self.sync.handle_writable(SubscriberKey::alone(key.as_u64())),
                Event::Closed(_) => self.sync.handle_close(now, SubscriberKey::alone(key.as_u64())),
            }
        }
        while let Some((id, job)) = self.sync.poll_job(now) {
            self.sync.handle_job_done(now, id, self.worker.handle(job));
        }
        while let Some(output) = self.sync.poll_output() {
            match output {
                Output::Send { to, channel, message, .. } => {
                    let sent = self.endpoint.send(ConnectionKey::from_u64(to.connection), channel, message);
                    if sent == Err(SendError::Full) {
                        self.sync.handle_blocked(to);
                    }
                }
                Output::Close { to, code, reason } => {
                    self.endpoint.close(now, ConnectionKey::from_u64(to.connection), code as u16, reason);
                    self.sync.handle_close(now, to);
                }
            }
        }
        let mut buffer = [0; 1_500];
        while let Some((to, bytes)) = self.endpoint.poll_transmit(now, &mut buffer) {
            let _gone = self.socket.send_to(&buffer[..bytes], to).await;
        }
    }
}

/// Issues tickets of one writer.
#[derive(Clone)]
pub(crate) struct Tickets {
    writer: Guuid,
    access: Access,
    map: Arc<Mutex<PlacementMap>>,
    issued: Arc<AtomicU64>,
    pub(crate) refused: Arc<AtomicBool>,
    pub(crate) unavailable: Arc<AtomicBool>,
    /// Tickets are issued that are over.
    pub(crate) expired: Arc<AtomicBool>,
    pub(crate) asked_in_vain: Arc<Notify>,
}

impl Tickets {
    pub(crate) fn new(number: u8, address: SocketAddr) -> Self {
        Self {
            writer: Guuid::new(1_000, [number; 10]).writer(),
            access: Access::Write,
            map: Arc::new(Mutex::new(PlacementMap::single_node(&address.to_string(), 1, 16))),
            issued: Arc::default(),
            refused: Arc::default(),
            unavailable: Arc::default(),
            expired: Arc::default(),
            asked_in_vain: Arc::default(),
        }
    }

    pub(crate) fn set_map(&self, map: PlacementMap) {
        *self.map.lock().unwrap() = map;
    }

    pub(crate) fn access(self, access: Access) -> Self {
        Self { access, ..self }
    }
}

impl TicketSource for Tickets {
    async fn ticket(&self, _previous: Option<&[u8]>) -> Result<IssuedTicket, TicketRefusal> {
        if self.refused.load(Ordering::SeqCst) {
            return Err(TicketRefusal::Refused("revoked".to_owned()));
        }
        if self.unavailable.load(Ordering::SeqCst) {
            self.asked_in_vain.notify_one();
            return Err(TicketRefusal::Unavailable("starting".to_owned()));
        }
        let number = self.issued.fetch_add(1, Ordering::SeqCst);
        let ticket = Ticket {
            session_id: Guuid::new(1, [9; 10]),
            writer_id: self.writer,
            psk: PSK,
            expires_unix_s: u64::MAX / 2_000,
            grants: vec![Grant { pattern: "*".to_owned(), access: self.access }],
        };
        let mut nonce = [self.writer.as_bytes()[8]; 12];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        Ok(IssuedTicket {
            ticket: TicketKeyRing::new([TICKET_KEY]).seal(&ticket, nonce).unwrap(),
            psk: PSK,
            writer_id: self.writer,
            session_id: ticket.session_id,
            expires_unix_ms: if self.expired.load(Ordering::SeqCst) { 1_000 } else { u64::MAX / 2 },
            map: self.map.lock().unwrap().clone(),
        })
    }
}

/// Settings that notice a killed node soon.
pub(crate) fn config() -> ClientConfig {
    ClientConfig {
        heartbeat: Duration::from_millis(50),
        unresponsive_after: Duration::from_millis(200),
        ..ClientConfig::default()
    }
}

pub(crate) async fn client(number: u8, address: SocketAddr) -> Client {
    Client::builder(Tickets::new(number, address)).config(config()).connect().await.unwrap()
}

pub(crate) fn number(payload: &Bytes) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

pub(crate) fn numbered(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

pub(crate) async fn next(document: &mut Document) -> DocumentEvent {
    tokio::time::timeout(PATIENCE, document.next_event()).await.expect("an event in time").expect("open")
}

/// Waits until all ops up to `counter` are durable.
pub(crate) async fn durable(document: &mut Document, counter: u64) {
    loop {
        if let DocumentEvent::Durable { up_to_counter, .. } = next(document).await
            && up_to_counter >= counter
        {
            return;
        }
    }
}

/// The numbers of the next `count` ops of others.
pub(crate) async fn ops(document: &mut Document, count: usize) -> Vec<u64> {
    let mut found = Vec::new();
    while found.len() < count {
        if let DocumentEvent::Op { payload, .. } = next(document).await {
            found.push(number(&payload));
        }
    }
    found
}

/// Waits until the document is open.
pub(crate) async fn joined(document: &mut Document) {
    while !matches!(next(document).await, DocumentEvent::Joined { .. }) {}
}

/// The code with which the document was closed.
pub(crate) async fn closed(document: &mut Document) -> Code {
    loop {
        if let DocumentEvent::Closed { code, .. } = next(document).await {
            return code;
        }
    }
}
