//! Counters. They only grow; whoever reads them takes differences.

use wire::counters;

counters! {
    /// What one connection has done.
    ConnectionStats {
        /// Datagrams sent, retransmissions included.
        datagrams_sent,
        /// Bytes of those datagrams.
        bytes_sent,
        /// Datagrams received that authenticated.
        datagrams_received,
        /// Bytes of those datagrams.
        bytes_received,
        /// Messages accepted for sending.
        messages_sent,
        /// Messages delivered.
        messages_received,
        /// Messages that were not sent before their deadline, and never will be.
        messages_expired,
        /// Messages taken back before anything of them was sent.
        messages_cancelled,
        /// Messages whose place a newer one of their key took before they were sent.
        messages_replaced,
        /// Messages received after a newer one of their key, and not delivered.
        messages_stale,
        /// Packets declared lost.
        packets_lost,
        /// Packets declared lost whose acknowledgement came afterwards.
        spurious_losses,
        /// Congestion events all of whose losses were spurious.
        spurious_episodes,
        /// Bytes of messages sent again.
        bytes_retransmitted,
        /// Probe timeouts.
        probe_timeouts,
        /// Congestion events that reduced the window.
        congestion_events,
        /// Events of persistent congestion.
        persistent_congestions,
        /// Packets received twice, or too old to tell.
        replayed,
        /// Packets that did not authenticate.
        forged_packet,
        /// Datagrams that are not in the format.
        malformed,
        /// Datagrams of a kind that does not belong into the connection's state.
        unexpected,
        /// First packets sent again with a cookie, as a node under load had asked.
        retries,
        /// Ends by the token of a node that had forgotten the connection.
        resets,
        /// Moves of the peer to another address.
        address_changes,
        /// Challenges received that ask for the proof of a path.
        path_challenges,
        /// Paths that were proven.
        paths_validated,
        /// Paths that were not proven in time.
        paths_failed,
        /// Returns to a path that was proven before.
        path_returns,
        /// Changes of the connection id.
        id_changes,
        /// Connection ids that were offered and refused, because somebody has them.
        ids_refused,
        /// Packets sent that repairs protect.
        fec_symbols_sent,
        /// Repairs sent.
        fec_repairs_sent,
        /// Bytes of the datagrams that they were sent in: what protection costs.
        fec_repair_bytes_sent,
        /// Lost packets that were sent again because repairs would not bring them back.
        fec_given_up,
        /// Repairs received.
        fec_repairs_received,
        /// Lost packets that came back by repairs.
        fec_recovered,
        /// What came back, or repairs that came, when it was too late.
        fec_late,
        /// Repairs received of which nothing was needed.
        fec_wasted,
        /// What the peer says that came back by our repairs.
        fec_peer_recovered,
        /// What the peer says that came too late.
        fec_peer_late,
        /// Our repairs that the peer says it did not need.
        fec_peer_wasted,
        /// Packets received that a congested queue had marked.
        ecn_marked_received,
        /// Packets that were marked so on the way to the peer, as it says.
        ecn_marks,
        /// Paths that do not carry marks, or peers that count them wrongly.
        ecn_failures,
        /// Datagrams sent that try a larger size.
        mtu_probes,
        /// Larger sizes found to reach the peer.
        mtu_raises,
        /// Returns to the least size, because larger datagrams did not arrive any more.
        mtu_black_holes,
        /// Ends that waited for what was queued.
        finishes,
        /// Those of them before which all of it was acknowledged.
        finishes_in_time,
        /// Signs of life asked for.
        keep_alives,
        /// Changes to the next phase's keys, begun here or by the peer.
        key_updates,
        /// Packets opened with the keys of the phase before.
        previous_phase,
    }
}

counters! {
    /// What an endpoint has seen: datagrams dropped by reason, and the sums over its connections.
    EndpointStats {
        /// Datagrams received.
        datagrams_received,
        /// Datagrams sent.
        datagrams_sent,
        /// Connections opened.
        connections_opened,
        /// Connections removed.
        connections_closed,
        /// Dropped: no header of ours, or a reserved bit set.
        malformed_header,
        /// Dropped: another version.
        unknown_version,
        /// Dropped: a first packet that is short, or whose frames break the format.
        malformed_initial,
        /// Dropped: ticket sealed with a key that is not held.
        ticket_unknown_key,
        /// Dropped: ticket does not authenticate.
        ticket_forged,
        /// Dropped: ticket expired.
        ticket_expired,
        /// Dropped: the Noise message does not authenticate.
        handshake_forged,
        /// Dropped: a first packet for another node.
        wrong_audience,
        /// Dropped: the first packet of a connection that was opened before.
        replayed_initial,
        /// Answers to first packets that ask for them to be sent again with a cookie.
        retries_sent,
        /// Dropped: a first packet that would have been answered in this way, but too many were.
        retries_suppressed,
        /// Dropped: a first packet with a cookie that is forged, too old, or another address's.
        cookie_invalid,
        /// Dropped: a first packet with a cookie that is older than what is remembered of used connection ids.
        cookie_forgotten,
        /// Dropped: a first packet of a client whose clock is far ahead, as too many have been.
        clock_far_ahead,
        /// Dropped: anything but a first packet, for a connection that is not here.
        unknown_connection,
        /// Answers to first packets of other versions.
        versions_sent,
        /// Answers to data for connections that are not here.
        resets_sent,
        /// Dropped: too many connections.
        connection_limit,
        /// Dropped: a first packet while the endpoint finishes.
        finishing,
        /// Dropped: too many connections whose handshake is not complete.
        half_open_limit,
        /// Closed: connections that held too much of what all of them have for receiving.
        receive_buffer_limit,
        /// Messages refused because all connections together held too much of what is to be sent.
        send_buffer_limit,
    }
}
