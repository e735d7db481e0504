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
    /// What a writer is told to wait when the log takes no more, or its document is loaded or merged.
    pub retry_after: Span,
    /// How long a document has ops that only the log holds before it is stored.
    pub snapshot_after: Span,
    /// Bytes of the log past which the documents with the oldest ops in it are stored at once.
    pub log_bytes_max: u64,
    /// How long to wait after the store has failed.
    pub store_retry_after: Span,
    /// How long a document that nobody uses stays in memory.
    pub unload_after: Span,
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
    /// Blocks of one `yjs` document, those that stand for something deleted included.
    pub document_blocks_max: u64,
    /// Bytes of recent ops kept for those who resume or fall behind, once they are stored.
    pub tail_bytes_max: usize,
    /// Bytes of ops that are not stored, past which the document is stored at once; or a quarter of its state, if
    /// that is more.
    pub snapshot_tail_bytes: usize,
    /// Joins that wait for documents to be loaded.
    pub waiting_joins_max: usize,
    /// Jobs that wait for others to be done; joins that need one more are refused.
    pub jobs_queued_max: usize,
    /// Requests about the past of documents that one connection has under way.
    pub requests_per_connection_max: usize,
    /// The same of all.
    pub requests_max: usize,
    /// Jobs that are handed out and not done.
    pub jobs_in_flight_max: usize,
    /// Bytes of updates whose dependencies are missing, past which only updates without gaps are taken.
    pub pending_bytes_max: usize,
    /// Presence entries that one connection owns.
    pub presence_clients_per_connection_max: usize,
    /// Bytes of their states.
    pub presence_bytes_per_connection_max: usize,
    /// Bytes of all documents in memory: merged states, ops, writers. At this no more are loaded, and a quarter past it no
    /// more ops are taken.
    pub document_memory_bytes_max: u64,
    /// Bytes that are being sent to single subscribers and were made or read for them: diffs, older ops.
    pub diff_bytes_max: u64,
    /// Ops that are logged and not durable yet.
    pub unacknowledged_ops_max: usize,
    /// Writers whose last op is remembered for each document.
    pub writers_per_document_max: usize,
    /// Bytes of states and kept ops that are handed out between two ticks: however many join, edits go in between.
    pub catch_up_bytes_per_tick: usize,
}

/// Snapshots that are handed out and not done: others' jobs wait behind them.
pub(crate) const SNAPSHOTS_IN_FLIGHT_MAX: usize = 2;
/// The same for requests about the past.
pub(crate) const REQUESTS_IN_FLIGHT_MAX: usize = 1;
/// Bytes of past states on their way to clients, past which no more are read.
pub(crate) const ANSWERS_BYTES_MAX: u64 = 256 << 20;
/// How long an answer that is not read may stand in the way of others.
pub(crate) const ANSWER_PATIENCE: Span = Span::from_ms(10_000);
/// How often room that is not needed any more is given back.
pub(crate) const SHRINK_AFTER: Span = Span::from_ms(10_000);
/// Room for so many is kept.
pub(crate) const SHRINK_MIN: usize = 1_024;
/// Documents that are stored at once when the log is too long.
pub(crate) const PRESSED_DOCUMENTS: usize = 16;
/// The part of its limit by which a document may go beyond it with updates that only delete.
pub(crate) const DELETIONS_PART: u64 = 8;
/// How soon a client may tell presence again that was over a limit.
pub(crate) const PRESENCE_OVER_LIMIT_RETRY: Span = Span::from_ms(1_000);
/// A document with no more bytes than this is sent whole rather than compared.
pub(crate) const DIFF_DOCUMENT_BYTES_MIN: u64 = 4 << 10;
/// A document that somebody joins is merged when so many ops come after its merged state.
pub(crate) const JOIN_OPS_MIN: u64 = 256;
/// Bytes of ops that one job reads out of the store.
pub(crate) const READ_OPS_BYTES: usize = 256 << 10;
/// What handing out a kept op costs beside its bytes, as bytes of a state that cost as much.
pub(crate) const CATCH_UP_OP_BYTES: usize = 256;
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
const _: () = assert!(OP_BYTES_MAX < MESSAGE_BYTES_MAX);
const _: () = assert!(OWED_BYTES_MAX > OWED_MESSAGES_MAX * DOCUMENT_ID_BYTES_MAX);

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            presence_tick: Span::from_ms(20),
            retry_after: Span::from_ms(20),
            snapshot_after: Span::from_ms(30_000),
            log_bytes_max: 1 << 30,
            store_retry_after: Span::from_ms(5_000),
            unload_after: Span::from_ms(60_000),
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
            document_blocks_max: 10_000_000,
            tail_bytes_max: 256 << 10,
            snapshot_tail_bytes: 256 << 10,
            waiting_joins_max: 1 << 14,
            jobs_queued_max: 1 << 14,
            requests_per_connection_max: 8,
            requests_max: 256,
            jobs_in_flight_max: 8,
            pending_bytes_max: 1 << 20,
            presence_clients_per_connection_max: 1_024,
            presence_bytes_per_connection_max: 256 << 10,
            document_memory_bytes_max: 4 << 30,
            diff_bytes_max: 256 << 20,
            unacknowledged_ops_max: 1 << 18,
            writers_per_document_max: 1 << 16,
            catch_up_bytes_per_tick: 256 << 10,
        }
    }
}
