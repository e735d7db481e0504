//! The ops of a document that are kept in memory, encoded as they are sent.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::Guuid;

/// One kept op.
#[derive(Clone, Debug)]
pub(crate) struct KeptOp {
    pub(crate) writer: Guuid,
    /// The encoded message, shared by all who receive it.
    pub(crate) message: Bytes,
}

/// The last ops of a document, without gaps.
#[derive(Debug, Default)]
pub(crate) struct OpLog {
    /// The sequence of the last op; zero for none.
    last: u64,
    bytes: usize,
    ops: VecDeque<KeptOp>,
}

impl OpLog {
    /// Adds the next op, and lets go of the oldest before it while there are more than `bytes_max` bytes.
    pub(crate) fn push(&mut self, sequence: u64, op: KeptOp, bytes_max: usize) {
        debug_assert_eq!(sequence, self.last + 1, "ops are kept without gaps");
        self.last = sequence;
        self.bytes += op.message.len();
        self.ops.push_back(op);
        while self.bytes > bytes_max && self.ops.len() > 1 {
            self.bytes -= self.ops.pop_front().map_or(0, |oldest| oldest.message.len());
        }
    }

    /// The op at `sequence`, when it is kept.
    pub(crate) fn get(&self, sequence: u64) -> Option<&KeptOp> {
        if sequence > self.last {
            return None;
        }
        let back = usize::try_from(self.last - sequence).ok()?;
        self.ops.len().checked_sub(back + 1).and_then(|at| self.ops.get(at))
    }

    /// Whether all ops from `sequence` on are kept (or still to come).
    pub(crate) fn holds_from(&self, sequence: u64) -> bool {
        sequence > self.last || self.get(sequence).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_is_found_under_another_sequence() {
        let mut log = OpLog::default();
        assert!(log.holds_from(1) && log.get(0).is_none());
        for sequence in 1..=10_u8 {
            let op = KeptOp { writer: Guuid::NIL, message: Bytes::copy_from_slice(&[sequence; 10]) };
            log.push(u64::from(sequence), op, 45);
        }
        assert_eq!(log.bytes, 40);
        assert!(!log.holds_from(6) && log.holds_from(7) && log.holds_from(11));
        for sequence in 7..=10_u8 {
            assert_eq!(log.get(u64::from(sequence)).unwrap().message[0], sequence);
        }
        assert!(log.get(6).is_none() && log.get(11).is_none() && log.get(0).is_none());
        log.push(11, KeptOp { writer: Guuid::NIL, message: Bytes::from_static(&[11; 100]) }, 45);
        assert!(log.get(11).is_some() && !log.holds_from(10), "the last op is kept whatever its size");
    }
}
