//! Ops and their acknowledgements.

use super::*;

#[test]
fn an_op_is_acknowledged_before_it_is_durable_or_one_by_one() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    for _ in 0..10 {
        rig.type_text(1, "x");
    }
    rig.type_text(2, "y");
    assert_eq!(rig.client(2).ops.len(), 10, "shown at once");
    assert!(rig.client(1).acked.is_empty());
    rig.machine.handle_durable(4);
    rig.pump();
    assert_eq!(rig.client(1).acked, [4]);
    rig.durable();
    assert_eq!(rig.client(1).acked, [4, 10]);
    assert_eq!(rig.client(2).acked, [1]);
    assert_eq!(rig.machine.stats().acks, 3);
    assert_eq!(rig.machine.stats().ops_unacknowledged, 0);
}

#[test]
fn a_repeated_op_is_logged_again_or_never_acknowledged() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    let update = rig.client(1).type_text("a");
    rig.op(1, 3, &update);
    rig.op(1, 3, &update);
    assert!(rig.client(1).acked.is_empty(), "logged is not durable");
    rig.durable();
    rig.op(1, 3, &update);
    assert_eq!(rig.client(1).acked, [3, 3]);
    assert_eq!((rig.log.records.len(), rig.machine.stats().ops_duplicate), (1, 2));
}

#[test]
fn an_op_that_comes_by_the_old_connection_is_acknowledged_where_nobody_hears() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    let [first, second] = ["a", "b"].map(|text| rig.client(1).type_text(text));
    rig.reopen(1, 2);
    rig.join(2);
    // What was under way by the old one comes between, and after, what the new one repeats.
    for (key, counter, update) in [(1, 1, &first), (2, 1, &first), (2, 2, &second), (1, 2, &second)] {
        let op = Client::Op { handle: HANDLE, counter, payload: update }.to_vec();
        rig.send_bytes(key, &op);
    }
    rig.durable();
    assert_eq!(rig.client(2).acked.last(), Some(&2));
    assert_eq!(rig.text_of_a_newcomer(), "ab");
}

#[test]
fn an_op_in_flight_at_a_reconnect_is_never_acknowledged() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.type_text(1, "a");
    rig.durable();
    rig.type_text(1, "b");
    rig.reopen(1, 2);
    rig.join(2);
    let joined = rig.client(2).joined().clone();
    assert_eq!((joined.writer_counter, rig.client(2).acked.last()), (2, Some(&1)));
    rig.durable();
    assert_eq!(rig.client(2).acked.last(), Some(&2));
    rig.close(1);
    assert_eq!(rig.text_of_a_newcomer(), "ab");
}

#[test]
fn an_undecodable_update_is_logged() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    for (counter, payload) in [(1, &b""[..]), (2, b"garbage"), (3, &[0, 0, 0]), (4, &[1, 1])] {
        rig.op(1, counter, payload);
    }
    let rejected: Vec<_> = (1..=4).map(|counter| (counter, Code::UndecodableUpdate)).collect();
    assert_eq!(rig.client(1).rejects, rejected);
    assert!(rig.log.records.is_empty());
    assert_eq!(rig.machine.stats().ops_undecodable, 4);
}

#[test]
fn an_op_without_right_or_over_a_limit_is_logged() {
    let mut config = SyncConfig::default();
    config.limits.op_bytes_max = 1_000;
    config.limits.document_bytes_max = 1_600;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    rig.open(1, Access::Read);
    rig.join(1);
    rig.op(1, 1, &[0, 0]);
    assert_eq!(rig.client(1).rejects, [(1, Code::Forbidden)]);
    rig.open(2, Access::Write);
    rig.op(2, 1, &[0, 0]);
    rig.join(2);
    rig.op(2, 0, &[0, 0]);
    rig.op(2, 1 << 40, &[0, 0]);
    rig.type_text(2, &"x".repeat(1_000));
    assert_eq!(
        rig.client(2).rejects,
        [(1, Code::UnknownHandle), (0, Code::OpCounter), (1 << 40, Code::OpCounter), (1, Code::OpTooLarge)]
    );
    let mut writer = ModelClient::new(50, Access::Write);
    for counter in 2..5 {
        let update = writer.type_text(&"x".repeat(700));
        rig.op(2, counter, &update);
    }
    assert_eq!(
        rig.client(2).rejects.last(),
        Some(&(4, Code::DocumentBusy)),
        "it may shrink when it is merged"
    );
    rig.durable();
    rig.op(2, 4, &[0]);
    let update = writer.type_text(&"x".repeat(700));
    rig.later(100);
    rig.op(2, 4, &update);
    rig.op(2, 4, &update);
    assert_eq!(rig.client(2).rejects.last(), Some(&(4, Code::DocumentFull)), "it did not");
    assert_eq!(rig.log.records.len(), 2);
}

#[test]
fn a_document_is_full_by_the_sum_of_edits_that_it_no_longer_holds() {
    let mut config = SyncConfig::default();
    config.limits.document_bytes_max = 10_000;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    rig.open(1, Access::Write);
    rig.join(1);
    for _ in 0..100 {
        rig.type_text(1, &"x".repeat(500));
        let client = rig.client(1);
        let update = {
            let mut txn = client.doc.transact_mut();
            let field = txn.get_or_insert_text("t");
            field.remove_range(&mut txn, 0, 500);
            txn.encode_update_v1()
        };
        client.counter += 1;
        let counter = client.counter;
        rig.op(1, counter, &update);
        rig.durable();
    }
    assert!(rig.client(1).rejects.is_empty());
    assert_eq!(rig.log.records.len(), 200);
}

#[test]
fn a_full_document_cannot_be_emptied_or_grows_by_deletions() {
    let mut config = SyncConfig::default();
    config.limits.document_bytes_max = 10_000;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.type_text(1, &"x".repeat(9_900));
    rig.durable();
    rig.later(40_000);
    let mut writer = ModelClient::new(50, Access::Write);
    let more = writer.type_text(&"y".repeat(200));
    rig.op(1, 2, &more);
    assert_eq!(rig.client(1).rejects, [(2, Code::DocumentFull)]);
    let empty = |rig: &mut Rig, range: std::ops::Range<u32>| {
        let mut txn = rig.client(1).doc.transact_mut();
        let field = txn.get_or_insert_text("t");
        field.remove_range(&mut txn, range.start, range.len() as u32);
        txn.encode_update_v1()
    };
    let update = empty(&mut rig, 0..5_000);
    for counter in 3..13 {
        // The same again: each takes a little room until it is merged.
        rig.op(1, counter, &update);
    }
    assert_eq!(rig.client(1).rejects.len(), 1, "what takes out is taken");
    rig.durable();
    rig.op(1, 13, &more);
    assert_eq!(
        rig.client(1).rejects.last(),
        Some(&(13, Code::DocumentBusy)),
        "there is room once it is merged"
    );
    rig.op(1, 13, &more);
    assert_eq!((rig.client(1).rejects.len(), rig.machine.stats().ops_document_full), (2, 1));
    // Deletions of what is not there make no room, and are bounded.
    let mut logged = 0;
    for counter in 14..2_000 {
        let client = u64::from(counter as u32);
        let mut unknown = vec![0, 1];
        wire::varint::put_varint(&mut unknown, 1_000 + client);
        unknown.extend([1, 0, 1]);
        rig.op(1, client, &unknown);
        if counter % 50 == 0 {
            rig.durable();
            rig.later(1_000);
        }
        logged = rig.log.records.len();
    }
    assert!(logged < 1_985, "{logged}");
}

#[test]
fn a_document_of_many_small_blocks_grows_without_bound() {
    let mut config = SyncConfig::default();
    config.limits.document_blocks_max = 100;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    rig.open(1, Access::Write);
    rig.join(1);
    for _ in 0..100 {
        rig.type_text(1, "x");
    }
    assert!(rig.client(1).rejects.is_empty());
    rig.type_text(1, "y");
    assert_eq!(rig.client(1).rejects, [(101, Code::DocumentFull)]);
    assert_eq!((rig.machine.stats().ops_over_blocks, rig.machine.stats().ops_document_full), (1, 1));
    // Merged, the hundred are one.
    rig.durable();
    rig.later(40_000);
    let again = ModelClient::new(60, Access::Write).type_text("z");
    rig.op(1, 102, &again);
    assert_eq!((rig.client(1).rejects.len(), rig.log.records.len()), (1, 101));
}

#[test]
fn an_op_that_came_before_a_document_was_unloaded_is_taken_again() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    let update = rig.client(1).type_text("once");
    rig.op(1, 7, &update);
    rig.durable();
    rig.later(40_000);
    rig.close(1);
    rig.later(100_000);
    assert_eq!((rig.machine.stats().documents, rig.machine.stats().unloads), (0, 1));
    rig.open(1, Access::Write);
    rig.join(1);
    assert_eq!(rig.client(1).joined().writer_counter, 7);
    rig.op(1, 7, &update);
    assert_eq!(rig.client(1).acked.last(), Some(&7));
    assert_eq!(rig.log.records.len(), 1);
    assert_eq!(rig.machine.stats().ops_duplicate, 1);
}

#[test]
fn an_op_behind_a_refused_one_overtakes_it_and_the_refused_one_is_lost() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    let updates: Vec<_> = ["a", "b", "c"].iter().map(|text| rig.client(1).type_text(text)).collect();
    rig.log.is_full = true;
    rig.op(1, 1, &updates[0]);
    rig.log.is_full = false;
    rig.op(1, 2, &updates[1]);
    assert_eq!(rig.client(1).rejects, [(1, Code::LogBusy), (2, Code::LogBusy)]);
    for (counter, update) in (1..).zip(&updates) {
        rig.op(1, counter, update);
    }
    rig.durable();
    assert_eq!((rig.log.records.len(), rig.client(1).acked.last()), (3, Some(&3)));
    assert_eq!(rig.text_of_a_newcomer(), "abc");
}

#[test]
fn the_log_runs_ahead_of_the_disk_without_bound() {
    let mut config = SyncConfig::default();
    config.limits.unacknowledged_ops_max = 2;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    rig.open(1, Access::Write);
    rig.join(1);
    for _ in 0..3 {
        rig.type_text(1, "x");
    }
    assert_eq!(rig.client(1).rejects, [(3, Code::LogBusy)]);
    rig.durable();
    assert_eq!(rig.client(1).acked, [2]);
}

#[test]
fn an_empty_update_fills_the_log_or_is_acknowledged_before_its_forerunners() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.op(1, 1, Update::EMPTY_V1);
    assert_eq!(rig.client(1).acked, [1]);
    let update = rig.client(1).type_text("a");
    rig.op(1, 2, &update);
    rig.op(1, 3, Update::EMPTY_V1);
    assert_eq!(rig.client(1).acked, [1]);
    rig.durable();
    assert_eq!(rig.client(1).acked.last(), Some(&3));
    assert_eq!(rig.log.records.len(), 1);
}

#[test]
fn the_bytes_of_a_writer_are_changed_on_their_way() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    let update = rig.client(1).type_text("a");
    rig.op(1, 9, &update);
    assert_eq!(rig.client(2).ops, [(1, update.clone())]);
    let op_id = rig.client(1).session.writer_id.with_counter(9);
    let document = "doc".to_owned();
    let kind = DocumentKind::Yjs;
    let expected = Record { document, kind, sequence: 1, op_id, payload: update, is_deletion: false };
    assert_eq!(rig.log.records, [expected]);
}

#[test]
fn updates_that_wait_for_others_pile_up() {
    let mut config = SyncConfig::default();
    config.limits.pending_bytes_max = 2_000;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    rig.open(1, Access::Write);
    rig.join(1);
    let mut writer = ModelClient::new(50, Access::Write);
    let first = writer.type_text("first ");
    for counter in 1..=20 {
        let update = writer.type_text(&"x".repeat(500));
        rig.op(1, counter, &update);
    }
    assert!(rig.log.records.len() < 10);
    assert_eq!(rig.client(1).rejects.last(), Some(&(20, Code::DocumentFull)));
    let stats = rig.machine.stats();
    assert!(stats.ops_over_pending > 10 && stats.ops_over_pending == stats.ops_document_full);
    rig.op(1, 21, &first);
    let held = rig.log.records.len() - 1;
    assert_eq!(rig.text_of_a_newcomer().len(), "first ".len() + held * 500);
}
