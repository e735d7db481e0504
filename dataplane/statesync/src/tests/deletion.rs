//! The end of a document.

use super::recovery::recover;
use super::*;
use crate::DocumentStore;

const DELETE: Client<'static> = Client::Delete { handle: HANDLE, request: 1 };

/// An administrator and a writer in one document of three ops, durable.
fn rig(kind: DocumentKind) -> Rig {
    let mut rig = Rig::new(kind);
    rig.open(1, Access::Admin);
    rig.open(2, Access::Write);
    rig.join(1);
    rig.join(2);
    for counter in 1..=3 {
        let update = rig.client(2).type_text("x");
        rig.op(2, counter, &update);
    }
    rig.client(2).counter = 3;
    rig.durable();
    rig
}

#[test]
fn a_writer_deletes_or_a_deletion_is_believed_before_it_is_durable() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.send(2, &DELETE);
    assert_eq!(rig.client(2).refused, [(1, Code::Forbidden, 0)]);
    rig.send(1, &DELETE);
    assert_eq!(rig.log.records.last().map(|record| (record.sequence, record.is_deletion)), Some((4, true)));
    assert!(rig.client(1).done.is_empty() && rig.client(2).errors.is_empty());
    assert!(rig.worker.store().head("doc").unwrap().is_none(), "the log comes first");
    rig.later(120_000);
    assert!(rig.worker.store().head("doc").unwrap().is_none(), "however long that takes");
    rig.durable();
    assert_eq!(rig.client(1).done, [(1, 4)]);
    for key in [1, 2] {
        assert_eq!(rig.client(key).errors, [Code::DocumentDeleted], "client {key}");
    }
    assert!(rig.worker.store().head("doc").unwrap().unwrap().tombstone.is_some());
    let stats = rig.machine.stats();
    assert_eq!((stats.documents, stats.documents_deleted, stats.subscriptions), (0, 1, 0));
    assert_eq!((stats.requests_waiting, stats.jobs_waiting), (0, 0));
    assert_eq!(rig.machine.poll_log_needed(), Some(5), "the log need not keep it");
}

#[test]
fn a_deleted_document_is_joined_or_written_to() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.send(1, &DELETE);
    rig.op(2, 4, b"\x01");
    assert_eq!(rig.client(2).rejects, [(4, Code::DocumentDeleted)]);
    rig.open(3, Access::Read);
    rig.join(3);
    rig.durable();
    rig.join(3);
    assert_eq!(rig.client(3).errors, [Code::DocumentDeleted; 2]);
    rig.op(2, 5, b"\x01");
    assert_eq!(rig.client(2).rejects.last(), Some(&(5, Code::UnknownHandle)));
    assert_eq!(rig.machine.stats().documents, 0, "who asks in vain makes nothing");
    rig.worker.store().forget("doc");
    rig.join(3);
    assert_eq!((rig.client(3).joined().sequence, rig.client(3).text().as_str()), (0, ""), "it is a new one");
}

#[test]
fn ops_before_the_end_are_not_acknowledged() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.type_text(2, "last");
    rig.send(1, &DELETE);
    rig.durable();
    assert_eq!(rig.client(2).acked.last(), Some(&4));
    assert_eq!(rig.client(1).done, [(1, 5)]);
}

#[test]
fn a_deletion_that_is_in_the_log_alone_is_forgotten() {
    for kind in [DocumentKind::Yjs, DocumentKind::Opaque] {
        let mut first = rig(kind);
        first.is_working = false;
        first.send(1, &DELETE);
        let mut again = recover(&first);
        again.pump();
        assert!(again.worker.store().head("doc").unwrap().unwrap().tombstone.is_some());
        again.open(3, Access::Write);
        again.join(3);
        assert_eq!(again.client(3).errors, [Code::DocumentDeleted]);
        let once_more = recover(&again);
        assert_eq!(once_more.machine.stats().documents, 0);
    }
}

#[test]
fn a_document_made_anew_is_mixed_with_the_one_before() {
    for (is_stored, is_cut) in [(false, false), (true, false), (true, true), (false, true)] {
        let mut first = rig(DocumentKind::Yjs);
        first.send(1, &DELETE);
        first.durable();
        first.worker.store().forget("doc");
        first.open(5, Access::Write);
        first.join(5);
        first.type_text(5, "new ");
        first.durable();
        if is_stored {
            first.later(40_000);
            assert_eq!(first.worker.store().head("doc").unwrap().map(|head| head.sequence), Some(1));
        }
        first.type_text(5, "life");
        first.durable();
        if is_cut {
            // The log was trimmed within the life before.
            first.log.records.drain(..1);
        }
        let mut again = recover(&first);
        assert_eq!(again.text_of_a_newcomer(), "new life", "stored {is_stored}, cut {is_cut}");
        assert_eq!(again.machine.documents().next().map(|found| found.sequence), Some(2));
    }
}

#[test]
fn a_full_log_or_a_failing_store_forgets_a_deletion() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.log.is_full = true;
    rig.send(1, &DELETE);
    assert!(matches!(rig.client(1).refused[..], [(1, Code::LogBusy, 1..)]));
    rig.log.is_full = false;
    rig.worker.store().fail(1);
    rig.send(1, &DELETE);
    rig.send(1, &DELETE);
    assert_eq!(rig.log.records.len(), 4, "a document ends once");
    rig.durable();
    assert_eq!(rig.client(1).done, [(1, 4), (1, 4)]);
    assert!(rig.worker.store().head("doc").unwrap().is_none());
    assert_eq!(rig.machine.poll_log_needed(), Some(1), "the log is all that has it");
    rig.later(10_000);
    assert!(rig.worker.store().head("doc").unwrap().unwrap().tombstone.is_some());
}

#[test]
fn a_job_under_way_brings_a_deleted_document_back() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.is_working = false;
    rig.later(40_000);
    let (snapshot, job) = rig.machine.poll_job(rig.now).expect("a snapshot");
    rig.send(1, &Client::ReadAt { handle: HANDLE, request: 7, at: wire::sync::At::Sequence(2) });
    rig.send(1, &Client::ListVersions { handle: HANDLE, request: 8 });
    rig.send(1, &DELETE);
    rig.durable();
    assert_eq!(rig.client(1).refused, [(7, Code::DocumentDeleted, 0), (8, Code::DocumentDeleted, 0)]);
    let done = rig.worker.handle(job);
    rig.job_done(snapshot, done);
    rig.is_working = true;
    rig.pump();
    assert!(rig.worker.store().head("doc").unwrap().unwrap().tombstone.is_some());
    let stats = rig.machine.stats();
    assert_eq!((stats.documents, stats.jobs_waiting, stats.requests_waiting), (0, 0, 0));
}

#[test]
fn a_damaged_document_cannot_be_deleted_or_is_shown() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.later(40_000);
    rig.close(1);
    rig.close(2);
    rig.later(100_000);
    assert_eq!(rig.machine.stats().documents, 0);
    rig.worker.store().damage("doc");
    let presence = |handle| {
        let kind = DocumentKind::Yjs;
        Client::Join(Join { handle, kind, content: false, document: "doc", resume: None, state_vector: &[] })
    };
    rig.open(2, Access::Write);
    rig.join(2);
    rig.send(2, &presence(HANDLE));
    assert_eq!(rig.client(2).errors, [Code::SnapshotDamaged; 2]);
    assert_eq!(rig.machine.stats().documents, 0);
    rig.open(1, Access::Admin);
    rig.join(1);
    assert_eq!(rig.client(1).errors, [Code::SnapshotDamaged]);
    rig.send(1, &presence(HANDLE));
    rig.send(1, &Client::ReadAt { handle: HANDLE, request: 2, at: wire::sync::At::Sequence(1) });
    rig.op(1, 1, &[0, 0]);
    rig.send(1, &DELETE);
    rig.durable();
    let client = rig.client(1);
    assert_eq!((&client.done[..], &client.rejects[..]), (&[(1, 1)][..], &[(1, Code::Forbidden)][..]));
    assert_eq!(client.refused, [(2, Code::SnapshotDamaged, 0)]);
    assert!(rig.worker.store().head("doc").unwrap().unwrap().tombstone.is_some());
    let again = recover(&rig);
    assert_eq!((rig.machine.stats().documents, again.machine.stats().documents), (0, 0));
}

#[test]
fn a_subscriber_that_cannot_be_told_now_is_never_told() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.refuse(2);
    rig.type_text(1, "unread");
    rig.client(1).counter = 9;
    rig.send(1, &DELETE);
    rig.durable();
    assert!(rig.client(2).errors.is_empty());
    rig.writable(2);
    assert_eq!(rig.client(2).errors, [Code::DocumentDeleted]);
}
