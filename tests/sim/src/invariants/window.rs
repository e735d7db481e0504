//! Bytes in flight stay below the congestion window, except for probes (`PROTOCOL.md`, section "Loss and congestion").

use quantum::Connection;
use wire::frame::Frame;
use wire::limits::DATAGRAM_BYTES_MAX;
use wire::varint::Reader;

use super::{Check, Invariant};

/// Datagrams that one probe timeout lets out whatever the window says.
const PROBES_PER_TIMEOUT: u64 = 2;

/// Watches one end of a connection over its turns of sending.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WindowWatch {
    in_flight_bytes: u64,
    window_bytes: u64,
    probe_timeouts: u64,
    probes_allowed: u64,
    /// Sent since, whatever the window says.
    exempt_bytes: u64,
}

impl WindowWatch {
    /// Before the connection sends.
    pub(crate) fn before(&mut self, connection: &Connection) {
        self.in_flight_bytes = connection.in_flight_bytes();
        self.window_bytes = connection.congestion_window_bytes();
        self.exempt_bytes = 0;
        let timeouts = connection.stats().probe_timeouts;
        if timeouts > self.probe_timeouts {
            self.probe_timeouts = timeouts;
            self.probes_allowed = PROBES_PER_TIMEOUT;
        }
    }

    /// A packet was sent with these frames. Those about paths go whatever the window says (`PROTOCOL.md`, section "Paths"), and
    /// so do acknowledgements, of which a few carry a PING (section "Acknowledgements").
    pub(crate) fn on_packet(&mut self, bytes: usize, frames: &[u8]) {
        let mut reader = Reader::new(frames);
        let mut is_shedding = true;
        while !reader.is_empty() {
            let Ok(frame) = Frame::decode(&mut reader) else { return };
            if matches!(frame, Frame::PathChallenge(_) | Frame::PathResponse(_)) {
                self.exempt_bytes += bytes as u64;
                return;
            }
            // What repairs brought back, and what was lost, is told with an acknowledgement.
            is_shedding &= matches!(
                frame,
                Frame::Ack(_) | Frame::Recovered(_) | Frame::LossReport(_) | Frame::Ping | Frame::Padding
            );
        }
        if is_shedding {
            self.exempt_bytes += bytes as u64;
        }
    }

    /// After it has sent all that it wanted.
    pub(crate) fn after(&mut self, connection: &Connection) -> Check {
        let in_flight = connection.in_flight_bytes().saturating_sub(self.exempt_bytes);
        let datagram = DATAGRAM_BYTES_MAX as u64;
        // The datagram that reaches the window may pass it with its end.
        let allowed = self.window_bytes.max(connection.congestion_window_bytes()) + datagram;
        if in_flight <= self.in_flight_bytes || in_flight < allowed {
            return Ok(());
        }
        let beyond = in_flight - self.in_flight_bytes.max(allowed - datagram);
        let probes = beyond.div_ceil(datagram);
        if probes <= self.probes_allowed {
            self.probes_allowed -= probes;
            return Ok(());
        }
        let seen = format!(
            "connection {:?}: {in_flight} B in flight with a window of {} B, {} B before, {} probes allowed",
            connection.id(),
            self.window_bytes,
            self.in_flight_bytes,
            self.probes_allowed
        );
        Err((Invariant::Window, seen))
    }
}
