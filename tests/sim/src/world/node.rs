//! The node: its endpoint, and whose connections it has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use netem::{Mapping, Random};
use quantum::{Config, ConnectionKey, Endpoint, EndpointStats, Now, ResetKey};
use wire::{Access, Grant, Guuid, Span, Ticket, TicketKeyRing, Time};

use super::World;
use super::taps::PacketLog;
use crate::draw::Draw;
use crate::scenario::Scenario;

/// Unix time at the start of every world, seconds.
pub(super) const UNIX_S: u64 = 1_700_000_000;
/// Tickets are valid for so long, seconds.
const TICKET_LIFE_S: u64 = 3_600;
/// Clients' ports begin here; each mapping of a NAT has the next.
const PORT_BASE: u16 = 1_024;
/// Networks of clients (10.0.0.0/8) and of the attacker (TEST-NET-1).
const CLIENTS_NET: u8 = 10;

pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    pub(super) config: Arc<Config>,
    pub(super) packets: Arc<PacketLog>,
    /// Whose a connection is.
    pub(super) by_key: BTreeMap<ConnectionKey, usize>,
    pub(super) stats_told: EndpointStats,
    pub(super) is_touched: bool,
    wake: Option<Time>,
    clock: Span,
    ticket_key: [u8; 32],
    reset_key: [u8; 32],
}

impl Node {
    pub(super) fn new(scenario: &Scenario, random: &mut Random) -> Self {
        let packets = Arc::new(PacketLog::default());
        let config = Arc::new(Config { tap: Some(packets.clone()), ..scenario.node_config.clone() });
        let ticket_key = random.bytes32();
        let reset_key = random.bytes32();
        let mut endpoint = Endpoint::new(config.clone(), scenario.limits, random.bytes32());
        endpoint.set_ticket_keys(TicketKeyRing::new([(1, ticket_key)]));
        endpoint.set_reset_key(ResetKey::new(&reset_key));
        Self {
            endpoint,
            config,
            packets,
            by_key: BTreeMap::new(),
            stats_told: EndpointStats::default(),
            is_touched: false,
            wake: None,
            clock: scenario.node_clock,
            ticket_key,
            reset_key,
        }
    }

    /// What the control plane gives a client: the sealed ticket and the key in it.
    pub(super) fn ticket(&self, session: Guuid, random: &mut Random) -> (Vec<u8>, [u8; 32]) {
        let psk = random.bytes32();
        let ticket = Ticket {
            session_id: session,
            writer_id: session.writer(),
            psk,
            expires_unix_s: UNIX_S + TICKET_LIFE_S,
            grants: vec![Grant { pattern: "*".to_owned(), access: Access::Write }],
        };
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&random.bytes32()[..12]);
        let keys = TicketKeyRing::new([(1, self.ticket_key)]);
        (keys.seal(&ticket, nonce).expect("a ticket with one grant fits"), psk)
    }

    /// The instant on the node's clocks.
    pub(super) fn now(&self, now: Time) -> Now {
        Now { mono: now + self.clock, unix_ms: UNIX_S * 1_000 + now.as_us() / 1_000 }
    }

    /// When its timers are to be served, on the world's clock.
    pub(super) const fn wake(&self) -> Option<Time> {
        self.wake
    }

    /// Asks it again.
    pub(super) fn rearm(&mut self) {
        self.wake = self.endpoint.poll_timeout().map(|at| world_time(at, self.clock));
    }
}

impl World {
    /// The node starts anew, with other secrets and no connections.
    pub(super) fn restart_node(&mut self) {
        let mut endpoint =
            Endpoint::new(self.node.config.clone(), self.scenario.limits, self.random.bytes32());
        endpoint.set_ticket_keys(TicketKeyRing::new([(1, self.node.ticket_key)]));
        endpoint.set_reset_key(ResetKey::new(&self.node.reset_key));
        self.node.endpoint = endpoint;
        self.node.by_key.clear();
        self.node.packets.clear();
        self.node.stats_told = EndpointStats::default();
        self.node.rearm();
        self.amplification = Default::default();
        for attempt in &mut self.attempts {
            attempt.forget_node();
        }
    }
}

/// An instant of a machine's clock on the world's.
pub(super) fn world_time(at: Time, clock: Span) -> Time {
    Time::from_us(at.as_us().saturating_sub(clock.as_us()))
}

/// Where a client is seen under a mapping of its NAT: another port for each, and another host for every other, as if it had
/// moved to another network.
pub(super) fn address_of(client: usize, mapping: Mapping) -> SocketAddr {
    let [.., high, low] = (client as u32).to_be_bytes();
    let network = (mapping.0 / 2) as u8;
    SocketAddr::from(([CLIENTS_NET, network, high, low], PORT_BASE + mapping.0 as u16))
}

/// The client and mapping of an address; none: it is nobody's.
pub(super) fn client_at(address: SocketAddr) -> Option<(usize, Mapping)> {
    let SocketAddr::V4(address) = address else { return None };
    let [net, _, high, low] = address.ip().octets();
    let mapping = address.port().checked_sub(PORT_BASE)?;
    (net == CLIENTS_NET).then(|| (usize::from(u16::from_be_bytes([high, low])), Mapping(u32::from(mapping))))
}

/// Where the attacker is.
pub(super) fn attacker_address(number: u64) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 66], PORT_BASE + (number % 1_000) as u16))
}
