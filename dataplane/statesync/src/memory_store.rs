//! A store in memory that can fail, for tests and the simulator.

use std::collections::{BTreeMap, BTreeSet};

use crate::jobs::{Base, HistoryOp, StoredDocument, Version};
use crate::store::{DocumentStore, HistoryBase, StoreError, StoreWrite};

/// What it holds of one document.
#[derive(Clone, Debug, Default)]
struct Kept {
    head: Option<StoredDocument>,
    history: BTreeMap<u64, HistoryOp>,
    bases: BTreeMap<u64, HistoryBase>,
    versions: BTreeMap<Box<str>, Version>,
}

impl Kept {
    /// The state from which a moment is built, by its last op; zero: from nothing.
    fn base_before(&self, sequence: u64) -> u64 {
        self.bases.range(..=sequence).next_back().map_or(0, |(&base, _)| base)
    }

    fn thin(&mut self, end_unix_ms: u64) {
        let merged = self.head.as_ref().map_or(0, |head| head.base.sequence);
        let is_old = |op: &&HistoryOp| op.unix_ms <= end_unix_ms && op.sequence <= merged;
        let Some(last) = self.history.values().take_while(is_old).last().map(|op| op.sequence) else {
            return;
        };
        let is_all = self.history.keys().next_back() == Some(&last);
        let cut = if is_all { last } else { self.base_before(last) };
        let pinned: Vec<_> = self.versions.values().map(|named| named.sequence).collect();
        let pinned: Vec<_> = pinned.into_iter().map(|named| (self.base_before(named), named)).collect();
        self.history.retain(|&sequence, _| {
            sequence > cut || pinned.iter().any(|&(from, to)| sequence > from && sequence <= to)
        });
        self.bases.retain(|&sequence, _| sequence >= cut || pinned.iter().any(|&(from, _)| from == sequence));
    }
}

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    documents: BTreeMap<Box<str>, Kept>,
    damaged: BTreeSet<Box<str>>,
    failures: usize,
    writes: u64,
}

impl MemoryStore {
    /// The next `calls` calls fail as a whole.
    pub const fn fail(&mut self, calls: usize) {
        self.failures = calls;
    }

    /// From now on what is stored of a document fails its checksum.
    pub fn damage(&mut self, document: &str) {
        self.damaged.insert(Box::from(document));
    }

    /// Lets go of the history before `sequence`, as retention does.
    pub fn forget_history_before(&mut self, document: &str, sequence: u64) {
        if let Some(kept) = self.documents.get_mut(document) {
            kept.history = kept.history.split_off(&sequence);
            kept.bases = kept.bases.split_off(&sequence);
        }
    }

    /// Lets go of what is older than `retention_ms` at `now_unix_ms`: tombstones, and history behind which there is a
    /// merged state, but for what a named version is built from.
    pub fn compact(&mut self, now_unix_ms: u64, retention_ms: u64) {
        let end = now_unix_ms.saturating_sub(retention_ms);
        self.documents.retain(|_, kept| {
            let tombstone = kept.head.as_ref().and_then(|head| head.tombstone);
            tombstone.is_none_or(|tombstone| tombstone.unix_ms > end)
        });
        for kept in self.documents.values_mut() {
            kept.thin(end);
        }
    }

    /// Lets go of a tombstone, as retention does.
    pub fn forget(&mut self, document: &str) {
        self.documents.remove(document);
    }

    /// The ids of the documents in it, those deleted included.
    pub fn documents(&self) -> impl Iterator<Item = &str> {
        self.documents.keys().map(AsRef::as_ref)
    }

    /// How often it was written to.
    #[must_use]
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    fn check(&mut self, document: &str) -> Result<(), StoreError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(StoreError::Failed("an error was asked for".to_owned()));
        }
        if self.damaged.contains(document) {
            let what = "the head's checksum".to_owned();
            return Err(StoreError::Damaged { document: document.to_owned(), what });
        }
        Ok(())
    }

    fn apply(&mut self, write: &StoreWrite<'_>) {
        match *write {
            StoreWrite::Head { document, head } => {
                self.documents.entry(Box::from(document)).or_default().head = Some(head.clone());
            }
            StoreWrite::History { document, ops } => {
                let kept = self.documents.entry(Box::from(document)).or_default();
                kept.history.extend(ops.iter().map(|op| (op.sequence, op.clone())));
            }
            StoreWrite::HistoryBase { document, unix_ms, base: Base { sequence, state, .. } } => {
                let base = HistoryBase { sequence: *sequence, unix_ms, state: state.clone() };
                self.documents.entry(Box::from(document)).or_default().bases.insert(*sequence, base);
            }
            StoreWrite::Version { document, version } => {
                let kept = self.documents.entry(Box::from(document)).or_default();
                kept.versions.insert(version.name.clone(), version.clone());
            }
            StoreWrite::Delete { document, kind, sequence, tombstone } => {
                let head = StoredDocument {
                    kind,
                    sequence,
                    base: Base::default(),
                    writers: Vec::new(),
                    quarantined: false,
                    tombstone: Some(tombstone),
                };
                self.documents.insert(Box::from(document), Kept { head: Some(head), ..Kept::default() });
                self.damaged.remove(document);
            }
        }
    }
}

impl DocumentStore for MemoryStore {
    fn head(&mut self, document: &str) -> Result<Option<StoredDocument>, StoreError> {
        self.check(document)?;
        Ok(self.documents.get(document).and_then(|kept| kept.head.clone()))
    }

    fn write(&mut self, writes: &[StoreWrite<'_>]) -> Result<(), StoreError> {
        self.check("")?;
        self.writes += 1;
        writes.iter().for_each(|write| self.apply(write));
        Ok(())
    }

    fn history(&mut self, document: &str, from: u64, bytes_max: usize) -> Result<Vec<HistoryOp>, StoreError> {
        self.check(document)?;
        let Some(kept) = self.documents.get(document) else { return Ok(Vec::new()) };
        let mut bytes = 0;
        let mut next = from;
        let fits = |op: &&HistoryOp| {
            let is_next = op.sequence == next && bytes <= bytes_max;
            next += 1;
            bytes += op.payload.len();
            is_next
        };
        Ok(kept.history.range(from..).map(|(_, op)| op).take_while(fits).cloned().collect())
    }

    fn base_at(&mut self, document: &str, sequence: u64) -> Result<Option<HistoryBase>, StoreError> {
        self.check(document)?;
        let kept = self.documents.get(document);
        Ok(kept.and_then(|kept| kept.bases.range(..=sequence).next_back()).map(|(_, base)| base.clone()))
    }

    fn sequence_at(&mut self, document: &str, unix_ms: u64) -> Result<Option<u64>, StoreError> {
        self.check(document)?;
        let Some(kept) = self.documents.get(document) else { return Ok(None) };
        Ok(kept.history.values().take_while(|op| op.unix_ms <= unix_ms).last().map(|op| op.sequence))
    }

    fn versions(&mut self, document: &str) -> Result<Vec<Version>, StoreError> {
        self.check(document)?;
        let Some(kept) = self.documents.get(document) else { return Ok(Vec::new()) };
        let mut versions: Vec<_> = kept.versions.values().cloned().collect();
        versions.sort_by_key(|version| version.sequence);
        Ok(versions)
    }
}
