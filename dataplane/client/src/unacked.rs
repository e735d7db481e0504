//! The ops of one document that the node has not acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

/// An op, encoded as it goes to the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UnackedOp {
    pub(crate) counter: u64,
    /// The whole sync message.
    pub(crate) message: Bytes,
    /// Its share of the budget.
    pub(crate) cost: u32,
}

/// Ops in the order of their counters; those before `sent` are on their way on the present connection.
#[derive(Default, Debug)]
pub(crate) struct UnackedQueue {
    ops: VecDeque<UnackedOp>,
    sent: usize,
}

/// What an acknowledgement or a refusal gave back.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Released {
    pub(crate) ops: u64,
    /// Bytes of the budget.
    pub(crate) cost: usize,
}

impl UnackedQueue {
    pub(crate) fn push(&mut self, op: UnackedOp) {
        debug_assert!(self.ops.back().is_none_or(|last| last.counter < op.counter));
        self.ops.push_back(op);
    }

    /// Puts an op in its place.
    pub(crate) fn insert(&mut self, op: UnackedOp) {
        let at = self.ops.partition_point(|other| other.counter < op.counter);
        self.ops.insert(at, op);
        self.sent = self.sent.min(at);
    }

    /// The counter that was left free before the first op behind `known`; none: there is no such op.
    pub(crate) fn spare_behind(&self, known: u64) -> Option<u64> {
        self.ops.iter().map(|op| op.counter - 1).find(|&spare| spare > known)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The next op to send.
    pub(crate) fn next_unsent(&self) -> Option<&UnackedOp> {
        self.ops.get(self.sent)
    }

    /// The transport has taken what [`Self::next_unsent`] gave.
    pub(crate) fn mark_sent(&mut self) {
        self.sent += 1;
    }

    /// Everything up to `counter` is durable.
    pub(crate) fn acknowledge(&mut self, counter: u64) -> Released {
        let mut released = Released::default();
        while self.ops.front().is_some_and(|op| op.counter <= counter) {
            let Some(op) = self.ops.pop_front() else { break };
            released.ops += 1;
            released.cost += op.cost as usize;
            self.sent = self.sent.saturating_sub(1);
        }
        released
    }

    /// The op is refused for good. None: it is not here any more.
    pub(crate) fn remove(&mut self, counter: u64) -> Option<Released> {
        let at = self.ops.binary_search_by_key(&counter, |op| op.counter).ok()?;
        let op = self.ops.remove(at)?;
        if at < self.sent {
            self.sent -= 1;
        }
        Some(Released { ops: 1, cost: op.cost as usize })
    }

    /// `counter` and all behind it must be sent again. False: it is not here any more.
    pub(crate) fn rewind_to(&mut self, counter: u64) -> bool {
        match self.ops.binary_search_by_key(&counter, |op| op.counter) {
            Ok(at) => {
                self.sent = self.sent.min(at);
                true
            }
            Err(_) => false,
        }
    }

    /// The connection is gone: everything must be sent again.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// The document is closed: nothing will be sent any more.
    pub(crate) fn clear(&mut self) -> Released {
        self.acknowledge(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(counters: &[u64]) -> UnackedQueue {
        let mut queue = UnackedQueue::default();
        for &counter in counters {
            queue.push(UnackedOp { counter, message: Bytes::new(), cost: 10 });
        }
        queue
    }

    fn send_all(queue: &mut UnackedQueue) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(op) = queue.next_unsent() {
            sent.push(op.counter);
            queue.mark_sent();
        }
        sent
    }

    #[test]
    fn an_unacknowledged_op_is_not_sent_again() {
        let mut queue = queue(&[2, 5, 9, 12]);
        assert_eq!(send_all(&mut queue), [2, 5, 9, 12]);
        assert_eq!(queue.acknowledge(5), Released { ops: 2, cost: 20 });
        assert_eq!(send_all(&mut queue), [0; 0]);
        queue.rewind();
        assert_eq!(send_all(&mut queue), [9, 12]);
    }

    #[test]
    fn a_retried_op_is_overtaken() {
        let mut queue = queue(&[1, 2, 3, 4]);
        send_all(&mut queue);
        assert!(queue.rewind_to(2));
        assert!(queue.rewind_to(3), "the next one is refused as well");
        assert_eq!(send_all(&mut queue), [2, 3, 4]);
        queue.acknowledge(3);
        assert!(!queue.rewind_to(2));
        assert!(queue.next_unsent().is_none());
    }

    #[test]
    fn a_rejected_op_makes_the_next_one_be_skipped() {
        let mut queue = queue(&[1, 2, 3]);
        queue.mark_sent();
        queue.mark_sent();
        assert_eq!(queue.remove(1), Some(Released { ops: 1, cost: 10 }));
        assert_eq!(queue.remove(1), None);
        assert_eq!(send_all(&mut queue), [3]);
        assert_eq!(queue.clear(), Released { ops: 2, cost: 20 });
        assert!(queue.is_empty());
    }
}
