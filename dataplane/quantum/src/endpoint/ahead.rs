//! What is about to be worked on: fetched into the caches while something else is.
//!
//! With thousands of connections each is out of the caches when its turn comes. A connection is fetched in two steps,
//! itself first and then what it points to, since the second needs the first.

use std::collections::VecDeque;

use wire::{Header, prefetch};

use super::Endpoint;
use crate::connection::ConnectionKey;

/// Connections that are fetched before their turn, themselves.
const STEPS_AHEAD: usize = 3;
/// The same, what they point to.
const PARTS_AHEAD: usize = 1;

impl Endpoint {
    /// Tells of a datagram that will be handed in soon, one or two others first: nothing but caches change.
    pub fn handle_upcoming(&mut self, datagram: &[u8]) {
        if let Some(key) = self.upcoming.take() {
            self.prefetch_parts(key);
        }
        let Ok((header, _)) = Header::parse(datagram) else { return };
        self.upcoming = self.by_id.get(&header.connection).copied();
        if let Some(slot) = self.upcoming.and_then(|key| self.slots.get(key.slot())) {
            prefetch(slot);
        }
    }

    /// Fetches those of `list` whose turn comes next.
    pub(super) fn prefetch_next(&self, list: &VecDeque<ConnectionKey>) {
        if let Some(slot) = list.get(STEPS_AHEAD).and_then(|key| self.slots.get(key.slot())) {
            prefetch(slot);
        }
        if let Some(&key) = list.get(PARTS_AHEAD) {
            self.prefetch_parts(key);
        }
    }

    fn prefetch_parts(&self, key: ConnectionKey) {
        if let Some(slot) = self.slots.get(key.slot()) {
            slot.connection.prefetch_parts();
        }
    }
}
