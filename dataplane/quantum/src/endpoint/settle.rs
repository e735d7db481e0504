//! What follows from a change of a connection: events, budgets, ids, timers, its end.

use wire::{Code, Time};

use super::{Endpoint, Slot};
use crate::connection::ConnectionKey;
use crate::connection_ids::IdChange;
use crate::reset::reset_token;
use crate::send_budget::SendBudget;

impl Slot {
    /// Counts what the connection holds to be sent by now.
    pub(super) fn settle_queued(&mut self, budget: &mut SendBudget) {
        let queued_bytes = self.connection.queued_bytes();
        budget.change(self.queued_bytes, queued_bytes);
        self.queued_bytes = queued_bytes;
    }
}

impl Endpoint {
    /// Something has happened to a connection: it may have events, and something to send.
    pub(super) fn touch(&mut self, now: Time, key: ConnectionKey) {
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
    pub(super) fn settle_ids(&mut self, now: Time, key: ConnectionKey) {
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
    pub(super) fn keep_receive_budget(&mut self, now: Time) {
        if !self.receive_budget.is_exceeded() {
            return;
        }
        let holders = self.slots.iter().map(|(_, slot)| (slot.connection.key(), slot.held_bytes));
        for key in self.receive_budget.to_close(holders) {
            self.stats.receive_buffer_limit += 1;
            self.close(now, key, Code::Overloaded as u16, "the receive buffers are full");
        }
    }

    pub(super) fn take_events(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.slots.get_mut(key.slot()) {
            while let Some(event) = slot.connection.poll_event() {
                self.events.push_back((key, event));
            }
        }
    }

    pub(super) fn mark_ready(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.slot_mut(key)
            && !std::mem::replace(&mut slot.is_ready, true)
        {
            self.ready.push_back(key);
        }
    }

    /// A connection has nothing to send: arms its timer, or removes it.
    pub(super) fn settle(&mut self, key: ConnectionKey) {
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
