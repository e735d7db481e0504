//! The transport in virtual time: real state machines, a virtual network between them, and every random choice from
//! one seed, so that whatever happens once can be made to happen again.

pub mod latency;
