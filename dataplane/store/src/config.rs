//! What a store is opened with.

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Settings of one shard's store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreConfig {
    /// Memory for blocks of what was read last, bytes.
    pub cache_bytes: u64,
    /// Changes of one kind that are gathered in memory before they are written to a table, bytes. Until then they are
    /// in the engine's journal, which is read when the store is opened.
    pub memtable_bytes: u64,
    /// How long ops are kept after a merged state covers them, milliseconds.
    pub history_retention_ms: u64,
    /// Bytes of one document's history, past which the oldest is let go sooner.
    pub history_bytes_per_document_max: u64,
    /// How long a deleted document is remembered, milliseconds.
    pub tombstone_retention_ms: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            memtable_bytes: 8 << 20,
            history_retention_ms: 30 * DAY_MS,
            history_bytes_per_document_max: 1 << 30,
            tombstone_retention_ms: 30 * DAY_MS,
        }
    }
}
