//! What goes between a shard and its siblings, for metrics.

use super::Lanes;
use crate::status::Figure;

impl Lanes {
    pub(crate) fn figures(&self) -> [Figure; 15] {
        let stats = &self.stats;
        let lanes = self.lanes.iter();
        let (queue_messages, queue_bytes) =
            lanes.fold((0, 0), |(messages, bytes), lane| (messages + lane.len(), bytes + lane.queue_bytes()));
        let (forwarding, remote) = (self.forwards.len(), self.remotes.len());
        [
            Figure::counter("lane_messages_sent", stats.messages_sent)
                .help("Messages put into lanes to siblings."),
            Figure::counter("lane_messages_received", stats.messages_received)
                .help("Messages taken out of siblings' lanes."),
            Figure::counter("lane_bytes_sent", stats.bytes_sent)
                .help("Bytes of clients' and owners' messages put into lanes."),
            Figure::counter("lane_messages_boxed", stats.boxed)
                .help("Messages put into lanes that were too long for a slot."),
            Figure::counter("lane_window_exhausted", stats.window_exhausted)
                .help("Times that a sibling's connection had as much under way to it as it may have."),
            Figure::counter("lane_queue_full", stats.queue_full)
                .help("Times that a message to a sibling's connection found the queue to that shard full."),
            Figure::counter("lane_messages_held", stats.held)
                .help("Messages of owners that waited here because the connection took no more."),
            Figure::counter("lane_messages_stale", stats.stale)
                .help("Messages between shards about connections that were gone."),
            Figure::counter("lane_closed_overloaded", stats.overloaded)
                .help("Connections closed because too much waited for a sibling."),
            Figure::counter("messages_forwarded", stats.forwarded)
                .help("Clients' messages passed on to the shard that owns the document, ops and others."),
            Figure::counter("clients_advised", stats.advised)
                .help("Times that a client was told which shard owns the document that it has open here."),
            Figure::gauge("lane_queue_messages", queue_messages as u64)
                .help("Messages that wait for room in a lane."),
            Figure::gauge("lane_queue_bytes", queue_bytes as u64).help("What they hold of memory."),
            Figure::gauge("connections_forwarding", forwarding as u64)
                .help("Connections of this shard with documents of siblings."),
            Figure::gauge("connections_remote", remote as u64)
                .help("Connections of siblings with documents of this shard."),
        ]
    }
}
