//! The transport in virtual time: real state machines, a virtual network between them, and every random choice from
//! one seed, so that whatever happens once can be made to happen again.
//!
//! A *world* is a node, its clients, their networks and an attacker. What happens in it is drawn from a seed (the
//! *scenario*); what must hold in it are the [`Invariant`]s. `sim --seeds 10000` lives so many worlds; `sim --seed N
//! --trace` tells one of them as a story.

mod agenda;
mod campaign;
mod cli;
mod content;
mod datagram;
mod digest;
mod disk;
mod draw;
mod invariants;
pub mod latency;
mod life;
mod scenario;
pub mod story;
mod trace;
mod whole_node;
mod world;

pub use campaign::{Campaign, Failure, Kind, SeedResult, Totals, run_mutated, run_seed};
pub use cli::{Output, SeedArgs};
pub use invariants::{Invariant, Violation};
pub use whole_node::{Mutation, NodeCounts};
