//! Ops on their way to becoming durable, and who waits for that.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::oneshot;
use wire::Guuid;

use super::Applied;
use crate::presence::SocketId;
use crate::refusal::Refusal;

/// Who is told that an op is durable.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A socket, which gets its frame back then.
    Socket { socket: SocketId, frame: Bytes },
    /// A request.
    Request(oneshot::Sender<Result<Applied, Refusal>>),
}

#[derive(Debug)]
struct Op {
    id: Guuid,
    counter: u64,
    waiter: Waiter,
}

/// In the order in which they were handed over. The client's budget of unacknowledged bytes bounds it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ops: VecDeque<Op>,
}

impl Pending {
    /// Counters must grow.
    pub(super) fn push(&mut self, id: Guuid, counter: u64, waiter: Waiter) {
        debug_assert!(self.ops.back().is_none_or(|last| last.counter < counter));
        self.ops.push_back(Op { id, counter, waiter });
    }

    /// Takes the next op that is durable when all up to `counter` are.
    pub(super) fn pop_durable(&mut self, up_to_counter: u64) -> Option<(Guuid, Waiter)> {
        let first = self.ops.front()?;
        if first.counter > up_to_counter {
            return None;
        }
        self.ops.pop_front().map(|op| (op.id, op.waiter))
    }

    /// Takes an op that was refused.
    pub(super) fn remove(&mut self, counter: u64) -> Option<Waiter> {
        let at = self.ops.binary_search_by_key(&counter, |op| op.counter).ok()?;
        self.ops.remove(at).map(|op| op.waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_is_confirmed_before_it_is_durable_or_after_it_was_refused() {
        let mut pending = Pending::default();
        for counter in [2, 5, 9] {
            let waiter = Waiter::Socket { socket: counter, frame: Bytes::new() };
            pending.push(Guuid::NIL.with_counter(counter), counter, waiter);
        }
        assert!(pending.pop_durable(1).is_none());
        assert!(matches!(pending.remove(5), Some(Waiter::Socket { socket: 5, .. })));
        assert!(pending.remove(5).is_none());
        let popped: Vec<_> = std::iter::from_fn(|| pending.pop_durable(8)).collect();
        assert!(matches!(popped[..], [(id, Waiter::Socket { socket: 2, .. })] if id.counter() == 2));
        assert!(pending.pop_durable(9).is_some() && pending.pop_durable(99).is_none());
    }
}
