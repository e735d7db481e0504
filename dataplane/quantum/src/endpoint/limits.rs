//! What an endpoint holds at most.

/// How much an endpoint holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndpointLimits {
    /// Connections, closing ones included; default 20,000.
    pub connections_max: usize,
    /// Connections whose client has not yet shown that it got the reply; default 1,024.
    pub half_open_max: usize,
    /// So many of them, and first packets need a cookie (`PROTOCOL.md`, section "Retry"); default 256.
    pub half_open_retry: usize,
    /// Handshakes in 10 ms with clients that have not shown their address, before first packets need a cookie; default
    /// 64, a third to a half of what a core can do.
    pub unproven_per_tick_max: u32,
    /// Ids of connections that are remembered against replay; default 65,536.
    pub used_ids_max: usize,
    /// Bytes of messages that have come and cannot be delivered yet, over all connections, each at its full length and 64
    /// more; default 256 MiB. Beyond, the connections that hold the most are closed.
    pub receive_buffer_bytes_max: u64,
    /// Bytes of messages that are to be sent, or are sent and not acknowledged, over all connections, 64 more for each;
    /// default 1 GiB. Beyond, a connection holds 64 KiB or one message, and takes no more: [`SendError::Full`](crate::SendError::Full).
    pub send_buffer_bytes_max: u64,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            half_open_max: 1_024,
            half_open_retry: 256,
            unproven_per_tick_max: 64,
            used_ids_max: 65_536,
            receive_buffer_bytes_max: 256 << 20,
            send_buffer_bytes_max: 1 << 30,
        }
    }
}
