//! One way to a shard: a connection, made anew whenever it is lost.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use quantum::{
    CloseReason, Config, Connection, ConnectionKey, ConnectionStats, Event, MessageSink, SendError,
};
use thiserror::Error;
use tokio::sync::oneshot;
use wire::sync::Channel;
use wire::{Code, Span, Time};

use super::clock::{connection_id, entropy, unix_ms};
use super::early::EarlyPresence;
use super::inbox::{Desk, Inbox, Pings};
use super::socket::{ReceiveBuffers, SEND_BYTES_MAX, Socket};
use crate::backoff::Backoff;
use crate::event_queue::Credit;
use crate::placement::Route;
use crate::ticket::IssuedTicket;

/// Calls to receive before other connections have their turn.
const RECEIVE_CALLS_MAX: usize = 8;
/// Datagrams to send before other connections have their turn.
const SEND_DATAGRAMS_MAX: usize = 1_024;
/// A connection is not given up before so many round trips without an answer.
const UNRESPONSIVE_ROUND_TRIPS: u64 = 4;
/// The nonce of a probe that measures nothing.
const HEARTBEAT: u64 = 0;

/// When a link asks for a sign of life, and when it gives up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) heartbeat: Span,
    pub(super) unresponsive_after: Span,
}

/// Why a connection is no more.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("socket: {0}; check that the node runs there")]
    Socket(#[source] io::Error),
    #[error("handshake: {0}")]
    Connect(#[source] quantum::ConnectError),
    #[error("the node does not answer")]
    Unresponsive,
    #[error("{0}")]
    Closed(CloseReason),
    #[error("the node sent a message that cannot be read")]
    Malformed,
}

impl Failure {
    /// Whether the session is over.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Closed(reason) if reason.code == Code::SessionRevoked as u16)
    }
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// The transport has it.
    Queued,
    /// Not now.
    Full,
    /// Never on this connection.
    TooLarge,
}

type Opening = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

enum State {
    /// Until the next attempt.
    Waiting(Time),
    /// The name is looked up.
    Opening(Opening),
    Open(Box<Open>),
}

struct Open {
    socket: Socket,
    connection: Connection,
    established: bool,
    /// The transport's send buffer is full.
    blocked: bool,
    datagrams_heard: u64,
    last_heard: Time,
    /// Since when an answer is due.
    awaiting: Option<Time>,
}

/// What a link has to do with.
pub(super) struct Link {
    pub(super) route: Route,
    state: State,
    pub(super) backoff: Backoff,
    /// The documents that it serves.
    pub(super) documents: BTreeSet<u32>,
    /// Those that will come to it, on a node's advice, once it is established.
    pub(super) expected: BTreeSet<u32>,
    /// Those that may have something to send, in turn.
    pub(super) queued: VecDeque<u32>,
    /// From the node's number of a document to its handle.
    pub(super) numbers: HashMap<u32, u32>,
    early: EarlyPresence,
    pub(super) pings: Pings,
    /// Asked for before there was a connection.
    pings_waiting: Vec<oneshot::Sender<Duration>>,
    next_nonce: u64,
    /// Since when it has served no document.
    pub(super) unused_since: Option<Time>,
}

impl Link {
    pub(super) fn new(route: Route, backoff: Backoff, now: Time) -> Self {
        Self {
            route,
            state: State::Waiting(now),
            backoff,
            documents: BTreeSet::new(),
            expected: BTreeSet::new(),
            queued: VecDeque::new(),
            numbers: HashMap::new(),
            early: EarlyPresence::default(),
            pings: Pings::new(),
            pings_waiting: Vec::new(),
            next_nonce: HEARTBEAT + 1,
            unused_since: None,
        }
    }

    /// Whether it waits to be opened, and may be at `now`.
    pub(super) fn is_due(&self, now: Time) -> bool {
        matches!(self.state, State::Waiting(until) if until <= now)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    pub(super) fn is_established(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.established)
    }

    /// Looks the name up and opens a socket.
    pub(super) fn open(&mut self) {
        self.state = State::Opening(Box::pin(Socket::connect(self.route.address.clone())));
    }

    /// Ready: the socket is open, and a handshake may begin.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        match &mut self.state {
            State::Opening(opening) => opening.as_mut().poll(cx),
            State::Waiting(_) | State::Open(_) => Poll::Pending,
        }
    }

    /// Begins a handshake on `socket`.
    pub(super) fn connect(
        &mut self,
        now: Time,
        config: &Arc<Config>,
        ticket: &IssuedTicket,
        socket: Socket,
    ) -> Result<(), Failure> {
        let id = connection_id(self.route.shard);
        let moment = quantum::Now { mono: now, unix_ms: unix_ms() };
        let mut connection =
            Connection::connect(moment, Arc::clone(config), id, &ticket.ticket, &ticket.psk, entropy())
                .map_err(Failure::Connect)?;
        connection.set_audience(quantum::audience(&self.route.address));
        self.state = State::Open(Box::new(Open {
            socket,
            connection,
            established: false,
            blocked: false,
            datagrams_heard: 0,
            last_heard: now,
            awaiting: Some(now),
        }));
        Ok(())
    }

    /// Gives the connection up; the next attempt comes after a pause. Returns the connection's counters.
    pub(super) fn fail(&mut self, now: Time, entropy: u32) -> ConnectionStats {
        let pause = self.backoff.fail(entropy);
        let last = std::mem::replace(&mut self.state, State::Waiting(now + pause));
        self.numbers.clear();
        self.early.clear();
        self.pings.clear();
        self.queued.clear();
        match last {
            State::Open(open) => *open.connection.stats(),
            State::Waiting(_) | State::Opening(_) => ConnectionStats::default(),
        }
    }

    /// Receives what is there and hands messages to their documents. True: there may be more.
    pub(super) fn receive(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut ReceiveBuffers,
        now: Time,
        desk: Desk<'_>,
    ) -> Result<bool, Failure> {
        let State::Open(open) = &mut self.state else { return Ok(false) };
        let mut inbox = Inbox::new(desk, &mut self.numbers, &mut self.early, &mut self.pings);
        open.receive(cx, buffers, now, &mut inbox)
    }

    /// Gives credit back to the node.
    pub(super) fn consume(&mut self, credit: Credit) {
        if let State::Open(open) = &mut self.state {
            open.consume(credit);
        }
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Time, patience: Patience) -> Result<(), Failure> {
        let State::Open(open) = &mut self.state else { return Ok(()) };
        if open.connection.poll_timeout().is_some_and(|due| due <= now) {
            open.connection.handle_timeout(now);
        }
        if open.gives_up_at(patience).is_some_and(|due| due <= now) {
            return Err(Failure::Unresponsive);
        }
        if open.heartbeat_at(patience).is_some_and(|due| due <= now) {
            open.awaiting = Some(now);
            // When there is no room, what fills it asks for an answer as well.
            let _full = open.connection.send(Channel::Probe, probe(HEARTBEAT));
        }
        Ok(())
    }

    /// Takes the connection's events. True: the handshake has just been completed.
    pub(super) fn poll_events(&mut self, now: Time) -> Result<bool, Failure> {
        let State::Open(open) = &mut self.state else { return Ok(false) };
        let mut connected = false;
        while let Some(event) = open.connection.poll_event() {
            match event {
                Event::Connected => {
                    open.established = true;
                    connected = true;
                }
                Event::Writable => open.blocked = false,
                // What is not taken any more will be when the connection is over and there is another.
                Event::Finishing => {}
                Event::Closed(reason) => return Err(Failure::Closed(reason)),
            }
        }
        if connected {
            for reply in std::mem::take(&mut self.pings_waiting) {
                self.ping(now, reply);
            }
        }
        Ok(connected)
    }

    /// Measures a round trip, once there is a connection.
    pub(super) fn ping(&mut self, now: Time, reply: oneshot::Sender<Duration>) {
        self.pings.retain(|_, (_, reply)| !reply.is_closed());
        self.pings_waiting.retain(|reply| !reply.is_closed());
        match &mut self.state {
            State::Open(open) if open.established => {
                if open.connection.send(Channel::Probe, probe(self.next_nonce)).is_ok() {
                    self.pings.insert(self.next_nonce, (now, reply));
                    self.next_nonce += 1;
                }
            }
            _ => self.pings_waiting.push(reply),
        }
    }

    /// Whether it has something to do.
    pub(super) fn is_wanted(&self) -> bool {
        let replies = self.pings.values().map(|(_, reply)| reply).chain(&self.pings_waiting);
        !self.documents.is_empty()
            || !self.expected.is_empty()
            || replies.into_iter().any(|reply| !reply.is_closed())
    }

    /// Whether the transport takes messages.
    pub(super) fn is_writable(&self) -> bool {
        matches!(&self.state, State::Open(open) if !open.blocked)
    }

    /// Queues a message.
    pub(super) fn send(&mut self, channel: Channel, message: Bytes) -> Sent {
        let State::Open(open) = &mut self.state else { return Sent::Full };
        match open.connection.send(channel, message) {
            Ok(()) => Sent::Queued,
            Err(SendError::TooLarge { .. }) => Sent::TooLarge,
            Err(SendError::Full | SendError::Deadline | SendError::Closed) => {
                open.blocked = true;
                Sent::Full
            }
        }
    }

    /// Sends what the transport has to send. True: there may be more.
    pub(super) fn transmit(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        buffer: &mut [u8],
    ) -> Result<bool, Failure> {
        let State::Open(open) = &mut self.state else { return Ok(false) };
        let more = open.transmit(cx, now, buffer).map_err(Failure::Socket)?;
        if open.awaiting.is_none() && open.connection.in_flight_bytes() > 0 {
            open.awaiting = Some(now);
        }
        Ok(more)
    }

    /// Closes the connection and says so once: the other side finds out by itself if that is lost.
    pub(super) fn close(&mut self, now: Time, buffer: &mut [u8]) {
        if let State::Open(open) = &mut self.state {
            open.connection.close(now, Code::Done as u16, "");
            let mut cx = Context::from_waker(Waker::noop());
            let _lost = open.transmit(&mut cx, now, buffer);
        }
    }

    /// When something is due.
    pub(super) fn poll_timeout(&self, patience: Patience) -> Option<Time> {
        match &self.state {
            State::Waiting(_) | State::Opening(_) => None,
            State::Open(open) => {
                // A blocked socket wakes the task when it takes more; until then what is due cannot leave.
                let transport = open.connection.poll_timeout().filter(|_| !open.socket.is_blocked());
                let times = [transport, open.gives_up_at(patience), open.heartbeat_at(patience)];
                times.into_iter().flatten().min()
            }
        }
    }

    /// When the next attempt is due.
    pub(super) fn retry_at(&self) -> Option<Time> {
        match self.state {
            State::Waiting(until) => Some(until),
            State::Opening(_) | State::Open(_) => None,
        }
    }

    /// The counters of the present connection.
    pub(super) fn stats(&self) -> Option<&ConnectionStats> {
        match &self.state {
            State::Open(open) => Some(open.connection.stats()),
            State::Waiting(_) | State::Opening(_) => None,
        }
    }

    /// The smoothed round trip, and when the node was heard last.
    pub(super) fn rtt(&self) -> Option<(Time, Span)> {
        match &self.state {
            State::Open(open) => Some((open.last_heard, Span::from_us(open.connection.rtt_us()?))),
            State::Waiting(_) | State::Opening(_) => None,
        }
    }
}

impl Open {
    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut ReceiveBuffers,
        now: Time,
        inbox: &mut Inbox<'_>,
    ) -> Result<bool, Failure> {
        for _ in 0..RECEIVE_CALLS_MAX {
            let filled = match self.socket.poll_receive(cx, buffers) {
                Poll::Pending => return Ok(false),
                Poll::Ready(filled) => filled.map_err(Failure::Socket)?,
            };
            for (ecn, datagram) in buffers.datagrams(filled) {
                self.connection.handle_marked_datagram(now, ecn, datagram, &mut Sink(inbox));
            }
            let heard = self.connection.stats().datagrams_received;
            if heard != self.datagrams_heard {
                self.datagrams_heard = heard;
                self.last_heard = now;
                self.awaiting = None;
            }
            self.consume(std::mem::take(&mut inbox.credit));
            if inbox.malformed {
                self.connection.close(now, Code::MalformedMessage as u16, "message cannot be read");
                return Err(Failure::Malformed);
            }
        }
        Ok(true)
    }

    fn consume(&mut self, credit: Credit) {
        for channel in Channel::ALL {
            if credit.of(channel) > 0 {
                self.connection.consume(channel, credit.of(channel));
            }
        }
    }

    fn gives_up_at(&self, patience: Patience) -> Option<Time> {
        let round_trip = Span::from_us(self.connection.rtt_us().unwrap_or_default());
        let patience = patience.unresponsive_after.max(round_trip.times(UNRESPONSIVE_ROUND_TRIPS));
        self.awaiting.map(|since| since + patience)
    }

    fn heartbeat_at(&self, patience: Patience) -> Option<Time> {
        (self.established && self.awaiting.is_none()).then(|| self.last_heard + patience.heartbeat)
    }

    /// Sends trains of datagrams until there is nothing to send, or no room.
    fn transmit(&mut self, cx: &mut Context<'_>, now: Time, buffer: &mut [u8]) -> io::Result<bool> {
        if let Poll::Ready(flushed) = self.socket.poll_flush(cx) {
            flushed?;
        }
        let segments_max = self.socket.segments_max();
        let room = buffer.len().min(SEND_BYTES_MAX);
        let mut datagrams = 0;
        let mut more = true;
        while datagrams < SEND_DATAGRAMS_MAX && !self.socket.is_blocked() {
            let train = self.connection.poll_transmit_train(now, &mut buffer[..room], segments_max);
            let Some(train) = train else {
                more = false;
                break;
            };
            datagrams += train.datagrams;
            self.socket.send(&buffer[..train.bytes], train.segment_bytes, train.ecn)?;
        }
        match self.socket.poll_flush(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(flushed) => flushed.map(|()| more),
        }
    }
}

/// What the transport delivers to.
struct Sink<'a, 'b>(&'a mut Inbox<'b>);

impl MessageSink for Sink<'_, '_> {
    fn on_message(&mut self, _from: ConnectionKey, channel: Channel, message: &[u8]) {
        self.0.take(channel, message);
    }
}

fn probe(nonce: u64) -> Bytes {
    Bytes::copy_from_slice(&nonce.to_be_bytes())
}
