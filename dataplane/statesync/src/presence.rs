//! Who is here: one document's presence entries, latest wins.
//!
//! An entry belongs to the connection that announced its client id; another session cannot change it. It
//! goes away with its connection, at the clock that it had, and the clock is forgotten: a client that comes
//! back announces the same clock again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use wire::limits::PRESENCE_ENTRIES_MAX;
use wire::sync::{PresenceEntry, Server};
use wire::{Guuid, Time};

use crate::config::{GONE_ENTRIES_MAX, Limits, PRESENCE_MESSAGE_BYTES, PRESENCE_MESSAGE_ENTRIES};
use crate::connection::{PresenceUse, SubscriberKey};

#[derive(Debug)]
struct Held {
    owner: SubscriberKey,
    session_id: Guuid,
    clock: u32,
    state: Box<[u8]>,
}

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Taken. `released`: what a connection no longer owns.
    Taken { released: Option<(SubscriberKey, PresenceUse)> },
    /// Another session owns the client id.
    Spoofed,
    /// Not newer than what is known.
    Stale,
    /// Over a limit.
    Refused,
}

/// The presence of one document.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    entries: BTreeMap<u64, Held>,
    /// Clients to broadcast; with a clock: gone at it.
    changed: BTreeMap<u64, Option<u32>>,
    gone: VecDeque<(u64, u32)>,
    last_broadcast: Option<Time>,
    /// When the next broadcast is due; kept by the conductor's queue too.
    pub(crate) due: Option<Time>,
}

impl Presence {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Nobody is left to tell. Answers with the broadcast that was due.
    pub(crate) fn forget_changes(&mut self) -> Option<Time> {
        self.changed.clear();
        self.due.take()
    }

    /// When changes may be broadcast: a tick after the last time, or at once.
    pub(crate) fn next_broadcast(&self, now: Time, tick: wire::Span) -> Time {
        self.last_broadcast.map_or(now, |last| (last + tick).max(now))
    }

    /// Takes one entry from a connection that uses `used` of its allowance.
    pub(crate) fn update(
        &mut self,
        owner: SubscriberKey,
        session_id: Guuid,
        entry: &PresenceEntry<'_>,
        used: &mut PresenceUse,
        limits: &Limits,
    ) -> Verdict {
        let held = self.entries.get(&entry.client);
        let gone = entry.state.is_empty();
        if let Some(held) = held {
            if held.session_id != session_id {
                return Verdict::Spoofed;
            }
            let newer = entry.clock > held.clock;
            let again = entry.clock == held.clock && (gone || held.owner != owner);
            if !(newer || again) {
                return Verdict::Stale;
            }
        } else if gone {
            return Verdict::Stale;
        }
        let own = held.filter(|held| held.owner == owner).map_or(0, |held| held.state.len());
        let is_new = held.is_none_or(|held| held.owner != owner);
        if !gone {
            let over = is_new && used.clients >= limits.presence_clients_per_connection_max
                || used.bytes - own + entry.state.len() > limits.presence_bytes_per_connection_max
                || held.is_none() && self.entries.len() >= PRESENCE_ENTRIES_MAX;
            if over {
                return Verdict::Refused;
            }
        }
        let previous = self.entries.remove(&entry.client);
        let released = previous
            .filter(|previous| previous.owner != owner)
            .map(|previous| (previous.owner, PresenceUse { clients: 1, bytes: previous.state.len() }));
        if !is_new {
            used.release(PresenceUse { clients: 1, bytes: own });
        }
        if gone {
            self.note_gone(entry.client, entry.clock);
        } else {
            used.clients += 1;
            used.bytes += entry.state.len();
            let state = Box::from(entry.state);
            self.entries.insert(entry.client, Held { owner, session_id, clock: entry.clock, state });
            self.changed.insert(entry.client, None);
        }
        Verdict::Taken { released }
    }

    /// Removes all entries of a connection. Answers with what it no longer owns.
    pub(crate) fn remove_owner(&mut self, owner: SubscriberKey) -> PresenceUse {
        let mut released = PresenceUse::default();
        let mut gone = Vec::new();
        self.entries.retain(|&client, held| {
            if held.owner != owner {
                return true;
            }
            released.clients += 1;
            released.bytes += held.state.len();
            gone.push((client, held.clock));
            false
        });
        for (client, clock) in gone {
            self.note_gone(client, clock);
        }
        released
    }

    fn note_gone(&mut self, client: u64, clock: u32) {
        self.changed.insert(client, Some(clock));
        if self.gone.len() >= GONE_ENTRIES_MAX {
            self.gone.pop_front();
        }
        self.gone.push_back((client, clock));
    }

    /// Whether something waits to be broadcast.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Encodes what changed since the last time, under the node's number for the document.
    pub(crate) fn broadcast(&mut self, now: Time, document: u32) -> Vec<Bytes> {
        self.last_broadcast = Some(now);
        self.due = None;
        let changed = std::mem::take(&mut self.changed);
        let entries = changed.iter().filter_map(|(&client, gone)| match gone {
            Some(clock) => Some(PresenceEntry { client, clock: *clock, state: &[] }),
            None => self.entry(client),
        });
        encode(document, entries)
    }

    /// Encodes all who are here.
    pub(crate) fn all(&self, document: u32) -> Vec<Bytes> {
        encode(document, self.entries.keys().filter_map(|&client| self.entry(client)))
    }

    /// The same, after those who went away lately: for a subscriber who missed broadcasts.
    pub(crate) fn all_and_gone(&self, document: u32) -> Vec<Bytes> {
        let gone = self.gone.iter().filter(|(client, _)| !self.entries.contains_key(client));
        let gone = gone.map(|&(client, clock)| PresenceEntry { client, clock, state: &[] });
        encode(document, gone.chain(self.entries.keys().filter_map(|&client| self.entry(client))))
    }

    fn entry(&self, client: u64) -> Option<PresenceEntry<'_>> {
        let held = self.entries.get(&client)?;
        Some(PresenceEntry { client, clock: held.clock, state: &held.state })
    }
}

/// Encodes entries into as few messages as their limits allow.
fn encode<'a>(document: u32, entries: impl Iterator<Item = PresenceEntry<'a>>) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut finish = |batch: &mut Vec<PresenceEntry<'a>>| {
        let entries = std::mem::take(batch);
        messages.push(Bytes::from(Server::Presence { document, entries }.to_vec()));
    };
    for entry in entries {
        bytes += entry.state.len();
        batch.push(entry);
        if bytes >= PRESENCE_MESSAGE_BYTES || batch.len() >= PRESENCE_MESSAGE_ENTRIES {
            finish(&mut batch);
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        finish(&mut batch);
    }
    messages
}
