//! From the log back into memory.

use super::*;
use crate::RecoveryError;

fn recover(records: &[Record], kind: DocumentKind) -> Rig {
    let mut rig = Rig::new(kind);
    rig.machine = StateSync::new(SyncConfig::default(), Placement::single_node(0, 1, 256), INCARNATION + 1);
    for record in records {
        rig.machine
            .handle_recovered(&record.document, record.kind, record.sequence, record.op_id, &record.payload)
            .unwrap();
    }
    rig.machine.finish_recovery(INCARNATION + 1);
    rig
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
    let mut recovered = recover(&rig.log.records, DocumentKind::Yjs);
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
    let mut recovered = recover(&rig.log.records, DocumentKind::Yjs);
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
    let mut recovered = recover(&rig.log.records, DocumentKind::Opaque);
    recovered.open(2, Access::Read);
    recovered.join(2);
    assert_eq!(recovered.client(2).ops, (1..=20).map(|op| (op, vec![op as u8])).collect::<Vec<_>>());
}

#[test]
fn a_log_with_a_hole_or_a_changed_kind_is_served() {
    let mut rig = Rig::new(DocumentKind::Opaque);
    let id = Guuid::new(1, [1; 10]).writer().with_counter(1);
    let machine = &mut rig.machine;
    machine.handle_recovered("d", DocumentKind::Opaque, 1, id, b"x").unwrap();
    let hole = machine.handle_recovered("d", DocumentKind::Opaque, 3, id, b"x").unwrap_err();
    assert!(matches!(hole, RecoveryError::Sequence { expected: 2, found: 3, .. }), "{hole}");
    let kind = machine.handle_recovered("d", DocumentKind::Yjs, 2, id, b"x").unwrap_err();
    assert!(matches!(kind, RecoveryError::Kind { .. }), "{kind}");
}

#[test]
fn an_undecodable_update_in_the_log_stops_the_document() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    let id = Guuid::new(1, [1; 10]).writer().with_counter(1);
    rig.machine.handle_recovered("doc", DocumentKind::Yjs, 1, id, b"garbage").unwrap();
    rig.machine.finish_recovery(INCARNATION + 1);
    assert_eq!(rig.machine.stats().quarantined, 1);
    assert!(rig.machine.documents().all(|document| document.is_quarantined));
    let mut writer = ModelClient::new(50, Access::Write);
    rig.open(1, Access::Write);
    let join = Join {
        handle: HANDLE,
        kind: DocumentKind::Yjs,
        content: false,
        document: "doc",
        resume: None,
        state_vector: &[],
    };
    rig.send(1, &Client::Join(join));
    rig.open(2, Access::Write);
    rig.kind = DocumentKind::Opaque;
    let join = Join {
        handle: HANDLE,
        kind: DocumentKind::Yjs,
        content: true,
        document: "doc",
        resume: None,
        state_vector: &[],
    };
    rig.send(2, &Client::Join(join));
    assert_eq!(rig.client(2).ops, [(1, b"garbage".to_vec())], "the ops themselves are told");
    rig.op(2, 1, &writer.type_text("a"));
    rig.durable();
    assert_eq!(rig.client(2).acked, [1], "and new ones are taken");
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
    rig.op(1, 1, &TEXT);
    rig.op(1, 2, &CHILD_OF_TEXT);
    rig.machine.run_background(100);
    assert_eq!(rig.machine.stats().quarantined, 1);
    rig.durable();
    assert_eq!(rig.client(1).acked.last(), Some(&2));
    assert!(rig.client(1).rejects.is_empty());
    rig.open(2, Access::Read);
    let join = Join {
        handle: HANDLE,
        kind: DocumentKind::Yjs,
        content: true,
        document: "doc",
        resume: None,
        state_vector: &[],
    };
    rig.kind = DocumentKind::Opaque;
    rig.send(2, &Client::Join(join.clone()));
    assert_eq!(rig.client(2).ops, [(1, TEXT.to_vec()), (2, CHILD_OF_TEXT.to_vec())]);
    for counter in 3..=20 {
        let update = ModelClient::new(counter, Access::Write).type_text("more");
        rig.op(1, u64::from(counter), &update);
    }
    assert_eq!(rig.client(2).ops.len(), 20, "its subscribers are served on");
    rig.open(3, Access::Read);
    rig.send(3, &Client::Join(join));
    assert_eq!(rig.client(3).errors, [Code::Quarantined], "a part of the document is not shown as the whole");
    assert_eq!(rig.log.records.len(), 20);
}
