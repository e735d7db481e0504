//! The store of a shard, which outlives its process: what is written is durable, all of it or nothing. It fails now and
//! then, and what it holds of a document may be damaged.

use std::collections::BTreeSet;

use netem::Random;
use statesync::jobs::{HistoryOp, StoredDocument, Version};
use statesync::{DocumentStore, HistoryBase, MemoryStore, StoreError, StoreWrite};
use wire::Span;

use super::counts::NodeCounts;
use crate::draw::Draw;

/// Failing writes that are done nevertheless, percent.
const DONE_NEVERTHELESS: u64 = 30;
/// Crashes after which what was damaged has been put right, percent.
const MENDED: u64 = 30;

/// What goes wrong with it, in percent where nothing else is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct StoreFaults {
    /// The longest that a job takes, microseconds.
    latency_us_max: u64,
    write_errors: u64,
    read_errors: u64,
    /// Crashes after which the head of a document is damaged.
    damage: u64,
}

impl StoreFaults {
    /// In most worlds it has none.
    pub(super) fn draw(random: &mut Random) -> Self {
        let latency_us_max = random.scaled_between(100, 100_000);
        let rarely = |random: &mut Random, percent, most| {
            if random.percent(percent) { random.between(1, most) } else { 0 }
        };
        Self {
            latency_us_max,
            write_errors: rarely(random, 12, 40),
            read_errors: rarely(random, 12, 40),
            damage: rarely(random, 12, 60),
        }
    }
}

/// The store of a shard.
#[derive(Clone, Debug)]
pub(super) struct Store {
    kept: MemoryStore,
    damaged: BTreeSet<Box<str>>,
    faults: StoreFaults,
    random: Random,
    /// Whoever reads is not told of the ends of documents.
    pub(super) hides_tombstones: bool,
    writes_failed: u64,
    reads_failed: u64,
}

impl Store {
    pub(super) fn new(faults: StoreFaults, random: Random) -> Self {
        let (kept, damaged) = (MemoryStore::default(), BTreeSet::new());
        Self { kept, damaged, faults, random, hides_tombstones: false, writes_failed: 0, reads_failed: 0 }
    }

    /// From now on it has no defects; says whether there was damage.
    pub(super) fn heal(&mut self) -> bool {
        self.faults = StoreFaults { latency_us_max: self.faults.latency_us_max, ..StoreFaults::default() };
        !std::mem::take(&mut self.damaged).is_empty()
    }

    /// How long half of a job takes.
    pub(super) fn latency(&mut self) -> Span {
        Span::from_us(self.random.scaled_between(20, self.faults.latency_us_max))
    }

    /// Damages the head of a document, perhaps.
    pub(super) fn rot(&mut self) -> Option<String> {
        if self.random.percent(MENDED) {
            self.damaged.clear();
        }
        let documents: Vec<_> = self.kept.documents().collect();
        if documents.is_empty() || !self.random.percent(self.faults.damage) {
            return None;
        }
        let document = self.random.pick(&documents);
        self.damaged.insert(Box::from(document));
        Some(document.to_owned())
    }

    /// All that is stored of a document, damaged or not: the head, every op, the versions.
    pub(super) fn look(
        &mut self,
        document: &str,
    ) -> (Option<StoredDocument>, Vec<HistoryOp>, Vec<(String, u64)>) {
        let head = self.kept.head(document).expect("without faults");
        let history = self.kept.history(document, 1, usize::MAX).expect("without faults");
        let versions = self.kept.versions(document).expect("without faults");
        let versions = versions.into_iter().map(|version| (version.name.into(), version.sequence));
        (head, history, versions.collect())
    }

    pub(super) const fn count(&self, counts: &mut NodeCounts) {
        counts.store_writes_failed += self.writes_failed;
        counts.store_reads_failed += self.reads_failed;
    }

    /// A head that is written anew is sound again.
    fn keep(&mut self, writes: &[StoreWrite<'_>]) -> Result<(), StoreError> {
        self.kept.write(writes)?;
        for write in writes {
            if let StoreWrite::Head { document, .. } | StoreWrite::Delete { document, .. } = write {
                self.damaged.remove(*document);
            }
        }
        Ok(())
    }

    fn read(&mut self, document: &str) -> Result<(), StoreError> {
        if self.random.percent(self.faults.read_errors) {
            self.reads_failed += 1;
            return Err(StoreError::Failed("a read failed (EIO)".to_owned()));
        }
        if self.damaged.contains(document) {
            let what = "the head's checksum".to_owned();
            return Err(StoreError::Damaged { document: document.to_owned(), what });
        }
        Ok(())
    }
}

impl DocumentStore for Store {
    fn head(&mut self, document: &str) -> Result<Option<StoredDocument>, StoreError> {
        self.read(document)?;
        let head = self.kept.head(document)?;
        Ok(head.filter(|head| head.tombstone.is_none() || !self.hides_tombstones))
    }

    fn write(&mut self, writes: &[StoreWrite<'_>]) -> Result<(), StoreError> {
        if !self.random.percent(self.faults.write_errors) {
            return self.keep(writes);
        }
        self.writes_failed += 1;
        if self.random.percent(DONE_NEVERTHELESS) {
            self.keep(writes)?;
        }
        Err(StoreError::Failed("a write failed (EIO)".to_owned()))
    }

    fn history(&mut self, document: &str, from: u64, bytes_max: usize) -> Result<Vec<HistoryOp>, StoreError> {
        self.read(document)?;
        self.kept.history(document, from, bytes_max)
    }

    fn base_at(&mut self, document: &str, sequence: u64) -> Result<Option<HistoryBase>, StoreError> {
        self.read(document)?;
        self.kept.base_at(document, sequence)
    }

    fn sequence_at(&mut self, document: &str, unix_ms: u64) -> Result<Option<u64>, StoreError> {
        self.read(document)?;
        self.kept.sequence_at(document, unix_ms)
    }

    fn versions(&mut self, document: &str) -> Result<Vec<Version>, StoreError> {
        self.read(document)?;
        self.kept.versions(document)
    }
}

#[cfg(test)]
mod tests {
    use statesync::jobs::Tombstone;
    use wire::sync::DocumentKind;

    use super::*;

    #[test]
    fn a_deleted_document_stays_damaged() {
        let faults = StoreFaults { damage: 100, ..StoreFaults::default() };
        let mut store = Store::new(faults, Random::new(1));
        let delete = |sequence| StoreWrite::Delete {
            document: "notes",
            kind: DocumentKind::Yjs,
            sequence,
            tombstone: Tombstone { unix_ms: 1 },
        };
        store.write(&[delete(1)]).unwrap();
        assert_eq!(store.rot().as_deref(), Some("notes"));
        assert!(matches!(store.head("notes"), Err(StoreError::Damaged { .. })));
        store.write(&[delete(2)]).unwrap();
        assert!(store.head("notes").unwrap().is_some_and(|head| head.tombstone.is_some()));
    }
}
