//! The store itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Guard, Keyspace, OwnedWriteBatch, PersistMode};
use statesync::jobs::{HistoryOp, StoredDocument, Version};
use statesync::{DocumentStore, HistoryBase, StoreError as SyncError, StoreWrite};
use wire::Guuid;

use crate::document;
use crate::key::{self, BaseAt, Chunk};
use crate::mark;
use crate::open::{self, Tables};
use crate::{StoreConfig, StoreError};

/// The documents of one shard, in a directory of its own.
///
/// A write that fails is the last one: what the disk holds is unknown then, so no other is taken until the node starts
/// again. Where the disk was full, or the engine's own thread stopped, it is only until [`try_again`](Self::try_again)
/// finds room: that thread takes nothing away before what it made of it is durable. Reads go on all the while.
pub struct FjallStore {
    path: PathBuf,
    log_id: Guuid,
    config: StoreConfig,
    /// `None` after it could not be opened again.
    tables: Option<Tables>,
    failure: Option<StoreError>,
    /// Writes since it was made, and how many of them are noted outside of it.
    writes: u64,
    noted: u64,
    pub(crate) cursor: crate::compaction::Cursor,
    /// Shared with the exports that are alive: they keep the engine from letting go of its lock.
    pub(crate) exports: Arc<()>,
}

impl FjallStore {
    /// Opens the store in the directory `path`, or makes one for the log `log_id` where there is none.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] when it belongs to another log, and whatever keeps it from being opened.
    pub fn open(path: impl Into<PathBuf>, log_id: Guuid, config: StoreConfig) -> Result<Self, StoreError> {
        let path = path.into();
        let tables = Tables::open(&path, log_id, &config)?;
        let (writes, noted) = count(&path, log_id, &tables)?;
        let cursor = crate::compaction::Cursor::default();
        Ok(Self {
            path,
            log_id,
            config,
            tables: Some(tables),
            failure: None,
            writes,
            noted,
            cursor,
            exports: Arc::default(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was opened with.
    #[must_use]
    pub const fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Why no writes are taken; `None` while they are.
    #[must_use]
    pub const fn failure(&self) -> Option<&StoreError> {
        self.failure.as_ref()
    }

    /// Opens the store anew when its disk takes writes that it did not take before; true when the store takes them, too.
    /// While an export is alive nothing changes.
    pub fn try_again(&mut self) -> bool {
        match self.failure {
            None => return true,
            Some(StoreError::DiskFull { .. } | StoreError::Closed { .. } | StoreError::Stopped { .. }) => {}
            Some(_) => return false,
        }
        if Arc::strong_count(&self.exports) > 1 || open::check_room(&self.path).is_err() {
            return false;
        }
        // What a failed write left in the engine's journal is cut when it is read again; the lock must be free.
        self.tables = None;
        // The engine panics over some of what it does not expect to find.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let tables = Tables::open(&self.path, self.log_id, &self.config)?;
            Ok::<_, StoreError>((count(&self.path, self.log_id, &tables)?, tables))
        }));
        let Ok(Ok(((writes, noted), tables))) = opened else {
            self.failure = Some(StoreError::Closed { path: self.path.clone() });
            return false;
        };
        self.tables = Some(tables);
        (self.writes, self.noted) = (writes, noted);
        self.failure = None;
        true
    }

    /// Notes outside of the store how much it has to keep, if that is more than before: it is not opened with less.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note_writes(&mut self) -> Result<(), StoreError> {
        if self.noted < self.writes {
            let noted = mark::write(&self.path, self.log_id, self.writes);
            noted.map_err(open::io_error(&self.path, "write its mark"))?;
            self.noted = self.writes;
        }
        Ok(())
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.tables.as_ref().and_then(|tables| tables.database.disk_space().ok()).unwrap_or(0)
    }

    /// Bytes of its block cache that are in use.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.tables.as_ref().map_or(0, |tables| tables.database.cache_size())
    }

    pub(crate) fn tables(&self) -> Result<&Tables, StoreError> {
        self.tables.as_ref().ok_or_else(|| StoreError::Closed { path: self.path.clone() })
    }

    /// Commits what `fill` puts into a batch, durably.
    pub(crate) fn commit(
        &mut self,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.failure.is_some() {
            return Err(self.stopped());
        }
        let tables = self.tables()?;
        let changes = tables.database.batch().durability(Some(PersistMode::SyncAll));
        let mut batch = Batch { tables, changes };
        fill(&mut batch)?;
        let writes = self.writes + 1;
        tables.count(&mut batch.changes, writes);
        let committed = batch.changes.commit();
        committed.map_err(|source| self.fail(source))?;
        self.writes = writes;
        Ok(())
    }

    /// Notes that a write failed, and why.
    fn fail(&mut self, source: fjall::Error) -> StoreError {
        let mut error = open::engine_error(&self.path, "write", source);
        // The engine's own thread may have met it first, and the engine does not pass on what it was, nor when.
        if let StoreError::Stopped { .. } = error
            && let Err(reason) = open::check_room(&self.path)
        {
            error = reason;
        }
        self.failure = Some(error);
        self.stopped()
    }

    fn stopped(&self) -> StoreError {
        match &self.failure {
            Some(StoreError::DiskFull { path }) => StoreError::DiskFull { path: path.clone() },
            Some(StoreError::Closed { path }) => StoreError::Closed { path: path.clone() },
            _ => StoreError::Stopped { path: self.path.clone() },
        }
    }

    /// What the engine said about a read that concerns one document: its own checksums are as good as ours.
    pub(crate) fn read_error(&self, document: &str, source: fjall::Error) -> StoreError {
        match open::engine_error(&self.path, "read", source) {
            StoreError::Engine { source, .. } => {
                StoreError::Damaged { document: document.to_owned(), what: source.to_string() }
            }
            error => error,
        }
    }

    pub(crate) fn get(
        &self,
        table: &Keyspace,
        document: &str,
        key: &[u8],
    ) -> Result<Option<Bytes>, StoreError> {
        let found = table.get(key).map_err(|source| self.read_error(document, source))?;
        Ok(found.map(Bytes::from))
    }

    pub(crate) fn read_head(&self, document: &str) -> Result<Option<StoredDocument>, StoreError> {
        let key = key::document(document);
        let found = self.get(&self.tables()?.heads, document, &key)?;
        found.map(|value| document::decode_head(document, &key, &value)).transpose()
    }

    /// The chunks of a document that end with `from` or later, in order.
    fn chunks_from(
        &self,
        document: &str,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<(Chunk, Vec<HistoryOp>), StoreError>>, StoreError> {
        let history = &self.tables()?.history;
        let first = self
            .last_key(history, document, from)?
            .filter(|key| Chunk::of(key).is_ok_and(|(_, chunk)| chunk.last >= from));
        let begin = first.unwrap_or_else(|| key::at(document, from));
        let end = key::at(document, u64::MAX);
        Ok(history.range(begin..end).map(move |guard| {
            let (key, value) = guard.into_inner().map_err(|source| self.read_error(document, source))?;
            let (_, chunk) = Chunk::of(&key)?;
            Ok((chunk, document::decode_ops(document, &key, &value.into())?))
        }))
    }

    /// The last key of a document in `table` whose sequence number is at most `sequence`.
    fn last_key(
        &self,
        table: &Keyspace,
        document: &str,
        sequence: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let end = key::at(document, sequence.saturating_add(1));
        let found = table.range(key::at(document, 0)..end).next_back().map(Guard::key).transpose();
        let found = found.map_err(|source| self.read_error(document, source))?;
        Ok(found.map(|key| key.to_vec()))
    }

    fn read_history(
        &self,
        document: &str,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<HistoryOp>, StoreError> {
        let (mut found, mut bytes, mut next) = (Vec::new(), 0, from);
        for chunk in self.chunks_from(document, from)? {
            for op in chunk?.1.into_iter().skip_while(|op| op.sequence < from) {
                if op.sequence != next || bytes > bytes_max {
                    return Ok(found);
                }
                next += 1;
                bytes += op.payload.len();
                found.push(op);
            }
        }
        Ok(found)
    }

    fn read_base_at(&self, document: &str, sequence: u64) -> Result<Option<HistoryBase>, StoreError> {
        let bases = &self.tables()?.bases;
        let Some(key) = self.last_key(bases, document, sequence)? else { return Ok(None) };
        let found = self.get(bases, document, &key)?;
        found.map(|value| document::decode_base(document, &key, &value)).transpose()
    }

    /// The chunks of a document, by their keys alone.
    pub(crate) fn chunk_keys(
        &self,
        document: &str,
    ) -> Result<impl Iterator<Item = Result<Chunk, StoreError>>, StoreError> {
        let keys = self.tables()?.history.prefix(key::document(document));
        Ok(keys.map(move |guard| {
            let key = guard.key().map_err(|source| self.read_error(document, source))?;
            Ok(Chunk::of(&key)?.1)
        }))
    }

    fn read_sequence_at(&self, document: &str, unix_ms: u64) -> Result<Option<u64>, StoreError> {
        let mut last = None;
        for chunk in self.chunk_keys(document)? {
            let chunk = chunk?;
            if chunk.unix_ms_max <= unix_ms {
                last = Some(chunk.last);
                continue;
            }
            let key = chunk.key(document);
            let value = self.get(&self.tables()?.history, document, &key)?.unwrap_or_default();
            let ops = document::decode_ops(document, &key, &value)?;
            return Ok(ops
                .iter()
                .take_while(|op| op.unix_ms <= unix_ms)
                .last()
                .map_or(last, |op| Some(op.sequence)));
        }
        Ok(last)
    }

    pub(crate) fn read_versions(&self, document: &str) -> Result<Vec<Version>, StoreError> {
        let entries = self.tables()?.versions.prefix(key::document(document));
        let version = |guard: Guard| {
            let (key, value) = guard.into_inner().map_err(|source| self.read_error(document, source))?;
            document::decode_version(document, &key, &value.into())
        };
        let mut versions = entries.map(version).collect::<Result<Vec<_>, _>>()?;
        versions.sort_by_key(|version| version.sequence);
        Ok(versions)
    }
}

/// How many writes the store has, and how many are noted; fewer is a loss.
fn count(path: &Path, log_id: Guuid, tables: &Tables) -> Result<(u64, u64), StoreError> {
    let found = tables.writes(path)?;
    let noted = mark::read(path, log_id).map_err(open::io_error(path, "read its mark"))?.unwrap_or(0);
    if noted <= found {
        return Ok((found, noted));
    }
    Err(StoreError::Lost { path: path.to_owned(), mark: mark::path(path), noted, found })
}

impl DocumentStore for FjallStore {
    fn head(&mut self, document: &str) -> Result<Option<StoredDocument>, SyncError> {
        Ok(self.read_head(document)?)
    }

    fn write(&mut self, writes: &[StoreWrite<'_>]) -> Result<(), SyncError> {
        Ok(self.commit(|batch| writes.iter().try_for_each(|write| batch.put(write)))?)
    }

    fn history(&mut self, document: &str, from: u64, bytes_max: usize) -> Result<Vec<HistoryOp>, SyncError> {
        Ok(self.read_history(document, from, bytes_max)?)
    }

    fn holds(&mut self, document: &str, sequence: u64) -> Result<bool, SyncError> {
        let history = &self.tables()?.history;
        let Some(key) = self.last_key(history, document, sequence)? else { return Ok(false) };
        Ok(Chunk::of(&key)?.1.last >= sequence)
    }

    fn base_at(&mut self, document: &str, sequence: u64) -> Result<Option<HistoryBase>, SyncError> {
        Ok(self.read_base_at(document, sequence)?)
    }

    fn sequence_at(&mut self, document: &str, unix_ms: u64) -> Result<Option<u64>, SyncError> {
        Ok(self.read_sequence_at(document, unix_ms)?)
    }

    fn versions(&mut self, document: &str) -> Result<Vec<Version>, SyncError> {
        Ok(self.read_versions(document)?)
    }
}

/// Changes that become durable together.
pub(crate) struct Batch<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) changes: OwnedWriteBatch,
}

impl Batch<'_> {
    pub(crate) fn put(&mut self, write: &StoreWrite<'_>) -> Result<(), StoreError> {
        match *write {
            StoreWrite::Head { document, head } => {
                let key = key::document(document);
                let value = document::encode_head(&key, head);
                self.changes.insert(&self.tables.heads, key, value);
            }
            StoreWrite::History { document, ops } => self.put_ops(document, ops)?,
            StoreWrite::HistoryBase { document, unix_ms, base } => {
                let place = BaseAt { sequence: base.sequence, unix_ms, bytes: base.state.len() as u64 };
                let key = place.key(document);
                let value = document::encode_base(&key, unix_ms, base);
                let next = base.sequence.saturating_add(1);
                let same = key::at(document, base.sequence)..key::at(document, next);
                self.remove_all(&self.tables.bases, self.tables.bases.range(same), &key)?;
                self.changes.insert(&self.tables.bases, key, value);
            }
            StoreWrite::Version { document, version } => {
                let key = key::named(document, &version.name);
                let value = document::encode_version(&key, version);
                self.changes.insert(&self.tables.versions, key, value);
            }
            StoreWrite::Delete { document, kind, sequence, tombstone } => {
                let key = key::document(document);
                for table in [&self.tables.history, &self.tables.bases, &self.tables.versions] {
                    self.remove_prefix(table, &key)?;
                }
                let value = document::encode_tombstone(&key, kind, sequence, tombstone);
                self.changes.insert(&self.tables.heads, key, value);
                self.changes.insert(
                    &self.tables.deleted,
                    key::deleted(tombstone.unix_ms, document),
                    Bytes::new(),
                );
            }
        }
        Ok(())
    }

    fn put_ops(&mut self, document: &str, ops: &[HistoryOp]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (ops.first(), ops.last()) else { return Ok(()) };
        let chunk = Chunk {
            first: first.sequence,
            last: last.sequence,
            unix_ms_max: ops.iter().map(|op| op.unix_ms).max().unwrap_or(0),
            bytes: ops.iter().map(|op| op.payload.len() as u64).sum(),
        };
        // A snapshot that was answered by a failure is made again, perhaps with more ops.
        let key = chunk.key(document);
        let later = key::at(document, chunk.first)..key::at(document, u64::MAX);
        self.remove_all(&self.tables.history, self.tables.history.range(later), &key)?;
        let value = document::encode_ops(&key, ops);
        self.changes.insert(&self.tables.history, key, value);
        Ok(())
    }

    pub(crate) fn remove_prefix(&mut self, table: &Keyspace, prefix: &[u8]) -> Result<(), StoreError> {
        self.remove_all(table, table.prefix(prefix), &[])
    }

    /// Removes what was `found` but the key that is put in anew: in one batch neither would come after the other.
    fn remove_all(
        &mut self,
        table: &Keyspace,
        found: impl Iterator<Item = Guard>,
        but: &[u8],
    ) -> Result<(), StoreError> {
        for guard in found {
            let key = guard.key().map_err(|source| open::engine_error(table.path(), "read", source))?;
            if *key != *but {
                self.changes.remove(table, key);
            }
        }
        Ok(())
    }
}
