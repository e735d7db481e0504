//! Bounded rings between threads: the only lock-free code in the house.
//!
//! Shards share no memory; what one core has to tell another goes through a [`spsc`] ring, which has one
//! producer, one consumer and a fixed number of slots. A full ring is the sender's business: it gets its
//! message back and decides. Nothing here blocks, waits or wakes anybody: [`Parking`] only says who must be woken, and the
//! runtime has a doorbell for that.

mod parking;
pub mod spsc;
mod sync;

pub use parking::Parking;
