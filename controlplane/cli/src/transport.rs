//! The transport's settings, from the file to what the machines take.

use model::config::{Congestion, TransportConfig};
use node::{ControllerKind, FecConfig};
use wire::Span;

/// The shortest interval that the transport takes.
const KEEP_ALIVE_MIN: Span = Span::from_ms(10);

/// How the connections of a process are run.
pub(crate) fn transport(config: &TransportConfig) -> node::TransportConfig {
    let controller = match config.congestion {
        Congestion::Bbr => ControllerKind::Bbr,
        Congestion::Cubic => ControllerKind::Cubic,
    };
    let fec = FecConfig {
        enabled: config.fec,
        recovery_deadline: Span::from_ms(u64::from(config.fec_deadline_ms)),
        overhead_max: f64::from(config.fec_overhead_percent_max) / 100.0,
        ..FecConfig::default()
    };
    let keep_alive = Span::from_ms(u64::from(config.keep_alive_ms));
    let keep_alive = (config.keep_alive_ms > 0).then(|| keep_alive.max(KEEP_ALIVE_MIN));
    node::TransportConfig {
        controller,
        fec,
        // A node looks at one of them, a client at the other.
        keep_alive_interval: keep_alive,
        node_keep_alive_interval: keep_alive,
        datagram_bytes_max: config.datagram_bytes_max as usize,
        key_update_packets: config.key_update_packets,
        ..node::TransportConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_takes_what_the_transport_refuses() {
        let default = TransportConfig::default();
        for config in [
            default,
            TransportConfig { fec_deadline_ms: 5, fec_overhead_percent_max: 0, ..default },
            TransportConfig { fec_deadline_ms: 1_000, fec_overhead_percent_max: 100, ..default },
            TransportConfig { fec: false, datagram_bytes_max: 1_452, keep_alive_ms: 0, ..default },
            TransportConfig { keep_alive_ms: 1, ..default },
            TransportConfig { key_update_packets: 1_024, keep_alive_ms: 600_000, ..default },
            TransportConfig { key_update_packets: 1 << 22, congestion: Congestion::Cubic, ..default },
        ] {
            transport(&config).validate().unwrap();
        }
    }

    #[test]
    fn the_defaults_of_the_file_are_not_those_of_the_transport() {
        let (found, expected) = (transport(&TransportConfig::default()), node::TransportConfig::default());
        assert_eq!(found.controller, expected.controller);
        assert_eq!(found.fec, expected.fec);
        assert_eq!(found.keep_alive_interval, expected.keep_alive_interval);
        let node = transport(&model::Config::default().node.transport);
        assert_eq!(node.node_keep_alive_interval, expected.node_keep_alive_interval);
        assert_eq!(found.datagram_bytes_max, expected.datagram_bytes_max);
        assert_eq!(found.key_update_packets, expected.key_update_packets);
    }
}
