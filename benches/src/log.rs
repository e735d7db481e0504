//! Log append: record, checksums, group commit; the disk is memory that takes everything at once.

use statesync::{AppendLog, LogFull, LogOp};
use wal::{AlignedBuffer, LogConfig, LogPosition, LogWriter, Op};
use wire::Guuid;

use crate::{Visitor, Workload};

/// Appends that share a batch.
pub(crate) const BATCH_APPENDS: u64 = 64;
/// A keystroke, and a paste.
const PAYLOAD_BYTES: [usize; 2] = [33, 1_024];

pub(crate) fn visit(visitor: &mut impl Visitor) {
    for bytes in PAYLOAD_BYTES {
        visitor.visit(&format!("log/append_{bytes}_bytes"), || Append::new(bytes));
    }
}

struct Buffer(Vec<u8>);

impl AlignedBuffer for Buffer {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A log writer whose batches are on the disk as soon as they are asked for.
pub(crate) struct MemoryLog(LogWriter<Buffer>);

impl MemoryLog {
    pub(crate) fn new() -> Self {
        let config = LogConfig::new(Guuid::NIL);
        let writer = LogWriter::new(config, LogPosition::START, |bytes| Buffer(vec![0; bytes]));
        Self(writer.expect("the default settings"))
    }

    /// Writes all that was appended; the number of the last record.
    pub(crate) fn commit(&mut self) -> u64 {
        while let Some(write) = self.0.poll_write() {
            self.0.handle_durable(write.at, Some(write.buffer));
        }
        self.0.durable_lsn()
    }
}

impl AppendLog for MemoryLog {
    fn append(&mut self, op: &LogOp<'_>) -> Result<u64, LogFull> {
        let record = Op {
            partition: op.partition as u16,
            epoch: op.epoch as u32,
            document: op.document,
            kind: op.kind as u8,
            sequence: op.sequence,
            id: op.op_id,
            unix_ms: 1_700_000_000_000,
            payload: op.payload,
        };
        self.0.append_op(&record).map_err(|_| LogFull)
    }
}

struct Append {
    log: MemoryLog,
    payload: Vec<u8>,
    sequence: u64,
}

impl Append {
    fn new(payload_bytes: usize) -> Self {
        Self { log: MemoryLog::new(), payload: vec![7; payload_bytes], sequence: 0 }
    }
}

impl Workload for Append {
    // The segment number has 32 bits.
    const STEPS: u64 = 1 << 32;

    fn step(&mut self) {
        self.sequence += 1;
        let op = Op {
            partition: 1,
            epoch: 1,
            document: "design/plan",
            kind: 1,
            sequence: self.sequence,
            id: Guuid::NIL.with_counter(self.sequence),
            unix_ms: 1_700_000_000_000,
            payload: &self.payload,
        };
        self.log.0.append_op(&op).expect("the log has room");
        if self.sequence.is_multiple_of(BATCH_APPENDS) {
            self.log.commit();
        }
    }
}
