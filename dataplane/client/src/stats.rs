//! Counters of a client, over all its connections, past and present.

use wire::Span;

/// A snapshot of a client's counters.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ClientStats {
    /// Datagrams sent.
    pub packets_sent: u64,
    /// Datagrams received.
    pub packets_received: u64,
    /// Bytes of datagrams sent, without UDP and IP headers.
    pub bytes_sent: u64,
    /// Bytes of datagrams received, without UDP and IP headers.
    pub bytes_received: u64,
    /// Packets found lost, whose content was sent again.
    pub packets_lost: u64,
    /// Smoothed round trip of the connection that was heard last; zero before the first.
    pub rtt: Span,
    /// Connections open now.
    pub connections: u64,
    /// Connections that were lost and made anew.
    pub reconnects: u64,
    /// Tickets asked for.
    pub tickets: u64,
    /// Ops acknowledged as durable.
    pub ops_durable: u64,
    /// Ops refused for good.
    pub ops_rejected: u64,
    /// Ops refused for the moment and sent again.
    pub ops_retried: u64,
    /// Ops that came twice, after a resume, and were left out.
    pub ops_duplicate: u64,
    /// Messages that could not be read; their connection is made anew.
    pub malformed_messages: u64,
    /// Documents that were sent to another shard or node.
    pub moves: u64,
    /// Documents that went to the shard that owns them, from another one that had served them.
    pub advised_moves: u64,
}
