//! `aether-perf`: knows where every microsecond goes, side by side with what else one could pick.
//!
//! The load is open-loop: a fixed schedule, latency counted from the intended instant, so that a stalled server
//! cannot hide behind a load that waited for it (coordinated omission). A run that missed its rate, lost a reply or
//! was driven by a stalled generator is marked failed and gives no figure. Servers run in processes of their own.
//!
//! This crate must never reach into what it measures: it drives the same public types that the product uses.

pub mod args;
pub mod compare;
pub mod context;
pub mod drive;
pub mod environment;
pub mod error;
pub mod impair;
pub mod load;
pub mod node_child;
pub mod peer;
pub mod peers;

pub mod product;
pub mod record;
pub mod report;
pub mod result;
pub mod serve;
pub mod stages;
pub mod stall;
pub mod verdict;
pub mod workloads;
