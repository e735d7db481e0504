//! Why a node did not start, or stopped.

use std::path::PathBuf;

use rt::RtError;
use thiserror::Error;

/// Why a node did not start, or stopped.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The machine underneath: sockets, io_uring, files, the data directory.
    #[error(transparent)]
    Machine(#[from] RtError),
    /// The log cannot be trusted, so the node does not start over it.
    #[error("the log of shard {shard} in {} cannot be used: {reason}", path.display())]
    Log {
        /// The shard.
        shard: usize,
        /// Its directory.
        path: PathBuf,
        /// What was found, where, and what to do.
        reason: String,
    },
    /// The disk is full, so that the log cannot be begun or continued.
    #[error(
        "the disk has no room for log segment {segment}: make room in the data directory, or set a smaller \
         [node.log] segment_bytes"
    )]
    DiskFull {
        /// The segment.
        segment: u32,
    },
    /// The store of a shard's documents cannot be used.
    #[error("shard {shard}: {source}")]
    Store {
        /// The shard.
        shard: usize,
        /// What is wrong with it, and what to do.
        source: docstore::StoreError,
    },
    /// A shard's storage thread could not be started.
    #[error("the storage thread of shard {shard} could not be started: {source}")]
    StorageThread {
        /// The shard.
        shard: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// More or fewer shards than the data directory was made with.
    #[error(
        "{} was made with {found} shards and cannot be opened with {wanted}: start with --shards {found}, or \
         give the node another data directory", path.display()
    )]
    ShardCount {
        /// The data directory.
        path: PathBuf,
        /// As it was made.
        found: usize,
        /// As asked for now.
        wanted: usize,
    },
    /// A setting that no part of the node can work with.
    #[error("{0}")]
    Config(String),
    /// A shard stopped by itself.
    #[error("shard {shard} stopped: {reason}")]
    ShardStopped {
        /// The shard.
        shard: usize,
        /// Why.
        reason: String,
    },
    /// The control plane did not send keys and placement in time.
    #[error("the control plane at {control} did not admit the node within {waited_s} s: {last}")]
    NotAdmitted {
        /// Its URL.
        control: String,
        /// How long was waited.
        waited_s: u64,
        /// What went wrong last.
        last: String,
    },
    /// The admin service's address cannot be had.
    #[error("[node] admin: {address} cannot be listened on: {source}")]
    Admin {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The agent's thread could not be started.
    #[error("the agent's thread could not be started: {0}")]
    Agent(std::io::Error),
}
