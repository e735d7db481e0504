//! Subscribers that do not keep up.

use super::*;

#[test]
fn a_blocked_subscriber_misses_ops_or_gets_them_twice() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for key in [1, 2, 3] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.type_text(1, "a");
    rig.refuse(2);
    for _ in 0..10 {
        rig.type_text(1, "b");
    }
    rig.type_text(3, "c");
    assert_eq!(rig.client(2).ops.len(), 1);
    assert_eq!(rig.client(3).text(), rig.client(1).text());
    rig.writable(2);
    let sequences: Vec<_> = rig.client(2).ops.iter().map(|op| op.0).collect();
    assert_eq!(sequences, (1..=12).collect::<Vec<_>>());
    rig.type_text(1, "d");
    assert_eq!(rig.client(2).text(), rig.client(1).text());
    assert_eq!((rig.machine.stats().blocked, rig.machine.stats().resyncs), (1, 0));
}

#[test]
fn a_subscriber_that_fell_out_of_the_tail_diverges_or_gets_the_whole_state() {
    let mut config = SyncConfig::default();
    config.limits.tail_bytes_max = 2_000;
    config.limits.snapshot_tail_bytes = 2_000;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.type_text(1, &"before ".repeat(1_000));
    rig.open(3, Access::Read);
    rig.join(3);
    rig.refuse(3);
    for _ in 0..100 {
        rig.type_text(1, &"x".repeat(100));
    }
    rig.durable();
    rig.writable(3);
    assert_eq!(rig.client(3).text(), rig.client(1).text());
    assert!(rig.client(3).joined().state_bytes < 11_000, "one diff from what it had");
    assert_eq!((rig.machine.stats().resyncs, rig.client(3).joins.len()), (1, 2));
    rig.type_text(2, "live");
    assert_eq!(rig.client(3).text(), rig.client(1).text());
}

#[test]
fn an_acknowledgement_is_forgotten_while_its_writer_is_brought_up_to_date() {
    let mut config = SyncConfig::default();
    config.limits.tail_bytes_max = 2_000;
    config.limits.snapshot_tail_bytes = 2_000;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.refuse(2);
    for _ in 0..100 {
        rig.type_text(1, &"x".repeat(100));
    }
    rig.durable();
    rig.is_working = false;
    rig.writable(2);
    rig.type_text(2, "mine");
    rig.refuse(2);
    rig.durable();
    assert!(rig.client(2).acked.is_empty(), "it is blocked");
    rig.is_working = true;
    rig.pump();
    rig.writable(2);
    assert_eq!((rig.machine.stats().resyncs, rig.client(2).joins.len()), (1, 2));
    assert_eq!(rig.client(2).acked.last(), Some(&1));
}

#[test]
fn a_state_larger_than_the_transport_takes_never_arrives() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    for _ in 0..5 {
        rig.type_text(1, &"x".repeat(100_000));
    }
    rig.open(2, Access::Read);
    let key = SubscriberKey::alone(2);
    let join = Join {
        handle: HANDLE,
        kind: DocumentKind::Yjs,
        content: true,
        document: "doc",
        resume: None,
        state_vector: &[],
    };
    let message = Client::Join(join).to_vec();
    rig.machine.handle_message(rig.now, key, Channel::Sync, &message, &mut rig.log);
    while rig.work() {}
    for round in 0..30 {
        // The transport takes one message, then refuses until it is writable again.
        let mut taken = 0;
        while let Some(output) = rig.machine.poll_output() {
            let Output::Send { to, message, .. } = output else { panic!("closed") };
            if to != key {
                continue;
            }
            if taken == 1 {
                rig.machine.handle_blocked(to);
                continue;
            }
            taken += 1;
            rig.client(2).receive(&message, true);
        }
        if round == 3 {
            rig.type_text(1, "late");
        }
        rig.machine.handle_writable(key);
    }
    assert_eq!(rig.client(2).text(), rig.client(1).text());
    assert_eq!(rig.client(2).joins.len(), 1);
}

#[test]
fn refusals_and_acknowledgements_to_a_blocked_client_are_lost() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.refuse(1);
    rig.type_text(1, "a");
    rig.op(1, 2, b"garbage");
    rig.op(1, 3, b"garbage");
    rig.durable();
    rig.type_text(1, "b");
    rig.durable();
    assert!(rig.client(1).rejects.is_empty() && rig.client(1).acked.is_empty());
    rig.writable(1);
    assert_eq!(
        rig.client(1).rejects,
        [(2, Code::UndecodableUpdate), (3, Code::UndecodableUpdate)],
        "in order"
    );
    assert_eq!(rig.client(1).acked, [2]);
}

#[test]
fn a_client_that_asks_and_never_reads_takes_memory() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.refuse(1);
    for counter in 1..=5_000 {
        rig.op(1, counter, b"garbage");
    }
    assert_eq!(rig.client(1).closed, Some(Code::Overloaded));
    assert_eq!((rig.machine.stats().closed_unread, rig.machine.stats().connections), (1, 0));
    assert_eq!(rig.machine.stats().documents, 0);
}

#[test]
fn presence_that_a_blocked_subscriber_missed_stays_wrong() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for key in [1, 2, 3] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.presence(1, 11, 1, b"a");
    rig.later(100);
    rig.refuse(2);
    rig.presence(3, 33, 1, b"c");
    rig.later(100);
    rig.close(1);
    rig.later(100);
    assert!(rig.client(2).here.contains_key(&11));
    rig.writable(2);
    assert_eq!(rig.client(2).here.keys().copied().collect::<Vec<_>>(), [33]);
}

#[test]
fn an_opaque_subscriber_that_was_blocked_sees_a_gap() {
    let mut rig = Rig::new(DocumentKind::Opaque);
    for key in [1, 2] {
        rig.open(key, Access::Write);
        rig.join(key);
    }
    rig.op(1, 1, b"a");
    rig.durable();
    rig.refuse(2);
    for counter in 2..=30 {
        rig.op(1, counter, b"b");
        if counter % 3 == 0 {
            rig.durable();
        }
    }
    rig.op(1, 31, b"not durable");
    rig.writable(2);
    assert_eq!(rig.client(2).ops.iter().map(|op| op.0).collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
    rig.durable();
    assert_eq!(rig.client(2).ops.len(), 31);
}

#[test]
fn an_op_for_many_goes_before_the_acknowledgement_of_its_writer() {
    use crate::config::SUBSCRIBERS_FEW;
    for others in [1, SUBSCRIBERS_FEW as u8] {
        let mut rig = Rig::new(DocumentKind::Yjs);
        for key in 0..=others {
            rig.open(key, Access::Write);
            rig.join(key);
        }
        let update = rig.client(0).type_text("x");
        let message = Client::Op { handle: HANDLE, counter: 1, payload: &update }.to_vec();
        rig.machine.handle_message(rig.now, SubscriberKey::alone(0), Channel::Sync, &message, &mut rig.log);
        let mut ops = 0;
        while let Some(Output::Send { can_wait, .. }) = rig.machine.poll_output() {
            assert_eq!(can_wait, usize::from(others) >= SUBSCRIBERS_FEW);
            ops += 1;
        }
        assert_eq!(ops, others);
        rig.machine.handle_durable(u64::MAX);
        let Some(Output::Send { to, can_wait, .. }) = rig.machine.poll_output() else { panic!("no ack") };
        assert_eq!((to, can_wait), (SubscriberKey::alone(0), false));
    }
}
