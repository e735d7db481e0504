//! What is about to be worked on: fetched into the caches while something else is.
//!
//! With thousands of connections each is out of the caches when its turn comes. A connection is fetched in three steps,
//! itself first, then what it points to, then what that points to, since each needs the one before.

use std::collections::VecDeque;

use wire::{Header, prefetch};

use super::Endpoint;
use crate::connection::ConnectionKey;

/// Connections that are fetched before their turn, themselves.
const STEPS_AHEAD: usize = 4;
/// The same, what they point to.
const PARTS_AHEAD: usize = 2;
/// The same, what that points to.
const MESSAGES_AHEAD: usize = 1;

impl Endpoint {
    /// Tells of a datagram that will be handed in soon, one or two others first: nothing but caches change.
    pub fn handle_upcoming(&mut self, datagram: &[u8]) {
        let [first, second] = self.upcoming;
        self.prefetch_messages(first);
        self.prefetch_parts(second);
        let header = Header::parse(datagram).ok();
        let third = header.and_then(|(header, _)| self.by_id.get(&header.connection).copied());
        self.upcoming = [second, third];
        if let Some(slot) = third.and_then(|key| self.slots.get(key.slot())) {
            prefetch(slot);
        }
    }

    /// Fetches those of `list` whose turn comes next.
    pub(super) fn prefetch_next(&self, list: &VecDeque<ConnectionKey>) {
        if let Some(slot) = list.get(STEPS_AHEAD).and_then(|key| self.slots.get(key.slot())) {
            prefetch(slot);
        }
        self.prefetch_parts(list.get(PARTS_AHEAD).copied());
        self.prefetch_messages(list.get(MESSAGES_AHEAD).copied());
    }

    fn prefetch_parts(&self, key: Option<ConnectionKey>) {
        if let Some(slot) = key.and_then(|key| self.slots.get(key.slot())) {
            slot.connection.prefetch_parts();
        }
    }

    fn prefetch_messages(&self, key: Option<ConnectionKey>) {
        if let Some(slot) = key.and_then(|key| self.slots.get(key.slot())) {
            slot.connection.prefetch_messages();
        }
    }
}
