//! The owner's side: subscribers whose connections live on a sibling.

use statesync::{Session, StateSync, SubscriberKey};
use wire::sync::Channel;
use wire::{Code, Time};

use super::message::{Body, Payload};
use super::{Blocked, Lanes, MESSAGE_OVERHEAD_BYTES, SUBSCRIBER_WINDOW_BYTES};

/// A connection elsewhere with documents of this shard.
#[derive(Debug, Default)]
pub(super) struct Remote {
    /// What of its window is used.
    in_flight_bytes: usize,
    waits_for: Option<WaitsFor>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WaitsFor {
    Credit,
    Lane,
}

impl Remote {
    /// There is room in its lane; true: it may be written to.
    pub(super) fn lane_has_room(&mut self) -> bool {
        if self.in_flight_bytes >= SUBSCRIBER_WINDOW_BYTES {
            self.waits_for = Some(WaitsFor::Credit);
            return false;
        }
        self.waits_for.take().is_some()
    }

    /// Some of its window is free again; true: it may be written to.
    fn handle_credit(&mut self, bytes: usize) -> bool {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        let is_free = self.in_flight_bytes <= SUBSCRIBER_WINDOW_BYTES / 2;
        is_free && self.waits_for.take_if(|waits| *waits == WaitsFor::Credit).is_some()
    }
}

impl Lanes {
    /// A sibling's connection has its first document here.
    pub(crate) fn handle_open(&mut self, sync: &mut StateSync, key: SubscriberKey, session: Session) {
        self.remotes.insert(key, Remote::default());
        sync.handle_open(key, session);
    }

    /// A sibling's connection is gone.
    pub(crate) fn handle_close(&mut self, now: Time, sync: &mut StateSync, key: SubscriberKey) {
        self.remotes.remove(&key);
        sync.handle_close(now, key);
    }

    /// What was sent to a sibling's connection has gone on to its client.
    pub(crate) fn handle_credit(&mut self, sync: &mut StateSync, key: SubscriberKey, bytes: u32) {
        if self.remotes.get_mut(&key).is_some_and(|remote| remote.handle_credit(bytes as usize)) {
            sync.handle_writable(key);
        }
    }

    /// Sends a message to a subscriber elsewhere.
    pub(crate) fn send(
        &mut self,
        to: SubscriberKey,
        channel: Channel,
        message: &[u8],
        can_wait: bool,
    ) -> Result<(), Blocked> {
        let Some(remote) = self.remotes.get_mut(&to) else {
            self.stats.stale += 1;
            return Ok(());
        };
        if remote.in_flight_bytes >= SUBSCRIBER_WINDOW_BYTES {
            remote.waits_for = Some(WaitsFor::Credit);
            self.stats.window_exhausted += 1;
            return Err(Blocked);
        }
        let lane = &mut self.lanes[to.origin as usize];
        if !lane.has_room() {
            remote.waits_for = Some(WaitsFor::Lane);
            lane.block(to);
            self.stats.queue_full += 1;
            return Err(Blocked);
        }
        remote.in_flight_bytes += message.len() + MESSAGE_OVERHEAD_BYTES;
        self.push(to.origin, to.connection, Body::ToClient(Payload::new(channel, can_wait, message)));
        Ok(())
    }

    /// Ends a connection elsewhere.
    pub(crate) fn end(&mut self, to: SubscriberKey, code: Code, reason: &'static str) {
        if self.remotes.contains_key(&to) {
            self.push(to.origin, to.connection, Body::End(code, reason));
        }
    }
}
