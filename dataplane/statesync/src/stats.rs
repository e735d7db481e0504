//! Counters, read by the metrics of the node.

/// What happened since the start. All but the gauges at the end only grow.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncStats {
    /// Documents opened.
    pub joins: u64,
    /// Joins answered with the missing ops instead of state.
    pub resumes: u64,
    /// Joins refused, for whatever reason.
    pub joins_refused: u64,
    /// Joins sent to another shard.
    pub moved: u64,
    /// Full states encoded.
    pub states_encoded: u64,
    /// Joins that shared a state encoded before.
    pub states_shared: u64,
    /// Ops appended to the log.
    pub ops_logged: u64,
    /// Their bytes.
    pub op_bytes_logged: u64,
    /// Ops that were held already and only acknowledged again.
    pub ops_duplicate: u64,
    /// Updates that change nothing, acknowledged without a place in the log.
    pub ops_empty: u64,
    /// Ops refused, for whatever reason.
    pub ops_rejected: u64,
    /// Ops refused because they could not be decoded.
    pub ops_undecodable: u64,
    /// Ops refused because the log was full or behind.
    pub ops_log_busy: u64,
    /// Op messages queued to subscribers.
    pub ops_broadcast: u64,
    /// Acknowledgements queued.
    pub acks: u64,
    /// Messages that did not follow the format; each closed its connection.
    pub messages_malformed: u64,
    /// Presence entries taken.
    pub presence_taken: u64,
    /// Presence entries for a client id that another session owns.
    pub presence_spoofed: u64,
    /// Presence entries that were older than what is known.
    pub presence_stale: u64,
    /// Presence entries over a limit.
    pub presence_refused: u64,
    /// Presence messages encoded.
    pub presence_broadcasts: u64,
    /// Times that a connection took no more.
    pub blocked: u64,
    /// Subscribers that fell out of the kept ops and were sent state again.
    pub resyncs: u64,
    /// Connections closed because they read nothing.
    pub closed_unread: u64,
    /// Updates integrated into caches.
    pub updates_integrated: u64,
    /// Caches given up after a fault of the CRDT library.
    pub quarantined: u64,
    /// Writers forgotten because a document had too many.
    pub writers_forgotten: u64,
    /// Ops recovered from the log.
    pub ops_recovered: u64,

    /// Connections now.
    pub connections: u64,
    /// Open documents of all connections now.
    pub subscriptions: u64,
    /// Documents in memory now.
    pub documents: u64,
    /// Ops that are not durable yet.
    pub unacknowledged_ops: u64,
}
