//! All that a store holds, as it was at one moment, for backups; and a store made from that.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Keyspace, OwnedWriteBatch, PersistMode, Readable, Snapshot};
use wire::Guuid;

use crate::open::{self, Tables};
use crate::store::FjallStore;
use crate::{StoreConfig, StoreError};

/// Bytes of values that are made durable together when a store is filled.
const IMPORT_BATCH_BYTES: usize = 4 << 20;

/// One entry of a store. Tables are numbered in the order of [`Tables::all`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreEntry {
    /// Which table.
    pub table: u8,
    /// Its key.
    pub key: Bytes,
    /// Its value, with its envelope.
    pub value: Bytes,
}

/// What a store held at one moment; later writes do not show. It keeps the store's files open.
pub struct StoreExport {
    snapshot: Snapshot,
    tables: Vec<Keyspace>,
    _alive: Arc<()>,
}

impl StoreExport {
    /// All entries. Blocks while it reads.
    ///
    /// # Errors
    /// An entry that the engine cannot read; what follows it comes all the same.
    pub fn entries(&self) -> impl Iterator<Item = Result<StoreEntry, String>> {
        self.tables.iter().zip(0_u8..).flat_map(move |(table, number)| {
            self.snapshot.iter(table).map(move |guard| {
                let (key, value) = guard.into_inner().map_err(|error| error.to_string())?;
                Ok(StoreEntry { table: number, key: key.into(), value: value.into() })
            })
        })
    }
}

impl FjallStore {
    /// What it holds now.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn export(&self) -> Result<StoreExport, StoreError> {
        let tables = self.tables()?;
        let snapshot = tables.database.snapshot();
        Ok(StoreExport {
            snapshot,
            tables: tables.all().map(Clone::clone).into(),
            _alive: self.exports.clone(),
        })
    }
}

/// A store that is being filled from an export.
pub struct StoreImport {
    store: FjallStore,
    batch: Option<OwnedWriteBatch>,
    bytes: usize,
}

impl StoreImport {
    /// A new store in `path`, where there must be none.
    ///
    /// # Errors
    /// What keeps it from being made.
    pub fn create(path: &Path, log_id: Guuid) -> Result<Self, StoreError> {
        let store = FjallStore::open(path, log_id, StoreConfig::default())?;
        Ok(Self { store, batch: None, bytes: 0 })
    }

    /// Adds one entry.
    ///
    /// # Errors
    /// A failed write, or an entry of a table that there is not.
    pub fn put(&mut self, entry: StoreEntry) -> Result<(), StoreError> {
        let tables = self.store.tables()?;
        let unknown = || StoreError::Key { key: format!("table {}", entry.table) };
        let table = *tables.all().get(usize::from(entry.table)).ok_or_else(unknown)?;
        self.bytes += entry.key.len() + entry.value.len();
        let batch = self.batch.get_or_insert_with(|| tables.database.batch());
        batch.insert(table, entry.key, entry.value);
        if self.bytes < IMPORT_BATCH_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let Some(batch) = self.batch.take() else { return Ok(()) };
        let committed = batch.durability(Some(PersistMode::SyncAll)).commit();
        committed.map_err(|source| open::engine_error(self.store.path(), "write", source))
    }

    /// Makes all of it durable.
    ///
    /// # Errors
    /// A failed write.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.flush()?;
        let path = self.store.path().to_owned();
        drop(self.store);
        fs::File::open(&path)
            .and_then(|_| open::sync_tree(&path))
            .map_err(open::io_error(&path, "sync its directory"))
    }
}

impl Tables {
    /// Those that belong to documents, in an order that never changes: new ones come last.
    pub(crate) const fn all(&self) -> [&Keyspace; 5] {
        [&self.heads, &self.history, &self.bases, &self.versions, &self.deleted]
    }
}

#[cfg(test)]
mod tests {
    use statesync::{DocumentStore, StoreWrite};
    use tempfile::tempdir;

    use super::*;
    use crate::tests::{head, log_id, op, open, snapshot};

    #[test]
    fn an_export_has_later_writes_or_lacks_earlier_ones() {
        let dir = tempdir().expect("a directory");
        let mut store = open(dir.path());
        let early = head(2, 2, 20_000);
        store.write(&snapshot("doc", &early, &[op(1, 1, 9), op(2, 2, 9)])).expect("a write");
        let base = StoreWrite::HistoryBase { document: "doc", unix_ms: 1, base: &early.base };
        store.write(&[base]).expect("a write");
        let export = store.export().expect("an export");
        store.write(&snapshot("doc", &head(3, 3, 5), &[op(3, 3, 9)])).expect("a write");
        store.write(&snapshot("other", &head(3, 3, 5), &[op(3, 3, 9)])).expect("a write");

        let path = dir.path().join("restored");
        let mut import = StoreImport::create(&path, log_id()).expect("a new store");
        for entry in export.entries() {
            import.put(entry.expect("a sound entry")).expect("a write");
        }
        import.finish().expect("a write");
        let mut restored =
            FjallStore::open(path, log_id(), StoreConfig::default()).expect("the restored store");
        assert_eq!(restored.head("doc"), Ok(Some(early)));
        assert_eq!(restored.head("other"), Ok(None));
        assert_eq!(restored.history("doc", 1, usize::MAX).map(|ops| ops.len()), Ok(2));
        assert!(restored.base_at("doc", 2).is_ok_and(|base| base.is_some()));
    }
}
