//! Quantum: an encrypted, reliable transport of messages over UDP, as a state machine.
//!
//! A client has one [`Connection`]; a shard of a node has an [`Endpoint`] with all of its connections. Both
//! are driven in the same way: `handle_*` puts datagrams and time in, `poll_*` takes datagrams, events and
//! the next timeout out, and a [`MessageSink`] is given the messages as they arrive. The wire is described in
//! `PROTOCOL.md`.
//!
//! This crate knows no socket, clock, thread or random source: time and entropy are arguments, and the same
//! inputs give the same outputs.

mod acks;
mod audience;
mod channels;
mod config;
pub mod congestion;
mod connection;
mod connection_ids;
mod cookie;
mod delivery;
mod ecn;
mod endpoint;
pub mod fec;
mod flow;
mod id_hash;
mod key_update;
mod keys;
mod loss;
mod mtu;
mod noise;
mod pacer;
mod path;
mod ranges;
mod receive_budget;
mod replay;
mod reset;
mod rtt;
mod send_budget;
mod sent_packets;
mod stateless;
mod stats;
mod tap;
mod timer_heap;
mod used_ids;
mod versions;
#[cfg(test)]
#[path = "../../../tests/wycheproof/vectors.rs"]
mod wycheproof;

pub use audience::audience;
pub use channels::{LATEST_KEYS_MAX, PACKET_MESSAGE_BYTES_MAX};
pub use config::{
    ACK_DELAY_MAX, Config, ConfigError, ControllerKind, FecConfig, IDLE_TIMEOUT_MIN, MESSAGES_AHEAD_MAX,
};
pub use congestion::PathModel;
pub use connection::{
    CloseReason, ClosedBy, ConnectError, Connection, ConnectionKey, Event, Footprint, MessageId, MessageSink,
    Now, SendError, SendOptions, Transmit,
};
pub use endpoint::{Endpoint, EndpointLimits};
pub use key_update::KEY_UPDATE_PACKETS_MAX;
pub use keys::PacketKeys;
pub use reset::{RESET_BYTES, RESET_TOKEN_BYTES, ResetKey, ResetToken, reset_packet, reset_token};
pub use stats::{ConnectionStats, EndpointStats};
pub use tap::PacketTap;
pub use wire::channel::{Channel, ChannelKind, Priority};
