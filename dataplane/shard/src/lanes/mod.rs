//! Documents that a sibling owns: what their clients say here goes to it over a lane, and what it answers comes back.
//!
//! A connection lives on the shard where its packets arrive, a document on the shard that owns its partition. To the
//! owner, a connection of a sibling is a subscriber like any other. Three limits, each a credit, keep what is under way
//! bounded without anything reliable being dropped:
//!
//! - from a client to the owner: the transport's own credit, which a connection gets back when its message has gone into
//!   the lane;
//! - from the owner to a client: a window of bytes for each connection ([`SUBSCRIBER_WINDOW_BYTES`]), given back once the
//!   transport at the origin has taken them; while it is used up the subscriber is blocked, as by a transport that is full;
//! - what waits for one sibling: past the limits of [`Lane`](lane::Lane) all its subscribers are blocked until half is gone.

mod buffers;
mod figures;
mod hash;
mod lane;
mod message;
mod origin;
mod owner;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use quantum::ConnectionKey;
use statesync::{Placement, StateSync, SubscriberKey};
use wire::sync::{Channel, Client, client_handle, is_join};

pub(crate) use message::{Body as LaneBody, Credit};
pub use message::{LANE_INLINE_BYTES, LaneMessage};

use self::buffers::Buffers;
use self::hash::BuildKeyHasher;
use self::lane::{FORWARD_BYTES_MAX, Lane};
use self::message::{Body, Payload};
use self::origin::Forward;
use self::owner::Remote;

/// Bytes for one connection that its documents' owner may have under way to it, each message counted with
/// [`MESSAGE_OVERHEAD_BYTES`] more; one message may go beyond.
const SUBSCRIBER_WINDOW_BYTES: usize = 256 << 10;
/// They are given back in portions of so many.
const CREDIT_BYTES: usize = SUBSCRIBER_WINDOW_BYTES / 4;
/// What a message costs beside its bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 64;
/// Documents of siblings open on one connection; for more, its client is sent to their owners.
const FORWARDS_PER_CONNECTION_MAX: usize = 1_024;

const _: () = assert!(CREDIT_BYTES * 2 <= SUBSCRIBER_WINDOW_BYTES);

/// What was done and is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LaneStats {
    /// Messages put into lanes, of all kinds.
    pub(crate) messages_sent: u64,
    /// Bytes of the clients' and the owners' messages among them.
    pub(crate) bytes_sent: u64,
    /// Messages too long for a slot.
    pub(crate) boxed: u64,
    /// Messages taken out of lanes.
    pub(crate) messages_received: u64,
    /// Clients' messages passed on to the owner of their document.
    pub(crate) forwarded: u64,
    /// Clients told where their document lives.
    pub(crate) advised: u64,
    /// Times that a subscriber's window was used up.
    pub(crate) window_exhausted: u64,
    /// Times that a subscriber found the queue to its shard full.
    pub(crate) queue_full: u64,
    /// Messages kept because the connection took no more.
    pub(crate) held: u64,
    /// Messages for connections that are gone.
    pub(crate) stale: u64,
    /// Connections closed because too much waited for a sibling.
    pub(crate) overloaded: u64,
}

/// What became of a client's message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// It is for this shard.
    Here,
    /// It waits for the owner's lane; its credit is given back when it goes.
    Forwarded,
    /// Too much waits already: the connection must end.
    Overloaded,
}

/// The subscriber takes no more at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Blocked;

/// Both sides of a shard's lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    shard: u32,
    placement: Option<Placement>,
    /// To each shard of the node; the one to this shard stays empty.
    lanes: Vec<Lane>,
    /// Connections of this shard with documents elsewhere.
    forwards: HashMap<u64, Forward, BuildKeyHasher>,
    /// Connections elsewhere with documents of this shard.
    remotes: HashMap<SubscriberKey, Remote, BuildKeyHasher>,
    buffers: Buffers,
    stats: LaneStats,
}

impl Lanes {
    pub(crate) fn new(shard: u32, shards: u32) -> Self {
        Self {
            shard,
            placement: None,
            lanes: (0..shards).map(|_| Lane::default()).collect(),
            forwards: HashMap::default(),
            remotes: HashMap::default(),
            buffers: Buffers::default(),
            stats: LaneStats::default(),
        }
    }

    pub(crate) fn set_placement(&mut self, placement: Placement) {
        self.placement = Some(placement);
    }

    /// The next message for a sibling. A client's message gives its connection credit: its bytes on this channel.
    pub(crate) fn poll(&mut self, to: u32) -> Option<(LaneMessage, Option<Credit>)> {
        let message = self.lanes.get_mut(to as usize)?.pop()?;
        self.stats.messages_sent += 1;
        let credit = match &message.body {
            Body::FromClient(payload) => {
                let key = ConnectionKey::from_u64(message.connection);
                Some((key, payload.channel, payload.bytes().len()))
            }
            _ => None,
        };
        Some((message, credit))
    }

    /// Takes a sibling's message apart: the connection that it is about, and what it says.
    pub(crate) fn receive(&mut self, message: LaneMessage) -> (u64, Body) {
        self.stats.messages_received += 1;
        (message.connection, message.body)
    }

    /// Whether something waits for a sibling.
    pub(crate) fn is_waiting(&self, to: u32) -> bool {
        self.lanes.get(to as usize).is_some_and(|lane| lane.len() > 0)
    }

    /// A subscriber that found no room and may try again.
    pub(crate) fn poll_unblocked(&mut self, to: u32) -> Option<SubscriberKey> {
        let lane = self.lanes.get_mut(to as usize)?;
        while let Some(key) = lane.unblock() {
            if self.remotes.get_mut(&key).is_some_and(Remote::lane_has_room) {
                return Some(key);
            }
        }
        None
    }

    fn push(&mut self, to: u32, connection: u64, body: Body) {
        if let Body::FromClient(payload) | Body::ToClient(payload) = &body {
            self.stats.bytes_sent += payload.bytes().len() as u64;
            self.stats.boxed += u64::from(payload.is_boxed());
        }
        self.lanes[to as usize].push(LaneMessage { connection, body });
    }
}

/// Where a client's message belongs.
impl Lanes {
    /// Takes a client's message if it is about a document that a sibling owns.
    pub(crate) fn forward(
        &mut self,
        sync: &StateSync,
        key: ConnectionKey,
        channel: Channel,
        message: &[u8],
    ) -> Taken {
        let is_for_documents = matches!(channel, Channel::Sync | Channel::Presence);
        if self.lanes.len() < 2 || !is_for_documents {
            return Taken::Here;
        }
        let owner = if is_join(message) {
            self.route_join(sync, key, message)
        } else if self.forwards.is_empty() {
            None
        } else {
            let forward = self.forwards.get_mut(&key.as_u64());
            forward.zip(client_handle(message)).and_then(|(forward, handle)| forward.owner(handle, message))
        };
        let Some(owner) = owner else { return Taken::Here };
        if self.lanes[owner as usize].queue_bytes() + message.len() > FORWARD_BYTES_MAX {
            self.stats.overloaded += 1;
            return Taken::Overloaded;
        }
        self.stats.forwarded += 1;
        self.push(owner, key.as_u64(), Body::FromClient(Payload::new(channel, false, message)));
        Taken::Forwarded
    }

    /// The sibling that owns the document of this join; none: this shard answers it.
    fn route_join(&mut self, sync: &StateSync, key: ConnectionKey, message: &[u8]) -> Option<u32> {
        let Ok(Client::Join(join)) = Client::decode(message) else { return None };
        let (_, owner) = self.placement.as_ref()?.locate(join.document);
        let (owner, epoch) = (self.placement.as_ref()?.sibling(owner), owner.epoch);
        let owner = owner.filter(|&owner| (owner as usize) < self.lanes.len());
        let connection = key.as_u64();
        let Some(owner) = owner else {
            if let Some(forward) = self.forwards.get_mut(&connection) {
                forward.forget(join.handle);
            }
            return None;
        };
        let session = sync.session_of(SubscriberKey { origin: self.shard, connection })?;
        let forward = self.forwards.entry(connection).or_default();
        if !forward.has_room_for(join.handle, FORWARDS_PER_CONNECTION_MAX) {
            return None;
        }
        if forward.open(join.handle, owner, epoch) {
            self.push(owner, connection, Body::Open(Box::new(session.clone())));
        }
        Some(owner)
    }
}
