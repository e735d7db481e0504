//! What waits for a sibling: the queue in front of the ring.

use std::collections::VecDeque;

use statesync::SubscriberKey;

use super::message::LaneMessage;

/// Messages that wait for one sibling, past which its subscribers are blocked. Tests fill it with a few.
pub(super) const QUEUE_MESSAGES_MAX: usize = if cfg!(test) { 16 } else { 1_024 };
/// Bytes of the same.
pub(super) const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Bytes of clients' messages that wait for one sibling; the connection whose message is one too many is closed.
/// Connections give no credit for what waits here, so it takes hundreds of them to get so far.
pub(super) const FORWARD_BYTES_MAX: usize = 256 << 20;

const _: () = assert!(QUEUE_BYTES_MAX < FORWARD_BYTES_MAX);
const _: () = assert!(wire::limits::MESSAGE_BYTES_MAX < FORWARD_BYTES_MAX);

/// The way to one sibling.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: VecDeque<LaneMessage>,
    queue_bytes: usize,
    /// Subscribers there that wait for room, in turn.
    blocked: VecDeque<SubscriberKey>,
}

impl Lane {
    /// Whether a message to a subscriber finds room. What must go in any case does not ask.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < QUEUE_MESSAGES_MAX && self.queue_bytes < QUEUE_BYTES_MAX
    }

    pub(super) fn push(&mut self, message: LaneMessage) {
        self.queue_bytes += message.cost();
        self.queue.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<LaneMessage> {
        let message = self.queue.pop_front()?;
        self.queue_bytes -= message.cost();
        Some(message)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) const fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// A subscriber found no room.
    pub(super) fn block(&mut self, key: SubscriberKey) {
        self.blocked.push_back(key);
    }

    /// The next that may try again: as many as there is room for, once half of the queue is free.
    pub(super) fn unblock(&mut self) -> Option<SubscriberKey> {
        let is_half_free =
            self.queue.len() <= QUEUE_MESSAGES_MAX / 2 && self.queue_bytes <= QUEUE_BYTES_MAX / 2;
        if is_half_free { self.blocked.pop_front() } else { None }
    }
}
