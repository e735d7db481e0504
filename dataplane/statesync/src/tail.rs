//! The last ops of a document as they were sent, packed: 32 bytes of memory an op beside its own.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::Guuid;

use crate::jobs::HistoryOp;

/// Bytes of ops after which a chunk is closed.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Ops after which it is.
const CHUNK_OPS_MAX: usize = 1 << 12;

/// What is known of an op beside its bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    op_id: Guuid,
    lsn: u64,
    /// Since the chunk's first op.
    age_ms: u32,
    /// Where its bytes end in the chunk.
    end: u32,
}

const _: () = assert!(size_of::<Entry>() == 32);

/// The bytes of a chunk: shared with jobs once no more are added.
#[derive(Debug)]
enum Payloads {
    Open(Vec<u8>),
    Closed(Bytes),
}

#[derive(Debug)]
struct Chunk {
    /// The sequence of its first op.
    first: u64,
    unix_ms: u64,
    entries: Vec<Entry>,
    payloads: Payloads,
}

/// One op of the tail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailOp<'a> {
    pub(crate) op_id: Guuid,
    pub(crate) lsn: u64,
    pub(crate) payload: &'a [u8],
}

/// An op to be added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewOp<'a> {
    pub(crate) op_id: Guuid,
    pub(crate) lsn: u64,
    pub(crate) unix_ms: u64,
    pub(crate) payload: &'a [u8],
}

/// The last ops of a document, without gaps.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The sequence of the last op, kept or not.
    last: u64,
    bytes: usize,
    chunks: VecDeque<Chunk>,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match &self.payloads {
            Payloads::Open(bytes) => bytes,
            Payloads::Closed(bytes) => bytes,
        }
    }

    const fn is_open(&self) -> bool {
        matches!(self.payloads, Payloads::Open(_))
    }

    fn range(&self, at: usize) -> std::ops::Range<usize> {
        let start = at.checked_sub(1).map_or(0, |before| self.entries[before].end as usize);
        start..self.entries[at].end as usize
    }

    fn close(&mut self) {
        if let Payloads::Open(bytes) = &mut self.payloads {
            self.entries.shrink_to_fit();
            self.payloads = Payloads::Closed(Bytes::from(std::mem::take(bytes).into_boxed_slice()));
        }
    }
}

impl Tail {
    /// Of a document whose last op is `sequence`; none is kept.
    pub(crate) const fn after(sequence: u64) -> Self {
        Self { last: sequence, bytes: 0, chunks: VecDeque::new() }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> u64 {
        self.last + 1 - self.first()
    }

    /// Bytes of the kept ops up to `sequence`.
    pub(crate) fn bytes_through(&self, sequence: u64) -> usize {
        let of = |chunk: &Chunk| {
            let count = (sequence + 1).saturating_sub(chunk.first);
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(chunk.entries.len());
            count.checked_sub(1).map_or(0, |last| chunk.entries[last].end as usize)
        };
        self.chunks.iter().map(of).sum()
    }

    /// The first op that is kept, or the one that would be next.
    pub(crate) fn first(&self) -> u64 {
        self.chunks.front().map_or(self.last + 1, |chunk| chunk.first)
    }

    /// Adds the next op. `keep_bytes` is how many will be kept when all is stored: the steps in which the oldest
    /// go are small beside it.
    pub(crate) fn push(&mut self, op: &NewOp<'_>, keep_bytes: usize) {
        let chunk_bytes = CHUNK_BYTES_MAX.min(keep_bytes / 8);
        let is_full = |chunk: &Chunk| {
            let used = chunk.entries.last().map_or(0, |entry| entry.end as usize);
            !chunk.is_open()
                || chunk.entries.len() >= CHUNK_OPS_MAX
                || used + op.payload.len() > chunk_bytes
                || op.unix_ms.saturating_sub(chunk.unix_ms) > u64::from(u32::MAX)
        };
        self.last += 1;
        if self.chunks.back().is_none_or(is_full) {
            if let Some(last) = self.chunks.back_mut() {
                last.close();
            }
            let (first, unix_ms) = (self.last, op.unix_ms);
            let payloads = Payloads::Open(Vec::new());
            self.chunks.push_back(Chunk { first, unix_ms, entries: Vec::new(), payloads });
        }
        let Some(chunk) = self.chunks.back_mut() else { return };
        let Payloads::Open(bytes) = &mut chunk.payloads else { return };
        bytes.extend_from_slice(op.payload);
        let end = bytes.len() as u32;
        let age_ms = op.unix_ms.saturating_sub(chunk.unix_ms) as u32;
        chunk.entries.push(Entry { op_id: op.op_id, lsn: op.lsn, age_ms, end });
        self.bytes += op.payload.len();
    }

    fn locate(&self, sequence: u64) -> Option<(&Chunk, usize)> {
        if sequence > self.last {
            return None;
        }
        let behind = self.chunks.partition_point(|chunk| chunk.first <= sequence);
        let chunk = &self.chunks[behind.checked_sub(1)?];
        Some((chunk, (sequence - chunk.first) as usize))
    }

    /// The op at `sequence`, when it is kept.
    pub(crate) fn get(&self, sequence: u64) -> Option<TailOp<'_>> {
        let (chunk, at) = self.locate(sequence)?;
        let entry = chunk.entries.get(at)?;
        Some(TailOp { op_id: entry.op_id, lsn: entry.lsn, payload: &chunk.bytes()[chunk.range(at)] })
    }

    /// Whether all ops from `sequence` on are kept (or still to come).
    pub(crate) fn holds_from(&self, sequence: u64) -> bool {
        sequence >= self.first()
    }

    /// Lets go of ops up to `sequence`, the oldest first, while more than `keep_bytes` are kept.
    pub(crate) fn drop_through(&mut self, sequence: u64, keep_bytes: usize) {
        while self.bytes > keep_bytes || keep_bytes == 0 {
            let Some(chunk) = self.chunks.front() else { break };
            if chunk.first + chunk.entries.len() as u64 > sequence + 1 {
                break;
            }
            self.bytes -= chunk.entries.last().map_or(0, |entry| entry.end as usize);
            self.chunks.pop_front();
        }
    }

    /// Gives back memory that was kept for more ops.
    pub(crate) fn shrink(&mut self) {
        if let Some(last) = self.chunks.back_mut() {
            last.close();
        }
        self.chunks.shrink_to_fit();
    }

    /// The ops `from..=to` that are kept; their bytes are shared, but for those of the open chunk.
    pub(crate) fn ops(&self, from: u64, to: u64) -> Vec<HistoryOp> {
        let from = from.max(self.first());
        let count = (to + 1).saturating_sub(from);
        let mut ops = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for chunk in &self.chunks {
            let end = chunk.first + chunk.entries.len() as u64;
            if end <= from || chunk.first > to {
                continue;
            }
            let shared = match &chunk.payloads {
                Payloads::Open(bytes) => Bytes::copy_from_slice(bytes),
                Payloads::Closed(bytes) => bytes.clone(),
            };
            for sequence in from.max(chunk.first)..end.min(to + 1) {
                let at = (sequence - chunk.first) as usize;
                let entry = &chunk.entries[at];
                ops.push(HistoryOp {
                    sequence,
                    op_id: entry.op_id,
                    unix_ms: chunk.unix_ms + u64::from(entry.age_ms),
                    payload: shared.slice(chunk.range(at)),
                });
            }
        }
        ops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(number: u8, payload: &[u8]) -> NewOp<'_> {
        let op_id = Guuid::from_bytes([number; 16]);
        NewOp { op_id, lsn: 10 * u64::from(number), unix_ms: 1_000 + u64::from(number), payload }
    }

    #[test]
    fn an_op_is_found_under_another_sequence() {
        let mut tail = Tail::after(100);
        assert!(tail.holds_from(101) && !tail.holds_from(100) && tail.get(100).is_none());
        for number in 1..=40 {
            tail.push(&op(number, &[number; 10]), 200);
        }
        assert_eq!((tail.bytes(), tail.first()), (400, 101));
        for number in 1..=40 {
            let found = tail.get(100 + u64::from(number)).unwrap();
            assert_eq!((found.payload, found.lsn), (&[number; 10][..], 10 * u64::from(number)));
        }
        assert!(tail.get(141).is_none() && tail.get(100).is_none());
        tail.drop_through(130, 0);
        assert!(tail.holds_from(131) && tail.get(131).is_some(), "what is not stored is kept");
        assert!(tail.first() > 125);
        tail.drop_through(140, 45);
        assert!((20..=45).contains(&tail.bytes()));
        let ops = tail.ops(1, 140);
        assert_eq!(ops.first().unwrap().sequence, tail.first());
        for op in ops {
            let number = (op.sequence - 100) as u8;
            assert_eq!((&op.payload[..], op.unix_ms), (&[number; 10][..], 1_000 + u64::from(number)));
        }
        tail.shrink();
        tail.push(&op(41, b"x"), 200);
        assert_eq!(tail.get(141).unwrap().payload, b"x");
        tail.drop_through(141, 0);
        assert_eq!((tail.bytes(), tail.first()), (0, 142));
    }
}
