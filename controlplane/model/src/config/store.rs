//! `[node.store]`: how each shard's documents are kept on the disk.

use super::error::ConfigError;
use super::reader::Section;

/// What all documents of a shard may hold: from a test's to a large machine's.
const DOCUMENT_MEMORY_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 40;
/// What a shard's store may hold in memory of what was read last.
const CACHE_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 30;
/// Integrated documents that a storage thread holds for its next job.
const MERGE_CACHE_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 30;
/// When documents are stored and unloaded: from as often as a test wants it to an hour.
const AFTER_MS: std::ops::RangeInclusive<u32> = 10..=3_600_000;
/// Ten years: so long may history and tombstones be kept.
const RETENTION_DAYS_MAX: u32 = 3_650;
/// One document's history: from what a busy afternoon writes to more than anybody has.
const HISTORY_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;

/// The settings of the stores of one node's shards. A restart applies them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeStoreConfig {
    /// How long a document has ops that only the log holds before it is stored.
    pub snapshot_after_ms: u32,
    /// How long a document that nobody uses stays in memory.
    pub unload_after_ms: u32,
    /// Memory for all documents that are loaded, by shard.
    pub document_memory_bytes: u64,
    /// Memory for what was read last, by shard.
    pub cache_bytes: u64,
    /// Memory for integrated documents that are likely to be merged again, by shard.
    pub merge_cache_bytes: u64,
    /// How long single ops are kept once a merged state covers them.
    pub history_retention_days: u32,
    /// Past it the oldest ops of a document are let go sooner.
    pub history_bytes_per_document_max: u64,
    /// How long a deleted document is remembered, and refused.
    pub tombstone_retention_days: u32,
}

impl Default for NodeStoreConfig {
    fn default() -> Self {
        Self {
            snapshot_after_ms: 30_000,
            unload_after_ms: 60_000,
            document_memory_bytes: 4 << 30,
            cache_bytes: 32 << 20,
            merge_cache_bytes: 256 << 20,
            history_retention_days: 30,
            history_bytes_per_document_max: 1 << 30,
            tombstone_retention_days: 30,
        }
    }
}

impl NodeStoreConfig {
    pub(super) fn read(&mut self, mut section: Section<'_>) -> Result<(), ConfigError> {
        section.integer("snapshot_after_ms", &mut self.snapshot_after_ms, AFTER_MS)?;
        section.integer("unload_after_ms", &mut self.unload_after_ms, AFTER_MS)?;
        section.integer("document_memory_bytes", &mut self.document_memory_bytes, DOCUMENT_MEMORY_BYTES)?;
        section.integer("cache_bytes", &mut self.cache_bytes, CACHE_BYTES)?;
        section.integer("merge_cache_bytes", &mut self.merge_cache_bytes, MERGE_CACHE_BYTES)?;
        let days = 0..=RETENTION_DAYS_MAX;
        section.integer("history_retention_days", &mut self.history_retention_days, days.clone())?;
        let bytes = &mut self.history_bytes_per_document_max;
        section.integer("history_bytes_per_document_max", bytes, HISTORY_BYTES)?;
        section.integer("tombstone_retention_days", &mut self.tombstone_retention_days, days)?;
        section.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn a_store_setting_is_ignored_or_passes_out_of_range() {
        let config =
            Config::parse("[node.store]\nhistory_retention_days = 7\ncache_bytes = 1048576").unwrap();
        let expected =
            NodeStoreConfig { history_retention_days: 7, cache_bytes: 1 << 20, ..NodeStoreConfig::default() };
        assert_eq!(config.node.store, expected);
        let error = |line| Config::parse(&format!("[node.store]\n{line}")).unwrap_err().to_string();
        assert!(error("history_retention_days = 3651").contains("from 0 to 3650"));
        assert!(error("cache_bytes = 1").contains("from 1048576"));
        assert!(error("cache_byte = 1").contains("did you mean `cache_bytes`?"));
    }
}
