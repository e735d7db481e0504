//! One shard: transport, state sync and log wired together.

mod siblings;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use quantum::{Connection, Endpoint, EndpointLimits, Event, Now, ResetKey, SendError, Transmit};
use statesync::{Job, JobDone, JobId, Output, StateSync, SyncConfig};
use wal::{AlignedBuffer, LogWriter, Write, WriteAt};
use wire::code::Code;
use wire::sync::Channel;
use wire::{Ecn, Span, TicketKeyRing, Time};

use crate::command::{Command, Report, ShardSettings};
use crate::commit_pace::CommitPace;
use crate::lanes::Lanes;
use crate::probe::{Offender, Probe, Stage};
use crate::sink::{AfterDatagram, Sink, connection, subscriber};
use crate::status::{self, Figure};

/// How long a draining shard waits for its clients to take what is queued for them.
const TELL_SPAN_MAX: Span = Span::from_ms(500);
/// How long it waits for the closing packets to be gone.
const CLOSE_SPAN_MAX: Span = Span::from_ms(50);
/// What the clients are told.
const DRAIN_REASON: &str = "the node is going away";

/// What a client is told that sends more for another shard than it takes.
const OVERLOADED_REASON: &str = "too much waits for the shard that owns the document";

/// What a shard is made of when it starts.
#[derive(Debug)]
pub struct ShardConfig {
    /// Which shard of the node it is.
    pub shard: u32,
    /// How many the node has.
    pub shards: u32,
    /// The transport's settings.
    pub transport: quantum::Config,
    /// The transport's limits.
    pub limits: EndpointLimits,
    /// The state machine's settings.
    pub sync: SyncConfig,
    /// The longest that an op waits for others under load before the log is written; zero: writes follow one
    /// another as fast as the disk allows.
    pub commit_delay_max: Span,
    /// Random bytes, fresh for this start.
    pub entropy: [u8; 32],
    /// The key of the node's stateless resets, the same for all shards and all runs.
    pub reset_key: [u8; 32],
    /// The address under which the cluster knows the node; empty: unknown.
    pub address: String,
    /// When this run began, Unix milliseconds: first packets that an earlier run may have taken are not taken again.
    pub start_unix_ms: u64,
}

/// Where a shard is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Drain {
    No,
    /// What is in the log's batches becomes durable first, and is acknowledged.
    Flushing,
    /// The acknowledgements are on their way to the clients, and behind them the end of their connections.
    Finishing {
        until: Time,
    },
    Done,
}

/// One shard, without the machine underneath: whoever drives it feeds it datagrams, commands and finished
/// writes, and takes datagrams, writes and reports from it.
///
/// A turn of the driver: `handle_datagram` for all that came, `handle_lane_message` for what siblings sent,
/// `handle_command`, `handle_timeout`, `handle_job_done`; then `poll_lane_message` for each sibling, `poll_transmit`,
/// `poll_write`, `poll_job` and `poll_report` until each has nothing; then sleep until `poll_timeout` at the latest.
///
/// `P` times the stages; [`new`](Self::new) makes a shard without.
pub struct Shard<B: AlignedBuffer, P = ()> {
    shard: u32,
    endpoint: Endpoint,
    transport: quantum::Config,
    sync: StateSync,
    sync_config: SyncConfig,
    log: LogWriter<B>,
    /// The segment that is written, and how many bytes of it are durable.
    log_end: (u32, u64),
    commit_pace: CommitPace,
    lanes: Lanes,
    after: AfterDatagram,
    drain: Drain,
    /// Keys that wait for the placement.
    keys: Option<TicketKeyRing>,
    has_placement: bool,
    is_ready: bool,
    reports: VecDeque<Report>,
    probe: P,
}

impl<B: AlignedBuffer> Shard<B> {
    /// A shard whose stages nobody times; otherwise as [`with_probe`](Self::with_probe).
    #[must_use]
    pub fn new(config: ShardConfig, sync: StateSync, log: LogWriter<B>) -> Self {
        Self::with_probe(config, sync, log, ())
    }
}

impl<B: AlignedBuffer, P: Probe> Shard<B, P> {
    /// Takes the recovered documents and the log behind them. Nobody is served before the ticket keys and the
    /// placement have come: without keys no connection can be opened, and they are held back until it is known
    /// what is owned here.
    #[must_use]
    pub fn with_probe(config: ShardConfig, sync: StateSync, log: LogWriter<B>, probe: P) -> Self {
        let mut endpoint = Endpoint::new(Arc::new(config.transport.clone()), config.limits, config.entropy);
        endpoint.set_reset_key(ResetKey::new(&config.reset_key));
        if !config.address.is_empty() {
            endpoint.set_audience(quantum::audience(&config.address));
        }
        endpoint.handle_restart(config.start_unix_ms);
        Self {
            shard: config.shard,
            lanes: Lanes::new(config.shard, config.shards),
            endpoint,
            transport: config.transport,
            sync,
            sync_config: config.sync,
            log,
            log_end: (0, 0),
            commit_pace: CommitPace::new(config.commit_delay_max),
            after: AfterDatagram::default(),
            drain: Drain::No,
            keys: None,
            has_placement: false,
            is_ready: false,
            reports: VecDeque::new(),
            probe,
        }
    }

    /// Who times the stages: the driver tells it of those that are the driver's own.
    pub const fn probe(&mut self) -> &mut P {
        &mut self.probe
    }

    /// Tells of a datagram that comes after one or two others: it will be handled the sooner.
    pub fn handle_upcoming(&mut self, datagram: &[u8]) {
        self.endpoint.handle_upcoming(datagram);
    }

    /// One received datagram; it is decrypted in place.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, ecn: Ecn, datagram: &mut [u8]) {
        self.probe.enter(Stage::Open);
        self.sync.handle_clock(now.mono, now.unix_ms);
        let Self { shard, endpoint, sync, lanes, log, probe, after, .. } = self;
        let mut sink = Sink { now: now.mono, shard: *shard, sync, lanes, log, probe, after };
        endpoint.handle_marked_datagram(now, from, ecn, datagram, &mut sink);
        for (key, channel, bytes) in self.after.consumed.drain(..) {
            self.endpoint.consume(key, channel, bytes);
        }
        for key in self.after.overloaded.drain(..) {
            self.endpoint.close(now.mono, key, Code::Overloaded as u16, OVERLOADED_REASON);
        }
        for (key, probe) in self.after.probes.drain(..) {
            // Unreliable: a probe that finds no room is a lost probe.
            let _ = self.endpoint.send(key, Channel::Probe, probe);
        }
        self.probe.leave();
        if let Some((key, document)) = self.after.offender.take() {
            let connection = self.endpoint.connection(key).map(Connection::id);
            self.probe.blame(Offender { connection, document });
        }
        self.settle(now);
    }

    /// Something that the agent said.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        match command {
            Command::TicketKeys(keys) => {
                self.keys = Some(TicketKeyRing::new(keys));
                self.admit();
            }
            Command::Placement(placement) => {
                self.lanes.set_placement(placement.clone());
                self.sync.set_placement(placement);
                self.has_placement = true;
                self.admit();
            }
            Command::Settings(settings) => self.apply(settings),
            Command::RevokeSession(session) => {
                let is_of = |connection: &Connection| {
                    connection.session().is_some_and(|ticket| ticket.session_id == session)
                };
                let connections = self.endpoint.connections().map(|(connection, _)| connection);
                let keys: Vec<_> = connections.filter(|found| is_of(found)).map(Connection::key).collect();
                for key in keys {
                    let reason = "the session was revoked";
                    self.endpoint.close(now.mono, key, Code::SessionRevoked as u16, reason);
                }
            }
            Command::HoldLog(is_held) => {
                self.log.hold_trimming(is_held);
                let (segment, bytes) = self.log_end;
                self.reports.push_back(Report::LogHeld { segment, bytes });
            }
            Command::Drain if self.drain == Drain::No => self.drain = Drain::Flushing,
            Command::Drain => {}
        }
        self.settle(now);
    }

    /// A batch is on the disk: what it holds is acknowledged.
    pub fn handle_durable(&mut self, now: Now, at: WriteAt, buffer: Option<B>) {
        self.log_end = (at.segment, at.offset + at.bytes as u64);
        let durable = self.log.handle_durable(at, buffer);
        self.sync.handle_durable(durable);
        self.trim();
        self.settle(now);
    }

    /// Timers: the transport's, the presence tick, the end of a drain.
    pub fn handle_timeout(&mut self, now: Now) {
        self.endpoint.handle_timeout(now.mono);
        self.sync.handle_clock(now.mono, now.unix_ms);
        self.sync.handle_tick(now.mono);
        self.settle(now);
        self.advance_drain(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let drain = match self.drain {
            Drain::No | Drain::Done => None,
            // Looked at in every turn: what ends these stages is no timer.
            Drain::Flushing | Drain::Finishing { .. } => Some(Time::ZERO),
        };
        [self.endpoint.poll_timeout(), self.sync.poll_timeout(), self.write_due(), drain]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next datagram to send, written into `buffer`.
    pub fn poll_transmit(&mut self, now: Now, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        self.poll_transmit_train(now, buffer, 1).map(|(to, train)| (to, train.bytes))
    }

    /// The next datagrams to send to one receiver, at most `datagrams_max`, written into `buffer`.
    pub fn poll_transmit_train(
        &mut self,
        now: Now,
        buffer: &mut [u8],
        datagrams_max: usize,
    ) -> Option<(SocketAddr, Transmit)> {
        self.probe.enter(Stage::Seal);
        let transmit = self.endpoint.poll_transmit_train(now.mono, buffer, datagrams_max);
        self.probe.leave_if(transmit.is_some());
        transmit
    }

    /// The next batch to write; none while one is in flight, or while one waits for more ops.
    pub fn poll_write(&mut self, now: Time) -> Option<Write<B>> {
        self.write_due().filter(|due| *due <= now)?;
        let write = self.log.poll_write()?;
        self.commit_pace.on_write(now, write.at.last_lsn + 1 - write.at.first_lsn);
        Some(write)
    }

    /// When a batch is to be written, if there is one that can be.
    fn write_due(&self) -> Option<Time> {
        if !self.log.is_write_waiting() {
            return None;
        }
        let is_pressed = self.drain != Drain::No;
        Some(if is_pressed { Time::ZERO } else { self.commit_pace.due(self.log.queue_bytes()) })
    }

    /// The next job for the shard's storage thread, which runs a [`StorageWorker`](statesync::StorageWorker). Jobs are
    /// done in this order.
    pub fn poll_job(&mut self, now: Now) -> Option<(JobId, Job)> {
        self.sync.poll_job(now.mono)
    }

    /// The storage thread did a job.
    pub fn handle_job_done(&mut self, now: Now, id: JobId, done: JobDone) {
        self.sync.handle_job_done(now.mono, id, done);
        self.trim();
        self.settle(now);
    }

    /// Lets go of the log that is stored elsewhere, and has more of it stored when it is long.
    fn trim(&mut self) {
        if let Some(lsn) = self.sync.poll_log_needed() {
            self.log.handle_trim_below(lsn);
        }
        if self.log.log_bytes() > self.sync_config.log_bytes_max {
            self.sync.handle_log_pressure();
        }
    }

    /// A segment of the log to make ready in the background; each is named once.
    pub fn poll_segment_wanted(&mut self) -> Option<u32> {
        self.log.poll_segment_wanted()
    }

    /// A segment that was wanted is ready.
    pub fn handle_segment_ready(&mut self, segment: u32) {
        self.log.handle_segment_ready(segment);
    }

    /// The disk has no room for a segment that is wanted: once what is ready is used up ops are refused, until it is
    /// ready after all.
    pub fn handle_disk_full(&mut self, segment: u32) {
        self.log.handle_disk_full(segment);
    }

    /// A segment of the log that nobody needs any more, the oldest first: to be taken away in the background, durably
    /// one after the other.
    pub fn poll_segment_removed(&mut self) -> Option<u32> {
        self.log.poll_segment_removed()
    }

    /// What the agent is to be told.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Whether all that was appended to the log is on the disk.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.log.is_idle()
    }

    /// Whether a drain has ended.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drain == Drain::Done
    }

    /// What it has done and holds.
    #[must_use]
    pub fn status(&self) -> Vec<Figure> {
        status::collect(&self.endpoint, &self.sync.stats(), &self.log, &self.lanes)
    }

    /// Lets clients in once it is known what is owned here.
    fn admit(&mut self) {
        if !self.has_placement {
            return;
        }
        let Some(keys) = self.keys.take() else { return };
        self.endpoint.set_ticket_keys(keys);
        if !std::mem::replace(&mut self.is_ready, true) {
            self.reports.push_back(Report::Ready);
        }
    }

    fn apply(&mut self, settings: ShardSettings) {
        self.sync_config.presence_tick = Span::from_ms(u64::from(settings.presence_tick_ms));
        self.sync_config.limits.document_bytes_max = settings.document_bytes_max;
        self.sync_config.session_rates = settings.session_rates;
        self.sync.set_config(self.sync_config.clone());
        self.transport.idle_timeout = Span::from_ms(u64::from(settings.idle_timeout_ms));
        self.transport.send_buffer_bytes_max = settings.subscriber_queue_bytes_max as usize;
        self.endpoint.set_config(Arc::new(self.transport.clone()));
        self.reports.push_back(Report::SettingsApplied(settings.version));
    }

    /// Carries what one machine put out into the other until both are quiet.
    fn settle(&mut self, now: Now) {
        self.probe.enter(Stage::FanOut);
        let any = self.carry(now);
        self.probe.leave_if(any);
    }

    /// Whether there was anything.
    fn carry(&mut self, now: Now) -> bool {
        let mut any = false;
        loop {
            while let Some((key, event)) = self.endpoint.poll_event() {
                any = true;
                match event {
                    Event::Connected | Event::Finishing => {}
                    Event::Writable => {
                        self.sync.handle_writable(subscriber(self.shard, key));
                        self.lanes.handle_writable(&mut self.endpoint, key);
                    }
                    Event::Closed(_) => {
                        self.lanes.handle_closed(key);
                        self.sync.handle_close(now.mono, subscriber(self.shard, key));
                    }
                }
            }
            let Some(output) = self.sync.poll_output() else { return any };
            any = true;
            match output {
                Output::Send { to, channel, message, can_wait } if to.origin != self.shard => {
                    if self.lanes.send(to, channel, &message, can_wait).is_err() {
                        self.sync.handle_blocked(to);
                    }
                }
                Output::Close { to, code, reason } if to.origin != self.shard => {
                    self.lanes.end(to, code, reason);
                }
                Output::Send { to, channel, message, can_wait } => {
                    let sent = if can_wait {
                        self.endpoint.send_behind(connection(to), channel, message)
                    } else {
                        self.endpoint.send(connection(to), channel, message)
                    };
                    match sent {
                        Ok(()) | Err(SendError::Closed) => {}
                        Err(SendError::Full | SendError::TooLarge { .. } | SendError::Deadline) => {
                            self.sync.handle_blocked(to);
                        }
                    }
                }
                Output::Close { to, code, reason } => {
                    self.endpoint.close(now.mono, connection(to), code as u16, reason);
                }
            }
        }
    }

    fn advance_drain(&mut self, now: Now) {
        match self.drain {
            Drain::Flushing if self.is_durable() => {
                let deadline = now.mono + TELL_SPAN_MAX;
                self.endpoint.finish_all(now.mono, Code::Draining as u16, DRAIN_REASON, deadline);
                self.drain = Drain::Finishing { until: deadline + CLOSE_SPAN_MAX };
            }
            Drain::Finishing { until } if self.endpoint.connections_count() == 0 || now.mono >= until => {
                self.drain = Drain::Done;
                self.reports.push_back(Report::Drained);
            }
            _ => {}
        }
    }
}
