//! Everything that is held has a limit.

use quantum::{Config, Connection, Endpoint, EndpointLimits};
use wire::limits::DATAGRAM_BYTES_MAX;

use super::{Check, Invariant};

/// Ranges of packet numbers that a receiver remembers.
const RANGES_MAX: usize = 64;
/// The smallest packet that is remembered, bytes: header, tag and a frame.
const PACKET_BYTES_MIN: u64 = 49;
/// Packets remembered besides those in flight: lost ones whose acknowledgement may still come, and acknowledgements.
const PACKETS_BESIDES: u64 = 50_000;

/// One end of a connection.
pub(crate) fn check_connection(connection: &Connection, config: &Config) -> Check {
    let footprint = connection.footprint();
    // What is in reassembly is bounded by a window and a message for each reliable channel.
    let held_max = (config.channel_window_bytes as usize + config.message_bytes_max) * 2;
    let packets_max = (config.congestion_window_bytes_max + DATAGRAM_BYTES_MAX as u64) / PACKET_BYTES_MIN;
    let limits = [
        ("bytes queued", footprint.queued_bytes as u64, config.send_buffer_bytes_max as u64),
        ("bytes held", footprint.held_bytes as u64, held_max as u64),
        ("packets remembered", footprint.sent_packets as u64, packets_max + PACKETS_BESIDES),
        ("ranges of packet numbers", footprint.received_ranges as u64, RANGES_MAX as u64),
    ];
    match limits.into_iter().find(|(_, held, limit)| held > limit) {
        None => Ok(()),
        Some((what, held, limit)) => {
            let seen = format!("connection {:?}: {held} {what}, over {limit}", connection.id());
            Err((Invariant::Memory, seen))
        }
    }
}

/// A node.
pub(crate) fn check_endpoint(endpoint: &Endpoint, limits: &EndpointLimits) -> Check {
    let count = endpoint.connections_count();
    if count <= limits.connections_max {
        return Ok(());
    }
    Err((Invariant::Memory, format!("{count} connections, over {}", limits.connections_max)))
}
