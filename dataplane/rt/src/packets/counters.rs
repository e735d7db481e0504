//! What a packet ring counts.

use wire::counters;

counters! {
    /// What a ring has done since it was made.
    PacketCounters prefixed "ring_" {
        /// Datagrams handed to the caller.
        datagrams_in,
        /// Payload of the datagrams handed to the caller, bytes.
        bytes_in,
        /// Datagrams that the kernel took.
        datagrams_out,
        /// Payload of the datagrams that the kernel took, bytes.
        bytes_out,
        /// Trains handed over: several datagrams in one buffer.
        trains_in,
        /// Trains that the kernel took.
        trains_out,
        /// System calls that took several datagrams or trains.
        batches_out,
        /// Trains that the kernel refused: datagrams go one by one from then on.
        trains_refused,
        /// Times the kernel found no receive buffer; datagrams waited in the socket's buffer.
        receive_no_buffer,
        /// Times the receive operation was armed again.
        receive_rearmed,
        /// Receive operations that ended with an error other than a lack of buffers.
        receive_errors,
        /// Times the completion queue was full, so that the kernel kept completions elsewhere: none is lost.
        completions_overflowed,
        /// Datagrams longer than a receive buffer, dropped.
        truncated,
        /// Datagrams without payload or without an IP sender, dropped.
        empty,
        /// Datagrams that the kernel refused, for whatever reason; lost like any lost packet.
        send_errors,
        /// Datagrams refused as longer than the path or the device takes.
        send_too_large,
        /// Datagrams refused for lack of a way to the peer.
        send_unreachable,
        /// Datagrams refused for lack of memory in the kernel or room in the device's queue.
        send_no_memory,
        /// Datagrams refused by a firewall or a security module.
        send_forbidden,
        /// Sends that waited on the ring for room in the socket.
        sends_queued,
        /// Trains handed to the kernel to send without a copy.
        zero_copy_trains,
        /// Trains to send without a copy that the kernel copied anyway.
        zero_copy_copied,
        /// Trains to send without a copy that the kernel did not take: sent with a copy instead.
        zero_copy_refused,
        /// Sends put off because every slot was in flight.
        send_slots_exhausted,
        /// Times the shard slept.
        waits,
        /// Times the doorbell was heard.
        doorbells,
        /// System calls: `io_uring_enter`, and those that receive and send directly.
        syscalls,
    }
}
