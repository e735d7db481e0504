//! All connections of one shard's socket.

mod ahead;
mod entrance;
mod limits;
mod messages;
mod settle;
mod transmit;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;
use wire::{Ecn, Guuid, Header, HeaderError, PacketType, TicketKeyRing, Time, prefetch};

use self::entrance::Entrance;
pub use self::limits::EndpointLimits;
use crate::config::Config;
use crate::connection::{Connection, ConnectionKey, Event, MessageSink, Now};
use crate::id_hash::IdHashBuilder;
use crate::keys::EntropyPool;
use crate::receive_budget::ReceiveBudget;
use crate::reset::ResetKey;
use crate::send_budget::SendBudget;
use crate::stateless::StatelessReplies;
use crate::stats::{ConnectionStats, EndpointStats};
use crate::timer_heap::TimerHeap;

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

    /// The next event of any connection.
    pub fn poll_event(&mut self) -> Option<(ConnectionKey, Event)> {
        self.events.pop_front()
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
}
