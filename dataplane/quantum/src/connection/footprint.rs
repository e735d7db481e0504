//! How much a connection holds: what the limits are checked against.

use super::Connection;
use crate::channel_receive::ReliableReceive;

/// What a connection holds at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Footprint {
    /// Messages not sent or not acknowledged, bytes, 64 added for each: at most
    /// [`Config::send_buffer_bytes_max`](crate::Config::send_buffer_bytes_max).
    pub queued_bytes: usize,
    /// Messages received that wait for earlier ones or for their other parts, bytes.
    pub held_bytes: usize,
    /// Packets that are remembered because they may still have to be sent again.
    pub sent_packets: usize,
    /// Ranges of received packet numbers.
    pub received_ranges: usize,
}

impl Connection {
    /// What this connection holds. Takes time in proportion to the messages that wait; not for warm paths.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        Footprint {
            queued_bytes: self.queued_bytes,
            held_bytes: self.reliable_receive.iter().map(ReliableReceive::held_bytes).sum(),
            sent_packets: (self.sent.next_number() - self.sent.first_number()) as usize,
            received_ranges: self.acks.ranges_count(),
        }
    }
}
