//! The storage worker over a store in memory.

use bytes::Bytes;

use super::*;
use crate::jobs::{At, Base, HistoryOp, Snapshot, Version, WriterMark};
use crate::store_suite;
use crate::{Job, JobDone, MemoryStore, StorageWorker, StoreError, WorkerConfig};

struct Bench {
    worker: StorageWorker<MemoryStore>,
    writer: ModelClient,
    base: Base,
    stored: u64,
    sequence: u64,
    quarantined: bool,
}

impl Bench {
    fn new() -> Self {
        Self::with(WorkerConfig::default())
    }

    fn with(config: WorkerConfig) -> Self {
        Self {
            worker: StorageWorker::new(MemoryStore::default(), config),
            writer: ModelClient::new(1, Access::Write),
            base: Base::default(),
            stored: 0,
            sequence: 0,
            quarantined: false,
        }
    }

    fn op(&mut self, payload: &[u8]) -> HistoryOp {
        self.sequence += 1;
        HistoryOp {
            sequence: self.sequence,
            op_id: self.writer.session.writer_id.with_counter(self.sequence),
            unix_ms: 1_000 * self.sequence,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    fn type_text(&mut self, text: &str) -> HistoryOp {
        let update = self.writer.type_text(text);
        self.op(&update)
    }

    fn snapshot(&mut self, ops: Vec<HistoryOp>) -> JobDone {
        let mark = WriterMark { writer: Guuid::NIL, counter: self.sequence, sequence: self.sequence };
        let done = self.worker.handle(Job::Snapshot(Snapshot {
            document: "d".into(),
            kind: DocumentKind::Yjs,
            base: self.base.clone(),
            ops,
            writers: vec![mark],
            quarantined: self.quarantined,
            unix_ms: 5,
        }));
        if let JobDone::Snapshotted { base, sequence, quarantined } = &done {
            (self.base, self.stored, self.quarantined) = (base.clone(), *sequence, *quarantined);
        }
        done
    }

    fn text_of(state: &[u8]) -> String {
        let mut reader = ModelClient::new(9, Access::Read);
        reader.apply(state);
        reader.text()
    }

    fn text_at(&mut self, at: At) -> Result<String, Code> {
        match self.worker.handle(Job::ReadAt { document: "d".into(), at }) {
            JobDone::State { state, .. } => Ok(Self::text_of(&state)),
            JobDone::Failed { code, .. } => Err(code),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_stored_differs_from_what_was_written() {
    for materialized_bytes_max in [0, 1 << 20] {
        let mut bench = Bench::with(WorkerConfig { materialized_bytes_max, ..WorkerConfig::default() });
        for _ in 0..5 {
            let ops = (0..20).map(|_| bench.type_text("word ")).collect();
            bench.snapshot(ops);
        }
        let JobDone::Loaded(Some(head)) = bench.worker.handle(Job::Load { document: "d".into() }) else {
            panic!("stored")
        };
        assert_eq!((head.sequence, &head.base), (100, &bench.base));
        assert_eq!(Bench::text_of(&head.base.state), bench.writer.text());
        assert_eq!(head.writers[0].counter, 100);
        assert_eq!(
            bench.worker.stats().updates_integrated,
            100,
            "each once, whether the document was kept or not"
        );
    }
}

#[test]
fn a_fault_of_the_library_is_merged_or_loses_its_ops() {
    let mut bench = Bench::new();
    let ops = vec![bench.type_text("good")];
    bench.snapshot(ops);
    let good = bench.base.clone();
    let ops = vec![bench.op(&super::recovery::TEXT), bench.op(&super::recovery::CHILD_OF_TEXT)];
    let done = bench.snapshot(ops.clone());
    assert!(
        matches!(&done, JobDone::Snapshotted { base, sequence: 3, quarantined: true }
        if (base.sequence, &base.state) == (good.sequence, &good.state)),
        "{done:?}"
    );
    let more = vec![bench.type_text("more")];
    bench.snapshot(more);
    let read = bench.worker.handle(Job::ReadOps { document: "d".into(), from: 2, bytes_max: 1 << 20 });
    let JobDone::Ops(read) = read else { panic!("{read:?}") };
    assert_eq!((read.len(), &read[..2]), (3, &ops[..]));
    assert_eq!(bench.worker.stats().faults, 1, "the library is not asked again");
}

#[test]
fn a_diff_lacks_an_op_or_says_what_the_client_has() {
    let mut bench = Bench::new();
    let ops = vec![bench.type_text(&"long ".repeat(1_000))];
    bench.snapshot(ops);
    let mut reader = ModelClient::new(2, Access::Read);
    reader.apply(&bench.base.state);
    let vector = Bytes::from(reader.vector());
    let ops = vec![bench.type_text("a"), bench.type_text("b")];
    let diff = Job::Diff { document: "d".into(), base: bench.base.clone(), ops, vector };
    let JobDone::Diff { state, sequence, .. } = bench.worker.handle(diff.clone()) else { panic!("diff") };
    assert!(sequence == 3 && state.len() < 100);
    reader.apply(&state);
    assert_eq!(reader.text(), bench.writer.text());
    let Job::Diff { document, base, ops, .. } = diff else { unreachable!() };
    let done = bench.worker.handle(Job::Diff { document, base, ops, vector: Bytes::from_static(&[9]) });
    assert!(matches!(done, JobDone::Failed { code: Code::StateVector, .. }));
}

#[test]
fn a_past_moment_is_shown_as_another() {
    let mut bench = Bench::with(WorkerConfig { history_base_bytes: 100, ..WorkerConfig::default() });
    for round in 0..10 {
        let ops = vec![bench.type_text(&format!("{round}")), bench.type_text(",")];
        bench.snapshot(ops);
        if round == 2 {
            let version = Version { name: "early".into(), sequence: 6, unix_ms: 1 };
            let done = bench.worker.handle(Job::CreateVersion { document: "d".into(), version });
            assert_eq!(done, JobDone::VersionCreated);
        }
    }
    assert_eq!(bench.text_at(At::Sequence(3)).as_deref(), Ok("0,1"));
    assert_eq!(bench.text_at(At::Sequence(20)).as_deref(), Ok("0,1,2,3,4,5,6,7,8,9,"));
    assert_eq!(bench.text_at(At::UnixMs(5_999)).as_deref(), Ok("0,1,2"));
    assert_eq!(bench.text_at(At::Version("early".into())).as_deref(), Ok("0,1,2,"));
    assert_eq!(bench.text_at(At::Version("late".into())), Err(Code::UnknownVersion));
    assert_eq!(bench.text_at(At::Sequence(21)), Err(Code::HistoryNotKept));
    assert_eq!(bench.text_at(At::UnixMs(1)), Err(Code::HistoryNotKept));
    bench.worker.store().forget_history_before("d", 6);
    assert_eq!(bench.text_at(At::Sequence(3)), Err(Code::HistoryNotKept));
    assert_eq!(bench.text_at(At::Version("early".into())).as_deref(), Ok("0,1,2,"));
    assert_eq!(bench.text_at(At::Sequence(8)).as_deref(), Ok("0,1,2,3,"));
}

#[test]
fn a_past_or_an_end_is_lost_in_memory() {
    let compact = |store: &mut MemoryStore, now| store.compact(now, store_suite::RETENTION_MS);
    store_suite::a_moment_is_lost_or_another(MemoryStore::default(), compact);
    store_suite::a_deleted_document_comes_back(MemoryStore::default(), compact);
}

#[test]
fn a_failing_or_damaged_store_is_taken_for_an_empty_one() {
    let mut bench = Bench::new();
    let ops = vec![bench.type_text("a")];
    bench.worker.store().fail(1);
    let done = bench.snapshot(ops.clone());
    assert!(matches!(done, JobDone::Failed { code: Code::StorageFailed, .. }));
    bench.snapshot(ops);
    assert_eq!(bench.stored, 1);
    bench.worker.store().damage("d");
    let load =
        |bench: &mut Bench, document: &str| bench.worker.handle(Job::Load { document: document.into() });
    let damaged = load(&mut bench, "d");
    assert!(matches!(damaged, JobDone::Failed { code: Code::SnapshotDamaged, .. }), "{damaged:?}");
    assert_eq!(load(&mut bench, "other"), JobDone::Loaded(None));
    let error = StoreError::Failed("why".to_owned());
    assert!(error.to_string().contains("why"));
    let delete = Job::Delete { document: "d".into(), kind: DocumentKind::Yjs, sequence: 2, unix_ms: 9 };
    assert_eq!(bench.worker.handle(delete), JobDone::Deleted);
    let JobDone::Loaded(Some(head)) = load(&mut bench, "d") else { panic!("a tombstone") };
    assert!(head.tombstone.is_some() && head.base == Base::default());
    assert_eq!(bench.text_at(At::Sequence(1)), Err(Code::HistoryNotKept));
}
