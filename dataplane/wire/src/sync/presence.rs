//! Presence, which both sides say in the same way.

use super::tag;
use crate::limits::{PRESENCE_ENTRIES_MAX, PRESENCE_STATE_BYTES_MAX};
use crate::varint::{Malformed, Reader, put_bytes, put_varint};

/// One client's presence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PresenceEntry<'a> {
    /// The Yjs client id, or any number that the client keeps for itself.
    pub client: u64,
    /// Grows with each change.
    pub clock: u32,
    /// The state, opaque to the node; empty: gone.
    pub state: &'a [u8],
}

pub(super) fn put_presence(out: &mut Vec<u8>, place: u32, entries: &[PresenceEntry<'_>]) {
    out.push(tag::PRESENCE);
    put_varint(out, u64::from(place));
    put_varint(out, entries.len() as u64);
    for entry in entries {
        put_varint(out, entry.client);
        put_varint(out, u64::from(entry.clock));
        put_bytes(out, entry.state);
    }
}

pub(super) fn presence_entries<'a>(reader: &mut Reader<'a>) -> Result<Vec<PresenceEntry<'a>>, Malformed> {
    let bad = reader.malformed("presence entries");
    let count = reader.varint("presence entries")?;
    // An entry takes three bytes at least: a count beyond that is refused before memory is taken for it.
    if count > PRESENCE_ENTRIES_MAX as u64 || count > reader.remaining() as u64 / 3 {
        return Err(bad);
    }
    (0..count)
        .map(|_| {
            let client = reader.varint("presence client")?;
            let clock = reader.varint32("presence clock")?;
            let bad = reader.malformed("presence state");
            let state = reader.bytes("presence state")?;
            if state.len() > PRESENCE_STATE_BYTES_MAX {
                return Err(bad);
            }
            Ok(PresenceEntry { client, clock, state })
        })
        .collect()
}
