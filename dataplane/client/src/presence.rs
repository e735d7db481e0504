//! The presence that this client announces in one document.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::limits::{PRESENCE_ENTRIES_MAX, PRESENCE_STATE_BYTES_MAX};
use wire::sync::{Client, PresenceEntry};

use crate::error::ClientError;

/// The most entries that are announced through one document: a message's worth less room for others.
const OWN_ENTRIES_MAX: usize = PRESENCE_ENTRIES_MAX / 2;
/// The most bytes of states in one message.
const MESSAGE_STATE_BYTES_MAX: usize = 256 << 10;

const _: () = assert!(OWN_ENTRIES_MAX < PRESENCE_ENTRIES_MAX);
const _: () = assert!(MESSAGE_STATE_BYTES_MAX > PRESENCE_STATE_BYTES_MAX);
const _: () = assert!(MESSAGE_STATE_BYTES_MAX * 2 < wire::limits::MESSAGE_BYTES_MAX);

#[derive(Debug)]
struct Own {
    clock: u32,
    state: Bytes,
    dirty: bool,
}

/// Only the latest state of each entry counts: what was not sent yet is replaced by what is newer.
#[derive(Default, Debug)]
pub(crate) struct OwnPresence {
    entries: BTreeMap<u64, Own>,
    dirty: bool,
    /// The highest clock of an entry that is forgotten: one that comes back must be newer.
    forgotten_clock: u32,
}

impl OwnPresence {
    /// Sets a state (empty: gone) under the next clock, or under `clock` unless a newer one is known.
    /// True when there is something to send.
    pub(crate) fn set(&mut self, client: u64, clock: Option<u32>, state: Bytes) -> Result<bool, ClientError> {
        if state.len() > PRESENCE_STATE_BYTES_MAX {
            return Err(ClientError::PresenceTooLarge(state.len()));
        }
        let known = self.entries.get(&client);
        if known.is_none() && self.entries.len() >= OWN_ENTRIES_MAX {
            return Err(ClientError::LimitReached { what: "presence entries", limit: OWN_ENTRIES_MAX });
        }
        let clock = match (clock, known) {
            (Some(clock), Some(own)) if clock < own.clock || (clock == own.clock && !state.is_empty()) => {
                return Ok(false);
            }
            (Some(clock), _) => clock,
            (None, Some(own)) => own.clock.wrapping_add(1),
            (None, None) => self.forgotten_clock.wrapping_add(1),
        };
        self.entries.insert(client, Own { clock, state, dirty: true });
        self.dirty = true;
        Ok(true)
    }

    /// Whether [`Self::poll_message`] may give something.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Everything must be announced again, on a new connection, which knows of nothing that has gone.
    pub(crate) fn reannounce(&mut self) {
        let forgotten_clock = &mut self.forgotten_clock;
        self.entries.retain(|_, own| {
            let gone = own.state.is_empty();
            if gone {
                *forgotten_clock = own.clock.max(*forgotten_clock);
            }
            !gone
        });
        self.entries.values_mut().for_each(|own| own.dirty = true);
        self.dirty = !self.entries.is_empty();
    }

    /// The next message to send, if anything changed. What it holds counts as sent.
    pub(crate) fn poll_message(&mut self, handle: u32) -> Option<Vec<u8>> {
        let mut bytes = 0;
        let mut taken = Vec::new();
        for (&client, own) in self.entries.iter_mut().filter(|(_, own)| own.dirty) {
            bytes += own.state.len();
            if bytes > MESSAGE_STATE_BYTES_MAX {
                break;
            }
            own.dirty = false;
            taken.push((client, own.clock, own.state.clone()));
        }
        if taken.is_empty() {
            self.dirty = false;
            return None;
        }
        let entries = taken.iter().map(|(client, clock, state)| PresenceEntry {
            client: *client,
            clock: *clock,
            state,
        });
        let message = Client::Presence { handle, entries: entries.collect() }.to_vec();
        // An entry that is gone is not needed once that is said.
        for (client, clock, state) in &taken {
            if state.is_empty() {
                self.entries.remove(client);
                self.forgotten_clock = self.forgotten_clock.max(*clock);
            }
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(presence: &mut OwnPresence) -> Vec<(u64, u32, Vec<u8>)> {
        let Some(message) = presence.poll_message(3) else { return vec![] };
        match Client::decode(&message).unwrap() {
            Client::Presence { handle: 3, entries } => {
                entries.iter().map(|entry| (entry.client, entry.clock, entry.state.to_vec())).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_old_state_is_sent_behind_a_newer_one() {
        let mut presence = OwnPresence::default();
        assert_eq!(presence.set(7, Some(5), "five".into()), Ok(true));
        assert_eq!(presence.set(7, Some(4), "four".into()), Ok(false));
        assert_eq!(presence.set(7, Some(5), "five again".into()), Ok(false));
        assert_eq!(presence.set(7, None, "six".into()), Ok(true));
        assert_eq!(sent(&mut presence), [(7, 6, b"six".to_vec())]);
        assert_eq!(sent(&mut presence), []);
    }

    #[test]
    fn a_reconnect_forgets_who_is_here_or_brings_back_who_left() {
        let mut presence = OwnPresence::default();
        presence.set(1, None, "here".into()).unwrap();
        presence.set(2, None, "here".into()).unwrap();
        sent(&mut presence);
        presence.set(2, None, Bytes::new()).unwrap();
        presence.reannounce();
        assert_eq!(sent(&mut presence), [(1, 1, b"here".to_vec())]);
    }

    #[test]
    fn many_large_states_outgrow_a_message() {
        let mut presence = OwnPresence::default();
        for client in 0..1_000 {
            presence.set(client, None, vec![1; PRESENCE_STATE_BYTES_MAX].into()).unwrap();
        }
        let mut seen = 0;
        while let Some(message) = presence.poll_message(3) {
            assert!(message.len() < wire::limits::MESSAGE_BYTES_MAX);
            match Client::decode(&message).unwrap() {
                Client::Presence { entries, .. } => seen += entries.len(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, 1_000);
        let error = presence.set(1, None, vec![1; PRESENCE_STATE_BYTES_MAX + 1].into()).unwrap_err();
        assert_eq!(error, ClientError::PresenceTooLarge(PRESENCE_STATE_BYTES_MAX + 1));
    }
}
