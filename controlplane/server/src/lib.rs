//! The control plane: sessions and their tickets, the nodes and their keys, the partition map, the settings.
//!
//! All that it knows lies in a [`store::MetaStore`]; a control plane that starts again, or a second one on the
//! same etcd, goes on from there. It never stands in the path of an edit: nodes and clients that have what they
//! need go on without it.

mod api_key;
mod control_plane;
mod convert;
mod error;
mod node_service;
mod nodes;
mod session_service;
mod sessions;
mod view;

pub use control_plane::{ControlPlane, StartError};
pub use error::{ControlError, ErrorCode};
pub use nodes::{AttachedShard, NodeView};

/// The wall clock, Unix milliseconds.
fn now_unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Bytes from the system's random source.
fn random<const N: usize>() -> Result<[u8; N], ControlError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ControlError::Random)?;
    Ok(bytes)
}
