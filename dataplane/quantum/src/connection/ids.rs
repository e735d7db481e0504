//! The ids of a connection, as its packets use them (`PROTOCOL.md`, section "Connection ids").

use wire::frame::{self, NEW_CONNECTION_ID_BYTES_MAX, NewConnectionId, RETIRE_CONNECTION_ID_BYTES_MAX};
use wire::varint::Writer;
use wire::{Code, Guuid, Time};

use super::{Connection, State};
use crate::connection_ids::{ClientIds, ConnectionIds, IdChange, NodeIds};
use crate::keys::EntropyPool;
use crate::reset::ResetToken;
use crate::sent_packets::SentFrame;

/// How long a retired id is taken, in probe timeouts.
pub(super) const RETIRED_TIMEOUTS: u64 = 3;

impl Connection {
    /// Goes over to a fresh connection id, so that who sees the packets cannot tell that they are of one connection.
    /// Returns whether it did: the node must have confirmed one. Only on a client.
    pub fn rotate_connection_id(&mut self, now: Time) -> bool {
        let until = now + self.probe_timeout().times(RETIRED_TIMEOUTS);
        let number = self.sent.next_number();
        let Some(ConnectionIds::Client(ids)) = self.ids.as_deref_mut() else { return false };
        if self.state != State::Established {
            return false;
        }
        let Some((id, token)) = ids.rotate(self.current_id, until) else { return false };
        ids.rotated(now, number);
        ids.offer(id.shard());
        self.current_id = id;
        self.reset_token = Some(token);
        self.stats.id_changes += 1;
        true
    }

    /// A fresh id for a new path, if there is one; returns entropy, if the connection is a client's and established.
    pub(super) fn rotate_for_migration(&mut self, now: Time) -> Option<[u8; 32]> {
        self.rotate_connection_id(now);
        match self.ids.as_deref_mut() {
            Some(ConnectionIds::Client(ids)) => Some(ids.draw()),
            _ => None,
        }
    }

    /// Goes over to a fresh id when the one in use has been used for as long as the configuration allows.
    pub(super) fn rotate_id_by_use(&mut self, now: Time) {
        let (packets, lifetime) = (self.config.connection_id_packets, self.config.connection_id_lifetime);
        let Some(ConnectionIds::Client(ids)) = self.ids.as_deref() else { return };
        if ids.is_worn(now, self.sent.next_number(), packets, lifetime) {
            self.rotate_connection_id(now);
        }
    }

    /// A client has been answered: it offers a first spare id.
    pub(super) fn begin_ids(&mut self, now: Time, entropy: [u8; 32]) {
        let mut ids = ClientIds::new(EntropyPool::new(entropy), self.id.unix_ms());
        ids.rotated(now, self.sent.next_number());
        ids.offer(self.id.shard());
        self.ids = Some(Box::new(ConnectionIds::Client(ids)));
    }

    /// Whether packets with this id are of this connection.
    pub(super) fn is_known_as(&self, id: &Guuid) -> bool {
        *id == self.current_id || self.ids.as_ref().is_some_and(|ids| ids.contains(id))
    }

    /// The peer's newest packet has this id: it is used in both directions.
    pub(super) fn adopt_id(&mut self, id: Guuid) {
        if id != self.current_id && !self.is_client() {
            self.current_id = id;
            self.stats.id_changes += 1;
        }
    }

    pub(super) fn handle_new_connection_id(
        &mut self,
        new: &NewConnectionId,
    ) -> Result<(), (Code, &'static str)> {
        if self.is_client() {
            if let Some(ConnectionIds::Client(ids)) = self.ids.as_deref_mut() {
                ids.confirm(new);
            }
            return Ok(());
        }
        let first = self.id;
        let ids = self.ids.get_or_insert_with(|| Box::new(ConnectionIds::Node(NodeIds::new(first))));
        let ConnectionIds::Node(ids) = &mut **ids else { return Ok(()) };
        ids.offer(new).map_err(|what| (Code::Protocol, what))
    }

    pub(super) fn handle_retire_connection_id(
        &mut self,
        now: Time,
        sequence: u64,
    ) -> Result<(), (Code, &'static str)> {
        let until = now + self.probe_timeout().times(RETIRED_TIMEOUTS);
        match self.ids.as_deref_mut() {
            Some(ConnectionIds::Client(ids)) => {
                ids.refuse(sequence, self.id.shard());
                Ok(())
            }
            Some(ConnectionIds::Node(ids)) => {
                ids.retire(sequence, self.current_id, until).map_err(|what| (Code::Protocol, what))
            }
            None => Err((Code::Protocol, "the only connection id retired")),
        }
    }

    pub(super) fn is_id_frame_due(&self) -> bool {
        self.ids.as_ref().is_some_and(|ids| ids.is_due())
    }

    /// Writes what the peer is to be told about ids; returns whether there was anything.
    pub(super) fn write_id_frames(&mut self, out: &mut Writer<'_>) -> bool {
        let Some(ids) = self.ids.as_deref_mut() else { return false };
        let mut any = false;
        while out.remaining() >= RETIRE_CONNECTION_ID_BYTES_MAX
            && let Some(sequence) = ids.take_retired()
        {
            frame::put_retire_connection_id(out, sequence);
            self.sent.push_frame(SentFrame::RetireConnectionId(sequence));
            any = true;
        }
        while out.remaining() >= NEW_CONNECTION_ID_BYTES_MAX
            && let Some(new) = ids.take_new()
        {
            frame::put_new_connection_id(out, &new);
            self.sent.push_frame(SentFrame::NewConnectionId(new.sequence));
            any = true;
        }
        any
    }

    pub(super) fn handle_id_timeout(&mut self, now: Time) {
        let shard = self.id.shard();
        if let Some(ids) = self.ids.as_deref_mut() {
            ids.handle_timeout(now, shard);
        }
    }

    /// What a node's map of ids is to learn next.
    pub(crate) fn poll_id_change(&mut self, now: Time) -> Option<IdChange> {
        match self.ids.as_deref_mut() {
            Some(ConnectionIds::Node(ids)) => ids.poll_change(now),
            _ => None,
        }
    }

    /// The map has taken an id up, and this resets it; or it has not.
    pub(crate) fn settle_id(&mut self, sequence: u64, token: Option<ResetToken>) {
        self.stats.ids_refused += u64::from(token.is_none());
        if let Some(ConnectionIds::Node(ids)) = self.ids.as_deref_mut() {
            ids.settle(sequence, token);
        }
    }

    /// All ids under which a node's map knows the connection; the first one may be among them no more.
    pub(crate) fn mapped_ids(&self) -> impl Iterator<Item = Guuid> + '_ {
        let more = match self.ids.as_deref() {
            Some(ConnectionIds::Node(ids)) => Some(ids.iter()),
            _ => None,
        };
        std::iter::once(self.id).chain(more.into_iter().flatten())
    }
}
