//! What every store must do for documents to have a past and an end, checked through the storage worker.

use bytes::Bytes;
use wire::sync::DocumentKind;
use wire::{Code, Guuid};
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, Text, Transact, Update, WriteTxn};

use crate::jobs::{At, Base, HistoryOp, Job, JobDone, Snapshot, Version, WriterMark};
use crate::{DocumentStore, StorageWorker, WorkerConfig};

/// Milliseconds of a day.
pub const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// How long the store under test keeps history and tombstones.
pub const RETENTION_MS: u64 = 10 * DAY_MS;

const DOCUMENT: &str = "team/plan";

/// A document that is written to, an op a day, over a store.
struct Life<S> {
    worker: StorageWorker<S>,
    doc: Doc,
    base: Base,
    sequence: u64,
    /// The text after each op.
    texts: Vec<String>,
    day: u64,
}

impl<S: DocumentStore> Life<S> {
    fn new(store: S) -> Self {
        let config = WorkerConfig { history_base_bytes: 100, ..WorkerConfig::default() };
        Self {
            worker: StorageWorker::new(store, config),
            doc: Doc::with_client_id(3),
            base: Base::default(),
            sequence: 0,
            texts: vec![String::new()],
            day: 1,
        }
    }

    /// Types a word a day, and stores them at once.
    fn live(&mut self, words: u64) {
        let ops = (0..words).map(|_| self.write()).collect();
        let last = self.sequence;
        let job = Snapshot {
            document: DOCUMENT.into(),
            kind: DocumentKind::Yjs,
            base: self.base.clone(),
            ops,
            writers: vec![WriterMark { writer: Guuid::NIL, counter: last, sequence: last }],
            quarantined: false,
            unix_ms: self.day * DAY_MS,
        };
        match self.worker.handle(Job::Snapshot(job)) {
            JobDone::Snapshotted { base, .. } => self.base = base,
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self) -> HistoryOp {
        self.sequence += 1;
        self.day += 1;
        let update = {
            let mut txn = self.doc.transact_mut();
            let text = txn.get_or_insert_text("t");
            text.push(&mut txn, &format!("word {} ", self.sequence));
            txn.encode_update_v1()
        };
        self.texts.push(text_of(&self.doc));
        HistoryOp {
            sequence: self.sequence,
            op_id: Guuid::NIL.with_counter(self.sequence),
            unix_ms: self.day * DAY_MS,
            payload: Bytes::from(update),
        }
    }

    fn read(&mut self, at: At) -> Result<(u64, String), Code> {
        match self.worker.handle(Job::ReadAt { document: DOCUMENT.into(), at }) {
            JobDone::State { sequence, state, .. } => {
                let doc = Doc::new();
                let update = Update::decode_v1(&state).expect("a state decodes");
                doc.transact_mut().apply_update(update).expect("a state applies");
                Ok((sequence, text_of(&doc)))
            }
            JobDone::Failed { code, .. } => Err(code),
            other => panic!("{other:?}"),
        }
    }

    fn name(&mut self, name: &str) {
        let version = Version { name: name.into(), sequence: self.sequence, unix_ms: self.day * DAY_MS };
        let done = self.worker.handle(Job::CreateVersion { document: DOCUMENT.into(), version });
        assert_eq!(done, JobDone::VersionCreated);
    }

    /// Every moment is as it was; those before op `first` may be gone instead. Answers how many are.
    fn check(&mut self, first: u64) -> u64 {
        let mut gone = 0;
        for sequence in 1..=self.sequence {
            let expected = Ok((sequence, self.texts[sequence as usize].clone()));
            match self.read(At::Sequence(sequence)) {
                Err(Code::HistoryNotKept) if sequence < first => gone += 1,
                found => assert_eq!(found, expected, "op {sequence}, kept from {first}"),
            }
        }
        gone
    }
}

fn text_of(doc: &Doc) -> String {
    let mut txn = doc.transact_mut();
    txn.get_or_insert_text("t").get_string(&txn)
}

/// Every kept moment of a document can be read, by number, time and name, before and after old history has gone.
/// `compact` has the store let go of what is older than [`RETENTION_MS`] at that Unix time.
///
/// # Panics
/// When one cannot.
pub fn a_moment_is_lost_or_another<S: DocumentStore>(store: S, compact: impl Fn(&mut S, u64)) {
    let mut life = Life::new(store);
    for _ in 0..10 {
        life.live(2);
    }
    assert_eq!(life.check(1), 0);
    let by_time = life.read(At::UnixMs((1 + 7) * DAY_MS + 1));
    assert_eq!(by_time, Ok((7, life.texts[7].clone())), "op 7 was taken on day 8");
    assert_eq!(life.read(At::UnixMs(DAY_MS)), Err(Code::HistoryNotKept), "before the first");
    assert_eq!(life.read(At::Sequence(21)), Err(Code::HistoryNotKept), "behind the last");
    life.name("twenty");
    life.name("again");
    life.live(1);
    life.name("again");
    // Ops of the last ten days stay.
    let now = life.day * DAY_MS;
    compact(life.worker.store(), now);
    let first = life.sequence - 9;
    assert!(life.check(first) > 0, "old history has gone");
    // Idle for so long that all of it is old: what has a name stays, and what comes then.
    life.day += 40;
    let now = life.day * DAY_MS;
    compact(life.worker.store(), now);
    assert_eq!(life.read(At::Version("twenty".into())), Ok((20, life.texts[20].clone())));
    let first = life.sequence;
    life.live(3);
    life.live(1);
    life.check(first);
    assert_eq!(life.read(At::Version("twenty".into())), Ok((20, life.texts[20].clone())));
    assert_eq!(life.read(At::Version("again".into())), Ok((21, life.texts[21].clone())), "a name is moved");
    assert_eq!(life.read(At::Version("never".into())), Err(Code::UnknownVersion));
    let JobDone::Versions(versions) = life.worker.handle(Job::ListVersions { document: DOCUMENT.into() })
    else {
        panic!("a list")
    };
    let named: Vec<_> = versions.iter().map(|version| (&*version.name, version.sequence)).collect();
    assert_eq!(named, [("twenty", 20), ("again", 21)]);
}

/// A deleted document leaves a tombstone and nothing else, and that goes, too; one of the same id is new then.
///
/// # Panics
/// When something else stays, or the tombstone goes too soon or never.
pub fn a_deleted_document_comes_back<S: DocumentStore>(store: S, compact: impl Fn(&mut S, u64)) {
    let mut life = Life::new(store);
    life.live(3);
    life.live(3);
    life.name("v");
    let (sequence, unix_ms) = (life.sequence + 1, life.day * DAY_MS);
    let delete = Job::Delete { document: DOCUMENT.into(), kind: DocumentKind::Yjs, sequence, unix_ms };
    assert_eq!(life.worker.handle(delete), JobDone::Deleted);
    let load = |worker: &mut StorageWorker<S>| match worker.handle(Job::Load { document: DOCUMENT.into() }) {
        JobDone::Loaded(head) => head,
        other => panic!("{other:?}"),
    };
    compact(life.worker.store(), unix_ms + RETENTION_MS - 1);
    let head = load(&mut life.worker).expect("a tombstone");
    assert!(head.tombstone.is_some() && head.sequence == sequence);
    assert_eq!(life.read(At::Sequence(3)), Err(Code::HistoryNotKept));
    compact(life.worker.store(), unix_ms + RETENTION_MS + 1);
    assert_eq!(load(&mut life.worker), None);
    let mut again = Life::new(life.worker.into_store());
    again.day = 100;
    again.live(2);
    assert_eq!(again.check(1), 0);
    assert_eq!(again.read(At::Sequence(3)), Err(Code::HistoryNotKept), "it has two ops");
    assert_eq!(again.read(At::Version("v".into())), Err(Code::UnknownVersion));
}
