//! Counters, read by the metrics of the node.

use wire::counters;

counters! {
    /// What happened since the start. All but the gauges at the end only grow.
    SyncStats {
        /// Documents opened.
        joins,
        /// Joins answered with the missing ops instead of state.
        resumes,
        /// Joins refused, for whatever reason.
        joins_refused,
        /// Joins sent to another shard.
        moved,
        /// Full states encoded.
        states_encoded,
        /// Joins that shared a state encoded before.
        states_shared,
        /// Ops appended to the log.
        ops_logged,
        /// Their bytes.
        op_bytes_logged,
        /// Ops that were held already and only acknowledged again.
        ops_duplicate,
        /// Updates that change nothing, acknowledged without a place in the log.
        ops_empty,
        /// Ops refused, for whatever reason.
        ops_rejected,
        /// Ops refused because they could not be decoded.
        ops_undecodable,
        /// Ops refused because the log was full or behind.
        ops_log_busy,
        /// Op messages queued to subscribers.
        ops_broadcast,
        /// Acknowledgements queued.
        acks,
        /// Messages that did not follow the format; each closed its connection.
        messages_malformed,
        /// Presence entries taken.
        presence_taken,
        /// Presence entries for a client id that another session owns.
        presence_spoofed,
        /// Presence entries that were older than what is known.
        presence_stale,
        /// Presence entries over a limit.
        presence_refused,
        /// Presence messages encoded.
        presence_broadcasts,
        /// Times that a connection took no more.
        blocked,
        /// Subscribers that fell out of the kept ops and were sent state again.
        resyncs,
        /// Connections closed because they read nothing.
        closed_unread,
        /// Updates integrated into caches.
        updates_integrated,
        /// Caches given up after a fault of the CRDT library.
        quarantined,
        /// Writers forgotten because a document had too many.
        writers_forgotten,
        /// Ops recovered from the log.
        ops_recovered,
        gauges:
        /// Connections now.
        connections,
        /// Open documents of all connections now.
        subscriptions,
        /// Documents in memory now.
        documents,
        /// Ops that are not durable yet.
        ops_unacknowledged,
    }
}
