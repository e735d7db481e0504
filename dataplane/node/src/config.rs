//! What a node is started with.

use std::net::SocketAddr;
use std::path::PathBuf;

use shard::IdlePolicy;

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
    /// The largest datagram that is sent.
    pub datagram_bytes_max: usize,
    /// The size of a log segment.
    pub log_segment_bytes: u64,
    /// One turn of a shard in so many has its stages timed: [`STAGE_SAMPLE_TURNS`](crate::STAGE_SAMPLE_TURNS)
    /// unless there is a reason; 0: none.
    pub stage_sample_turns: u32,
}
