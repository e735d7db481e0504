//! A node: the process that owns documents. One thread per shard, pinned to its core, and one for the agent.
//!
//! [`Node::start`] turns a configuration into running shards, [`Node::ready`] waits until clients are served,
//! [`Node::drain`] ends without losing anything. The loop of a core is in `shard_loop`; the agent, which alone
//! speaks gRPC, in `agent`. No edit ever passes through the agent.

mod admin;
mod agent;
mod config;
mod convert;
mod error;
mod log_driver;
mod loop_clock;
mod metrics;
mod node;
mod recovery_progress;
mod shard_loop;
mod shard_start;
mod siblings;
mod stage_probe;
mod stalls;
mod state;
mod storage;
mod timings;
mod turn_meter;

pub use config::{COMMIT_DELAY_US_MAX, CoreConfig, NodeConfig, NodeLogConfig, NodeStoreConfig};
pub use docstore::StoreConfig;
pub use error::NodeError;
pub use node::{Node, NodeSummary};
pub use quantum::{Config as TransportConfig, ControllerKind, FecConfig};
pub use rt::ZeroCopySend;
pub use shard::{Figure, IdlePolicy, Stage};
pub use stage_probe::STAGE_SAMPLE_TURNS;
pub use storage::JobKind;
pub use timings::{ShardSnapshot, StepTimes, Timings};
pub use turn_meter::Step;
