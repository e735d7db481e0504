//! All connections of one shard's socket.

mod ahead;
mod entrance;
mod limits;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;
use wire::sync::Channel;
use wire::{Code, Ecn, Guuid, Header, HeaderError, PacketType, TicketKeyRing, Time, prefetch};

use self::entrance::Entrance;
pub use self::limits::EndpointLimits;
use crate::channels::charge;
use crate::config::Config;
use crate::connection::{
    Connection, ConnectionKey, Event, MessageId, MessageSink, Now, SendError, SendOptions, Transmit,
};
use crate::connection_ids::IdChange;
use crate::id_hash::IdHashBuilder;
use crate::keys::EntropyPool;
use crate::receive_budget::ReceiveBudget;
use crate::reset::{ResetKey, reset_token};
use crate::send_budget::SendBudget;
use crate::stateless::StatelessReplies;
use crate::stats::{ConnectionStats, EndpointStats};
use crate::timer_heap::TimerHeap;

/// Datagrams that one connection sends before the next has its turn.
const BURST_DATAGRAMS: usize = 8;
/// Datagrams of connections that leave before an answer to somebody who has none: a flood must not hold them up, and they
/// must not keep a client out.
const REPLY_AFTER_DATAGRAMS: usize = 4;
/// Datagrams and trains in a row that leave before those that can wait have one.
const AHEAD_MAX: u32 = 16;

struct Slot {
    connection: Connection,
    /// Whether the slot is in the list of those that may have something to send.
    is_ready: bool,
    /// Whether it is in the list of those whose turn comes after the others'.
    is_behind: bool,
    is_half_open: bool,
    /// What of the endpoint's receive budget the connection holds.
    held_bytes: u64,
    /// What of the send budget.
    queued_bytes: usize,
}

impl Slot {
    /// Counts what the connection holds to be sent by now.
    fn settle_queued(&mut self, budget: &mut SendBudget) {
        let queued_bytes = self.connection.queued_bytes();
        budget.change(self.queued_bytes, queued_bytes);
        self.queued_bytes = queued_bytes;
    }
}

/// The connections of a node's shard: finds them by id, opens new ones, runs their timers, and takes turns
/// between those that have something to send.
pub struct Endpoint {
    config: Arc<Config>,
    limits: EndpointLimits,
    ticket_keys: TicketKeyRing,
    entropy: EntropyPool,
    reset_key: ResetKey,
    audience: u64,
    replies: StatelessReplies,
    /// Datagrams of connections since the last reply.
    since_reply: usize,
    slots: Slab<Slot>,
    by_id: HashMap<Guuid, ConnectionKey, IdHashBuilder>,
    entrance: Entrance,
    generation: u32,
    half_open: usize,
    receive_budget: ReceiveBudget,
    send_budget: SendBudget,
    is_finishing: bool,
    timers: TimerHeap,
    ready: VecDeque<ConnectionKey>,
    /// Those with something that can wait: one message of which thousands leave at once must not keep everybody else's
    /// packets waiting.
    behind: VecDeque<ConnectionKey>,
    /// What has left of `ready` while others waited in `behind`.
    ahead: u32,
    burst: usize,
    /// Whose datagrams are handed in soon.
    upcoming: [Option<ConnectionKey>; 2],
    events: VecDeque<(ConnectionKey, Event)>,
    stats: EndpointStats,
    /// The counters of connections that are gone.
    past: ConnectionStats,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("connections", &self.slots.len())
            .field("half_open", &self.half_open)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint without connections, and without keys: it refuses everybody until
    /// [`set_ticket_keys`](Self::set_ticket_keys). `config` must be valid.
    #[must_use]
    pub fn new(config: Arc<Config>, limits: EndpointLimits, entropy: [u8; 32]) -> Self {
        let mut entropy = EntropyPool::new(entropy);
        let seed = entropy.draw();
        let hash = IdHashBuilder::new(seed.iter().fold(0, |seed, &byte| seed << 8 ^ u64::from(byte)));
        let reset_key = ResetKey::new(&entropy.draw());
        Self {
            config,
            limits,
            ticket_keys: TicketKeyRing::default(),
            entropy,
            reset_key,
            audience: 0,
            replies: StatelessReplies::default(),
            since_reply: 0,
            slots: Slab::new(),
            by_id: HashMap::with_hasher(hash),
            entrance: Entrance::new(limits.used_ids_max, hash),
            generation: 0,
            half_open: 0,
            receive_budget: ReceiveBudget::new(limits.receive_buffer_bytes_max),
            send_budget: SendBudget::new(limits.send_buffer_bytes_max),
            is_finishing: false,
            timers: TimerHeap::default(),
            ready: VecDeque::new(),
            behind: VecDeque::new(),
            ahead: 0,
            burst: 0,
            upcoming: [None; 2],
            events: VecDeque::new(),
            stats: EndpointStats::default(),
            past: ConnectionStats::default(),
        }
    }

    /// Replaces the keys that open tickets.
    pub fn set_ticket_keys(&mut self, keys: TicketKeyRing) {
        self.ticket_keys = keys;
    }

    /// The key of the tokens that end connections which this endpoint has forgotten. Where it is that of an earlier
    /// run, that run's clients learn at once that it is gone; without this call it is random. Set it before the first
    /// connection.
    pub fn set_reset_key(&mut self, key: ResetKey) {
        self.reset_key = key;
    }

    /// Which node this is, as [`audience`](crate::audience) names it: first packets for another one are refused.
    pub fn set_audience(&mut self, audience: u64) {
        self.audience = audience;
    }

    /// An earlier run of this node may have opened connections up to `unix_ms`: first packets from then need a cookie, so
    /// that none of them opens a connection here, too.
    pub fn handle_restart(&mut self, unix_ms: u64) {
        self.entrance.handle_restart(unix_ms);
    }

    /// The settings of connections opened from now on.
    pub fn set_config(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    /// Takes a datagram: finds or opens its connection, decrypts in place, delivers messages.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &mut [u8],
        sink: &mut impl MessageSink,
    ) {
        self.handle_marked_datagram(now, from, Ecn::NotEct, datagram, sink);
    }

    /// The same, for who knows what the datagram's IP header carried (ECN).
    pub fn handle_marked_datagram(
        &mut self,
        now: Now,
        from: SocketAddr,
        ecn: Ecn,
        datagram: &mut [u8],
        sink: &mut impl MessageSink,
    ) {
        self.stats.datagrams_received += 1;
        let (id, kind) = match Header::parse(datagram) {
            Ok((header, kind)) => (header.connection, kind),
            Err(HeaderError::Version(_)) => return self.handle_other_version(now.mono, from, datagram),
            Err(HeaderError::Short(_) | HeaderError::Reserved) => {
                self.stats.malformed_header += 1;
                return;
            }
        };
        match (self.by_id.get(&id).copied(), kind) {
            (Some(key), _) => self.handle_known(now.mono, key, (from, ecn), datagram, sink),
            (None, PacketType::Initial) => self.handle_initial(now, from, datagram, sink),
            (None, PacketType::Data) => self.handle_unknown(now, id, from, datagram.len()),
            (None, _) => self.stats.unknown_connection += 1,
        }
    }

    fn handle_known(
        &mut self,
        now: Time,
        key: ConnectionKey,
        (from, ecn): (SocketAddr, Ecn),
        datagram: &mut [u8],
        sink: &mut impl MessageSink,
    ) {
        let Some(slot) = self.slots.get_mut(key.slot()) else { return };
        if slot.connection.handle(now, Some(from), ecn, datagram, sink) {
            let entropy = self.entropy.draw();
            slot.connection.handle_address_change(now, from, datagram.len(), &entropy);
        }
        self.settle_ids(now, key);
        self.touch(now, key);
        self.keep_receive_budget(now);
    }

    /// Runs the timers that are due.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((_, index)) = self.timers.peek().filter(|(at, _)| *at <= now) {
            if let Some(next) = self.timers.second().and_then(|next| self.slots.get(next)) {
                prefetch(next);
            }
            let Some(slot) = self.slots.get_mut(index) else {
                self.timers.remove(index);
                continue;
            };
            // What it was set for has come about: most timers of a connection that is answered.
            if let Some(due) = slot.connection.poll_timeout().filter(|due| *due > now) {
                self.timers.postpone(index, due);
                continue;
            }
            self.timers.remove(index);
            slot.connection.handle_timeout(now);
            let key = slot.connection.key();
            self.settle_ids(now, key);
            self.touch(now, key);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); may be earlier than needed. At once, while
    /// [`poll_transmit`](Self::poll_transmit) has not been called until it had nothing: timers are armed
    /// then.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.ready.is_empty() || !self.behind.is_empty() || !self.replies.is_empty() {
            return Some(Time::ZERO);
        }
        self.timers.peek().map(|(at, _)| at)
    }

    /// Writes the next datagram of any connection into `buffer`: its receiver and length, or nothing when
    /// there is nothing to send now.
    pub fn poll_transmit(&mut self, now: Time, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        self.poll_transmit_train(now, buffer, 1).map(|(remote, train)| (remote, train.bytes))
    }

    /// Writes the next datagrams of any connection into `buffer`, at most `datagrams_max`: their receiver and
    /// sizes, or nothing when there is nothing to send now.
    pub fn poll_transmit_train(
        &mut self,
        now: Time,
        buffer: &mut [u8],
        datagrams_max: usize,
    ) -> Option<(SocketAddr, Transmit)> {
        if self.since_reply < REPLY_AFTER_DATAGRAMS
            && let Some((to, train)) = self.poll_connections(now, buffer, datagrams_max)
        {
            self.since_reply += train.datagrams;
            return Some((to, train));
        }
        self.since_reply = 0;
        let Some((to, bytes)) = self.replies.poll(buffer) else {
            return self.poll_connections(now, buffer, datagrams_max);
        };
        self.stats.datagrams_sent += 1;
        Some((to, Transmit { bytes, segment_bytes: bytes, datagrams: 1, ecn: Ecn::NotEct }))
    }

    fn poll_connections(
        &mut self,
        now: Time,
        buffer: &mut [u8],
        datagrams_max: usize,
    ) -> Option<(SocketAddr, Transmit)> {
        loop {
            let is_behind = self.ready.is_empty() || (self.ahead >= AHEAD_MAX && !self.behind.is_empty());
            let list = if is_behind { &mut self.behind } else { &mut self.ready };
            let key = *list.front()?;
            let Some(slot) = self.slots.get_mut(key.slot()).filter(|slot| slot.connection.key() == key)
            else {
                list.pop_front();
                continue;
            };
            if let Some((to, bytes)) = slot.connection.poll_path_probe(now, buffer) {
                self.stats.datagrams_sent += 1;
                return Some((to, Transmit { bytes, segment_bytes: bytes, datagrams: 1, ecn: Ecn::NotEct }));
            }
            if let Some(train) = slot.connection.poll_transmit_train(now, buffer, datagrams_max) {
                let remote = slot.connection.remote();
                self.stats.datagrams_sent += train.datagrams as u64;
                self.ahead = if is_behind { 0 } else { self.ahead.saturating_add(1) };
                self.burst += train.datagrams;
                if !slot.connection.may_transmit(now) {
                    // While it is in the caches: it need not be asked again.
                    self.end_turn(is_behind);
                } else if self.burst >= BURST_DATAGRAMS {
                    self.burst = 0;
                    list.rotate_left(1);
                }
                return Some((remote, train));
            }
            self.end_turn(is_behind);
        }
    }

    /// The first connection of a list has nothing more to send.
    fn end_turn(&mut self, is_behind: bool) {
        self.burst = 0;
        let list = if is_behind { &mut self.behind } else { &mut self.ready };
        let Some(key) = list.pop_front() else { return };
        let list = if is_behind { &self.behind } else { &self.ready };
        self.prefetch_next(list);
        if let Some(slot) = self.slot_mut(key) {
            *(if is_behind { &mut slot.is_behind } else { &mut slot.is_ready }) = false;
            self.settle(key);
        }
    }

    /// The next event of any connection.
    pub fn poll_event(&mut self) -> Option<(ConnectionKey, Event)> {
        self.events.pop_front()
    }

    /// Queues a message on a connection.
    pub fn send(&mut self, key: ConnectionKey, channel: Channel, message: Bytes) -> Result<(), SendError> {
        self.send_with(key, channel, message, SendOptions::default()).map(drop)
    }

    /// Queues a message on which more is asked than its channel promises; see [`Connection::send_with`].
    pub fn send_with(
        &mut self,
        key: ConnectionKey,
        channel: Channel,
        message: Bytes,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let message = self.queue(key, channel, message, options)?;
        self.mark_ready(key);
        Ok(message)
    }

    /// Takes a message back; see [`Connection::cancel`].
    pub fn cancel(&mut self, key: ConnectionKey, message: MessageId) -> bool {
        let is_cancelled = self.slot_mut(key).is_some_and(|slot| slot.connection.cancel(message));
        if is_cancelled {
            self.take_events(key);
        }
        is_cancelled
    }

    /// Queues a message that can wait: its connection has its turn after those that have anything else to send, and now and
    /// then between them. Messages of one channel keep their order.
    pub fn send_behind(
        &mut self,
        key: ConnectionKey,
        channel: Channel,
        message: Bytes,
    ) -> Result<(), SendError> {
        self.queue(key, channel, message, SendOptions::default())?;
        let slot = self.slot_mut(key).ok_or(SendError::Closed)?;
        if !std::mem::replace(&mut slot.is_behind, true) {
            if self.behind.is_empty() {
                self.ahead = 0;
            }
            self.behind.push_back(key);
        }
        Ok(())
    }

    /// Queues a message, if there is room for it in what all connections have.
    fn queue(
        &mut self,
        key: ConnectionKey,
        channel: Channel,
        message: Bytes,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let slot = self.slots.get_mut(key.slot()).filter(|slot| slot.connection.key() == key);
        let slot = slot.ok_or(SendError::Closed)?;
        let connection = &mut slot.connection;
        if !self.send_budget.admits(connection.queued_bytes(), charge(message.len())) {
            self.stats.send_buffer_limit += 1;
            connection.refuse_until_writable();
            return Err(SendError::Full);
        }
        let result = connection.send_with(channel, message, options);
        slot.settle_queued(&mut self.send_budget);
        result
    }

    /// The application has taken `bytes` of what a connection delivered on `channel`.
    pub fn consume(&mut self, key: ConnectionKey, channel: Channel, bytes: usize) {
        if let Some(slot) = self.slot_mut(key) {
            slot.connection.consume(channel, bytes);
            if slot.connection.has_credit_update() {
                self.mark_ready(key);
            }
        }
    }

    /// Ends a connection.
    pub fn close(&mut self, now: Time, key: ConnectionKey, code: u16, reason: &str) {
        if let Some(slot) = self.slot_mut(key) {
            slot.connection.close(now, code, reason);
            self.touch(now, key);
        }
    }

    /// Ends a connection once what is queued on it has been acknowledged, or at `deadline`: see [`Connection::finish`].
    pub fn finish(&mut self, now: Time, key: ConnectionKey, code: u16, reason: &str, deadline: Time) {
        if let Some(slot) = self.slot_mut(key) {
            slot.connection.finish(now, code, reason, deadline);
            self.touch(now, key);
        }
    }

    /// Ends all connections in this way, and opens no new ones any more.
    pub fn finish_all(&mut self, now: Time, code: u16, reason: &str, deadline: Time) {
        self.is_finishing = true;
        let keys: Vec<_> = self.slots.iter().map(|(_, slot)| slot.connection.key()).collect();
        for key in keys {
            self.finish(now, key, code, reason, deadline);
        }
    }

    /// Ends all connections.
    pub fn close_all(&mut self, now: Time, code: u16, reason: &str) {
        let keys: Vec<_> = self.slots.iter().map(|(_, slot)| slot.connection.key()).collect();
        for key in keys {
            self.close(now, key, code, reason);
        }
    }

    /// A connection, if it is still there.
    #[must_use]
    pub fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.slots.get(key.slot()).map(|slot| &slot.connection).filter(|connection| connection.key() == key)
    }

    /// All connections, closing ones included.
    pub fn connections(&self) -> impl Iterator<Item = (&Connection, SocketAddr)> {
        self.slots.iter().map(|(_, slot)| (&slot.connection, slot.connection.remote()))
    }

    /// How many connections there are, closing ones included.
    #[must_use]
    pub fn connections_count(&self) -> usize {
        self.slots.len()
    }

    /// What all connections hold of messages that are to be sent, or are sent and not acknowledged, 64 bytes added for
    /// each.
    #[must_use]
    pub const fn queued_bytes(&self) -> u64 {
        self.send_budget.queued_bytes()
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    /// The sums of all connections' counters, past ones included.
    #[must_use]
    pub fn connection_stats(&self) -> ConnectionStats {
        let mut sum = self.past;
        for (_, slot) in &self.slots {
            sum.add(slot.connection.stats());
        }
        sum
    }

    fn slot_mut(&mut self, key: ConnectionKey) -> Option<&mut Slot> {
        self.slots.get_mut(key.slot()).filter(|slot| slot.connection.key() == key)
    }

    /// Something has happened to a connection: it may have events, and something to send.
    fn touch(&mut self, now: Time, key: ConnectionKey) {
        self.take_events(key);
        let Some(slot) = self.slots.get_mut(key.slot()).filter(|slot| slot.connection.key() == key) else {
            return;
        };
        if slot.is_half_open && (slot.connection.is_established() || slot.connection.is_closed()) {
            slot.is_half_open = false;
            self.half_open -= 1;
        }
        let held_bytes = slot.connection.receive_held_bytes();
        self.receive_budget.change(slot.held_bytes, held_bytes);
        slot.held_bytes = held_bytes;
        slot.settle_queued(&mut self.send_budget);
        if slot.is_ready {
            return;
        }
        if slot.connection.may_transmit(now) {
            slot.is_ready = true;
            self.ready.push_back(key);
        } else if let Some(at) = slot.connection.poll_timeout() {
            self.timers.set_at_latest(key.slot(), at);
        }
    }

    /// A connection may have ids to take up or to forget (`PROTOCOL.md`, section "Connection ids").
    fn settle_ids(&mut self, now: Time, key: ConnectionKey) {
        let Some(slot) = self.slots.get_mut(key.slot()).filter(|slot| slot.connection.key() == key) else {
            return;
        };
        while let Some(change) = slot.connection.poll_id_change(now) {
            match change {
                IdChange::Add { sequence, id } if self.by_id.contains_key(&id) => {
                    slot.connection.settle_id(sequence, None);
                }
                IdChange::Add { sequence, id } => {
                    self.by_id.insert(id, key);
                    slot.connection.settle_id(sequence, Some(reset_token(&self.reset_key, &id)));
                }
                IdChange::Remove(id) => {
                    self.by_id.remove(&id);
                }
            }
        }
    }

    /// Closes connections that take too much of what all of them have for receiving.
    fn keep_receive_budget(&mut self, now: Time) {
        if !self.receive_budget.is_exceeded() {
            return;
        }
        let holders = self.slots.iter().map(|(_, slot)| (slot.connection.key(), slot.held_bytes));
        for key in self.receive_budget.to_close(holders) {
            self.stats.receive_buffer_limit += 1;
            self.close(now, key, Code::Overloaded as u16, "the receive buffers are full");
        }
    }

    fn take_events(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.slots.get_mut(key.slot()) {
            while let Some(event) = slot.connection.poll_event() {
                self.events.push_back((key, event));
            }
        }
    }

    fn mark_ready(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.slot_mut(key)
            && !std::mem::replace(&mut slot.is_ready, true)
        {
            self.ready.push_back(key);
        }
    }

    /// A connection has nothing to send: arms its timer, or removes it.
    fn settle(&mut self, key: ConnectionKey) {
        self.take_events(key);
        let Some(slot) = self.slots.get_mut(key.slot()).filter(|slot| slot.connection.key() == key) else {
            return;
        };
        slot.settle_queued(&mut self.send_budget);
        if slot.connection.is_drained() {
            return self.remove(key);
        }
        if let Some(at) = slot.connection.poll_timeout() {
            self.timers.set_at_latest(key.slot(), at);
        }
    }

    fn remove(&mut self, key: ConnectionKey) {
        self.timers.remove(key.slot());
        let slot = self.slots.remove(key.slot());
        for id in slot.connection.mapped_ids() {
            // An id that was given up may have become somebody else's.
            if self.by_id.get(&id) == Some(&key) {
                self.by_id.remove(&id);
            }
        }

        self.receive_budget.change(slot.held_bytes, 0);
        self.send_budget.change(slot.queued_bytes, 0);
        self.by_id.remove(&slot.connection.id());
        self.past.add(slot.connection.stats());
        self.stats.connections_closed += 1;
    }
}
