//! One document open on one connection.

use bytes::Bytes;
use wire::{Guuid, Time};

use crate::connection::SubscriberKey;

/// What a subscriber still has to be sent before ops reach it as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatchUp {
    /// The announced state, and how much of it is sent.
    pub(crate) state: Bytes,
    pub(crate) offset: usize,
    /// The first op to send after it.
    pub(crate) next: u64,
}

/// A subscriber's state.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) key: SubscriberKey,
    pub(crate) handle: u32,
    pub(crate) document: usize,
    pub(crate) writer: Guuid,
    /// How many joins there had been with this one: of two, the newer has more.
    pub(crate) joins: u64,
    /// Content is wanted, not presence alone.
    pub(crate) content: bool,
    pub(crate) may_write: bool,
    /// `None`: live, ops are queued as they come.
    pub(crate) catch_up: Option<CatchUp>,
    /// Whether the conductor has it in its list of those to catch up.
    pub(crate) is_listed: bool,
    /// Its own ops up to this one are sent too: a client that starts anew has none of them.
    pub(crate) echo_own_until: u64,
    /// The Yjs state vector that its next diff starts from.
    pub(crate) known_vector: Bytes,
    /// An op that was refused for the moment: none after it is taken before it, lest the order of a writer's
    /// ops be lost and the op itself later be taken for a duplicate.
    pub(crate) refused_counter: Option<u64>,
    pub(crate) ack_due: bool,
    pub(crate) presence_missed: bool,
    /// Until then it knows that its presence is refused.
    pub(crate) presence_refused_until: Time,
}

impl Subscription {
    /// Whether it receives an op of `writer` at `sequence`.
    pub(crate) fn wants(&self, writer: Guuid, sequence: u64) -> bool {
        self.writer != writer || sequence <= self.echo_own_until
    }

    /// Goes back to `sequence`, which could not be sent.
    pub(crate) fn fall_behind(&mut self, sequence: u64) {
        let catch_up = self.catch_up.get_or_insert(CatchUp { next: sequence, ..CatchUp::default() });
        catch_up.next = catch_up.next.min(sequence);
    }
}
