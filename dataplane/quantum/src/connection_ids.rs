//! The ids of a connection (`PROTOCOL.md`, section "Connection ids"; RFC 9000, section 5.1).

use wire::frame::NewConnectionId;
use wire::{Guuid, Span, Time};

use crate::keys::EntropyPool;
use crate::reset::ResetToken;
use crate::sent_packets::SentFrame;

/// Ids that a connection has at most at a time, those included that are about to be forgotten.
pub(crate) const CONNECTION_IDS_MAX: usize = 4;
/// Ids in a row that a node may refuse before its client offers no more.
const REFUSALS_MAX: u8 = 4;

const _: () = assert!(CONNECTION_IDS_MAX > 2, "one in use, one to spare, one retired");

/// The ids of a connection, as one of its ends manages them.
pub(crate) enum ConnectionIds {
    Client(ClientIds),
    Node(NodeIds),
}

/// What a node's map of ids is to learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IdChange {
    /// The client offers an id: take it up, and confirm or refuse it.
    Add { sequence: u64, id: Guuid },
    /// The id is used no more.
    Remove(Guuid),
}

/// The node's side: the client offers, the node confirms.
pub(crate) struct NodeIds {
    ids: Vec<NodeId>,
    sequence_max: u64,
    /// A refusal that the client is to be told.
    refused: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct NodeId {
    sequence: u64,
    id: Guuid,
    token: ResetToken,
    state: NodeIdState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NodeIdState {
    /// The map has not been asked yet.
    Offered,
    /// The client is to be told that the map has it.
    ConfirmDue,
    InUse,
    /// The client uses it no more; what is late may still come until then.
    Retired(Time),
}

impl NodeIds {
    pub(crate) fn new(first: Guuid) -> Self {
        let mut ids = Vec::with_capacity(2);
        ids.push(NodeId { sequence: 0, id: first, token: ResetToken::default(), state: NodeIdState::InUse });
        Self { ids, sequence_max: 0, refused: None }
    }

    /// Those that the map holds.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Guuid> + '_ {
        self.ids.iter().filter(|known| known.state != NodeIdState::Offered).map(|known| known.id)
    }

    /// The client offers an id. One that was offered before is confirmed again.
    pub(crate) fn offer(&mut self, new: &NewConnectionId) -> Result<(), &'static str> {
        if let Some(known) = self.ids.iter_mut().find(|known| known.sequence == new.sequence) {
            if known.id != new.id {
                return Err("two connection ids of one number");
            }
            if known.state == NodeIdState::InUse {
                known.state = NodeIdState::ConfirmDue;
            }
            return Ok(());
        }
        if new.sequence <= self.sequence_max {
            return Ok(());
        }
        if self.ids.iter().any(|known| known.id.shard() != new.id.shard()) {
            return Err("a connection id of another shard");
        }
        if self.ids.len() >= CONNECTION_IDS_MAX {
            // The client may have counted the time of a retired one from earlier on.
            let oldest = self
                .ids
                .iter_mut()
                .find(|known| matches!(known.state, NodeIdState::Retired(until) if until > Time::ZERO));
            oldest.ok_or("too many connection ids")?.state = NodeIdState::Retired(Time::ZERO);
        }
        self.sequence_max = new.sequence;
        let (sequence, id, token) = (new.sequence, new.id, ResetToken::default());
        self.ids.push(NodeId { sequence, id, token, state: NodeIdState::Offered });
        Ok(())
    }

    /// The map has answered: with a token when it has taken the id up.
    pub(crate) fn settle(&mut self, sequence: u64, token: Option<ResetToken>) {
        let Some(index) = self.ids.iter().position(|known| known.sequence == sequence) else { return };
        if let Some(token) = token {
            self.ids[index].token = token;
            self.ids[index].state = NodeIdState::ConfirmDue;
        } else {
            self.ids.remove(index);
            self.refused = Some(sequence);
        }
    }

    /// The client uses an id no more: it is forgotten at `until`. `used` is the one that it uses now.
    pub(crate) fn retire(&mut self, sequence: u64, used: Guuid, until: Time) -> Result<(), &'static str> {
        if sequence > self.sequence_max {
            return Err("a connection id retired that was never offered");
        }
        let Some(known) = self.ids.iter_mut().find(|known| known.sequence == sequence) else { return Ok(()) };
        if known.id == used {
            return Err("the connection id in use retired");
        }
        if matches!(known.state, NodeIdState::ConfirmDue | NodeIdState::InUse) {
            known.state = NodeIdState::Retired(until);
        }
        Ok(())
    }

    /// What the map is to learn next.
    pub(crate) fn poll_change(&mut self, now: Time) -> Option<IdChange> {
        if let Some(known) = self.ids.iter().find(|known| known.state == NodeIdState::Offered) {
            return Some(IdChange::Add { sequence: known.sequence, id: known.id });
        }
        let is_over = |known: &NodeId| matches!(known.state, NodeIdState::Retired(until) if until <= now);
        let index = self.ids.iter().position(is_over)?;
        Some(IdChange::Remove(self.ids.remove(index).id))
    }

    fn timeout(&self) -> Option<Time> {
        let retired = |known: &NodeId| match known.state {
            NodeIdState::Retired(until) => Some(until),
            _ => None,
        };
        self.ids.iter().filter_map(retired).min()
    }

    fn take_confirmation(&mut self) -> Option<NewConnectionId> {
        let known = self.ids.iter_mut().find(|known| known.state == NodeIdState::ConfirmDue)?;
        known.state = NodeIdState::InUse;
        Some(NewConnectionId { sequence: known.sequence, id: known.id, reset_token: known.token })
    }

    fn on_lost_confirmation(&mut self, sequence: u64) {
        let known = self.ids.iter_mut().find(|known| known.sequence == sequence);
        if let Some(known) = known.filter(|known| known.state == NodeIdState::InUse) {
            known.state = NodeIdState::ConfirmDue;
        }
    }

    fn is_due(&self) -> bool {
        self.refused.is_some() || self.ids.iter().any(|known| known.state == NodeIdState::ConfirmDue)
    }
}

/// The client's side: it chooses ids, from entropy of its own.
pub(crate) struct ClientIds {
    entropy: EntropyPool,
    unix_ms: u64,
    sequence: u64,
    sequence_max: u64,
    refusals: u8,
    spare: Option<Spare>,
    retired: Vec<RetiredId>,
    /// Since when, and since which packet, the id in use is used.
    rotated: (Time, u64),
}

#[derive(Clone, Copy, Debug)]
struct Spare {
    sequence: u64,
    id: Guuid,
    is_offer_due: bool,
    /// From the node, once it has confirmed.
    token: Option<ResetToken>,
}

#[derive(Clone, Copy, Debug)]
struct RetiredId {
    sequence: u64,
    id: Guuid,
    until: Time,
    is_due: bool,
}

impl ClientIds {
    /// `unix_ms` is the time that new ids carry.
    pub(crate) const fn new(entropy: EntropyPool, unix_ms: u64) -> Self {
        Self {
            entropy,
            unix_ms,
            sequence: 0,
            sequence_max: 0,
            refusals: 0,
            spare: None,
            retired: Vec::new(),
            rotated: (Time::ZERO, 0),
        }
    }

    /// The id in use is used from now on, beginning with the packet of this number.
    pub(crate) const fn rotated(&mut self, now: Time, number: u64) {
        self.rotated = (now, number);
    }

    /// Whether the id in use has been used for so many packets or so long.
    pub(crate) fn is_worn(
        &self,
        now: Time,
        number: u64,
        packets: Option<u64>,
        lifetime: Option<Span>,
    ) -> bool {
        let (since, first) = self.rotated;
        packets.is_some_and(|packets| number - first >= packets)
            || lifetime.is_some_and(|lifetime| now.since(since) >= lifetime)
    }

    pub(crate) fn draw(&mut self) -> [u8; 32] {
        self.entropy.draw()
    }

    /// Makes a spare id for `shard`, unless there is one.
    pub(crate) fn offer(&mut self, shard: u8) {
        if self.spare.is_some() || self.refusals >= REFUSALS_MAX {
            return;
        }
        let mut random = [0; 10];
        random.copy_from_slice(&self.entropy.draw()[..10]);
        self.sequence_max += 1;
        let id = Guuid::new(self.unix_ms, random).with_shard(shard);
        self.spare = Some(Spare { sequence: self.sequence_max, id, is_offer_due: true, token: None });
    }

    /// The node has taken an id up.
    pub(crate) fn confirm(&mut self, new: &NewConnectionId) {
        if let Some(spare) = self.spare.as_mut().filter(|spare| spare.sequence == new.sequence) {
            spare.token = Some(new.reset_token);
            self.refusals = 0;
        }
    }

    /// The node has refused an id: somebody else has it.
    pub(crate) fn refuse(&mut self, sequence: u64, shard: u8) {
        if self.spare.is_some_and(|spare| spare.sequence == sequence && spare.token.is_none()) {
            self.spare = None;
            self.refusals += 1;
            self.offer(shard);
        }
    }

    pub(crate) fn has_spare(&self) -> bool {
        // The node may know the retired ones for longer than this end, and the next spare comes at once.
        let is_confirmed = self.spare.is_some_and(|spare| spare.token.is_some());
        is_confirmed && self.retired.len() + 2 < CONNECTION_IDS_MAX
    }

    /// Goes over to the spare id, if the node has confirmed one: the id and its reset token. `current` is retired, and
    /// taken until `until`.
    pub(crate) fn rotate(&mut self, current: Guuid, until: Time) -> Option<(Guuid, ResetToken)> {
        if !self.has_spare() {
            return None;
        }
        let spare = self.spare.take()?;
        let retired = RetiredId { sequence: self.sequence, id: current, until, is_due: true };
        self.retired.push(retired);
        self.sequence = spare.sequence;
        Some((spare.id, spare.token.unwrap_or_default()))
    }

    /// Forgets retired ids whose time has come, once the node has been told; then there is room for another spare.
    fn handle_timeout(&mut self, now: Time, shard: u8) {
        let before = self.retired.len();
        self.retired.retain(|retired| retired.is_due || retired.until > now);
        if before > self.retired.len() {
            self.offer(shard);
        }
    }

    fn take_offer(&mut self) -> Option<NewConnectionId> {
        let spare = self.spare.as_mut().filter(|spare| spare.is_offer_due)?;
        spare.is_offer_due = false;
        Some(NewConnectionId { sequence: spare.sequence, id: spare.id, reset_token: ResetToken::default() })
    }

    fn take_retirement(&mut self) -> Option<u64> {
        let retired = self.retired.iter_mut().find(|retired| retired.is_due)?;
        retired.is_due = false;
        Some(retired.sequence)
    }

    fn on_lost_retirement(&mut self, sequence: u64, until: Time) {
        match self.retired.iter_mut().find(|retired| retired.sequence == sequence) {
            Some(retired) => retired.is_due = true,
            // Forgotten here, but the node has not been told.
            None => self.retired.push(RetiredId { sequence, id: Guuid::NIL, until, is_due: true }),
        }
    }
}

impl ConnectionIds {
    /// Whether packets with this id belong to the connection.
    pub(crate) fn contains(&self, id: &Guuid) -> bool {
        match self {
            Self::Client(ids) => ids.retired.iter().any(|retired| retired.id == *id),
            Self::Node(ids) => ids.iter().any(|known| known == *id),
        }
    }

    /// Whether the peer is to be told something.
    pub(crate) fn is_due(&self) -> bool {
        match self {
            Self::Client(ids) => {
                let is_offer_due = ids.spare.is_some_and(|spare| spare.is_offer_due);
                is_offer_due || ids.retired.iter().any(|retired| retired.is_due)
            }
            Self::Node(ids) => ids.is_due(),
        }
    }

    pub(crate) fn timeout(&self) -> Option<Time> {
        match self {
            Self::Client(ids) => {
                ids.retired.iter().filter(|retired| !retired.is_due).map(|retired| retired.until).min()
            }
            Self::Node(ids) => ids.timeout(),
        }
    }

    /// What a client forgets; a node's map is asked by [`NodeIds::poll_change`].
    pub(crate) fn handle_timeout(&mut self, now: Time, shard: u8) {
        if let Self::Client(ids) = self {
            ids.handle_timeout(now, shard);
        }
    }

    /// The next NEW_CONNECTION_ID to send.
    pub(crate) fn take_new(&mut self) -> Option<NewConnectionId> {
        match self {
            Self::Client(ids) => ids.take_offer(),
            Self::Node(ids) => ids.take_confirmation(),
        }
    }

    /// The next RETIRE_CONNECTION_ID to send.
    pub(crate) fn take_retired(&mut self) -> Option<u64> {
        match self {
            Self::Client(ids) => ids.take_retirement(),
            Self::Node(ids) => ids.refused.take(),
        }
    }

    /// What was told is lost; a retired id is taken `until` then.
    pub(crate) fn on_lost(&mut self, frame: SentFrame, until: Time) {
        match (self, frame) {
            (Self::Client(ids), SentFrame::NewConnectionId(sequence)) => {
                if let Some(spare) = ids.spare.as_mut().filter(|spare| spare.sequence == sequence) {
                    spare.is_offer_due = spare.token.is_none();
                }
            }
            (Self::Client(ids), SentFrame::RetireConnectionId(sequence)) => {
                ids.on_lost_retirement(sequence, until);
            }
            (Self::Node(ids), SentFrame::NewConnectionId(sequence)) => ids.on_lost_confirmation(sequence),
            (Self::Node(ids), SentFrame::RetireConnectionId(sequence)) => ids.refused = Some(sequence),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Guuid {
        Guuid::new(1, [n; 10]).with_shard(3)
    }

    fn offer(sequence: u64, id: Guuid) -> NewConnectionId {
        NewConnectionId { sequence, id, reset_token: ResetToken::default() }
    }

    #[test]
    fn a_client_fills_the_map_of_its_node() {
        let mut ids = NodeIds::new(id(0));
        for n in 1..CONNECTION_IDS_MAX as u8 {
            assert_eq!(ids.offer(&offer(n.into(), id(n))), Ok(()));
            ids.settle(n.into(), Some([n; 16]));
        }
        assert!(ids.offer(&offer(9, id(9))).is_err());
        assert!(NodeIds::new(id(0)).offer(&offer(1, id(1).with_shard(4))).is_err(), "of another shard");
        assert_eq!(ids.retire(0, id(1), Time::from_us(5)), Ok(()));
        assert!(ids.retire(1, id(1), Time::from_us(5)).is_err(), "the one in use");
        assert_eq!((ids.timeout(), ids.poll_change(Time::from_us(4))), (Some(Time::from_us(5)), None));
        assert!(ids.iter().any(|known| known == id(0)), "what is late still comes");
        assert_eq!(ids.poll_change(Time::from_us(5)), Some(IdChange::Remove(id(0))));
        assert_eq!(ids.offer(&offer(9, id(9))), Ok(()));
    }

    #[test]
    fn a_refused_id_is_used_or_offered_for_ever() {
        let mut client = ClientIds::new(EntropyPool::new([1; 32]), 7);
        client.offer(3);
        let mut seen = Vec::new();
        while let Some(new) = client.take_offer() {
            assert!(new.id.shard() == 3 && !seen.contains(&new.id));
            seen.push(new.id);
            client.refuse(new.sequence, 3);
            assert!(!client.has_spare());
        }
        assert_eq!(seen.len(), usize::from(REFUSALS_MAX));
        assert_eq!(client.rotate(id(0), Time::ZERO), None);
    }

    #[test]
    fn a_late_or_repeated_offer_opens_an_id_again() {
        let mut ids = NodeIds::new(id(0));
        ids.offer(&offer(1, id(1))).unwrap();
        assert_eq!(ids.poll_change(Time::ZERO), Some(IdChange::Add { sequence: 1, id: id(1) }));
        ids.settle(1, Some([1; 16]));
        assert_eq!(ids.take_confirmation().map(|new| new.sequence), Some(1));
        ids.offer(&offer(1, id(1))).unwrap();
        assert_eq!(ids.take_confirmation().map(|new| new.reset_token), Some([1; 16]));
        assert!(ids.offer(&offer(1, id(2))).is_err());
        ids.retire(1, id(0), Time::ZERO).unwrap();
        assert_eq!(ids.poll_change(Time::ZERO), Some(IdChange::Remove(id(1))));
        ids.offer(&offer(1, id(1))).unwrap();
        assert_eq!(ids.poll_change(Time::ZERO), None);
    }
}
