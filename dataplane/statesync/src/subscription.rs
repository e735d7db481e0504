//! One document open on one connection.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::{Access, Guuid, Time};

use crate::connection::SubscriberKey;
use crate::jobs::HistoryOp;
use crate::memory::HeldDiff;

/// What a subscriber waits for before anything more of the document is sent to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Awaited {
    /// What it lacks, announced by its first JOINED.
    Join,
    /// What it lacks since this op, announced by a further JOINED.
    Resync { next: u64 },
    /// Ops that are in the store alone.
    Ops,
}

/// What a subscriber still has to be sent before ops reach it as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatchUp {
    /// The announced state, and how much of it is sent.
    pub(crate) state: Bytes,
    pub(crate) offset: usize,
    /// The first op to send after it.
    pub(crate) next: u64,
    /// Ops out of the store that are to be sent.
    pub(crate) fetched: VecDeque<HistoryOp>,
    pub(crate) awaited: Option<Awaited>,
}

/// What a subscriber has: its next diff starts from there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// It has all ops up to this one, once those before its place have been sent.
    pub(crate) sequence: u64,
    /// And all that this Yjs state vector (v1) names.
    pub(crate) vector: Bytes,
}

impl Known {
    pub(crate) const fn by(sequence: u64, vector: Bytes) -> Self {
        Self { sequence, vector }
    }
}

/// A subscriber's state.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Counts the joins: never used again, unlike its place in the table.
    pub(crate) number: u64,
    pub(crate) key: SubscriberKey,
    pub(crate) handle: u32,
    pub(crate) document: usize,
    pub(crate) writer: Guuid,
    /// Content is wanted, not presence alone.
    pub(crate) content: bool,
    pub(crate) access: Access,
    /// Whether its JOINED was sent: nothing else is before.
    pub(crate) is_announced: bool,
    /// `None`: live, ops are queued as they come.
    pub(crate) catch_up: Option<Box<CatchUp>>,
    /// Whether the conductor has it in its list of those to catch up.
    pub(crate) is_listed: bool,
    /// Its own ops up to this one are sent too: a client that starts anew has none of them.
    pub(crate) echo_own_until: u64,
    pub(crate) known: Known,
    /// What is being sent that was made for it alone.
    pub(crate) held_diff: Option<HeldDiff>,
    /// An op that was refused for the moment: none after it is taken before it, lest the order of a writer's
    /// ops be lost and the op itself later be taken for a duplicate.
    pub(crate) refused_counter: Option<u64>,
    pub(crate) ack_due: bool,
    pub(crate) presence_missed: bool,
    /// Until then it knows that its presence is refused.
    pub(crate) presence_refused_until: Time,
}

impl CatchUp {
    /// Ops from `next` on.
    pub(crate) fn from(next: u64) -> Box<Self> {
        Box::new(Self { next, ..Self::default() })
    }

    /// A state, then ops from `next` on.
    pub(crate) fn state(state: Bytes, next: u64) -> Box<Self> {
        Box::new(Self { state, next, ..Self::default() })
    }

    /// Nothing until a job is done.
    pub(crate) fn waiting(awaited: Awaited, next: u64) -> Box<Self> {
        Box::new(Self { awaited: Some(awaited), next, ..Self::default() })
    }
}

impl Subscription {
    /// Whether it receives an op of `writer` at `sequence`.
    pub(crate) fn wants(&self, writer: Guuid, sequence: u64) -> bool {
        self.writer != writer || sequence <= self.echo_own_until
    }

    pub(crate) fn may_write(&self) -> bool {
        self.content && self.access >= Access::Write
    }

    /// Goes back to `sequence`, which could not be sent.
    pub(crate) fn fall_behind(&mut self, sequence: u64) {
        let catch_up = self.catch_up.get_or_insert_with(|| CatchUp::from(sequence));
        catch_up.next = catch_up.next.min(sequence);
    }
}
