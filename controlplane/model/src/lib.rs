//! What the control plane knows, without how it knows it: the cluster's state, the placement planner, the
//! rules for sessions and ticket keys, and the configuration of the whole appliance.
//!
//! Everything here is a value or a pure function. This crate knows no socket, clock, thread or random source;
//! time and entropy are arguments.

pub mod cluster;
pub mod config;
pub mod keys;
pub mod placement;
pub mod session;

pub use cluster::{MapNode, NodeRecord, PartitionMap, PartitionOwner};
pub use config::{Config, ConfigError, Settings};
pub use keys::{KeyRecord, KeyRing};
pub use placement::{Moves, plan};
pub use session::{Session, SessionError};
