//! A scenario from a seed.

use netem::{PathSpec, Random};
use quantum::{Config, ControllerKind, EndpointLimits, FecConfig};
use wire::{Span, Time};

use super::traffic::{self, Volume};
use super::{EcnPath, Hostility, Incident, Scenario, network};
use crate::draw::Draw;

/// The network heals after so long at the latest.
const HEAL_US_MAX: u64 = 3_000_000;
/// Clients of one node at most.
const CLIENTS_MAX: u64 = 50;

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let random = &mut Random::stream(seed, 0);
        let heal_us = random.scaled_between(100_000, HEAL_US_MAX);
        let clients = match random.below(100) {
            0..80 => 1,
            80..97 => random.between(2, 6),
            _ => random.between(7, CLIENTS_MAX),
        };
        let network = network::disturbed(random, heal_us);
        let client_config = config(random);
        let node_config = if random.percent(50) { client_config.clone() } else { config(random) };
        let bytes_max = client_config.message_bytes_max.min(node_config.message_bytes_max) as u64;
        let volume = Volume::of(clients, bytes_max, heal_us);
        Self {
            seed,
            healed: network::healed(&network),
            network,
            heal_at: Time::from_us(heal_us),
            limits: limits(random, clients as usize),
            clients: (0..clients).map(|_| traffic::client(random, volume)).collect(),
            incidents: incidents(random, heal_us, clients),
            hostility: hostility(random),
            ecn_path: EcnPath::draw(random),
            node_clock: Span::from_us(random.below(1 << 33)),
            train_datagrams_max: random.pick(&[1, 1, 2, 8, 32]),
            client_config,
            node_config,
        }
    }

    /// The network of a client that has moved, once it is healed.
    pub(crate) fn healed_of(path: &PathSpec) -> PathSpec {
        network::healed(path)
    }
}

fn config(random: &mut Random) -> Config {
    let controller = if random.percent(70) { ControllerKind::Bbr } else { ControllerKind::Cubic };
    let common = Config { controller, ecn: random.percent(70), ..Config::default() };
    if random.percent(40) {
        return common;
    }
    let message_bytes_max = random.pick(&[2_000, 20_000, 300_000, 4 << 20]);
    let channel_window_bytes = (message_bytes_max as u64).max(random.scaled_between(4_000, 6 << 20));
    let least_buffer = message_bytes_max as u64 + 64;
    Config {
        datagram_bytes_max: random.pick(&[1_200, 1_200, 1_300, 1_452]),
        idle_timeout: Span::from_us(random.scaled_between(300_000, 30_000_000)),
        max_ack_delay: Span::from_us(random.between(0, 2_000)),
        handshake_timeout: Span::from_us(random.scaled_between(500_000, 10_000_000)),
        send_buffer_bytes_max: random.scaled_between(least_buffer, least_buffer + (4 << 20)) as usize,
        receive_window_bytes: channel_window_bytes + random.scaled_between(1, 2 << 20),
        channel_window_bytes,
        message_bytes_max,
        congestion_window_bytes_max: random.scaled_between(64 << 10, 8 << 20),
        fec: FecConfig { enabled: random.percent(70), ..FecConfig::default() },
        key_update_packets: if random.percent(25) { random.scaled_between(1, 400) } else { 1 << 20 },
        connection_id_packets: random.percent(15).then(|| random.scaled_between(1, 400)),
        connection_id_lifetime: random
            .percent(15)
            .then(|| Span::from_us(random.scaled_between(10_000, 2_000_000))),
        ..common
    }
}

fn limits(random: &mut Random, clients: usize) -> EndpointLimits {
    if random.percent(90) {
        return EndpointLimits::default();
    }
    EndpointLimits {
        connections_max: clients * 2 + random.below(20) as usize,
        half_open_max: clients + random.below(4) as usize,
        half_open_retry: random.below(clients as u64 + 2) as usize,
        unproven_per_tick_max: random.below(8) as u32,
        ..EndpointLimits::default()
    }
}

fn incidents(random: &mut Random, heal_us: u64, clients: u64) -> Vec<(Time, Incident)> {
    let mut incidents = Vec::new();
    let at = |random: &mut Random| Time::from_us(random.below(heal_us));
    for client in 0..clients as usize {
        for _ in 0..random.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 2, 4]) {
            incidents.push((at(random), Incident::Rebind(client)));
        }
        if random.percent(10) {
            let to = Box::new(network::disturbed(random, heal_us));
            let is_told = random.percent(50);
            incidents.push((at(random), Incident::Move { client, to, is_told }));
        }
        if random.percent(10) {
            incidents.push((at(random), Incident::RotateId(client)));
        }
        if random.percent(10) {
            incidents.push((at(random), Incident::UpdateKeys(client)));
        }
    }
    if random.percent(5) {
        incidents.push((at(random), Incident::Restart));
    }
    incidents
}

fn hostility(random: &mut Random) -> Hostility {
    if random.percent(70) {
        return Hostility::default();
    }
    Hostility {
        replayed: random.below(200),
        moved: random.below(100),
        changed: random.below(200),
        forged_initials: random.below(30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_an_invalid_configuration() {
        for seed in 0..3_000 {
            let scenario = Scenario::draw(seed);
            scenario.client_config.validate().unwrap();
            scenario.node_config.validate().unwrap();
            assert!(!scenario.clients.is_empty() && scenario.clients.len() <= CLIENTS_MAX as usize);
        }
    }
}
