//! The phases of a connection's keys (`PROTOCOL.md`, section "Key update"; RFC 9001, section 6).

use wire::header::FLAG_KEY_PHASE;
use wire::{Span, Time};

use crate::keys::{DirectionKey, PacketKeys};

/// Packets that one AES-128-GCM key may seal (RFC 9001, section 6.6): a connection that cannot update its keys
/// ends before.
const CONFIDENTIALITY_LIMIT_PACKETS: u64 = 1 << 23;
/// What of them is kept back for telling the peer.
const CLOSING_PACKETS: u64 = 1_024;
/// Packets after which a key seals nothing but CLOSE.
pub(crate) const SEALED_PACKETS_MAX: u64 = CONFIDENTIALITY_LIMIT_PACKETS - CLOSING_PACKETS;
/// Forged packets that a connection may refuse with AES-128-GCM (RFC 9001, section 6.6).
pub(crate) const INTEGRITY_LIMIT_PACKETS: u64 = 1 << 52;
/// The most packets after which an update may be asked for: the peer has as many again to acknowledge one.
pub const KEY_UPDATE_PACKETS_MAX: u64 = 1 << 22;
/// How long the keys of the phase before are kept, in probe timeouts.
const PREVIOUS_TIMEOUTS: u64 = 3;

const _: () = assert!(KEY_UPDATE_PACKETS_MAX < SEALED_PACKETS_MAX / 3 * 2);

/// A connection's keys: the current phase's, and what is needed around an update.
pub(crate) struct PhasedKeys {
    keys: PacketKeys,
    is_odd: bool,
    /// Whether a packet sealed in this phase has been acknowledged.
    is_confirmed: bool,
    /// The first packet sealed in this phase.
    sealed_from: u64,
    /// The lowest packet opened in this phase.
    opened_from: Option<u64>,
    /// The next phase's, once a packet claimed to be of it: derived once, however many are forged.
    next: Option<Box<DirectionKey>>,
    previous: Option<Box<Previous>>,
}

struct Previous {
    opening: DirectionKey,
    /// None until the peer has followed.
    until: Option<Time>,
}

/// Whose keys a packet was opened with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Previous,
    Current,
    /// The peer has updated its keys, and so have we.
    Next,
}

impl PhasedKeys {
    /// The first phase; `sealed_from` is the number of the first packet that it will seal.
    pub(crate) fn new(keys: PacketKeys, sealed_from: u64) -> Self {
        Self {
            keys,
            is_odd: false,
            is_confirmed: false,
            sealed_from,
            opened_from: None,
            next: None,
            previous: None,
        }
    }

    /// The header's flags of a packet that is sealed now.
    pub(crate) const fn flags(&self) -> u8 {
        if self.is_odd { FLAG_KEY_PHASE } else { 0 }
    }

    /// See [`PacketKeys::seal`].
    pub(crate) fn seal(&self, number: u64, datagram: &mut [u8]) {
        self.keys.seal(number, datagram);
    }

    /// Packets sealed in this phase when `next_number` comes next.
    pub(crate) const fn sealed_packets(&self, next_number: u64) -> u64 {
        next_number.saturating_sub(self.sealed_from)
    }

    /// Opens a datagram in place. A packet of the other phase that is older than this phase's is opened with the
    /// previous keys, else with the next.
    pub(crate) fn open<'a>(
        &mut self,
        now: Time,
        probe_timeout: Span,
        (number, flags): (u64, u8),
        next_number: u64,
        datagram: &'a mut [u8],
    ) -> Option<(&'a [u8], Phase)> {
        if flags == self.flags() {
            let payload = self.keys.open(number, datagram)?;
            self.on_opened(now, probe_timeout, number);
            return Some((payload, Phase::Current));
        }
        // Before the peer has followed, all that it sends in the other phase is of the one before.
        let is_previous = match self.opened_from {
            Some(from) => number < from,
            None => self.previous.is_some(),
        };
        if is_previous {
            let payload = self.previous.as_ref()?.opening.open(number, datagram)?;
            return Some((payload, Phase::Previous));
        }
        let next = self.next.get_or_insert_with(|| Box::new(self.keys.opening.next()));
        let payload = next.open(number, datagram)?;
        self.advance(next_number);
        self.on_opened(now, probe_timeout, number);
        Some((payload, Phase::Next))
    }

    fn on_opened(&mut self, now: Time, probe_timeout: Span, number: u64) {
        if self.opened_from.is_none()
            && let Some(previous) = &mut self.previous
        {
            previous.until = Some(now + probe_timeout.times(PREVIOUS_TIMEOUTS));
        }
        self.opened_from = Some(self.opened_from.map_or(number, |from| from.min(number)));
    }

    /// A packet was acknowledged.
    pub(crate) const fn on_ack(&mut self, number: u64) {
        self.is_confirmed |= number >= self.sealed_from;
    }

    /// Whether an update may begin: the peer has this phase's keys, and the phase before is over.
    pub(crate) const fn can_update(&self) -> bool {
        self.is_confirmed && self.previous.is_none()
    }

    /// Begins the next phase in both directions; `next_number` is the first packet of it.
    pub(crate) fn advance(&mut self, next_number: u64) {
        let opening = match self.next.take() {
            Some(next) => *next,
            None => self.keys.opening.next(),
        };
        let opening = std::mem::replace(&mut self.keys.opening, opening);
        self.keys.sealing = self.keys.sealing.next();
        self.previous = Some(Box::new(Previous { opening, until: None }));
        self.is_odd = !self.is_odd;
        self.is_confirmed = false;
        self.sealed_from = next_number;
        self.opened_from = None;
    }

    /// When the previous phase's keys are to be forgotten.
    pub(crate) fn timeout(&self) -> Option<Time> {
        self.previous.as_ref().and_then(|previous| previous.until)
    }

    /// Forgets what is over.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.timeout().is_some_and(|until| until <= now) {
            self.previous = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::header::{HEADER_BYTES, TAG_BYTES};

    use super::*;

    const SECRETS: ([u8; 32], [u8; 32]) = ([1; 32], [2; 32]);
    const TIMEOUT: Span = Span::from_ms(10);

    fn pair() -> (PhasedKeys, PhasedKeys) {
        let keys = |is_client| PhasedKeys::new(PacketKeys::new(SECRETS, is_client), 1);
        (keys(true), keys(false))
    }

    fn sealed(keys: &PhasedKeys, number: u64) -> (u64, u8, Vec<u8>) {
        let mut datagram = vec![7; HEADER_BYTES + 20 + TAG_BYTES];
        keys.seal(number, &mut datagram);
        (number, keys.flags(), datagram)
    }

    fn opened(
        keys: &mut PhasedKeys,
        now: u64,
        (number, flags, datagram): &(u64, u8, Vec<u8>),
    ) -> Option<Phase> {
        let mut datagram = datagram.clone();
        keys.open(Time::from_us(now), TIMEOUT, (*number, *flags), 1, &mut datagram).map(|(_, phase)| phase)
    }

    #[test]
    fn a_packet_of_the_phase_before_is_lost() {
        let (mut client, mut node) = pair();
        let late = sealed(&client, 1);
        client.on_ack(0);
        assert!(!client.can_update(), "a handshake packet confirms nothing");
        client.on_ack(1);
        assert!(client.can_update());
        client.advance(2);
        assert!(!client.can_update(), "an update before the first is acknowledged");
        let reply = sealed(&node, 1);
        assert_eq!(opened(&mut client, 0, &reply), Some(Phase::Previous));
        assert_eq!(opened(&mut node, 0, &sealed(&client, 2)), Some(Phase::Next));
        assert_eq!(opened(&mut node, 0, &late), Some(Phase::Previous));
        assert_eq!(opened(&mut client, 0, &sealed(&node, 2)), Some(Phase::Current));
        assert_eq!(client.timeout(), Some(Time::from_us(30_000)));
    }

    #[test]
    fn old_keys_are_kept_for_ever() {
        let (mut client, mut node) = pair();
        let late = sealed(&client, 1);
        client.advance(2);
        assert_eq!(opened(&mut node, 0, &sealed(&client, 2)), Some(Phase::Next));
        node.handle_timeout(Time::from_us(29_999));
        assert_eq!(opened(&mut node, 0, &late), Some(Phase::Previous));
        node.handle_timeout(Time::from_us(30_000));
        assert_eq!(opened(&mut node, 0, &late), None);
        assert_eq!(node.timeout(), None);
    }

    #[test]
    fn a_forged_phase_costs_a_derivation_each_time_or_changes_the_keys() {
        let (client, mut node) = pair();
        let mut forged = sealed(&client, 5);
        forged.1 = FLAG_KEY_PHASE;
        assert_eq!(opened(&mut node, 0, &forged), None);
        let derived: *const DirectionKey = &**node.next.as_ref().unwrap();
        for _ in 0..10 {
            assert_eq!(opened(&mut node, 0, &forged), None);
        }
        assert!(std::ptr::eq(derived, &**node.next.as_ref().unwrap()));
        assert_eq!(opened(&mut node, 0, &sealed(&client, 6)), Some(Phase::Current));
        assert_eq!(node.flags(), 0);
    }

    #[test]
    fn the_phases_of_the_two_ends_part() {
        let (mut client, mut node) = pair();
        for round in 0..10_u64 {
            let (first, second) =
                if round % 2 == 0 { (&mut client, &mut node) } else { (&mut node, &mut client) };
            first.advance(10 * round);
            assert_eq!(opened(second, 0, &sealed(first, 10 * round + 1)), Some(Phase::Next));
            assert_eq!(opened(first, 0, &sealed(second, 10 * round + 2)), Some(Phase::Current));
            assert_eq!(first.flags(), second.flags());
        }
    }
}
