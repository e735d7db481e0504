//! Opening documents.

use super::*;

#[test]
fn a_joiner_misses_what_was_there_or_what_comes() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.type_text(1, "one ");
    rig.type_text(2, "two ");
    assert_eq!(rig.client(1).text(), "one two ");
    rig.open(3, Access::Read);
    rig.join(3);
    assert_eq!(rig.client(3).text(), "one two ");
    rig.type_text(1, "three");
    for key in [1, 2, 3] {
        assert_eq!(rig.client(key).text(), "one two three");
    }
    let joined = rig.client(3).joined();
    let (first, last) = (joined.state_sequence + 1, joined.sequence);
    assert_eq!(last, 2, "what was there when it joined");
    let sequences: Vec<_> = rig.client(3).ops.iter().map(|op| op.0).collect();
    assert_eq!(sequences, (first..=3).collect::<Vec<_>>(), "state, then the tail");
    assert_eq!(rig.client(1).ops.len(), 1, "its own ops are not sent back");
}

#[test]
fn a_joiner_with_a_state_vector_is_sent_what_it_has() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.type_text(1, &"long ".repeat(1_000));
    let vector = rig.client(2).vector();
    rig.close(2);
    rig.type_text(1, "end");
    rig.reopen(2, 3);
    rig.join_with(3, "doc", None, &vector);
    assert!(rig.client(3).joined().state_bytes < 100);
    assert_eq!(rig.client(3).text(), rig.client(1).text());
}

#[test]
fn edits_made_offline_are_lost() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.open(2, Access::Write);
    rig.client(1).type_text("offline ");
    rig.join(1);
    let held = StateVector::decode_v1(&rig.client(1).joined().state_vector).unwrap();
    let diff = rig.client(1).doc.transact().encode_diff_v1(&held);
    rig.op(1, 1, &diff);
    rig.join(2);
    assert_eq!(rig.client(2).text(), "offline ");
}

#[test]
fn a_resumed_client_is_sent_the_whole_state_or_its_own_ops() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.type_text(1, "a");
    rig.type_text(2, "b");
    rig.close(2);
    rig.type_text(1, "c");
    rig.reopen(2, 3);
    let resume = Some(ResumePoint { incarnation: INCARNATION, sequence: 1 });
    rig.join_with(3, "doc", resume, &[]);
    let joined = rig.client(3).joined().clone();
    assert_eq!((joined.state_bytes, joined.sequence, joined.writer_counter), (0, 3, 1));
    assert_eq!(rig.client(3).ops.iter().map(|op| op.0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(rig.client(3).text(), "abc");
    assert_eq!(rig.machine.stats().resumes, 1);
}

#[test]
fn a_resume_announces_an_op_that_is_not_sent() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.type_text(1, "a");
    rig.type_text(1, "b");
    rig.close(1);
    rig.reopen(1, 2);
    rig.join_with(2, "doc", Some(ResumePoint { incarnation: INCARNATION, sequence: 0 }), &[]);
    assert_eq!((rig.client(2).joined().sequence, rig.client(2).ops.len()), (0, 0));
}

#[test]
fn a_resume_from_another_run_is_believed() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.type_text(1, "a");
    for (incarnation, sequence) in [(INCARNATION - 1, 1), (INCARNATION, 2)] {
        rig.open(2, Access::Read);
        rig.join_with(2, "doc", Some(ResumePoint { incarnation, sequence }), &[]);
        assert!(rig.client(2).joined().state_bytes > 0);
        assert_eq!(rig.client(2).text(), "a");
    }
}

#[test]
fn a_late_joiner_is_sent_every_op_since_the_first() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    for _ in 0..100 {
        rig.type_text(1, "x");
    }
    rig.durable();
    rig.later(40_000);
    rig.open(2, Access::Read);
    rig.join(2);
    assert_eq!(rig.client(2).ops.len(), 0, "one state says it all");
    assert_eq!(rig.client(2).text(), rig.client(1).text());
}

#[test]
fn a_large_state_is_sent_in_one_piece() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    for _ in 0..5 {
        rig.type_text(1, &"x".repeat(100_000));
    }
    assert_eq!(rig.text_of_a_newcomer().len(), 500_000);
}

#[test]
fn a_join_without_right_or_sense_opens_something() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Presence);
    rig.join(1);
    assert_eq!(rig.client(1).errors, [Code::Forbidden]);
    rig.open(2, Access::Read);
    rig.join_with(2, "", None, &[]);
    rig.join_with(2, "doc", None, &[9, 9]);
    assert_eq!(rig.client(2).errors, [Code::DocumentId, Code::StateVector]);
    assert_eq!(rig.machine.stats().documents, 0, "a refused join leaves nothing behind");
    rig.join(2);
    rig.join_with(2, "other", None, &[]);
    let second = Join {
        handle: HANDLE + 1,
        kind: DocumentKind::Yjs,
        content: true,
        document: "doc",
        resume: None,
        state_vector: &[],
    };
    rig.send(2, &Client::Join(second));
    rig.send(2, &Client::Leave { handle: 77 });
    assert_eq!(rig.client(2).errors[2..], [Code::UnknownHandle; 3]);
    rig.kind = DocumentKind::Opaque;
    rig.open(3, Access::Read);
    rig.join(3);
    assert_eq!(rig.client(3).errors, [Code::KindMismatch]);
}

#[test]
fn a_left_document_stays_in_memory_or_keeps_talking() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Read);
    rig.join(1);
    rig.send(1, &Client::Leave { handle: HANDLE });
    assert_eq!(rig.machine.stats().documents, 0);
    rig.open(2, Access::Write);
    rig.join(1);
    rig.join(2);
    rig.send(1, &Client::Leave { handle: HANDLE });
    rig.type_text(2, "a");
    assert!(rig.client(1).ops.is_empty());
    rig.close(2);
    assert_eq!((rig.machine.stats().documents, rig.machine.stats().subscriptions), (1, 0));
}

#[test]
fn a_document_of_another_shard_is_served() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.type_text(1, "a");
    let shard = 1 - wire::partition_of("doc", 256) % 2;
    rig.machine.set_placement(Placement::single_node(shard, 2, 256));
    rig.pump();
    assert_eq!(rig.client(1).moved, [(1, 1 - shard, String::new())]);
    rig.op(1, 2, &[0, 0]);
    assert_eq!(rig.client(1).rejects, [(2, Code::UnknownHandle)]);
    rig.join(1);
    assert_eq!(rig.client(1).moved.len(), 2);
}

#[test]
fn limits_of_joins_subscribers_and_documents_are_not_held() {
    let mut config = SyncConfig::default();
    config.limits.documents_max = 2;
    config.limits.subscribers_per_document_max = 2;
    config.limits.joins_per_connection_max = 1;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    for key in 1..=3 {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    assert_eq!(rig.client(3).errors, [Code::LimitReached]);
    rig.join_with(3, "second", None, &[]);
    assert_eq!(rig.client(3).joins.len(), 1);
    rig.open(4, Access::Write);
    rig.join_with(4, "third", None, &[]);
    assert_eq!(rig.client(4).errors, [Code::LimitReached]);
    let join = Join {
        handle: 9,
        kind: DocumentKind::Yjs,
        content: true,
        document: "second",
        resume: None,
        state_vector: &[],
    };
    rig.send(1, &Client::Join(join));
    assert_eq!(rig.client(1).errors, [Code::LimitReached]);
}

#[test]
fn who_comes_later_still_reads_each_keystroke() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    for _ in 0..300 {
        rig.type_text(1, "a");
    }
    rig.durable();
    let keys = [2, 3];
    for key in keys {
        rig.open(key, Access::Read);
        rig.join(key);
        assert_eq!(rig.client(key).text().len(), 300);
    }
    let [first, second] = keys.map(|key| rig.client(key).ops.len());
    assert_eq!((first, second), (300, 0), "the first to come has it merged");
}

#[test]
fn edits_wait_until_all_who_join_have_the_state() {
    const BUDGET: usize = 128 << 10;
    let mut config = SyncConfig::default();
    config.limits.catch_up_bytes_per_tick = BUDGET;
    let mut rig = Rig::with(DocumentKind::Opaque, config);
    for key in 1..=2 {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    let ops = (1..=100).map(|counter| (counter, [7; 1_000]));
    for (counter, payload) in ops {
        rig.op(1, counter, &payload);
    }
    rig.durable();
    let handed_out = |rig: &mut Rig| -> usize {
        (10..30).map(|key| rig.client(key).ops.iter().map(|(_, op)| op.len()).sum::<usize>()).sum()
    };
    for key in 10..30 {
        rig.open(key, Access::Read);
        let join = Join {
            handle: HANDLE,
            kind: DocumentKind::Opaque,
            content: true,
            document: "doc",
            resume: None,
            state_vector: &[],
        };
        let key = SubscriberKey::alone(u64::from(key));
        let message = Client::Join(join).to_vec();
        rig.machine.handle_message(rig.now, key, Channel::Sync, &message, &mut rig.log);
    }
    rig.machine.handle_tick(rig.now);
    rig.pump_turn();
    assert!((BUDGET / 2..=BUDGET).contains(&handed_out(&mut rig)), "{}", handed_out(&mut rig));
    assert_eq!(rig.machine.poll_timeout(), Some(rig.now), "the rest is due at once");
    assert!(rig.machine.stats().catch_ups_deferred > 0);

    // Nothing is left for those who are behind: who is not gets the edit all the same.
    let before = handed_out(&mut rig);
    let edit = Client::Op { handle: HANDLE, counter: 101, payload: b"edit" }.to_vec();
    rig.machine.handle_message(rig.now, SubscriberKey::alone(1), Channel::Sync, &edit, &mut rig.log);
    rig.machine.handle_durable(rig.log.records.len() as u64);
    rig.pump_turn();
    assert_eq!(rig.client(2).ops.last(), Some(&(101, b"edit".to_vec())));
    assert_eq!(handed_out(&mut rig), before);

    rig.pump();
    for key in 10..30 {
        assert_eq!(rig.client(key).ops.len(), 101, "reader {key}");
    }
}
