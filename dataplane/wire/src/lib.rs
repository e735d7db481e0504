//! Every byte that crosses the network: GUUIDs, limits, the Quantum header, tickets and sync messages.
//!
//! This crate turns bytes into values that cannot be wrong, and back. It knows no socket, clock, thread or
//! random source; time and entropy are arguments.

pub mod access;
pub mod channel;
pub mod code;
mod counters;
mod ecn;
pub mod fec;
pub mod frame;
pub mod guuid;
pub mod header;
pub mod limits;
pub mod partition;
mod prefetch;
pub mod sync;
pub mod ticket;
mod time;
pub mod varint;
#[cfg(test)]
#[path = "../../../tests/wycheproof/vectors.rs"]
mod wycheproof;
pub mod yjs_scan;

pub use access::{Access, Grant, access_to};
pub use channel::{Channel, ChannelKind, Priority};
pub use code::Code;
pub use counters::CounterField;
pub use ecn::Ecn;
pub use guuid::Guuid;
pub use header::{Header, HeaderError, PacketType};
pub use partition::partition_of;
pub use prefetch::{prefetch, prefetch_front};
pub use ticket::{OpenedTicket, Ticket, TicketError, TicketKeyRing};
pub use time::{Span, Time};
pub use varint::Malformed;
