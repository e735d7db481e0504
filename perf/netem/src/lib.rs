//! Virtual network links: what a packet meets between two machines, on paper.
//!
//! A [`Link`] is one direction. It takes packets at an instant and gives them out at theirs: late, in another order,
//! twice, damaged, or not at all. A [`Path`] is two links and the NAT between them. The impairment relay puts sockets
//! around it, a simulator puts machines around it.
//!
//! # What a packet passes, in this order
//!
//! 1. the policer: a token bucket that drops what exceeds it;
//! 2. the bottleneck: a queue (drop-tail) that is emptied at a fixed rate or by a capacity trace;
//! 3. the medium: it may be down ([`Blackhole`]), lose the packet, or flip a bit of it;
//! 4. the way: delay, jitter, being held back (reordering), a second copy.
//!
//! A packet that the medium loses has used up its share of the bottleneck.
//!
//! # Order of calls
//!
//! [`Link::handle_packet`] takes, [`Link::poll_packet`] gives until it has nothing that is due, and
//! [`Link::poll_timeout`] names the next instant at which there may be something. Fates depend on the seed, the packets
//! and their instants, never on how often it is polled. Each kind of fate draws from a random stream of its own, so
//! that, for one seed, the same packets are lost with and without jitter.
//!
//! This crate must never read a clock, open a socket or a file, start a thread or draw entropy.

mod bottleneck;
mod error;
mod link;
mod loss;
mod parse;
mod path;
mod payload;
mod policer;
mod preset;
mod print;
mod probability;
mod random;
mod spec;
mod stats;
mod trace;

pub use bottleneck::QUEUE_BYTES_MAX;
pub use error::SpecError;
pub use link::{Delivery, FLIGHT_BYTES_MAX, FLIGHT_PACKETS_MAX, Link};
pub use loss::GilbertElliott;
pub use parse::{KEYS, ReadTrace};
pub use path::{Direction, Mapping, Path, PathDelivery};
pub use payload::{DropReason, Payload};
pub use preset::{PRESETS, Preset};
pub use probability::Probability;
pub use random::Random;
pub use spec::{Blackhole, Capacity, LinkSpec, PathSpec, Policer, QueueLimit, Reorder};
pub use stats::LinkStats;
pub use trace::{CapacityTrace, OPPORTUNITIES_MAX, OPPORTUNITY_BYTES, TRACE_TEXT_BYTES_MAX, TraceError};
