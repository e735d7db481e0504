//! What happened in worlds of whole nodes.

use shard::Figure;

wire::counters! {
    /// What happened in one world, or in many.
    NodeCounts {
        /// Ops that a client was told are safe.
        ops_acknowledged,
        /// Documents deleted.
        deletions,
        /// Versions that a client was told are kept.
        versions,
        /// Pasts of documents that were read.
        pasts,
        /// Starts of a node over what its disks held.
        starts,
        /// Starts that were refused, and rightly so: the disk had damaged what was acknowledged.
        starts_refused,
        /// Kills of a node, and ends because a write failed, also of one that was starting.
        crashes,
        /// Those at a moment when a write of the log was under way.
        crashes_in_write,
        /// Those that left a part of that write.
        crashes_torn,
        /// Writes of which a crash left a part, in pieces of 512 bytes.
        torn_at_512,
        /// Writes of which a crash left a part, in pieces of 4,096 bytes.
        torn_at_4096,
        /// Kills of a node that was starting.
        crashes_in_recovery,
        /// Kills between a write that became durable and what follows from it.
        crashes_after_durable,
        /// Kills between a snapshot that became durable and what follows from it.
        crashes_after_snapshot,
        /// Kills between a trim record that became durable and the removal of the segments.
        crashes_after_trim,
        /// Kills right after the removal of a segment.
        crashes_after_removal,
        /// Writes of the log.
        log_writes,
        /// Those that took much longer than others.
        log_writes_stalled,
        /// Those that failed (EIO).
        log_writes_failed,
        /// Those that went elsewhere and were reported as done.
        log_writes_misdirected,
        /// Those that were reported as done and were not.
        log_writes_lost,
        /// Sectors of the log in which bits were flipped.
        bit_flips,
        /// Reads of a recovery that failed (EIO).
        log_reads_failed,
        /// Segments for which the disk had no room (ENOSPC).
        no_space,
        /// Records refused because of that.
        log_refused_disk_full,
        /// Segments that were not needed any more: each was named by a trim record first.
        log_segments_removed,
        /// Documents stored.
        snapshots,
        /// Documents read from the store, those included that it did not know.
        loads,
        /// Documents that left memory because nobody used them.
        unloads,
        /// Writes of the store that failed, some of them after they were done.
        store_writes_failed,
        /// Reads of the store that failed.
        store_reads_failed,
        /// Documents of which the stored head was damaged.
        heads_damaged,
        /// Joins that waited until their document was loaded.
        joins_waited,
        /// Joins refused for a while because too many waited.
        joins_busy,
        /// Joins answered with the missing ops.
        resumes,
        /// States made for what one client lacked.
        diffs,
        /// Subscribers that fell behind and were sent what they lacked.
        resyncs,
        /// Reads of older ops out of the store.
        ops_read_back,
        /// Joins that went to a shard which does not own the document.
        joins_elsewhere,
        /// Messages between shards.
        lane_messages,
        /// Times that a lane was full.
        lanes_full,
        /// Presence broadcasts.
        presence_broadcasts,
        /// Clients that read nothing for a while.
        deaf_clients,
        /// Ops refused for a while because the log was full or behind.
        ops_log_busy,
    }
}

impl NodeCounts {
    /// Adds what a shard did in its life.
    pub(super) fn add_shard(&mut self, figures: &[Figure]) {
        for figure in figures {
            let field = match figure.name {
                "log_refused_disk_full" => &mut self.log_refused_disk_full,
                "log_segments_removed" => &mut self.log_segments_removed,
                "snapshots" => &mut self.snapshots,
                "loads" => &mut self.loads,
                "unloads" => &mut self.unloads,
                "joins_waited" => &mut self.joins_waited,
                "joins_busy" => &mut self.joins_busy,
                "resumes" => &mut self.resumes,
                "resyncs" => &mut self.resyncs,
                "presence_broadcasts" => &mut self.presence_broadcasts,
                "ops_log_busy" => &mut self.ops_log_busy,
                _ => continue,
            };
            *field += figure.value;
        }
    }
}
