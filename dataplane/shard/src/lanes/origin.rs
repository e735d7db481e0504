//! The origin's side: connections of this shard with documents elsewhere.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quantum::{ConnectionKey, Endpoint, SendError};
use wire::limits::SHARDS_MAX;
use wire::sync::{Channel, HandleChange, Server, handle_change, is_leave, renumber};

use super::message::{Body, Payload};
use super::{CREDIT_BYTES, Lanes, MESSAGE_OVERHEAD_BYTES};

/// Set in the numbers of documents that live elsewhere: this shard's own are smaller. No shard holds as many documents as
/// the bits between this and the owner's can tell apart, eight millions.
const ELSEWHERE: u32 = 1 << 31;

const _: () = assert!(SHARDS_MAX <= 1 << 8);

/// The number under which clients of this shard know document `number` of shard `owner`.
pub(super) const fn number_of(owner: u32, number: u32) -> u32 {
    ELSEWHERE | number << 8 | owner
}

/// A connection's documents that live elsewhere.
#[derive(Debug, Default)]
pub(super) struct Forward {
    handles: BTreeMap<u32, Place>,
    /// Those who know the connection.
    owners: Vec<Owner>,
    /// What the transport had no room for; no more than the windows of all owners.
    held: VecDeque<Held>,
}

/// Where the document of a handle lives.
#[derive(Debug)]
struct Place {
    owner: u32,
    epoch: u64,
    /// The owner has answered the join.
    is_open: bool,
}

/// A shard that knows the connection.
#[derive(Debug)]
struct Owner {
    shard: u32,
    /// Credit to give back.
    taken_bytes: usize,
}

/// A message that the transport had no room for.
#[derive(Debug)]
struct Held {
    owner: u32,
    channel: Channel,
    can_wait: bool,
    message: Bytes,
    /// What of the window it gives back.
    cost: usize,
}

impl Forward {
    /// Who owns the document of `handle`, to whom `message` goes. A handle that is left is forgotten.
    pub(super) fn owner(&mut self, handle: u32, message: &[u8]) -> Option<u32> {
        let owner = self.handles.get(&handle)?.owner;
        if is_leave(message) {
            self.handles.remove(&handle);
        }
        Some(owner)
    }

    pub(super) fn has_room_for(&self, handle: u32, handles_max: usize) -> bool {
        self.handles.len() < handles_max || self.handles.contains_key(&handle)
    }

    /// A join goes to `owner`; true: it is the first that this one hears of the connection.
    pub(super) fn open(&mut self, handle: u32, owner: u32, epoch: u64) -> bool {
        self.handles.insert(handle, Place { owner, epoch, is_open: false });
        let is_new = self.owners.iter().all(|known| known.shard != owner);
        if is_new {
            self.owners.push(Owner { shard: owner, taken_bytes: 0 });
        }
        is_new
    }

    /// A handle is not about a document elsewhere any more.
    pub(super) fn forget(&mut self, handle: u32) {
        self.handles.remove(&handle);
    }

    /// Follows what the owner has told the client about a handle. Answers with the advice to give.
    fn note(&mut self, handle: u32, change: HandleChange) -> Option<Server<'static>> {
        let place = self.handles.get_mut(&handle)?;
        match change {
            HandleChange::Opened if !place.is_open => {
                place.is_open = true;
                return Some(Server::Advice { handle, epoch: place.epoch, shard: place.owner });
            }
            HandleChange::Opened => {}
            // Something else about an open document may be refused.
            HandleChange::Refused if place.is_open => {}
            HandleChange::Refused | HandleChange::Closed => self.forget(handle),
        }
        None
    }

    /// The transport has taken a message of `owner`; answers with the credit to give it.
    fn take_credit(&mut self, owner: u32, cost: usize) -> Option<u32> {
        let owner = self.owners.iter_mut().find(|known| known.shard == owner)?;
        owner.taken_bytes += cost;
        if owner.taken_bytes < CREDIT_BYTES {
            return None;
        }
        u32::try_from(std::mem::take(&mut owner.taken_bytes)).ok()
    }
}

impl Lanes {
    /// Takes an owner's message to a connection of this shard.
    pub(crate) fn deliver(
        &mut self,
        endpoint: &mut Endpoint,
        key: ConnectionKey,
        owner: u32,
        payload: &Payload,
    ) {
        let Some(forward) = self.forwards.get_mut(&key.as_u64()) else {
            self.stats.stale += 1;
            return;
        };
        let bytes = payload.bytes();
        // A sibling's message is well formed.
        let Some(renumbered) = renumber(bytes, |number| number_of(owner, number)) else { return };
        let message = self.buffers.join(renumbered.head(), renumbered.rest);
        let (channel, can_wait) = (payload.channel, payload.can_wait);
        let advice = handle_change(bytes).and_then(|(handle, change)| forward.note(handle, change));
        let cost = bytes.len() + MESSAGE_OVERHEAD_BYTES;
        self.pass_on(endpoint, key, Held { owner, channel, can_wait, message, cost });
        if let Some(advice) = advice {
            self.stats.advised += 1;
            let message = Bytes::from(advice.to_vec());
            let advice = Held { owner, channel: Channel::Sync, can_wait: false, message, cost: 0 };
            self.pass_on(endpoint, key, advice);
        }
    }

    /// The transport takes more for this connection.
    pub(crate) fn handle_writable(&mut self, endpoint: &mut Endpoint, key: ConnectionKey) {
        if self.forwards.is_empty() {
            return;
        }
        let Some(forward) = self.forwards.get_mut(&key.as_u64()) else { return };
        let mut held = std::mem::take(&mut forward.held);
        while let Some(next) = held.pop_front() {
            self.pass_on(endpoint, key, next);
            let Some(forward) = self.forwards.get_mut(&key.as_u64()) else { return };
            if let Some(refused) = forward.held.pop_front() {
                held.push_front(refused);
                forward.held = held;
                return;
            }
        }
    }

    /// A connection of this shard is gone.
    pub(crate) fn handle_closed(&mut self, key: ConnectionKey) {
        if self.forwards.is_empty() {
            return;
        }
        let Some(forward) = self.forwards.remove(&key.as_u64()) else { return };
        for owner in forward.owners {
            self.push(owner.shard, key.as_u64(), Body::Close);
        }
    }

    /// Hands the transport a message, or keeps it behind those that wait already.
    fn pass_on(&mut self, endpoint: &mut Endpoint, key: ConnectionKey, message: Held) {
        let Some(forward) = self.forwards.get_mut(&key.as_u64()) else { return };
        if !forward.held.is_empty() {
            self.stats.held += 1;
            forward.held.push_back(message);
            return;
        }
        let Held { owner, channel, can_wait, message: bytes, cost } = message;
        let sent = if can_wait {
            endpoint.send_behind(key, channel, bytes.clone())
        } else {
            endpoint.send(key, channel, bytes.clone())
        };
        match sent {
            Ok(()) => {
                if let Some(credit) = forward.take_credit(owner, cost) {
                    self.push(owner, key.as_u64(), Body::Credit(credit));
                }
            }
            // Its end is on the way to the owners.
            Err(SendError::Closed) => {}
            Err(SendError::Full | SendError::TooLarge { .. } | SendError::Deadline) => {
                self.stats.held += 1;
                forward.held.push_back(Held { owner, channel, can_wait, message: bytes, cost });
            }
        }
    }
}
