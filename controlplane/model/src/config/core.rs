//! `[node.core]`: how the loop of each core works.

use super::error::ConfigError;
use super::reader::Section;

/// Microseconds in one step of a turn that count as a stall: no less than a turn that counts as held up.
const STALL_BUDGET_US: std::ops::RangeInclusive<u32> = 100..=1_000_000;
/// Datagrams of one turn, either way: fewer, and their system calls cost more than they do.
const TURN_DATAGRAMS: std::ops::RangeInclusive<u32> = 16..=4_096;

/// The longest that the kernel polls a device before a shard sleeps.
const BUSY_POLL_US_MAX: u32 = 1_000;

/// Whether long trains of datagrams are sent without a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ZeroCopySend {
    /// Where the kernel says that it did so.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always, where the kernel can.
    On,
}

impl ZeroCopySend {
    /// The names, as in the file.
    pub const EXPECTED: &str = "\"auto\", \"off\" or \"on\"";

    /// From its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "off" => Some(Self::Off),
            "on" => Some(Self::On),
            _ => None,
        }
    }
}

/// The loop of one core. A restart applies it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreConfig {
    /// What takes longer in one step of a turn is told as a stall.
    pub stall_budget_us: u32,
    /// Datagrams taken in by one turn at the most, give or take a train.
    pub datagrams_in_per_turn_max: u32,
    /// Datagrams sent by one turn at the most, give or take a train.
    pub datagrams_out_per_turn_max: u32,
    /// Whether long trains of datagrams are sent without a copy.
    pub zero_copy_send: ZeroCopySend,
    /// How long the kernel polls the network device before a shard sleeps, microseconds; 0: not at all.
    pub busy_poll_us: u32,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            stall_budget_us: 1_000,
            datagrams_in_per_turn_max: 128,
            datagrams_out_per_turn_max: 64,
            zero_copy_send: ZeroCopySend::Auto,
            busy_poll_us: 0,
        }
    }
}

impl CoreConfig {
    pub(super) fn read(&mut self, mut section: Section<'_>) -> Result<(), ConfigError> {
        section.integer("stall_budget_us", &mut self.stall_budget_us, STALL_BUDGET_US)?;
        section.integer("datagrams_in_per_turn_max", &mut self.datagrams_in_per_turn_max, TURN_DATAGRAMS)?;
        section.integer(
            "datagrams_out_per_turn_max",
            &mut self.datagrams_out_per_turn_max,
            TURN_DATAGRAMS,
        )?;
        section.parsed(
            "zero_copy_send",
            &mut self.zero_copy_send,
            ZeroCopySend::EXPECTED,
            ZeroCopySend::parse,
        )?;
        section.integer("busy_poll_us", &mut self.busy_poll_us, 0..=BUSY_POLL_US_MAX)?;
        section.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_setting_of_the_loop_out_of_range_passes() {
        let error = |line| Config::parse(&format!("[node.core]\n{line}")).unwrap_err().to_string();
        assert!(error("stall_budget_us = 99").contains("from 100 to 1000000"));
        assert!(error("datagrams_in_per_turn_max = 8").contains("from 16 to 4096"));
        assert!(error("datagrams_out_per_turn_max = 5000").contains("from 16 to 4096"));
        assert!(error("zero_copy_send = \"yes\"").contains("\"auto\", \"off\" or \"on\""));
        assert!(error("busy_poll_us = 1001").contains("from 0 to 1000"));
        assert!(error("stall_budget = 1").contains("stall_budget_us"));
    }
}
