//! Presence on its way from one subscriber to all of a document.

use bytes::Bytes;
use wire::sync::{Channel, PresenceEntry, Server};
use wire::{Code, Time};

use crate::config::{PRESENCE_OVER_LIMIT_RETRY, SUBSCRIBERS_FEW};
use crate::output::{Queued, What};
use crate::presence::Verdict;
use crate::{StateSync, SubscriberKey};

impl StateSync {
    pub(crate) fn handle_presence(
        &mut self,
        now: Time,
        key: SubscriberKey,
        handle: u32,
        entries: &[PresenceEntry<'_>],
    ) {
        let connection = self.connections.get_mut(&key).expect("checked by the caller");
        let Some(&subscription) = connection.open.get(&handle) else {
            // It has a channel of its own: its document may have been closed meanwhile, or is not open yet.
            self.stats.presence_unopened += entries.len() as u64;
            return;
        };
        let slot = self.subscriptions[subscription].document;
        let session_id = connection.session.session_id;
        let mut used = connection.presence;
        let mut refused = 0;
        for entry in entries {
            let presence = &mut self.documents[slot].presence;
            match presence.update(key, session_id, entry, &mut used, &self.config.limits) {
                Verdict::Taken { released } => {
                    self.stats.presence_taken += 1;
                    if let Some((owner, released)) = released
                        && let Some(connection) = self.connections.get_mut(&owner)
                    {
                        connection.presence.release(released);
                    }
                }
                Verdict::Spoofed => self.stats.presence_spoofed += 1,
                Verdict::Stale => self.stats.presence_stale += 1,
                Verdict::Refused => refused += 1,
            }
        }
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.presence = used;
        }
        if refused > 0 {
            self.stats.presence_refused += refused;
            // The document stays open, and its client is told once, not for every message.
            let found = &mut self.subscriptions[subscription];
            if found.presence_refused_until <= now {
                found.presence_refused_until = now + PRESENCE_OVER_LIMIT_RETRY;
                let text = "presence entries over the connection's or the document's limit were not taken";
                let retry_after_ms = (PRESENCE_OVER_LIMIT_RETRY.as_us() / 1_000) as u32;
                let error = Server::Error { handle, code: Code::LimitReached, retry_after_ms, text };
                self.send_control(key, error.to_vec());
            }
        }
        if self.documents[slot].presence.has_changes() {
            self.schedule_presence(now, slot);
        }
    }

    /// Broadcasts at once after a pause, else a tick after the last time.
    pub(crate) fn schedule_presence(&mut self, now: Time, slot: usize) {
        let presence = &mut self.documents[slot].presence;
        if presence.due.is_some() {
            return;
        }
        let due = presence.next_broadcast(now, self.config.presence_tick);
        if due <= now {
            self.broadcast_presence(now, slot);
        } else {
            presence.due = Some(due);
            self.presence_due.insert((due, slot));
        }
    }

    /// Sends what changed to all subscribers, encoded once.
    pub(crate) fn broadcast_presence(&mut self, now: Time, slot: usize) {
        let Some(document) = self.documents.get_mut(slot) else { return };
        for message in document.presence.broadcast(now, slot as u32) {
            self.stats.presence_broadcasts += 1;
            let is_for_many = self.documents[slot].subscribers.len() > SUBSCRIBERS_FEW;
            for at in 0..self.documents[slot].subscribers.len() {
                let subscription = self.documents[slot].subscribers[at];
                self.send_presence(subscription, message.clone(), is_for_many);
            }
        }
    }

    /// All of it goes one way: who is here must not come after who has gone since.
    pub(crate) fn send_presence(&mut self, subscription: usize, message: Bytes, is_for_many: bool) {
        let (to, channel) = (self.subscriptions[subscription].key, Channel::Presence);
        let what = What::Presence { subscription, is_for_many };
        self.outputs.push_back(Queued { to, channel, message, what });
    }
}
