//! Hostile input: a target for every decoder, and for whole endpoints.
//!
//! A target takes any bytes and panics when what it looks at breaks a rule. Bytes either are the input of a
//! decoder, or they are choices by which a [`Source`] builds input that is nearly valid: the right keys with
//! hostile frames, or honest datagrams with a few bits changed.
//!
//! ```text
//! cargo test -p fuzz                                 each target for two seconds, on random input
//! FUZZ_SECONDS=60 cargo test -p fuzz endpoint        those with `endpoint` in their name, for a minute each
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz/libfuzzer header     one, guided by coverage, without end
//! ```
//!
//! A failure of the first prints a shorter input that fails too, and a seed; `BOLERO_RANDOM_SEED` repeats it.
//! Files in `crashes/TARGET` are tried first, always: that is where an input that failed belongs.

mod fec;
mod forgery;
mod frames;
mod hostile;
mod noise;
mod pair;
mod peers;
mod source;
mod wire_format;

pub use fec::{fec_decoder, fec_round_trip};
pub use forgery::{forged_handshakes, forged_packets};
pub use frames::{acks, frames};
pub use noise::Noise;
pub use peers::{hostile_client, hostile_node};
pub use source::Source;
pub use wire_format::{
    header, sync_from_client, sync_from_node, ticket, varints, yjs_state_vector, yjs_update,
};

/// A target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 15] = [
    ("header", header),
    ("varints", varints),
    ("ticket", ticket),
    ("frames", frames),
    ("acks", acks),
    ("sync_from_client", sync_from_client),
    ("sync_from_node", sync_from_node),
    ("yjs_update", yjs_update),
    ("yjs_state_vector", yjs_state_vector),
    ("fec_decoder", fec_decoder),
    ("fec_round_trip", fec_round_trip),
    ("forged_packets", forged_packets),
    ("forged_handshakes", forged_handshakes),
    ("hostile_client", hostile_client),
    ("hostile_node", hostile_node),
];

/// The target of this name.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(found, _)| *found == name);
    found.unwrap_or_else(|| panic!("there is no target {name}")).1
}
