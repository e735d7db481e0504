//! The product's own transport, driven as a shard of a node drives it: one endpoint, one packet ring.

mod client;
mod crowd;
mod forger;
mod server;
mod setup;

pub use self::forger::{Forgery, forge};
use self::setup::MESSAGE_BYTES_MAX;
use super::Peer;

/// In the registry.
pub const PEER: Peer = Peer {
    name: "quantum",
    encrypted: true,
    reliable: true,
    packet_bytes_max: Some(wire::limits::DATAGRAM_BYTES_MAX as u16),
    message_bytes_max: |_| MESSAGE_BYTES_MAX,
    serve: server::serve,
    connect: client::connect,
    prepare_early: Some(client::prepare_early),
    gather: Some(crowd::gather),
};
