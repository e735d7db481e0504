//! The task that drives all connections of a client.
//!
//! One poll takes what the application asked for, what the sockets received and what has become due, then
//! sends what came of it all: many ops share a packet, many packets a system call.

mod advice;
mod buffers;
mod clock;
mod commands;
mod documents;
mod early;
mod inbox;
mod link;
mod routing;
mod socket;
mod tickets;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quantum::ConnectionStats;
use tokio::time::{Instant, Sleep};
use wire::{Code, Span, Time};

use self::advice::Parting;
use self::buffers::Buffers;
use self::clock::{Clock, entropy};
use self::commands::Closing;
use self::documents::Documents;
use self::inbox::{Desk, Effects};
use self::link::{Failure, Link, Patience};
use self::tickets::Tickets;
use crate::backoff::{Backoff, span};
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::placement::Route;
use crate::shared::{Command, Shared};
use crate::stats::ClientStats;
use crate::ticket::{IssuedTicket, TicketRefusal, TicketSource};

/// Rounds of work in one poll, before other tasks of the runtime have their turn.
const ROUNDS_MAX: usize = 8;
/// A connection that serves no document is closed after so long.
const UNUSED_LINK_AFTER: Span = Span::from_ms(10_000);

/// Starts the task.
pub(crate) fn spawn<T: TicketSource>(
    shared: Arc<Shared>,
    config: ClientConfig,
    transport: quantum::Config,
    tickets: T,
    ticket: IssuedTicket,
) {
    if transport.fec.enabled {
        // Milliseconds of work, once in a process: not when the first packet is lost.
        tokio::task::spawn_blocking(quantum::fec::prepare);
    }
    let mut driver = Driver::new(shared, config, transport, tickets, ticket);
    tokio::spawn(async move {
        let failure = poll_fn(|cx| {
            driver.buffers = Buffers::lend();
            let polled = driver.poll(cx);
            std::mem::take(&mut driver.buffers).give_back();
            polled
        })
        .await;
        driver.buffers = Buffers::lend();
        driver.finish(&failure);
        driver.buffers.give_back();
    });
}

struct Driver {
    shared: Arc<Shared>,
    config: ClientConfig,
    transport: Arc<quantum::Config>,
    patience: Patience,
    clock: Clock,
    tickets: Tickets,
    links: Vec<Option<Link>>,
    documents: Documents,
    /// Which document of an id is being served; others of that id wait until it is left.
    serving: HashMap<String, u32>,
    waiting: Vec<u32>,
    /// Documents to look at again at some moment.
    alarms: BinaryHeap<Reverse<(Time, u32)>>,
    leaving: Vec<u32>,
    /// Documents that go to another shard once there is a connection to it.
    advised: Vec<(u32, Route)>,
    /// Connections that they have left and that must be told.
    partings: VecDeque<Parting>,
    closing: Option<Closing>,
    /// Why the client ends.
    failure: Option<ClientError>,
    stats: ClientStats,
    /// The counters of connections that are gone.
    past: ConnectionStats,
    released: usize,
    effects: Effects,
    commands: Vec<Command>,
    /// Lent while it is polled.
    buffers: Buffers,
    sleep: Pin<Box<Sleep>>,
}

impl Driver {
    fn new(
        shared: Arc<Shared>,
        config: ClientConfig,
        transport: quantum::Config,
        tickets: impl TicketSource,
        ticket: IssuedTicket,
    ) -> Self {
        let clock = Clock::start();
        let backoff = Backoff::new(config.backoff_min, config.backoff_max);
        let patience = Patience {
            heartbeat: span(config.heartbeat),
            unresponsive_after: span(config.unresponsive_after),
        };
        Self {
            shared,
            transport: Arc::new(transport),
            patience,
            clock,
            tickets: Tickets::new(tickets, ticket, clock.now(), backoff),
            links: Vec::new(),
            documents: Documents::new(),
            serving: HashMap::new(),
            waiting: Vec::new(),
            alarms: BinaryHeap::new(),
            leaving: Vec::new(),
            advised: Vec::new(),
            partings: VecDeque::new(),
            closing: None,
            failure: None,
            stats: ClientStats { tickets: 1, ..ClientStats::default() },
            past: ConnectionStats::default(),
            released: 0,
            effects: Effects::new(),
            commands: Vec::new(),
            buffers: Buffers::default(),
            sleep: Box::pin(tokio::time::sleep_until(Instant::now())),
            config,
        }
    }

    /// Ready when the client ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ClientError> {
        for _ in 0..ROUNDS_MAX {
            let now = self.clock.now();
            let mut more = self.take_commands(cx, now);
            self.poll_tickets(cx, now);
            for index in 0..self.links.len() {
                more |= self.poll_link(cx, now, index);
            }
            self.take_effects(now);
            self.follow_advice(now);
            self.ring_alarms(now);
            for index in 0..self.links.len() {
                more |= self.send(cx, now, index);
            }
            self.settle(now);
            if let Some(failure) = self.failure.take() {
                return Poll::Ready(failure);
            }
            if !more && self.poll_timer(cx).is_pending() {
                self.publish_stats();
                return Poll::Pending;
            }
        }
        self.publish_stats();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_tickets(&mut self, cx: &mut Context<'_>, now: Time) {
        let known = self.tickets.current();
        let (writer, revision) = (known.writer_id, known.map.revision);
        let chance = || u32::from_ne_bytes(entropy());
        let Poll::Ready(issued) = self.tickets.poll(cx, now, chance) else { return };
        self.stats.tickets += 1;
        let ticket = self.tickets.current();
        match issued {
            Err(TicketRefusal::Refused(why) | TicketRefusal::Unavailable(why)) => {
                self.failure = Some(ClientError::Refused(why));
            }
            Ok(()) if ticket.writer_id != writer => self.failure = Some(ClientError::WriterChanged),
            Ok(()) => {
                let is_newer = ticket.map.revision != revision;
                self.reroute(now, is_newer);
            }
        }
    }

    /// Opens a connection that is due, receives, and lets time pass. True: there may be more to receive.
    fn poll_link(&mut self, cx: &mut Context<'_>, now: Time, index: usize) -> bool {
        self.close_if_unused(now, index);
        match self.try_poll_link(cx, now, index) {
            Ok(more) => more,
            Err(failure) => {
                self.fail_link(now, index, &failure);
                true
            }
        }
    }

    fn try_poll_link(&mut self, cx: &mut Context<'_>, now: Time, index: usize) -> Result<bool, Failure> {
        let Some(link) = &mut self.links[index] else { return Ok(false) };
        if link.is_due(now) && link.is_wanted() && self.tickets.usable().is_some() {
            link.open();
        }
        if let Poll::Ready(socket) = link.poll_open(cx) {
            let socket = socket.map_err(Failure::Socket)?;
            link.connect(now, &self.transport, self.tickets.current(), socket)?;
            let handles: Vec<u32> = link.documents.iter().copied().collect();
            handles.into_iter().for_each(|handle| self.queue(handle));
        }
        let Some(link) = &mut self.links[index] else { return Ok(false) };
        let desk = Desk {
            now,
            link: index,
            shared: &self.shared,
            documents: &mut self.documents,
            stats: &mut self.stats,
            effects: &mut self.effects,
            released: &mut self.released,
        };
        let more = link.receive(cx, &mut self.buffers.receive, now, desk)?;
        link.handle_timeout(now, self.patience)?;
        link.poll_events(now)?;
        Ok(more)
    }

    /// Hands one connection what its documents have to send, and sends it. True: there may be more.
    fn send(&mut self, cx: &mut Context<'_>, now: Time, index: usize) -> bool {
        let Some(link) = &mut self.links[index] else { return false };
        while link.is_writable() {
            let Some(handle) = link.queued.pop_front() else { break };
            let entry = self.documents.get_mut(&handle).filter(|entry| entry.link == Some(index));
            let Some(entry) = entry else { continue };
            entry.queued = !entry.pump(now, link, &mut self.stats);
            self.released += std::mem::take(&mut entry.released);
            if entry.queued {
                link.queued.push_back(handle);
            }
        }
        let was_writable = link.is_writable();
        let sent = link.transmit(cx, now, &mut self.buffers.send);
        // What has left may have made room.
        match sent.and_then(|more| link.poll_events(now).map(|_| more)) {
            Ok(more) => more || (link.is_writable() && !was_writable),
            Err(failure) => {
                self.fail_link(now, index, &failure);
                true
            }
        }
    }

    /// A connection is gone: its documents wait for the next one.
    fn fail_link(&mut self, now: Time, index: usize, failure: &Failure) {
        let Some(link) = &mut self.links[index] else { return };
        tracing::info!(address = %link.route.address, shard = link.route.shard, %failure, "connection lost");
        if failure.is_final() {
            self.failure = Some(ClientError::Refused(failure.to_string()));
        }
        if link.is_established() {
            self.stats.reconnects += 1;
        } else {
            // The node may hold other keys by now, or live elsewhere.
            self.tickets.want();
        }
        if !link.is_established() {
            // They are served where they are.
            link.expected.clear();
            let route = &link.route;
            self.advised.retain(|(_, advised)| advised != route);
        }
        self.past.add(&link.fail(now, u32::from_ne_bytes(entropy())));
        for handle in &link.documents {
            if let Some(entry) = self.documents.get_mut(handle) {
                entry.handle_disconnect();
            }
        }
    }

    fn close_if_unused(&mut self, now: Time, index: usize) {
        let Some(link) = &mut self.links[index] else { return };
        if link.is_wanted() {
            link.unused_since = None;
            return;
        }
        let since = *link.unused_since.get_or_insert(now);
        if now < since + UNUSED_LINK_AFTER {
            return;
        }
        link.close(now, &mut self.buffers.send);
        if let Some(stats) = link.stats() {
            self.past.add(stats);
        }
        self.links[index] = None;
    }

    /// Documents whose moment has come are looked at again.
    fn ring_alarms(&mut self, now: Time) {
        while let Some(&Reverse((due, handle))) = self.alarms.peek() {
            if due > now {
                break;
            }
            self.alarms.pop();
            match self.documents.get(&handle) {
                Some(entry) if entry.link.is_none() && !self.waiting.contains(&handle) => {
                    self.attach(now, handle);
                }
                Some(_) => self.queue(handle),
                None => {}
            }
        }
    }

    /// Arms the timer. Ready: something has become due meanwhile.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let has_ticket = self.tickets.usable().is_some();
        let links = self.links.iter().flatten().flat_map(|link| {
            let retry = if has_ticket && link.is_wanted() { link.retry_at() } else { None };
            let unused = link.unused_since.map(|since| since + UNUSED_LINK_AFTER);
            [link.poll_timeout(self.patience), retry, unused].into_iter().flatten()
        });
        let alarm = self.alarms.peek().map(|&Reverse((due, _))| due);
        let closing = self.closing.as_ref().map(|closing| closing.deadline);
        let parting = self.partings.front().map(|parting| parting.due);
        let others = [alarm, closing, parting, self.tickets.poll_timeout()].into_iter().flatten();
        let Some(due) = links
            .chain(others)
            .filter(|&due| due < Time::NEVER)
            .min()
            .and_then(|due| self.clock.instant(due))
        else {
            return Poll::Pending;
        };
        // A timer that rings early costs less than one that is set again with every packet.
        if self.sleep.is_elapsed() || due < self.sleep.deadline() {
            self.sleep.as_mut().reset(due);
        }
        self.sleep.as_mut().poll(cx)
    }

    fn publish_stats(&mut self) {
        let mut sum = self.past;
        let links = self.links.iter().flatten();
        links.clone().filter_map(Link::stats).for_each(|stats| sum.add(stats));
        self.stats.packets_sent = sum.datagrams_sent;
        self.stats.packets_received = sum.datagrams_received;
        self.stats.bytes_sent = sum.bytes_sent;
        self.stats.bytes_received = sum.bytes_received;
        self.stats.packets_lost = sum.packets_lost;
        self.stats.connections = links.clone().filter(|link| link.is_established()).count() as u64;
        if let Some((_, rtt)) = links.filter_map(Link::rtt).max() {
            self.stats.rtt = rtt;
        }
        self.shared.set_stats(self.stats);
    }

    /// Closes everything and tells everybody.
    fn finish(&mut self, failure: &ClientError) {
        let now = self.clock.now();
        let flushed = self.documents.values().all(|entry| entry.session.is_flushed());
        for link in self.links.iter_mut().flatten() {
            link.close(now, &mut self.buffers.send);
        }
        self.publish_stats();
        let late = self.shared.close(failure.clone());
        for entry in self.documents.values_mut() {
            if *failure != ClientError::Closed {
                let text = failure.to_string();
                entry.session.handle_close(Code::SessionRevoked, &text, &mut entry.shared.events());
            }
            entry.end();
        }
        for command in late {
            if let Command::Join { document, .. } = command {
                document.events().end();
                document.readable.notify_one();
            }
        }
        for done in self.closing.take().into_iter().flat_map(|closing| closing.done) {
            // Who asked may have stopped waiting.
            let _unheard = done.send(flushed);
        }
    }
}
