//! What the agent tells a shard, and what a shard tells its agent: values that move, never shared.

use statesync::{Placement, SessionRates};
use wire::Guuid;

use crate::idle::IdlePolicy;

/// The settings that a running shard applies without a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardSettings {
    /// Counts the settings pushed by the control plane.
    pub version: u64,
    /// What to do when idle; the driver of the shard heeds it.
    pub idle_policy: IdlePolicy,
    /// How often changed presence is sent.
    pub presence_tick_ms: u32,
    /// After how long of silence a connection ends.
    pub idle_timeout_ms: u32,
    /// How much may wait for a subscriber before it is resynchronised instead.
    pub subscriber_queue_bytes_max: u64,
    /// The largest document.
    pub document_bytes_max: u64,
    /// What each session may do.
    pub session_rates: SessionRates,
}

/// From the agent to a shard.
#[derive(Clone, Debug)]
pub enum Command {
    /// Keys that open tickets, newest first.
    TicketKeys(Vec<(u32, [u8; 32])>),
    /// Who owns which partition.
    Placement(Placement),
    /// Settings to apply now.
    Settings(ShardSettings),
    /// End the connections of this session.
    RevokeSession(Guuid),
    /// Let go of nothing in the log while it is copied, or no longer hold it; answered by
    /// [`Report::LogHeld`].
    HoldLog(bool),
    /// Make everything durable, tell the clients, stop.
    Drain,
}

/// From a shard to its agent.
#[derive(Debug)]
pub enum Report {
    /// The log has been read and the shard serves.
    Serving {
        /// Documents recovered.
        documents: u64,
        /// Ops recovered.
        ops: u64,
        /// Of these, in the store as well.
        ops_stored: u64,
        /// Bytes of an unfinished write that were cut from the log's end.
        cut_bytes: u64,
    },
    /// Ticket keys and placement have been applied: clients are served.
    Ready,
    /// Settings of this version are in force.
    SettingsApplied(u64),
    /// How far the log is durable now that it is held, or not held any more.
    LogHeld {
        /// The segment that is written.
        segment: u32,
        /// Bytes of it that are durable.
        bytes: u64,
    },
    /// Everything is durable and told; the shard has stopped.
    Drained,
}
