//! The log, as the state machine sees it.

use thiserror::Error;
use wire::Guuid;
use wire::sync::DocumentKind;

/// One op on its way into the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOp<'a> {
    /// The document's id.
    pub document: &'a str,
    /// What the document is made of.
    pub kind: DocumentKind,
    /// The document's partition.
    pub partition: u32,
    /// The epoch at which this shard owns it.
    pub epoch: u64,
    /// The op's place in the document: 1 for the first, without gaps.
    pub sequence: u64,
    /// The writer and its op counter.
    pub op_id: Guuid,
    /// When the node took it, Unix milliseconds.
    pub unix_ms: u64,
    /// The bytes that the writer sent; empty for a deletion.
    pub payload: &'a [u8],
    /// The document ends here.
    pub is_deletion: bool,
}

/// The log takes no more until what it holds is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the log takes no more until its pending batch is written")]
pub struct LogFull;

/// Takes ops in order.
pub trait AppendLog {
    /// Takes one op and answers with its log sequence number, which never decreases; the op is durable once
    /// [`handle_durable`](crate::StateSync::handle_durable) is told that number.
    fn append(&mut self, op: &LogOp<'_>) -> Result<u64, LogFull>;
}
