//! What the agent knows of its shards, for whoever asks the node.

use crate::timings::ShardSnapshot;

/// A node as its agent sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeState {
    pub(crate) shards: Vec<ShardState>,
    /// The last failure of the control channel.
    pub(crate) last_error: String,
}

/// One shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardState {
    /// Its log is recovered.
    pub(crate) serving: bool,
    /// It has ticket keys and placement.
    pub(crate) ready: bool,
    pub(crate) drained: bool,
    pub(crate) recovered_ops: u64,
    /// Of these, in the store as well.
    pub(crate) recovered_ops_stored: u64,
    /// Why its store takes no writes; `None`: it does.
    pub(crate) store_failure: Option<String>,
    /// What it reported last.
    pub(crate) last: ShardSnapshot,
}

impl NodeState {
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: vec![ShardState::default(); shards], last_error: String::new() }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.shards.iter().all(|shard| shard.serving && shard.ready)
    }
}

impl ShardState {
    /// A figure by name; zero when it has not been reported yet.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        self.last.figure(name)
    }
}
