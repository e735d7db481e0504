//! Letting go of what need not be kept: old history, states in it, tombstones.

use std::collections::HashSet;

use bytes::Bytes;
use fjall::Guard;
use statesync::StoreWrite;
use statesync::jobs::StoredDocument;

use crate::key::{self, BaseAt, Chunk};
use crate::store::FjallStore;
use crate::{StoreConfig, StoreError};

/// Keys that one step looks at, about: some milliseconds.
const KEYS_PER_STEP: usize = 1_024;
/// Older states in the history are thinned to the last of each such span.
const BASE_SPAN_MS: u64 = 24 * 3_600 * 1_000;

/// Where the next step goes on.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// Documents up to and with this one were looked at; empty: none.
    after: Vec<u8>,
}

/// What one step let go of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Compacted {
    /// Chunks of history.
    pub chunks: u64,
    /// Bytes of ops in them.
    pub chunk_bytes: u64,
    /// Merged states in the history.
    pub bases: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Whether a pass over all documents has ended with it.
    pub is_pass_done: bool,
}

impl FjallStore {
    /// Lets go of what is older than `now_unix_ms` allows, among the next documents of the pass: for when there is
    /// nothing better to do. What a named version needs is kept, and so are ops that no merged state covers.
    ///
    /// # Errors
    /// Those of a read or a write. A damaged document is passed by.
    pub fn compact(&mut self, now_unix_ms: u64) -> Result<Compacted, StoreError> {
        let mut done = Compacted::default();
        self.drop_tombstones(now_unix_ms, &mut done)?;
        let documents = self.next_documents()?;
        done.is_pass_done = documents.is_empty();
        for (document, chunks) in documents {
            match self.thin(&document, &chunks, now_unix_ms, &mut done) {
                Err(error) if !error.is_of_one_document() => return Err(error),
                _ => self.cursor.after = key::document(&document),
            }
        }
        if done.is_pass_done {
            self.cursor = Cursor::default();
        }
        Ok(done)
    }

    fn drop_tombstones(&mut self, now_unix_ms: u64, done: &mut Compacted) -> Result<(), StoreError> {
        let end = now_unix_ms.saturating_sub(self.config().tombstone_retention_ms).to_be_bytes();
        let mut expired = Vec::new();
        for guard in self.tables()?.deleted.range(..end).take(KEYS_PER_STEP) {
            let key = guard.key().map_err(|source| self.read_error("", source))?;
            let (unix_ms, document) = key::split_deleted(&key)?;
            // It may have been deleted again since.
            let head = self.read_head(document)?.and_then(|head| head.tombstone);
            let is_same = head.is_some_and(|tombstone| tombstone.unix_ms == unix_ms);
            expired.push((Bytes::from(key.clone()), is_same.then(|| key::document(document))));
        }
        if expired.is_empty() {
            return Ok(());
        }
        done.tombstones = expired.iter().filter(|(_, head)| head.is_some()).count() as u64;
        self.commit(|batch| {
            for (deleted, head) in expired {
                batch.changes.remove(&batch.tables.deleted, deleted);
                if let Some(head) = head {
                    batch.changes.remove(&batch.tables.heads, head);
                }
            }
            Ok(())
        })
    }

    /// The next documents with a history, by the keys of their chunks.
    fn next_documents(&self) -> Result<Vec<(String, Vec<Chunk>)>, StoreError> {
        let mut documents: Vec<(String, Vec<Chunk>)> = Vec::new();
        let after = &self.cursor.after;
        let history = &self.tables()?.history;
        let keys = history.range(after.clone()..).map(Guard::key);
        for (count, key) in keys.enumerate() {
            let key = key.map_err(|source| self.read_error("", source))?;
            if !after.is_empty() && key.starts_with(after) {
                continue;
            }
            let (document, chunk) = Chunk::of(&key)?;
            match documents.last_mut() {
                Some((last, chunks)) if last == document => chunks.push(chunk),
                Some(_) if count >= KEYS_PER_STEP => break,
                _ => documents.push((document.to_owned(), vec![chunk])),
            }
        }
        Ok(documents)
    }

    fn base_keys(&self, document: &str) -> Result<Vec<BaseAt>, StoreError> {
        let keys = self.tables()?.bases.prefix(key::document(document));
        keys.map(|guard| {
            let key = guard.key().map_err(|source| self.read_error(document, source))?;
            Ok(BaseAt::of(&key)?.1)
        })
        .collect()
    }

    fn thin(
        &mut self,
        document: &str,
        chunks: &[Chunk],
        now_unix_ms: u64,
        done: &mut Compacted,
    ) -> Result<(), StoreError> {
        let bases = self.base_keys(document)?;
        let history = History { chunks, bases: &bases, now_unix_ms, config: *self.config() };
        if !history.may_be_thinned() {
            return Ok(());
        }
        let head = self.read_head(document)?;
        let versions: Vec<_> = self.read_versions(document)?.iter().map(|version| version.sequence).collect();
        let merged = head.as_ref().map_or(u64::MAX, |head| head.base.sequence);
        let plan = history.plan(merged, &versions);
        if plan.wants_base
            && let Some(StoredDocument { base, .. }) =
                head.as_ref().filter(|head| !head.base.state.is_empty())
        {
            let write = StoreWrite::HistoryBase { document, unix_ms: now_unix_ms, base };
            self.commit(|batch| batch.put(&write))?;
        }
        if plan.chunks.is_empty() && plan.bases.is_empty() {
            return Ok(());
        }
        done.chunks += plan.chunks.len() as u64;
        done.chunk_bytes += plan.chunks.iter().map(|chunk| chunk.bytes).sum::<u64>();
        done.bases += plan.bases.len() as u64;
        self.commit(|batch| {
            let chunks = plan.chunks.iter().map(|chunk| chunk.key(document));
            chunks.for_each(|key| batch.changes.remove(&batch.tables.history, key));
            let bases = plan.bases.iter().map(|base| base.key(document));
            bases.for_each(|key| batch.changes.remove(&batch.tables.bases, key));
            Ok(())
        })
    }
}

/// One document's history, as its keys tell it.
struct History<'a> {
    chunks: &'a [Chunk],
    bases: &'a [BaseAt],
    now_unix_ms: u64,
    config: StoreConfig,
}

/// What of it to let go.
#[derive(Debug, Default)]
struct Plan {
    chunks: Vec<Chunk>,
    bases: Vec<BaseAt>,
    /// A merged state is to be put into the history, so that what is before it can go once it is old as well.
    wants_base: bool,
}

impl History<'_> {
    fn is_expired(&self, chunk: &Chunk) -> bool {
        chunk.unix_ms_max.saturating_add(self.config.history_retention_ms) <= self.now_unix_ms
    }

    fn bytes(&self) -> u64 {
        let chunks: u64 = self.chunks.iter().map(|chunk| chunk.bytes).sum();
        chunks + self.bases.iter().map(|base| base.bytes).sum::<u64>()
    }

    /// Whether it is worth a look at the head.
    fn may_be_thinned(&self) -> bool {
        let is_crowded = |pair: &[BaseAt]| self.is_same_old_span(&pair[0], &pair[1]);
        self.chunks.first().is_some_and(|chunk| self.is_expired(chunk))
            || self.bytes() > self.config.history_bytes_per_document_max
            || self.bases.windows(2).any(is_crowded)
    }

    /// Whether two states are old and of the same span, so that the later one will do.
    fn is_same_old_span(&self, one: &BaseAt, next: &BaseAt) -> bool {
        one.unix_ms / BASE_SPAN_MS == next.unix_ms / BASE_SPAN_MS
            && next.unix_ms.saturating_add(BASE_SPAN_MS) <= self.now_unix_ms
    }

    /// `merged`: the last op that the document's newest state covers. `versions`: ops that have a name.
    fn plan(&self, merged: u64, versions: &[u64]) -> Plan {
        let Some(cut) = self.cut(merged) else {
            let wants_base = self.chunks.first().is_some_and(|chunk| {
                self.is_expired(chunk) && self.bases.last().is_none_or(|base| base.sequence < chunk.first)
            });
            let bases = self.thinned_bases(0, versions);
            return Plan { chunks: Vec::new(), bases, wants_base };
        };
        let needed: Vec<_> = versions.iter().map(|&version| (self.base_before(version), version)).collect();
        let is_needed =
            |chunk: &&Chunk| needed.iter().any(|&(from, to)| chunk.last > from && chunk.first <= to);
        let gone = self.chunks.iter().filter(|chunk| chunk.last <= cut);
        let chunks: Vec<_> = gone.filter(|chunk| !is_needed(chunk)).copied().collect();
        Plan { chunks, bases: self.thinned_bases(cut, versions), wants_base: false }
    }

    /// The last op of the state from which a version is built; zero: from nothing.
    fn base_before(&self, version: u64) -> u64 {
        let before = self.bases.iter().rev().find(|base| base.sequence <= version);
        before.map_or(0, |base| base.sequence)
    }

    /// Up to which op the history can go: behind it there is a state that the rest is built from.
    fn cut(&self, merged: u64) -> Option<u64> {
        let covered = self.chunks.iter().take_while(|chunk| chunk.last <= merged);
        let expired = covered.clone().take_while(|chunk| self.is_expired(chunk)).last();
        let mut excess = self.bytes().saturating_sub(self.config.history_bytes_per_document_max);
        let forced = covered
            .take_while(|chunk| {
                let is_over = excess > 0;
                excess = excess.saturating_sub(chunk.bytes);
                is_over
            })
            .last();
        let is_all = |chunk: &Chunk| self.chunks.last().is_some_and(|last| last == chunk);
        let aged = expired.and_then(|chunk| {
            let before = self.bases.iter().rev().find(|base| base.sequence <= chunk.last);
            if is_all(chunk) { Some(chunk.last) } else { before.map(|base| base.sequence) }
        });
        let forced = forced.map(|chunk| {
            let behind = self.bases.iter().find(|base| base.sequence >= chunk.last);
            behind.map_or(merged, |base| base.sequence.min(merged))
        });
        aged.max(forced).filter(|&cut| self.chunks.first().is_some_and(|chunk| chunk.last <= cut))
    }

    /// The states that go when the history up to `cut` does, and those of which there are more than one in a span.
    fn thinned_bases(&self, cut: u64, versions: &[u64]) -> Vec<BaseAt> {
        let needed: HashSet<_> = versions.iter().map(|&version| self.base_before(version)).collect();
        // The history that remains begins with it.
        let first = self.bases.iter().find(|base| base.sequence >= cut).map(|base| base.sequence);
        let is_gone = |(index, base): &(usize, &BaseAt)| {
            let next = self.bases.get(index + 1);
            let is_crowded = next.is_some_and(|next| self.is_same_old_span(base, next));
            let is_kept = needed.contains(&base.sequence) || first == Some(base.sequence);
            !is_kept && (base.sequence < cut || is_crowded)
        };
        self.bases.iter().enumerate().filter(is_gone).map(|(_, base)| *base).collect()
    }
}
