//! One shard: the transport, the documents and the log of one core, wired together.
//!
//! A shard is still a state machine: it is handed datagrams, commands of the agent and finished writes, and
//! hands out datagrams, writes and reports. The machine underneath (rings, files, cores) drives it from
//! `node`; a simulator can drive it just as well.
//!
//! It must never wait: whoever has to wait for something is a queue with a limit in one of the machines.

mod command;
mod commit_pace;
mod idle;
mod lanes;
mod log;
mod probe;
mod shard;
mod sink;
mod status;
#[cfg(test)]
mod tests;

pub use command::{Command, Report, ShardSettings};
pub use idle::IdlePolicy;
pub use lanes::{LANE_INLINE_BYTES, LaneMessage};
pub use probe::{Offender, Probe, Stage};
pub use shard::{Shard, ShardConfig};
pub use status::Figure;
