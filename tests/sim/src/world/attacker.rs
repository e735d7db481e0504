//! Somebody who sees every datagram, and can send any as anybody, but holds no keys.

use std::net::SocketAddr;

use netem::{Direction, Payload, Random};
use wire::header::HEADER_BYTES;
use wire::limits::{INITIAL_DATAGRAM_BYTES, TICKET_BYTES_MAX};
use wire::{Ecn, Header, PacketType, Span, Time};
use zerocopy::IntoBytes;

use super::World;
use super::agenda::Task;
use super::node::{attacker_address, client_at};
use super::transfer::{Proof, bit};
use crate::draw::Draw;
use crate::invariants::Check;
use crate::scenario::Hostility;

/// Datagrams are injected at most so long after they were seen.
const DELAY_US_MAX: u64 = 500_000;
/// Most bits changed in a datagram.
const FLIPS_MAX: u64 = 6;

/// A datagram of the attacker.
#[derive(Debug)]
pub(super) struct Injection {
    pub(super) direction: Direction,
    /// The client that it is made to be from, or is for.
    pub(super) client: usize,
    /// Where it seems to come from, when it goes to the node.
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
    /// What it proves, as it was sent by who knows the keys.
    heard: u64,
    is_changed: bool,
    what: &'static str,
}

pub(super) struct Attacker {
    random: Random,
    hostility: Hostility,
    /// A ticket that was seen.
    ticket: Vec<u8>,
}

impl Attacker {
    pub(super) fn new(seed: u64, hostility: Hostility) -> Self {
        Self { random: Random::stream(seed, 2), hostility, ticket: vec![7; 100] }
    }

    /// When it forges first packets.
    pub(super) fn forgeries(&mut self, until: Time) -> Vec<Time> {
        (0..self.hostility.forged_initials).map(|_| Time::from_us(self.random.below(until.as_us()))).collect()
    }

    /// Looks at a datagram; what it does about it, and when.
    fn copy(
        &mut self,
        direction: Direction,
        client: usize,
        from: SocketAddr,
        heard: u64,
        bytes: &[u8],
    ) -> Option<(Span, Injection)> {
        let hostility = self.hostility;
        if hostility == Hostility::default() {
            return None;
        }
        self.remember_ticket(bytes);
        let draw = self.random.below(1_000);
        let mut injection = Injection {
            direction,
            client,
            from,
            bytes: Vec::new(),
            heard,
            is_changed: false,
            what: "replays",
        };
        if draw < hostility.replayed {
            injection.bytes = bytes.to_vec();
        } else if draw < hostility.replayed + hostility.moved {
            injection.bytes = bytes.to_vec();
            if direction == Direction::Up {
                injection.from = attacker_address(self.random.next_u64());
            }
            injection.what = "replays from elsewhere";
        } else if draw < hostility.replayed + hostility.moved + hostility.changed {
            injection.bytes = self.changed(bytes);
            injection.what = "changes";
            injection.is_changed = true;
        } else {
            return None;
        }
        Some((Span::from_us(self.random.scaled_between(1, DELAY_US_MAX)), injection))
    }

    fn changed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..self.random.between(1, FLIPS_MAX) {
            // The header is where a change is most likely to be looked at.
            let within = if self.random.percent(50) { HEADER_BYTES.min(bytes.len()) } else { bytes.len() };
            bytes.flip_bit(self.random.below(within as u64 * 8) as usize);
        }
        if self.random.percent(20) {
            bytes.truncate(self.random.below(bytes.len() as u64 + 1) as usize);
        }
        bytes
    }

    fn remember_ticket(&mut self, bytes: &[u8]) {
        let Ok((_, PacketType::Initial)) = Header::parse(bytes) else { return };
        let length = usize::from(u16::from_be_bytes([bytes[HEADER_BYTES], bytes[HEADER_BYTES + 1]]));
        if let Some(ticket) = bytes.get(HEADER_BYTES + 2..HEADER_BYTES + 2 + length.min(TICKET_BYTES_MAX)) {
            self.ticket = ticket.to_vec();
        }
    }

    /// A first packet with a ticket that is not the attacker's, for which it has no key.
    fn forged_initial(&mut self) -> Vec<u8> {
        let mut id = [0; 16];
        id.copy_from_slice(&self.random.bytes32()[..16]);
        let header = Header::new(PacketType::Initial, wire::Guuid::from_bytes(id), 0, 0);
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend((self.ticket.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&self.ticket);
        while bytes.len() < INITIAL_DATAGRAM_BYTES {
            bytes.extend(self.random.next_u64().to_le_bytes());
        }
        bytes.truncate(INITIAL_DATAGRAM_BYTES - self.random.pick(&[0, 0, 0, 1, 600]));
        bytes
    }
}

impl World {
    /// The attacker sees a datagram.
    pub(super) fn show_attacker(
        &mut self,
        direction: Direction,
        client: usize,
        from: SocketAddr,
        heard: u64,
        bytes: &[u8],
    ) {
        if self.now >= self.scenario.heal_at {
            return;
        }
        if let Some((after, injection)) = self.attacker.copy(direction, client, from, heard, bytes) {
            let at = (self.now + after).min(self.scenario.heal_at);
            self.agenda.add(at, Task::Inject(Box::new(injection)));
        }
    }

    pub(super) fn inject(&mut self, mut injection: Injection) -> Check {
        self.trace.say(self.now, "attacker", || {
            let to = match injection.direction {
                Direction::Up => format!("from {} to the node", injection.from),
                Direction::Down => format!("to client {}", injection.client),
            };
            format!("{} a datagram of {} B {to}", injection.what, injection.bytes.len())
        });
        match injection.direction {
            Direction::Up => {
                let proof = Proof { heard: injection.heard, is_changed: injection.is_changed };
                let from = injection.from;
                self.reach_node(injection.client, from, Ecn::NotEct, &mut injection.bytes, proof)
            }
            Direction::Down => {
                let heard = client_at(injection.from).map_or(0, |(_, mapping)| bit(mapping));
                let proof = Proof { heard, is_changed: injection.is_changed };
                self.reach_client(injection.client, Ecn::NotEct, &mut injection.bytes, proof)
            }
        }
    }

    pub(super) fn forge_initial(&mut self) -> Check {
        let mut bytes = self.attacker.forged_initial();
        let from = attacker_address(self.attacker.random.next_u64());
        self.trace.say(self.now, "attacker", || format!("forges a first packet from {from}"));
        self.reach_node(usize::MAX, from, Ecn::NotEct, &mut bytes, Proof::default())
    }
}
