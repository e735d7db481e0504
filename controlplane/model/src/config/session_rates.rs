//! `[settings.session_rates]`.

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::reader::Section;

/// The most that a rate may be: no shard does as much.
const RATE_PER_S_MAX: u64 = 1 << 40;
/// The shortest and the longest burst.
const BURST_MS: std::ops::RangeInclusive<u32> = 10..=60_000;

/// What one session may do on one shard each second, over all its connections; 0: as much as it can. What is more is
/// refused, and the client is told when to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionRates {
    /// Ops.
    pub ops_per_s: u64,
    /// Bytes of ops.
    pub op_bytes_per_s: u64,
    /// Joins of documents.
    pub joins_per_s: u64,
    /// Presence entries.
    pub presence_per_s: u64,
    /// After a pause, as much as otherwise in so many milliseconds may come at once.
    pub burst_ms: u32,
}

impl Default for SessionRates {
    fn default() -> Self {
        // A gateway is one session, too: a quarter of what a core can do.
        Self {
            ops_per_s: 25_000,
            op_bytes_per_s: 32 << 20,
            joins_per_s: 2_000,
            presence_per_s: 20_000,
            burst_ms: 2_000,
        }
    }
}

impl SessionRates {
    /// No session is held back.
    pub const UNLIMITED: Self =
        Self { ops_per_s: 0, op_bytes_per_s: 0, joins_per_s: 0, presence_per_s: 0, burst_ms: 2_000 };

    pub(super) fn read(&mut self, mut section: Section<'_>) -> Result<(), ConfigError> {
        section.integer("ops_per_s", &mut self.ops_per_s, 0..=RATE_PER_S_MAX)?;
        section.integer("op_bytes_per_s", &mut self.op_bytes_per_s, 0..=RATE_PER_S_MAX)?;
        section.integer("joins_per_s", &mut self.joins_per_s, 0..=RATE_PER_S_MAX)?;
        section.integer("presence_per_s", &mut self.presence_per_s, 0..=RATE_PER_S_MAX)?;
        section.integer("burst_ms", &mut self.burst_ms, BURST_MS)?;
        section.finish()
    }
}
