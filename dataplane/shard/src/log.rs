//! The log as state sync sees it.

use statesync::{AppendLog, LogFull, LogOp};
use wal::{AlignedBuffer, LogWriter};
use wire::limits::PARTITIONS_MAX;

use crate::probe::{Probe, Stage};

// A record has 16 bits for the partition.
const _: () = assert!(PARTITIONS_MAX <= 1 << 16);

/// Turns ops into records of the shard's log.
pub(crate) struct OpLog<'a, B: AlignedBuffer, P> {
    pub(crate) log: &'a mut LogWriter<B>,
    pub(crate) probe: &'a mut P,
}

impl<B: AlignedBuffer, P: Probe> AppendLog for OpLog<'_, B, P> {
    fn append(&mut self, op: &LogOp<'_>) -> Result<u64, LogFull> {
        let record = wal::Op {
            partition: op.partition as u16,
            epoch: u32::try_from(op.epoch).expect("the agent refuses maps with larger epochs"),
            document: op.document,
            kind: op.kind as u8,
            sequence: op.sequence,
            id: op.op_id,
            unix_ms: 0,
            payload: op.payload,
        };
        self.probe.enter(Stage::Log);
        let appended = self.log.append_op(&record);
        self.probe.leave();
        appended.map_err(|_| LogFull)
    }
}
