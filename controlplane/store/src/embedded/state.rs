//! The map itself and the operations that change it; pure.

use std::collections::{BTreeMap, BTreeSet};

use wire::Malformed;
use wire::varint::{Reader, put_bytes, put_varint};

use crate::{Change, Compare, Entry, LeaseId, Listing, StoreError};

/// The most that keys and values may take together.
pub(super) const LIVE_BYTES_MAX: u64 = 1 << 30;

/// What an entry or a lease takes beside its bytes, roughly: so that many small ones count too.
const OVERHEAD_BYTES: u64 = 64;

/// One step from one state to the next, as it is logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Op {
    /// The revision, where a compacted file begins.
    Revision(u64),
    /// A value written.
    Put(Entry),
    /// A key deleted.
    Delete { revision: u64, key: String },
    /// A lease begun or kept alive.
    Lease { id: u64, ttl_s: u32, expires_unix_ms: u64 },
    /// A lease ended; its keys were deleted before.
    LeaseEnd { id: u64 },
}

impl Op {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Revision(revision) => {
                out.push(0);
                put_varint(out, *revision);
            }
            Self::Put(entry) => {
                out.push(1);
                put_varint(out, entry.revision);
                put_bytes(out, entry.key.as_bytes());
                put_bytes(out, &entry.value);
                put_varint(out, entry.lease.map_or(0, |lease| lease.0));
            }
            Self::Delete { revision, key } => {
                out.push(2);
                put_varint(out, *revision);
                put_bytes(out, key.as_bytes());
            }
            Self::Lease { id, ttl_s, expires_unix_ms } => {
                out.push(3);
                put_varint(out, *id);
                put_varint(out, u64::from(*ttl_s));
                put_varint(out, *expires_unix_ms);
            }
            Self::LeaseEnd { id } => {
                out.push(4);
                put_varint(out, *id);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = reader.malformed("operation");
        Ok(match reader.u8("operation")? {
            0 => Self::Revision(reader.varint("revision")?),
            1 => Self::Put(Entry {
                revision: reader.varint("revision")?,
                key: reader.string("key")?.to_owned(),
                value: reader.bytes("value")?.to_vec(),
                lease: Some(reader.varint("lease")?).filter(|&id| id > 0).map(LeaseId),
            }),
            2 => Self::Delete { revision: reader.varint("revision")?, key: reader.string("key")?.to_owned() },
            3 => Self::Lease {
                id: reader.varint("lease")?,
                ttl_s: reader.varint32("ttl")?,
                expires_unix_ms: reader.varint("expiry")?,
            },
            4 => Self::LeaseEnd { id: reader.varint("lease")? },
            _ => return Err(kind),
        })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Lease {
    ttl_s: u32,
    expires_unix_ms: u64,
    keys: BTreeSet<String>,
}

/// The map, its leases, and the operations made since they were last taken.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct State {
    revision: u64,
    entries: BTreeMap<String, Entry>,
    leases: BTreeMap<u64, Lease>,
    /// When each lease ends, Unix milliseconds, and which: the soonest first.
    ends: BTreeSet<(u64, u64)>,
    live_bytes: u64,
    made: Vec<Op>,
}

fn size(entry: &Entry) -> u64 {
    (entry.key.len() + entry.value.len()) as u64 + OVERHEAD_BYTES
}

impl State {
    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) const fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// The operations made since the last call: to be logged before anybody is answered.
    pub(super) fn take_made(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.made)
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).cloned()
    }

    pub(super) fn list(&self, prefix: &str) -> Listing {
        let range = self.entries.range(prefix.to_owned()..);
        let entries = range.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, entry)| entry.clone());
        Listing { revision: self.revision, entries: entries.collect() }
    }

    fn check(&self, key: &str, compare: Compare) -> Result<(), StoreError> {
        let held = self.entries.get(key).map(|entry| entry.revision);
        let holds = match compare {
            Compare::Any => true,
            Compare::Absent => held.is_none(),
            Compare::Revision(revision) => held == Some(revision),
        };
        if holds { Ok(()) } else { Err(StoreError::Conflict { key: key.to_owned() }) }
    }

    pub(super) fn put(
        &mut self,
        key: String,
        value: Vec<u8>,
        compare: Compare,
        lease: Option<LeaseId>,
    ) -> Result<u64, StoreError> {
        self.check(&key, compare)?;
        if let Some(LeaseId(id)) = lease.filter(|lease| !self.leases.contains_key(&lease.0)) {
            return Err(StoreError::LeaseGone(id));
        }
        if self.live_bytes + (key.len() + value.len()) as u64 + OVERHEAD_BYTES > LIVE_BYTES_MAX {
            return Err(StoreError::Full { bytes: self.live_bytes });
        }
        let revision = self.revision + 1;
        self.make(Op::Put(Entry { key, value, revision, lease }));
        Ok(revision)
    }

    pub(super) fn delete(&mut self, key: &str, compare: Compare) -> Result<bool, StoreError> {
        self.check(key, compare)?;
        let present = self.entries.contains_key(key);
        if present {
            self.make(Op::Delete { revision: self.revision + 1, key: key.to_owned() });
        }
        Ok(present)
    }

    pub(super) fn lease_grant(&mut self, ttl_s: u32, now_unix_ms: u64) -> Result<LeaseId, StoreError> {
        if self.live_bytes + OVERHEAD_BYTES > LIVE_BYTES_MAX {
            return Err(StoreError::Full { bytes: self.live_bytes });
        }
        let id = self.revision + 1;
        self.make(Op::Lease { id, ttl_s, expires_unix_ms: now_unix_ms + u64::from(ttl_s) * 1_000 });
        Ok(LeaseId(id))
    }

    pub(super) fn lease_keep_alive(&mut self, lease: LeaseId, now_unix_ms: u64) -> Result<(), StoreError> {
        let held = self.leases.get(&lease.0).ok_or(StoreError::LeaseGone(lease.0))?;
        let (id, ttl_s) = (lease.0, held.ttl_s);
        self.make(Op::Lease { id, ttl_s, expires_unix_ms: now_unix_ms + u64::from(ttl_s) * 1_000 });
        Ok(())
    }

    pub(super) fn lease_revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        let held = self.leases.get(&lease.0).ok_or(StoreError::LeaseGone(lease.0))?;
        for key in held.keys.clone() {
            self.make(Op::Delete { revision: self.revision + 1, key });
        }
        self.make(Op::LeaseEnd { id: lease.0 });
        Ok(())
    }

    /// Ends the leases whose time is over, at most `count_max` of them.
    pub(super) fn expire(&mut self, now_unix_ms: u64, count_max: usize) {
        let over = self.ends.range(..=(now_unix_ms, u64::MAX)).take(count_max);
        let over: Vec<_> = over.map(|&(_, id)| LeaseId(id)).collect();
        for lease in over {
            self.lease_revoke(lease).expect("the lease was found here");
        }
    }

    /// When the next lease ends, Unix milliseconds.
    pub(super) fn next_expiry_unix_ms(&self) -> Option<u64> {
        self.ends.first().map(|&(expires_unix_ms, _)| expires_unix_ms)
    }

    fn make(&mut self, op: Op) {
        self.apply(&op);
        self.made.push(op);
    }

    /// Takes one step; also how a log is replayed.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Revision(revision) => self.revision = *revision,
            Op::Put(entry) => {
                self.remove(&entry.key);
                self.revision = self.revision.max(entry.revision);
                self.live_bytes += size(entry);
                if let Some(lease) = entry.lease.and_then(|lease| self.leases.get_mut(&lease.0)) {
                    lease.keys.insert(entry.key.clone());
                }
                self.entries.insert(entry.key.clone(), entry.clone());
            }
            Op::Delete { revision, key } => {
                self.remove(key);
                self.revision = *revision;
            }
            Op::Lease { id, ttl_s, expires_unix_ms } => {
                self.revision = self.revision.max(*id);
                let (ttl_s, expires_unix_ms) = (*ttl_s, *expires_unix_ms);
                let lease = self.leases.entry(*id).or_insert_with(|| {
                    self.live_bytes += OVERHEAD_BYTES;
                    Lease { ttl_s, expires_unix_ms, keys: BTreeSet::new() }
                });
                self.ends.remove(&(lease.expires_unix_ms, *id));
                self.ends.insert((expires_unix_ms, *id));
                lease.expires_unix_ms = expires_unix_ms;
            }
            Op::LeaseEnd { id } => {
                if let Some(lease) = self.leases.remove(id) {
                    self.ends.remove(&(lease.expires_unix_ms, *id));
                    self.live_bytes -= OVERHEAD_BYTES;
                }
            }
        }
    }

    fn remove(&mut self, key: &str) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.live_bytes -= size(&entry);
        if let Some(lease) = entry.lease.and_then(|lease| self.leases.get_mut(&lease.0)) {
            lease.keys.remove(key);
        }
    }

    /// The shortest way from nothing to this state.
    pub(super) fn snapshot(&self) -> impl Iterator<Item = Op> {
        let lease = |(&id, lease): (&u64, &Lease)| Op::Lease {
            id,
            ttl_s: lease.ttl_s,
            expires_unix_ms: lease.expires_unix_ms,
        };
        let entries = self.entries.values().cloned().map(Op::Put);
        std::iter::once(Op::Revision(self.revision)).chain(self.leases.iter().map(lease)).chain(entries)
    }
}

/// What watchers are told of an operation.
pub(super) fn change_of(op: Op) -> Option<Change> {
    match op {
        Op::Put(Entry { key, value, revision, .. }) => Some(Change { revision, key, value: Some(value) }),
        Op::Delete { revision, key } => Some(Change { revision, key, value: None }),
        Op::Revision(_) | Op::Lease { .. } | Op::LeaseEnd { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replayed_or_compacted_state_differs() {
        let mut state = State::default();
        let lease = state.lease_grant(10, 1_000).unwrap();
        state.put("a/1".into(), b"one".to_vec(), Compare::Absent, Some(lease)).unwrap();
        state.put("a/2".into(), b"two".to_vec(), Compare::Any, None).unwrap();
        state.put("a/2".into(), b"three".to_vec(), Compare::Any, Some(lease)).unwrap();
        state.delete("a/1", Compare::Any).unwrap();
        state.lease_keep_alive(lease, 5_000).unwrap();
        let mut bytes = Vec::new();
        state.take_made().iter().for_each(|op| op.encode(&mut bytes));
        let mut replayed = State::default();
        let mut reader = Reader::new(&bytes);
        while !reader.is_empty() {
            replayed.apply(&Op::decode(&mut reader).unwrap());
        }
        assert_eq!(replayed, state);
        let mut compacted = State::default();
        state.snapshot().for_each(|op| compacted.apply(&op));
        assert_eq!(compacted, state);
        assert_eq!(state.next_expiry_unix_ms(), Some(15_000));
        state.expire(14_999, 9);
        assert!(state.get("a/2").is_some());
        state.expire(15_000, 9);
        assert_eq!((state.get("a/2"), state.live_bytes(), state.next_expiry_unix_ms()), (None, 0, None));
    }
}
