//! How much a connection holds: what the limits are checked against.

use wire::prefetch;

use super::Connection;

/// What a connection holds at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Footprint {
    /// Messages not sent or not acknowledged, bytes, 64 added for each: at most
    /// [`Config::send_buffer_bytes_max`](crate::Config::send_buffer_bytes_max).
    pub queued_bytes: usize,
    /// Messages received that wait for earlier ones or for their other parts: bytes, each at its full length, 64 added.
    pub held_bytes: usize,
    /// Packets that are remembered because they may still have to be sent again.
    pub sent_packets: usize,
    /// Ranges of received packet numbers.
    pub received_ranges: usize,
}

impl Connection {
    /// Has the caches fetch what lies outside of the connection itself and is looked at for a packet.
    pub(crate) fn prefetch_parts(&self) {
        prefetch(&*self.controller);
        if let Some(ids) = self.ids.as_deref() {
            prefetch(ids);
        }
        self.sent.prefetch();
        self.acks.prefetch();
        self.send_channels.prefetch();
        self.receive_channels.prefetch();
    }

    /// Has them fetch what lies behind that.
    pub(crate) fn prefetch_messages(&self) {
        self.send_channels.prefetch_messages();
    }

    /// What this connection holds.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        Footprint {
            queued_bytes: self.queued_bytes,
            held_bytes: self.receive_held_bytes() as usize,
            sent_packets: (self.sent.next_number() - self.sent.first_number()) as usize,
            received_ranges: self.acks.ranges_count(),
        }
    }
}
