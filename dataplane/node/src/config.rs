//! What a node is started with.

use std::net::SocketAddr;
use std::path::PathBuf;

use docstore::StoreConfig;
use rt::ZeroCopySend;
use shard::IdlePolicy;
use statesync::{SyncConfig, WorkerConfig};
use wire::Span;

/// The longest that an op waits for others under load before the log is written, microseconds, unless told otherwise.
pub const COMMIT_DELAY_US_MAX: u32 = 500;

/// What takes longer in one step of a turn is a stall, unless told otherwise, microseconds.
const STALL_BUDGET_US: u32 = 1_000;
/// Datagrams that one turn takes in, unless told otherwise: at some 4 us each they take as long as ops under load wait
/// for the log, and nothing waits much longer for them than that.
const DATAGRAMS_IN_PER_TURN_MAX: usize = 128;
/// Datagrams that one turn sends, unless told otherwise, so that what comes in, and what is durable, is never kept
/// waiting long: each costs some 5 us.
const DATAGRAMS_OUT_PER_TURN_MAX: usize = 64;

/// The bytes of a shard's log from which on its oldest segments are made superfluous, unless told otherwise.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Files of removed segments that are kept to be used again, unless told otherwise.
const LOG_SPARE_SEGMENTS_MAX: usize = 2;

/// A node's configuration, already validated.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The same after a restart: it owns the data directory.
    pub node_id: String,
    /// Where the logs are.
    pub data_dir: PathBuf,
    /// The Quantum socket; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What clients are told; `None`: the address that was bound.
    pub advertise: Option<String>,
    /// URL of the control plane.
    pub control: String,
    /// The bearer key that the control plane asks for; empty: none.
    pub api_key: String,
    /// How many shards; `None`: as many as the data directory was made with, or one per allowed core.
    pub shards: Option<usize>,
    /// What to do when idle.
    pub idle_policy: IdlePolicy,
    /// How connections are run; the idle timeout and the send buffer are those of the control plane's settings.
    pub transport: quantum::Config,
    /// Bytes of messages of one shard that have come and cannot be delivered yet; 256 MiB unless there is a reason.
    pub receive_buffer_bytes_max: u64,
    /// Bytes of messages of one shard that are to be sent, or are sent and not acknowledged; 1 GiB unless there is a reason.
    pub send_buffer_bytes_max: u64,
    /// The size of a log segment.
    pub log_segment_bytes: u64,
    /// How the log is kept.
    pub log: NodeLogConfig,
    /// The longest that an op waits for others under load before the log is written, microseconds:
    /// [`COMMIT_DELAY_US_MAX`](crate::COMMIT_DELAY_US_MAX) unless there is a reason; 0: none waits.
    pub commit_delay_us_max: u32,
    /// One turn of a shard in so many has its stages timed: [`STAGE_SAMPLE_TURNS`](crate::STAGE_SAMPLE_TURNS)
    /// unless there is a reason; 0: none.
    pub stage_sample_turns: u32,
    /// Where operators' requests are taken (TCP, gRPC); `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// How each shard's documents are stored.
    pub store: NodeStoreConfig,
    /// How the loop of each core works.
    pub core: CoreConfig,
}

/// How the log of each shard is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeLogConfig {
    /// A log that has grown to so many bytes has the documents stored that keep its oldest segments.
    pub bytes_max: u64,
    /// Files of removed segments that are kept to be used again.
    pub spare_segments_max: usize,
}

impl Default for NodeLogConfig {
    fn default() -> Self {
        Self { bytes_max: LOG_BYTES_MAX, spare_segments_max: LOG_SPARE_SEGMENTS_MAX }
    }
}

/// How the documents of each shard are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeStoreConfig {
    /// How long a document has ops that only the log holds before it is stored.
    pub snapshot_after: Span,
    /// How long a document that nobody uses stays in memory.
    pub unload_after: Span,
    /// Memory for all documents that are loaded, bytes.
    pub document_memory_bytes: u64,
    /// How the store is opened, and what it keeps.
    pub store: StoreConfig,
    /// Memory for integrated documents that are likely to be merged again, bytes.
    pub merge_cache_bytes: u64,
}

impl Default for NodeStoreConfig {
    fn default() -> Self {
        let worker = WorkerConfig::default();
        let sync = SyncConfig::default();
        Self {
            snapshot_after: sync.snapshot_after,
            unload_after: sync.unload_after,
            document_memory_bytes: sync.limits.document_memory_bytes_max,
            store: StoreConfig::default(),
            merge_cache_bytes: worker.materialized_bytes_max,
        }
    }
}

/// How the loop of a core works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreConfig {
    /// What takes longer in one step of a turn is told as a stall.
    pub stall_budget_us: u32,
    /// Datagrams taken in by one turn at the most, give or take a train.
    pub datagrams_in_per_turn_max: usize,
    /// Datagrams sent by one turn at the most, give or take a train.
    pub datagrams_out_per_turn_max: usize,
    /// Whether long trains of datagrams are sent without a copy.
    pub zero_copy_send: ZeroCopySend,
    /// How long the kernel polls the network device before the shard sleeps, microseconds; 0: not at all.
    pub busy_poll_us: u32,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            stall_budget_us: STALL_BUDGET_US,
            datagrams_in_per_turn_max: DATAGRAMS_IN_PER_TURN_MAX,
            datagrams_out_per_turn_max: DATAGRAMS_OUT_PER_TURN_MAX,
            zero_copy_send: ZeroCopySend::Auto,
            busy_poll_us: 0,
        }
    }
}
