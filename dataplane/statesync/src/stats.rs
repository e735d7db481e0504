//! Counters, read by the metrics of the node.

use wire::{Code, counters};

counters! {
    /// What happened since the start. All but the gauges at the end only grow.
    SyncStats {
        /// Documents opened.
        joins,
        /// Joins answered with the missing ops instead of state.
        resumes,
        /// Joins refused, for whatever reason.
        joins_refused,
        /// Joins refused because the session opens documents faster than it may.
        joins_rate_limited,
        /// Joins refused because the session's grants do not allow them.
        joins_forbidden,
        /// Joins refused because a limit of joins, subscribers or documents is reached.
        joins_over_limit,
        /// Joins sent to another shard.
        moved,
        /// Joins answered with the state in memory and the ops after it.
        states_shared,
        /// Times that those who are behind waited for the next turn, since one had its fill of them.
        catch_ups_deferred,
        /// Joins that waited for their document to be loaded.
        joins_waited,
        /// Joins refused because too many wait.
        joins_busy,
        /// Joins refused because the documents in memory take as much of it as they may.
        joins_no_memory,
        /// Documents read from the store, those included that it does not know.
        loads,
        /// Documents that could not be read from the store.
        loads_failed,
        /// Documents stored.
        snapshots,
        /// Documents that could not be stored; they are tried again.
        snapshots_failed,
        /// Documents that left memory because nobody used them.
        unloads,
        /// Those of them that left early because memory was short.
        unloads_pressed,
        /// Subscribers closed because they did not take what was made for them while that took all the memory for it.
        diffs_shed,
        /// Documents deleted.
        documents_deleted,
        /// Requests to delete a document, to name a version or to read the past.
        requests,
        /// Those refused, for whatever reason.
        requests_refused,
        /// Those refused because too many are under way.
        requests_busy,
        /// Versions named.
        versions_created,
        /// Past states read.
        past_reads,
        /// Jobs done by the storage worker.
        jobs_done,
        /// Those that failed.
        jobs_failed,
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
        /// Ops refused because the session sends more than it may.
        ops_rate_limited,
        /// Ops refused because the session's grants do not allow them.
        ops_forbidden,
        /// Ops refused because they are larger than an op may be.
        ops_too_large,
        /// Ops refused because the document has as much as it may have, of whatever it is.
        ops_document_full,
        /// Those of them that would have given it too many blocks or shared types.
        ops_over_blocks,
        /// Those of them that would have waited, with too many others, for updates that are missing.
        ops_over_pending,
        /// Ops refused because the documents in memory take more of it than they may.
        ops_no_memory,
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
        /// Presence entries for a document that was not open on their connection when they came.
        presence_unopened,
        /// Presence entries of sessions that tell more than they may.
        presence_rate_limited,
        /// Presence messages encoded.
        presence_broadcasts,
        /// Times that a connection took no more.
        blocked,
        /// Subscribers that fell out of the kept ops and were sent state again.
        resyncs,
        /// Connections closed because they read nothing.
        closed_unread,
        /// Documents not merged any more after a fault of the CRDT library.
        quarantined,
        /// Writers forgotten because a document had too many.
        writers_forgotten,
        /// Ops recovered from the log.
        ops_recovered,
        /// Of these, passed over because the store has them.
        ops_recovered_stored,
        gauges:
        /// Connections now.
        connections,
        /// Sessions with a connection, and those that went faster than they may and left.
        sessions,
        /// Open documents of all connections now.
        subscriptions,
        /// Documents in memory now.
        documents,
        /// Documents with ops that only the log holds now.
        documents_dirty,
        /// Jobs asked for and not done now.
        jobs_waiting,
        /// Joins that wait for documents now.
        joins_waiting,
        /// Requests that are not answered yet.
        requests_waiting,
        /// Bytes of the documents in memory.
        document_memory_bytes,
        /// Bytes that are being sent to single subscribers and were made or read for them.
        diff_bytes,
        /// Ops that are not durable yet.
        ops_unacknowledged,
    }
}

impl SyncStats {
    /// Counts an op that is refused, by its reason where that has a counter of its own.
    pub(crate) const fn count_op_refused(&mut self, code: Code) {
        self.ops_rejected += 1;
        match code {
            Code::RateLimited => self.ops_rate_limited += 1,
            Code::LogBusy => self.ops_log_busy += 1,
            Code::UndecodableUpdate => self.ops_undecodable += 1,
            Code::Forbidden => self.ops_forbidden += 1,
            Code::OpTooLarge => self.ops_too_large += 1,
            Code::DocumentFull => self.ops_document_full += 1,
            _ => {}
        }
    }

    /// The same for a join.
    pub(crate) const fn count_join_refused(&mut self, code: Code) {
        self.joins_refused += 1;
        match code {
            Code::RateLimited => self.joins_rate_limited += 1,
            Code::Forbidden => self.joins_forbidden += 1,
            Code::LimitReached => self.joins_over_limit += 1,
            _ => {}
        }
    }
}
