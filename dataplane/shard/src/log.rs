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
        let partition = op.partition as u16;
        let epoch = u32::try_from(op.epoch).expect("the agent refuses maps with larger epochs");
        let LogOp { document, sequence, op_id: id, unix_ms, payload, .. } = *op;
        let kind = op.kind as u8;
        self.probe.enter(Stage::Log);
        let appended = if op.is_deletion {
            self.log.append_delete(&wal::Delete { partition, epoch, document, kind, sequence, id, unix_ms })
        } else {
            self.log.append_op(&wal::Op { partition, epoch, document, kind, sequence, id, unix_ms, payload })
        };
        self.probe.leave();
        appended.map_err(|_| LogFull)
    }
}
