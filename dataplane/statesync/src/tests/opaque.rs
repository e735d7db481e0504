//! Documents that are an ordered log of bytes.

use super::*;

#[test]
fn an_op_is_shown_that_a_crash_could_take_back() {
    let mut rig = Rig::new(DocumentKind::Opaque);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    for counter in 1..=5 {
        rig.op(1, counter, &[counter as u8]);
    }
    assert!(rig.client(2).ops.is_empty());
    rig.open(3, Access::Read);
    rig.join(3);
    assert_eq!(rig.client(3).joined().sequence, 0);
    rig.machine.handle_durable(3);
    rig.pump();
    let first: Vec<_> = (1..=3).map(|op| (op, vec![op as u8])).collect();
    assert_eq!(rig.client(2).ops, first);
    assert_eq!(rig.client(3).ops, first);
    assert_eq!(rig.client(1).acked, [3]);
    rig.durable();
    assert_eq!(rig.client(2).ops.len(), 5);
}

#[test]
fn a_joiner_gets_the_ops_out_of_order_or_without_its_own() {
    let mut rig = Rig::new(DocumentKind::Opaque);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    for round in 1..=50 {
        rig.op(1, round, b"a");
        rig.op(2, round, b"b");
    }
    rig.durable();
    rig.send(1, &Client::Leave { handle: HANDLE });
    rig.client(1).ops.clear();
    rig.join(1);
    let sequences: Vec<_> = rig.client(1).ops.iter().map(|op| op.0).collect();
    assert_eq!(sequences, (1..=100).collect::<Vec<_>>());
    assert_eq!((rig.client(1).joined().sequence, rig.client(1).joined().state_bytes), (100, 0));
}

#[test]
fn a_resume_across_runs_sends_everything() {
    let mut rig = Rig::new(DocumentKind::Opaque);
    rig.open(1, Access::Write);
    rig.join(1);
    for counter in 1..=9 {
        rig.op(1, counter, b"a");
    }
    rig.durable();
    rig.open(2, Access::Read);
    rig.join_with(2, "doc", Some(ResumePoint { incarnation: 1, sequence: 6 }), &[]);
    assert_eq!(rig.client(2).ops.iter().map(|op| op.0).collect::<Vec<_>>(), [7, 8, 9]);
}

#[test]
fn a_document_grows_without_bound() {
    let mut config = SyncConfig::default();
    config.limits.document_bytes_max = 100;
    let mut rig = Rig::with(DocumentKind::Opaque, config);
    rig.open(1, Access::Write);
    rig.join(1);
    for counter in 1..=3 {
        rig.op(1, counter, &[0; 40]);
    }
    assert_eq!(rig.client(1).rejects, [(3, Code::DocumentFull)]);
    rig.op(1, 4, &[0; 20]);
    assert_eq!(rig.log.records.len(), 3);
}
