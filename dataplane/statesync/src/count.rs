//! What is counted of a `yjs` document as its ops come, without integrating them.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::yjs_scan::{ClockRange, UpdateScan, scan_update_ranges};

use crate::clocks::Clocks;
use crate::config::{CHECKPOINT_OPS, CHECKPOINTS_MAX};
use crate::jobs::Base;
use crate::tail::Tail;

/// Counted up to an op; begins with a base.
#[derive(Debug, Default)]
pub(crate) struct Count {
    /// The last op that is counted.
    pub(crate) sequence: u64,
    clocks: Clocks,
    /// Shared types in the base and the ops since.
    pub(crate) shared_types: u64,
    /// Blocks in the same.
    pub(crate) blocks: u64,
    /// Bytes of updates that wait for others, those included that came behind a gap since the base.
    pub(crate) pending_bytes: u64,
    /// State vectors of the past, by the last op in them.
    checkpoints: VecDeque<(u64, Bytes)>,
    /// The state vector as it was asked for last.
    encoded: Option<(u64, Bytes)>,
}

impl Count {
    pub(crate) fn of(base: &Base) -> Self {
        Self {
            sequence: base.sequence,
            clocks: Clocks::from_v1(&base.vector).unwrap_or_default(),
            shared_types: base.figures.shared_types,
            blocks: base.figures.blocks,
            pending_bytes: base.figures.pending_bytes,
            checkpoints: VecDeque::new(),
            encoded: None,
        }
    }

    /// Begins again with a new base: what is after it is counted again. The vectors of the past stay true.
    pub(crate) fn restart(&mut self, base: &Base) {
        let checkpoints = std::mem::take(&mut self.checkpoints);
        *self = Self { checkpoints, ..Self::of(base) };
    }

    /// Counts the ops up to `last` that are kept. What is not kept any more is left out, so that the vector says
    /// less than it could.
    pub(crate) fn advance(&mut self, tail: &Tail, last: u64) {
        let mut ranges = Vec::new();
        while self.sequence < last {
            let sequence = (self.sequence + 1).max(tail.first());
            self.sequence = sequence.min(last);
            let Some(op) = tail.get(sequence) else { continue };
            ranges.clear();
            // One that is in the log decoded once.
            if let Ok(scan) = scan_update_ranges(op.payload, |range| ranges.push(range)) {
                self.add(scan, &ranges, op.payload.len());
            }
        }
    }

    /// Counts the op `sequence`, which is the next.
    pub(crate) fn push(&mut self, sequence: u64, scan: UpdateScan, ranges: &[ClockRange], bytes: usize) {
        debug_assert_eq!(sequence, self.sequence + 1, "ops are counted without gaps");
        self.sequence = sequence;
        self.add(scan, ranges, bytes);
        if sequence.is_multiple_of(CHECKPOINT_OPS) {
            if self.checkpoints.len() >= CHECKPOINTS_MAX {
                self.checkpoints.pop_front();
            }
            let vector = self.vector();
            self.checkpoints.push_back((sequence, vector));
        }
    }

    fn add(&mut self, scan: UpdateScan, ranges: &[ClockRange], bytes: usize) {
        self.shared_types += scan.shared_types;
        self.blocks += scan.blocks;
        let mut is_gapless = true;
        for &range in ranges {
            is_gapless &= self.clocks.take(range);
        }
        if !is_gapless {
            self.pending_bytes += bytes as u64;
        }
    }

    /// Whether all of an update goes on where the document ends, so that nothing waits for it.
    pub(crate) fn is_extended_by(&self, ranges: &[ClockRange]) -> bool {
        ranges.iter().all(|&range| self.clocks.is_followed_by(range))
    }

    /// The state vector (v1), encoded once for all who ask at the same op.
    pub(crate) fn vector(&mut self) -> Bytes {
        match &self.encoded {
            Some((sequence, vector)) if *sequence == self.sequence => vector.clone(),
            _ => {
                let vector = self.clocks.to_v1();
                self.encoded = Some((self.sequence, vector.clone()));
                vector
            }
        }
    }

    /// The last state vector remembered that holds no op from `sequence` on, and the last op in it.
    pub(crate) fn vector_before(&self, sequence: u64) -> Option<(u64, Bytes)> {
        self.checkpoints.iter().rev().find(|(last, _)| *last < sequence).cloned()
    }
}
