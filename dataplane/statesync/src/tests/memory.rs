//! Memory that many documents, or subscribers who take nothing, ask for together.

use super::*;

const MEMORY_BYTES: u64 = 200_000;
const OP: [u8; 8_000] = [7; 8_000];

fn rig() -> Rig {
    let mut config = SyncConfig::default();
    config.limits.document_memory_bytes_max = MEMORY_BYTES;
    Rig::with(DocumentKind::Opaque, config)
}

/// Joins until it is let in; how often it was refused.
fn join_patiently(rig: &mut Rig, key: u8, document: &str) -> usize {
    rig.open(key, Access::Write);
    for refused in 0..10 {
        rig.join_with(key, document, None, &[]);
        if !rig.client(key).joins.is_empty() {
            return refused;
        }
        rig.later(20);
    }
    panic!("{document} is never loaded: {:?}", rig.client(key).errors);
}

#[test]
fn idle_documents_take_all_memory_and_nobody_gets_in() {
    let mut rig = rig();
    let mut refused = 0;
    for number in 0..60 {
        refused += join_patiently(&mut rig, number, &format!("doc {number}"));
        rig.op(number, 1, &OP);
        rig.durable();
        assert!(rig.client(number).errors.iter().all(|&code| code == Code::DocumentBusy));
        assert!(rig.machine.stats().document_memory_bytes < MEMORY_BYTES + 20_000);
        rig.close(number);
        rig.later(5);
    }
    let stats = rig.machine.stats();
    assert_eq!((stats.joins_no_memory, stats.joins_refused), (refused as u64, refused as u64));
    assert!(stats.unloads_pressed > 30 && refused < 10, "{refused} refused, {stats:?}");
    join_patiently(&mut rig, 100, "doc 0");
    assert_eq!(rig.client(100).ops, [(1, OP.to_vec())]);
}

#[test]
fn ops_take_more_memory_than_there_is_while_nothing_can_be_stored() {
    let mut rig = rig();
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.is_working = false;
    let mut counter = 0;
    while rig.client(1).rejects.is_empty() {
        counter += 1;
        assert!(counter < 100, "no end");
        rig.op(1, counter, &OP);
        rig.durable();
    }
    assert_eq!(rig.client(1).rejects, [(counter, Code::DocumentBusy)]);
    let stats = rig.machine.stats();
    assert_eq!(stats.ops_no_memory, 1);
    let bytes = stats.document_memory_bytes;
    assert!((MEMORY_BYTES..MEMORY_BYTES * 5 / 4 + 20_000).contains(&bytes), "{bytes} bytes");
    rig.open(3, Access::Write);
    rig.join_with(3, "another", None, &[]);
    assert_eq!(rig.client(3).errors, [Code::DocumentBusy]);
    rig.is_working = true;
    rig.pump();
    assert!(rig.machine.stats().document_memory_bytes < MEMORY_BYTES, "stored, and still kept");
    rig.op(1, counter, &OP);
    rig.durable();
    assert_eq!(rig.client(1).rejects.len(), 1);
    assert_eq!(rig.client(2).ops.len() as u64, counter, "nothing is lost on the way");
}

#[test]
fn a_reader_that_takes_nothing_costs_memory() {
    const OPS: u64 = 4_000;
    let mut config = SyncConfig::default();
    config.limits.tail_bytes_max = 16_000;
    config.limits.snapshot_tail_bytes = 16_000;
    let mut rig = Rig::with(DocumentKind::Opaque, config);
    for key in [1, 2, 3] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.refuse(2);
    for counter in 1..=OPS {
        rig.op(1, counter, &[1; 200]);
        if counter % 10 == 0 {
            rig.durable();
        }
        let stats = rig.machine.stats();
        assert!(stats.document_memory_bytes < 60_000, "{stats:?} after {counter} ops");
        assert_eq!(stats.diff_bytes, 0);
    }
    assert_eq!((rig.client(3).ops.len() as u64, rig.client(2).ops.len()), (OPS, 0));
    rig.writable(2);
    let sequences: Vec<_> = rig.client(2).ops.iter().map(|op| op.0).collect();
    assert_eq!(sequences, (1..=OPS).collect::<Vec<_>>());
    assert_eq!(rig.machine.stats().diff_bytes, 0);
}

#[test]
fn diffs_for_readers_that_do_not_take_them_fill_the_memory() {
    let mut config = SyncConfig::default();
    config.limits.diff_bytes_max = 50_000;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.type_text(1, &"text".repeat(5_000));
    rig.durable();
    // What a client holds that nobody else knows of.
    let vector = [1, 5, 1];
    for key in 2..12 {
        rig.open(key, Access::Read);
        rig.refuse(key);
        rig.join_with(key, "doc", None, &vector);
        assert!(rig.machine.stats().diff_bytes <= 50_000);
    }
    assert_eq!(rig.machine.stats().diffs_shed, 8, "two of 20 kB have room");
    rig.writable(11);
    assert_eq!(rig.client(11).text(), rig.client(1).text());
    rig.writable(2);
    assert_eq!(rig.client(2).errors, [Code::DocumentBusy]);
    rig.join_with(2, "doc", None, &vector);
    assert_eq!(rig.client(2).text(), rig.client(1).text());
    rig.close(10);
    assert_eq!(rig.machine.stats().diff_bytes, 0);
}
