//! What a client makes of packets that come from no connection of the node.

use wire::header::VERSION;
use wire::{Code, Time};

use super::initial::tag_of;
use super::send::Resend;
use super::{ClosedBy, Connection, State};
use crate::cookie::read_retry;
use crate::reset::reset_made_at;
use crate::sent_packets::Fate;
use crate::versions::versions_without;

/// The number of the first packet without a cookie.
const INITIAL_NUMBER: u64 = 0;

impl Connection {
    /// `PROTOCOL.md`, section "Retry": the first packet goes out once more, with the cookie and, as far as they fit, with
    /// the messages of the one before.
    pub(super) fn handle_retry(&mut self, now: Time, datagram: &[u8]) {
        let Some(handshake) = self.client_handshake.as_deref_mut() else { return };
        let Some(first) = handshake.begun.as_ref().filter(|_| handshake.cookie.is_none()) else {
            self.stats.unexpected += 1;
            return;
        };
        let Some(cookie) = read_retry(datagram, &handshake.psk, &tag_of(&first.datagram)) else {
            self.stats.forged_packet += 1;
            return;
        };
        handshake.cookie = Some(cookie);
        handshake.before_retry = handshake.begun.take();
        self.stats.retries += 1;
        self.last_received = now;
        // Not lost, and no sign of congestion: it was read, and is not wanted.
        if let Some(packet) = self.sent.set_fate(INITIAL_NUMBER, Fate::Done) {
            self.resend(&packet, Resend::All);
            self.sent.forget_front(now);
        }
    }

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
        let Some(made_at_ms) = self.reset_token.and_then(|token| reset_made_at(datagram, &token)) else {
            self.stats.forged_packet += 1;
            return;
        };
        // Of before the handshake: it answers what an attacker, who had seen the first packet, sent ahead of it.
        if made_at_ms <= self.peer_since_ms {
            self.stats.unexpected += 1;
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
