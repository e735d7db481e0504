//! What one shard holds and allows.

use wire::Span;
use wire::limits::{DOCUMENT_ID_BYTES_MAX, MESSAGE_BYTES_MAX, OP_BYTES_MAX, PRESENCE_ENTRIES_MAX};

use crate::rates::SessionRates;

/// Settings of a shard's state machine. They may change while it runs; a lower limit takes nothing away
/// from those who are above it already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncConfig {
    /// The least time between two presence broadcasts of one document.
    pub presence_tick: Span,
    /// What a writer is told to wait when the log takes no more.
    pub retry_after: Span,
    /// What each session may do.
    pub session_rates: SessionRates,
    /// What may be held.
    pub limits: Limits,
}

/// Every limit of a shard's state machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Documents in memory.
    pub documents_max: usize,
    /// Documents open on one connection.
    pub joins_per_connection_max: usize,
    /// Connections that have one document open.
    pub subscribers_per_document_max: usize,
    /// Bytes of one op.
    pub op_bytes_max: usize,
    /// Bytes of one document: its encoded state for `yjs`, the sum of its ops for `opaque`.
    pub document_bytes_max: u64,
    /// Bytes of recent ops kept for those who resume or fall behind.
    pub tail_bytes_max: usize,
    /// Bytes of updates whose dependencies are missing, past which only updates without gaps are taken.
    pub pending_bytes_max: usize,
    /// Presence entries that one connection owns.
    pub presence_clients_per_connection_max: usize,
    /// Bytes of their states.
    pub presence_bytes_per_connection_max: usize,
    /// Ops that are logged and not durable yet.
    pub unacknowledged_ops_max: usize,
    /// Writers whose last op is remembered for each document.
    pub writers_per_document_max: usize,
}

/// Updates that wait for integration in one document; the next one integrates them at once.
pub(crate) const QUEUED_UPDATES_MAX: usize = 4_096;
/// Bytes of the same.
pub(crate) const QUEUED_BYTES_MAX: usize = 1 << 20;
/// Ops by which a shared snapshot may be older than the join that it answers.
pub(crate) const SNAPSHOT_AGE_OPS_MAX: u64 = 1_024;
/// Ops by which the smallest one may: each is a message of its own to the joiner, a fresh state is one.
pub(crate) const SNAPSHOT_AGE_OPS_MIN: u64 = 32;
/// One more for so many bytes of state, whose encoding costs the more the larger it is.
pub(crate) const SNAPSHOT_BYTES_PER_OP: u64 = 32;
/// Ops between two state vectors that are remembered for those who fall behind.
pub(crate) const CHECKPOINT_OPS: u64 = 256;
/// How many of them are.
pub(crate) const CHECKPOINTS_MAX: usize = 16;
/// A document with more subscribers than this lets others' messages go before its ops.
pub(crate) const SUBSCRIBERS_FEW: usize = 64;
/// Control messages that wait for one connection to become writable; one more closes it.
pub(crate) const OWED_MESSAGES_MAX: usize = 4_096;
/// Bytes of the same.
pub(crate) const OWED_BYTES_MAX: usize = 4 << 20;
/// Presence entries that went away lately, told again to a subscriber who missed some.
pub(crate) const GONE_ENTRIES_MAX: usize = 1_024;
/// Bytes after which a presence broadcast goes on in the next message.
pub(crate) const PRESENCE_MESSAGE_BYTES: usize = 48 << 10;
/// Entries after which it does.
pub(crate) const PRESENCE_MESSAGE_ENTRIES: usize = 1_024;
/// The stack that [`SHARED_TYPES_MAX`](wire::limits::SHARED_TYPES_MAX) levels ask for, with room to spare.
pub const STACK_BYTES_MIN: usize = 256 << 20;

const _: () = assert!(PRESENCE_MESSAGE_ENTRIES <= PRESENCE_ENTRIES_MAX);
const _: () = assert!(PRESENCE_MESSAGE_BYTES < MESSAGE_BYTES_MAX);
const _: () = assert!(QUEUED_BYTES_MAX < OP_BYTES_MAX && OP_BYTES_MAX < MESSAGE_BYTES_MAX);
const _: () = assert!(CHECKPOINT_OPS * CHECKPOINTS_MAX as u64 >= SNAPSHOT_AGE_OPS_MAX);
const _: () = assert!(SNAPSHOT_AGE_OPS_MIN < SNAPSHOT_AGE_OPS_MAX);
const _: () = assert!(OWED_BYTES_MAX > OWED_MESSAGES_MAX * DOCUMENT_ID_BYTES_MAX);

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            presence_tick: Span::from_ms(20),
            retry_after: Span::from_ms(20),
            session_rates: SessionRates::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            documents_max: 100_000,
            joins_per_connection_max: 1_024,
            subscribers_per_document_max: 10_000,
            op_bytes_max: OP_BYTES_MAX,
            document_bytes_max: 64 << 20,
            tail_bytes_max: 1 << 20,
            pending_bytes_max: 1 << 20,
            presence_clients_per_connection_max: 1_024,
            presence_bytes_per_connection_max: 256 << 10,
            unacknowledged_ops_max: 1 << 18,
            writers_per_document_max: 1 << 16,
        }
    }
}
