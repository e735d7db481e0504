//! From the log back into memory.

use super::*;
use crate::{DocumentStore, RecoveryError};

/// Another run over the same log, with the store of the first.
pub(super) fn recover(rig: &Rig) -> Rig {
    let mut again = Rig::new(rig.kind);
    *again.worker.store() = rig.worker.peek().clone();
    again.machine = StateSync::new(SyncConfig::default(), Placement::single_node(0, 1, 256), INCARNATION + 1);
    for (lsn, record) in (1..).zip(&rig.log.records) {
        let op = record.as_recovered(lsn);
        let store = again.worker.store();
        again.machine.handle_recovered(&op, &mut |id| store.head(id)).unwrap();
    }
    again.machine.finish_recovery(INCARNATION + 1, rig.log.records.len() as u64).unwrap();
    again
}

#[test]
fn a_recovered_document_differs_from_the_live_one() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    for round in 0..200 {
        rig.type_text(1 + round % 2, "word ");
    }
    let mut recovered = recover(&rig);
    assert_eq!(recovered.text_of_a_newcomer(), rig.client(1).text());
    let live: Vec<_> = rig.machine.documents().map(|found| (found.id.to_owned(), found.sequence)).collect();
    let back: Vec<_> =
        recovered.machine.documents().map(|found| (found.id.to_owned(), found.durable_sequence)).collect();
    assert_eq!(live, back);
}

#[test]
fn a_writer_that_comes_back_repeats_what_is_in_the_log() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    let update = rig.client(1).type_text("a");
    rig.op(1, 4, &update);
    let mut recovered = recover(&rig);
    recovered.open(1, Access::Write);
    let resume = Some(ResumePoint { incarnation: INCARNATION, sequence: 1 });
    recovered.join_with(1, "doc", resume, &[]);
    let joined = recovered.client(1).joined().clone();
    assert_eq!((joined.writer_counter, joined.incarnation), (4, INCARNATION + 1));
    assert!(joined.state_bytes > 0, "an older run's place means nothing now");
    recovered.op(1, 4, &update);
    assert_eq!(recovered.client(1).acked.last(), Some(&4));
    assert!(recovered.log.records.is_empty());
}

#[test]
fn an_opaque_log_comes_back_in_another_order() {
    let mut rig = Rig::new(DocumentKind::Opaque);
    rig.open(1, Access::Write);
    rig.join(1);
    for counter in 1..=20 {
        rig.op(1, counter, &[counter as u8]);
    }
    let mut recovered = recover(&rig);
    recovered.open(2, Access::Read);
    recovered.join(2);
    assert_eq!(recovered.client(2).ops, (1..=20).map(|op| (op, vec![op as u8])).collect::<Vec<_>>());
}

#[test]
fn a_log_with_a_hole_or_a_changed_kind_is_served() {
    let op_id = Guuid::new(1, [1; 10]).writer().with_counter(1);
    let record = |kind, sequence| Record {
        document: "d".to_owned(),
        kind,
        sequence,
        op_id,
        payload: b"x".to_vec(),
        is_deletion: false,
    };
    let recovered = |records: [Record; 2]| {
        let mut machine = Rig::new(DocumentKind::Opaque).machine;
        for (lsn, record) in (1..).zip(&records) {
            machine.handle_recovered(&record.as_recovered(lsn), &mut |_| Ok(None)).unwrap();
        }
        machine.finish_recovery(INCARNATION, 2).unwrap_err()
    };
    let hole = recovered([record(DocumentKind::Opaque, 1), record(DocumentKind::Opaque, 3)]);
    assert!(matches!(hole, RecoveryError::Sequence { expected: 2, found: 3, .. }), "{hole}");
    let kind = recovered([record(DocumentKind::Opaque, 1), record(DocumentKind::Yjs, 2)]);
    assert!(matches!(kind, RecoveryError::Kind { .. }), "{kind}");
}

#[test]
fn a_hole_between_store_and_log_is_served() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    for _ in 0..5 {
        rig.type_text(1, "x");
    }
    rig.durable();
    rig.later(40_000);
    assert_eq!(rig.machine.stats().snapshots, 1);
    for _ in 0..2 {
        rig.type_text(1, "y");
    }
    rig.durable();
    let text = recover(&rig).text_of_a_newcomer();
    assert_eq!(text, "xxxxxyy");
    let kept = rig.log.records.clone();
    rig.log.records = kept[3..].to_vec();
    assert_eq!(recover(&rig).text_of_a_newcomer(), text, "what is stored is passed over");
    let record = kept[6].as_recovered(1);
    let mut machine = StateSync::new(SyncConfig::default(), Placement::single_node(0, 1, 256), 9);
    let store = rig.worker.store();
    machine.handle_recovered(&record, &mut |id| store.head(id)).unwrap();
    let hole = machine.finish_recovery(9, 1).unwrap_err();
    assert!(matches!(hole, RecoveryError::Sequence { expected: 6, found: 7, .. }), "{hole}");
    store.fail(1);
    let other = Record { document: "other".to_owned(), ..kept[0].clone() };
    let failed = machine.handle_recovered(&other.as_recovered(1), &mut |id| store.head(id));
    assert!(matches!(failed, Err(RecoveryError::Store(_))));
}

#[test]
fn an_update_in_the_log_that_does_not_decode_stops_the_document() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    let op_id = Guuid::new(1, [1; 10]).writer().with_counter(1);
    let record = Record {
        document: "doc".to_owned(),
        kind: DocumentKind::Yjs,
        sequence: 1,
        op_id,
        payload: b"garbage".to_vec(),
        is_deletion: false,
    };
    rig.machine.handle_recovered(&record.as_recovered(1), &mut |_| Ok(None)).unwrap();
    rig.machine.finish_recovery(INCARNATION + 1, 1).unwrap();
    rig.pump();
    assert_eq!(rig.machine.stats().quarantined, 1);
    assert!(rig.machine.documents().all(|document| document.is_quarantined));
    let mut writer = ModelClient::new(50, Access::Write);
    rig.open(2, Access::Write);
    rig.kind = DocumentKind::Opaque;
    let join = join_yjs();
    rig.send(2, &Client::Join(join));
    assert_eq!(rig.client(2).ops, [(1, b"garbage".to_vec())], "the ops themselves are told");
    rig.op(2, 1, &writer.type_text("a"));
    rig.machine.handle_durable(2);
    rig.pump();
    assert_eq!(rig.client(2).acked, [1], "and new ones are taken");
}

fn join_yjs() -> Join<'static> {
    Join {
        handle: HANDLE,
        kind: DocumentKind::Yjs,
        content: true,
        document: "doc",
        resume: None,
        state_vector: &[],
    }
}

/// A text of client 9, and an item of client 8 that names that text as its parent, which only types can be.
pub(super) const TEXT: [u8; 11] = [1, 1, 9, 0, 4, 1, 1, b't', 1, b'x', 0];
pub(super) const CHILD_OF_TEXT: [u8; 11] = [1, 1, 8, 0, 4, 0, 9, 0, 1, b'y', 0];

#[test]
fn a_fault_of_the_library_takes_the_data_or_the_node_with_it() {
    let mut config = SyncConfig::default();
    config.limits.tail_bytes_max = 100;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.type_text(1, "good");
    rig.durable();
    rig.later(40_000);
    rig.op(1, 2, &TEXT);
    rig.op(1, 3, &CHILD_OF_TEXT);
    rig.durable();
    rig.later(40_000);
    assert_eq!((rig.machine.stats().quarantined, rig.machine.stats().snapshots), (1, 2));
    assert_eq!(rig.client(1).acked.last(), Some(&3));
    assert!(rig.client(1).rejects.is_empty());
    for counter in 4..=20 {
        let update = ModelClient::new(counter, Access::Write).type_text("more");
        rig.op(1, u64::from(counter), &update);
    }
    rig.durable();
    rig.later(40_000);
    rig.open(2, Access::Read);
    rig.kind = DocumentKind::Opaque;
    rig.send(2, &Client::Join(join_yjs()));
    let sequences = |rig: &mut Rig| rig.client(2).ops.iter().map(|op| op.0).collect::<Vec<_>>();
    assert!(rig.client(2).joined().state_bytes > 10, "the last good state");
    assert_eq!(sequences(&mut rig), (2..=20).collect::<Vec<_>>(), "and all ops after it, out of the store");
    rig.close(1);
    rig.close(2);
    rig.later(100_000);
    assert_eq!(rig.machine.stats().documents, 0, "it is unloaded as others are");
    rig.open(2, Access::Read);
    rig.send(2, &Client::Join(join_yjs()));
    assert_eq!(sequences(&mut rig), (2..=20).collect::<Vec<_>>());
    assert!(rig.machine.documents().all(|document| document.is_quarantined));
}

#[test]
fn a_damaged_snapshot_is_served_as_empty_or_takes_others_with_it() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for (key, document) in [(1, "doc"), (2, "other")] {
        rig.open(key, Access::Write);
        rig.join_with(key, document, None, &[]);
        rig.type_text(key, "kept");
    }
    rig.durable();
    rig.machine.handle_log_pressure();
    rig.pump();
    assert_eq!(rig.machine.stats().snapshots, 2);
    rig.worker.store().damage("doc");
    let with_log = recover(&rig);
    // All that the log had is stored, and gone from it.
    rig.log.records.clear();
    for (mut again, is_needed) in [(with_log, true), (recover(&rig), false)] {
        for (key, document) in [(3, "doc"), (4, "other")] {
            again.open(key, Access::Write);
            again.join_with(key, document, None, &[]);
        }
        assert_eq!(again.client(3).errors, [Code::SnapshotDamaged]);
        assert!(again.client(3).joins.is_empty() && again.client(4).errors.is_empty());
        assert_eq!(again.client(4).text(), "kept");
        assert_eq!(again.machine.stats().loads_failed, 1);
        // What only the log has of it stays there.
        assert!(!is_needed || again.machine.poll_log_needed() == Some(1));
    }
}
