//! `[node.transport]` and `[gateway.transport]`: how Quantum connections are run.

use wire::limits::{DATAGRAM_BYTES_MAX, INITIAL_DATAGRAM_BYTES};

use super::error::ConfigError;
use super::reader::Section;
use super::values::Congestion;

/// The longest deadline of repairs.
const FEC_DEADLINE_MS_MAX: u32 = 1_000;
/// The shortest: repairs wait so long for others.
const FEC_DEADLINE_MS_MIN: u32 = 5;
/// The longest interval of signs of life.
const KEEP_ALIVE_MS_MAX: u32 = 600_000;
/// Packets sealed with one key: few, for tests of the update, to so many as are safe with a margin.
const KEY_UPDATE_PACKETS: std::ops::RangeInclusive<u64> = 1_024..=1 << 22;

/// The settings of the connections of one process. A restart applies them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportConfig {
    /// What decides how much is in flight.
    pub congestion: Congestion,
    /// Whether lost packets are repaired by redundancy (forward error correction).
    pub fec: bool,
    /// By how much later than its packet what is lost should come.
    pub fec_deadline_ms: u32,
    /// What repairs may add while nothing is lost, percent of what they protect.
    pub fec_overhead_percent_max: u32,
    /// The largest datagram that is sent.
    pub datagram_bytes_max: u32,
    /// A peer that was silent for so long is asked for a sign of life; 0: never.
    pub keep_alive_ms: u32,
    /// Packets sealed with one key before the next takes over.
    pub key_update_packets: u64,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            congestion: Congestion::default(),
            fec: true,
            fec_deadline_ms: 10,
            fec_overhead_percent_max: 28,
            datagram_bytes_max: DATAGRAM_BYTES_MAX as u32,
            keep_alive_ms: 10_000,
            key_update_packets: 1 << 20,
        }
    }
}

impl TransportConfig {
    /// Reads its keys; the section may have others.
    pub(super) fn read(&mut self, section: &mut Section<'_>) -> Result<(), ConfigError> {
        section.parsed("congestion", &mut self.congestion, Congestion::EXPECTED, Congestion::parse)?;
        section.boolean("fec", &mut self.fec)?;
        let deadlines = FEC_DEADLINE_MS_MIN..=FEC_DEADLINE_MS_MAX;
        section.integer("fec_deadline_ms", &mut self.fec_deadline_ms, deadlines)?;
        section.integer("fec_overhead_percent_max", &mut self.fec_overhead_percent_max, 0..=100)?;
        section.integer(
            "datagram_bytes_max",
            &mut self.datagram_bytes_max,
            INITIAL_DATAGRAM_BYTES as u32..=DATAGRAM_BYTES_MAX as u32,
        )?;
        section.integer("keep_alive_ms", &mut self.keep_alive_ms, 0..=KEEP_ALIVE_MS_MAX)?;
        section.integer("key_update_packets", &mut self.key_update_packets, KEY_UPDATE_PACKETS)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn the_gateway_takes_the_settings_of_the_node() {
        let config = Config::parse(
            "[node.transport]\ncongestion = \"cubic\"\nfec = false\n[gateway.transport]\nfec_deadline_ms = 20\n",
        )
        .unwrap();
        assert_eq!((config.node.transport.congestion, config.node.transport.fec), (Congestion::Cubic, false));
        let gateway = config.gateway.transport;
        assert_eq!(gateway, TransportConfig { fec_deadline_ms: 20, ..TransportConfig::default() });
    }

    #[test]
    fn a_transport_setting_out_of_range_passes() {
        let error = |line| Config::parse(&format!("[node.transport]\n{line}")).unwrap_err().to_string();
        assert!(error("congestion = \"reno\"").contains("\"bbr\" or \"cubic\""));
        assert!(error("fec_deadline_ms = 4").contains("from 5 to 1000"));
        assert!(error("fec_overhead_percent_max = 101").contains("from 0 to 100"));
        assert!(error("datagram_bytes_max = 1199").contains("from 1200 to 1452"));
        assert!(error("key_update_packets = 1").contains("from 1024 to 4194304"));
        assert!(error("receive_buffer_bytes_max = 1").contains("from 16777216"));
        assert!(error("fecs = true").contains("did you mean `fec`?"));
        let of_gateway = Config::parse("[gateway.transport]\nreceive_buffer_bytes_max = 268435456");
        assert!(of_gateway.unwrap_err().to_string().contains("not a known key"));
    }
}
