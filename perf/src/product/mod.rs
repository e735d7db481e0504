//! What the workloads of the product share: where they run, the clients that drive it, and what becomes of their
//! ops.
//!
//! The generator is one thread on one core, with the client library that applications use; nothing here takes a way
//! that an application could not take.

pub mod clients;
pub mod flight;
pub mod monitor;
pub mod runtime;
pub mod target;
pub mod zipf;
