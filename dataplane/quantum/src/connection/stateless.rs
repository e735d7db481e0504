//! What a client makes of packets that come from no connection of the node.

use wire::header::VERSION;
use wire::{Code, Time};

use super::{ClosedBy, Connection, State};
use crate::reset::is_reset;
use crate::versions::versions_without;

impl Connection {
    /// `PROTOCOL.md`, section "Version negotiation": only who has seen the first packet knows its connection id, and what
    /// has come before would have been of our version.
    pub(super) fn handle_versions(&mut self, now: Time, datagram: &[u8]) {
        let Some(spoken) = versions_without(VERSION, datagram) else {
            self.stats.unexpected += 1;
            return;
        };
        let what = format!("version {VERSION} is not supported, the node speaks {spoken}");
        self.end(now, ClosedBy::Peer, Code::VersionNotSupported as u16, &what);
        self.state = State::Drained;
    }

    /// `PROTOCOL.md`, section "Stateless reset".
    pub(super) fn handle_reset(&mut self, now: Time, datagram: &[u8]) {
        if !self.reset_token.is_some_and(|token| is_reset(datagram, &token)) {
            self.stats.forged_packet += 1;
            return;
        }
        self.stats.resets += 1;
        self.end(
            now,
            ClosedBy::Peer,
            Code::StatelessReset as u16,
            "the node does not know the connection any more",
        );
        // Nobody is there who would have to be told, or heard out.
        self.state = State::Drained;
    }
}
