//! Messages that wait to be sent for the first time.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::{Time, prefetch_front};

use super::{Tally, charge};

/// A message of which nothing has been sent.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) payload: Bytes,
    /// Grows with each message of the channel.
    pub(super) id: u64,
    /// When it is no longer worth sending; [`Time::NEVER`]: always is.
    pub(super) deadline: Time,
}

impl Queued {
    pub(super) fn charge(&self) -> usize {
        charge(self.payload.len())
    }

    pub(super) fn is_expired(&self, now: Time) -> bool {
        self.deadline <= now
    }
}

/// The messages of one channel, oldest first.
#[derive(Default, Debug)]
pub(super) struct Queue {
    messages: VecDeque<Queued>,
}

impl Queue {
    pub(super) fn push(&mut self, message: Queued) {
        debug_assert!(self.messages.back().is_none_or(|last| last.id < message.id));
        self.messages.push_back(message);
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The next message to send, once those that have expired are gone.
    pub(super) fn front(&mut self, now: Time, tally: &mut Tally) -> Option<&Queued> {
        while let Some(message) = self.messages.front().filter(|message| message.is_expired(now)) {
            tally.expire(message);
            self.messages.pop_front();
        }
        self.messages.front()
    }

    /// The next message to send, expired or not.
    pub(super) fn peek(&self) -> Option<&Queued> {
        self.messages.front()
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let message = self.messages.pop_front();
        if self.messages.is_empty() {
            // The next begins at the start again, in the same cache lines.
            self.messages.clear();
        }
        message
    }

    /// Has the caches fetch the oldest message, or where the next will lie.
    pub(super) fn prefetch(&self) {
        prefetch_front(&self.messages);
    }

    /// Takes a message back; none when it is not here any more.
    pub(super) fn cancel(&mut self, id: u64) -> Option<Queued> {
        let index = self.messages.binary_search_by_key(&id, |message| message.id).ok()?;
        self.messages.remove(index)
    }

    /// Drops what has expired; returns the earliest deadline of what stays.
    pub(super) fn expire(&mut self, now: Time, tally: &mut Tally) -> Time {
        let mut next = Time::NEVER;
        self.messages.retain(|message| {
            let is_expired = message.is_expired(now);
            if is_expired {
                tally.expire(message);
            } else {
                next = next.min(message.deadline);
            }
            !is_expired
        });
        next
    }
}
