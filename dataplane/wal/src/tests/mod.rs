//! Logs on a disk in memory: written, crashed, damaged, and read back.

mod damage;
mod group_commit;
mod model;
mod torn;
mod trim;
mod versions;

use wire::Guuid;

use crate::memory::{Disk, HeapBuffer};
use crate::{
    AlignedBuffer, BLOCK_BYTES, Body, LogConfig, LogPosition, LogWriter, Op, Open, RecoverError, Recovered,
    RecoveryError, Write, recover,
};

/// Small enough that segments roll often.
const SEGMENT_BYTES: u64 = 16 * BLOCK_BYTES as u64;

fn log_id() -> Guuid {
    Guuid::new(1_700_000_000_000, [9; 10])
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        batch_bytes_max: 4 * BLOCK_BYTES,
        record_body_bytes_max: 8 * BLOCK_BYTES,
        queue_bytes_max: 32 * BLOCK_BYTES,
        ..LogConfig::new(log_id())
    }
}

/// What the tests compare: sequence and payload of each op.
type Ops = Vec<(u64, Vec<u8>)>;

fn payload(sequence: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (sequence as usize * 31 + at * 7 + 1) as u8 | 1).collect()
}

/// A writer with its disk, driven step by step.
struct Log {
    disk: Disk,
    writer: LogWriter<HeapBuffer>,
    sequence: u64,
}

impl Log {
    fn new() -> Self {
        Self::at(Disk::new(), LogPosition::START, 0)
    }

    fn at(disk: Disk, position: LogPosition, sequence: u64) -> Self {
        let writer = LogWriter::new(config(), position, HeapBuffer::new).expect("the settings are valid");
        let mut log = Self { disk, writer, sequence };
        log.writer.append_open(Open { incarnation: position.incarnation + 1, unix_ms: 1 }).expect("room");
        log
    }

    /// Appends an op with a payload of so many bytes.
    fn op(&mut self, bytes: usize) -> u64 {
        self.try_op(bytes).expect("room")
    }

    fn try_op(&mut self, bytes: usize) -> Result<u64, crate::AppendError> {
        let payload = payload(self.sequence + 1, bytes);
        let lsn = self.writer.append_op(&Op {
            partition: 5,
            epoch: 1,
            document: "notes/today",
            kind: 1,
            sequence: self.sequence + 1,
            id: log_id().writer().with_counter(self.sequence + 1),
            unix_ms: 1_700_000_000_000 + self.sequence,
            payload: &payload,
        })?;
        self.sequence += 1;
        Ok(lsn)
    }

    /// Brings the next batch into the disk's cache.
    fn write(&mut self) -> Option<Write<HeapBuffer>> {
        let write = self.writer.poll_write()?;
        while let Some(segment) = self.writer.poll_segment_wanted() {
            self.disk.prepare(segment, SEGMENT_BYTES).expect("no fault");
        }
        let bytes = &write.buffer.as_slice()[..write.at.bytes];
        self.disk.write(write.at.segment, write.at.offset, bytes).expect("no fault");
        Some(write)
    }

    fn sync(&mut self, write: Write<HeapBuffer>) -> u64 {
        crate::Storage::sync(&mut self.disk, write.at.segment).expect("no fault");
        self.writer.handle_durable(write.at, Some(write.buffer))
    }

    fn flush(&mut self) {
        while let Some(write) = self.write() {
            self.sync(write);
        }
    }

    /// The ops up to here, as they should be read back.
    fn ops(&self, sizes: &[usize]) -> Ops {
        sizes.iter().zip(1..).map(|(&bytes, sequence)| (sequence, payload(sequence, bytes))).collect()
    }
}

fn read_back(disk: &mut Disk) -> Result<(Recovered, Ops), RecoveryError> {
    let mut ops = Vec::new();
    let mut last_lsn = 0;
    let outcome = recover(disk, &config(), |record| {
        assert!(last_lsn == 0 || record.lsn == last_lsn + 1);
        last_lsn = record.lsn;
        if let Body::Op(op) = record.body {
            assert_eq!((op.document, op.partition, op.epoch, op.kind), ("notes/today", 5, 1, 1));
            assert_eq!(op.id.counter(), op.sequence);
            ops.push((op.sequence, op.payload.to_vec()));
        }
    });
    match outcome {
        Ok(recovered) => {
            assert_eq!(recovered.position.lsn, last_lsn);
            Ok((recovered, ops))
        }
        Err(RecoverError::Log(error)) => Err(error),
        Err(RecoverError::Storage(error)) => panic!("{error}"),
    }
}
