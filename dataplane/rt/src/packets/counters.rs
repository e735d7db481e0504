//! What a packet ring counts.

/// What a ring has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCounters {
    /// Datagrams handed to the caller.
    pub datagrams_in: u64,
    /// Their payload, bytes.
    pub bytes_in: u64,
    /// Datagrams that the kernel took.
    pub datagrams_out: u64,
    /// Their payload, bytes.
    pub bytes_out: u64,
    /// Trains handed over: several datagrams in one buffer.
    pub trains_in: u64,
    /// Trains that the kernel took.
    pub trains_out: u64,
    /// Trains that the kernel refused: datagrams go one by one from then on.
    pub trains_refused: u64,
    /// Times the kernel found no receive buffer; datagrams waited in the socket's buffer.
    pub receive_no_buffer: u64,
    /// Times the receive operation was armed again.
    pub receive_rearmed: u64,
    /// Receive operations that ended with another error.
    pub receive_errors: u64,
    /// Times the completion queue was full, so that the kernel kept completions elsewhere: none is lost.
    pub completions_overflowed: u64,
    /// Datagrams longer than a receive buffer, dropped.
    pub truncated: u64,
    /// Datagrams without payload or without an IP sender, dropped.
    pub empty: u64,
    /// Datagrams that the kernel refused, lost like any lost packet: all of them, then by reason.
    pub send_errors: u64,
    /// Of these: longer than the path or the device takes.
    pub send_too_large: u64,
    /// Of these: no way to the peer.
    pub send_unreachable: u64,
    /// Of these: no memory for it, in the kernel or in the device's queue.
    pub send_no_memory: u64,
    /// Of these: a firewall or a security module forbids it.
    pub send_forbidden: u64,
    /// Sends that waited on the ring for room in the socket.
    pub sends_queued: u64,
    /// Trains handed to the kernel to send without a copy.
    pub zero_copy_trains: u64,
    /// Of these: copied by the kernel anyway.
    pub zero_copy_copied: u64,
    /// Of these: not taken, and sent with a copy instead.
    pub zero_copy_refused: u64,
    /// Sends put off because every slot was in flight.
    pub send_slots_exhausted: u64,
    /// Times the shard slept.
    pub waits: u64,
    /// Times the doorbell was heard.
    pub doorbells: u64,
    /// System calls: `io_uring_enter`, and those that receive and send directly.
    pub syscalls: u64,
}
