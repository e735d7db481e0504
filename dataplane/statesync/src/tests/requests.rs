//! Versions and the past.

use wire::sync::At;

use super::*;

fn create(request: u32, name: &str) -> Client<'_> {
    Client::CreateVersion { handle: HANDLE, request, name }
}

fn read(request: u32, at: At<'_>) -> Client<'_> {
    Client::ReadAt { handle: HANDLE, request, at }
}

fn rig(kind: DocumentKind) -> Rig {
    let mut rig = Rig::new(kind);
    rig.open(1, Access::Write);
    rig.join(1);
    rig
}

/// The text of a past state that the client was sent.
fn text(client: &ModelClient, request: u32) -> String {
    let past = client.pasts.iter().find(|past| past.0 == request).expect("an answer");
    assert_eq!(past.2, past.3.len() as u64, "all of it");
    let mut reader = ModelClient::new(77, Access::Read);
    reader.apply(&past.3);
    reader.text()
}

#[test]
fn a_past_moment_lacks_what_was_not_stored_when_it_was_asked_for() {
    let mut rig = rig(DocumentKind::Yjs);
    for word in ["a", "b", "c"] {
        rig.type_text(1, word);
    }
    rig.send(1, &create(1, "v1"));
    assert!(rig.client(1).done.is_empty(), "what it names is not durable");
    rig.durable();
    rig.later(50);
    assert_eq!(rig.client(1).done, [(1, 3)]);
    rig.type_text(1, "d");
    rig.durable();
    rig.send(1, &read(2, At::Sequence(4)));
    rig.send(1, &read(3, At::Version("v1")));
    rig.send(1, &read(4, At::Sequence(0)));
    rig.send(1, &Client::ListVersions { handle: HANDLE, request: 5 });
    let client = rig.client(1);
    assert_eq!(
        (text(client, 2), text(client, 3), text(client, 4)),
        ("abcd".into(), "abc".into(), String::new())
    );
    assert_eq!(client.versions, [("v1".to_owned(), 3)]);
    rig.send(1, &create(6, "v1"));
    rig.send(1, &Client::ListVersions { handle: HANDLE, request: 7 });
    assert_eq!(rig.client(1).versions, [("v1".to_owned(), 4)], "a name is moved");
    let stats = rig.machine.stats();
    assert_eq!(
        (stats.requests_waiting, stats.jobs_waiting, stats.past_reads, stats.versions_created),
        (0, 0, 3, 2)
    );
}

#[test]
fn a_request_goes_unanswered_or_is_answered_to_who_may_only_read() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.open(2, Access::Read);
    rig.join(2);
    rig.send(2, &read(1, At::Sequence(0)));
    rig.send(2, &create(2, "v"));
    rig.send(2, &Client::ListVersions { handle: HANDLE, request: 3 });
    assert_eq!(rig.client(2).refused, [1, 2, 3].map(|request| (request, Code::Forbidden, 0)));
    rig.send(1, &read(4, At::Sequence(1)));
    rig.send(1, &read(5, At::Version("none")));
    rig.send(1, &Client::ListVersions { handle: HANDLE + 1, request: 6 });
    let codes: Vec<_> = rig.client(1).refused.iter().map(|&(request, code, _)| (request, code)).collect();
    assert_eq!(codes, [(4, Code::HistoryNotKept), (5, Code::HistoryNotKept), (6, Code::UnknownHandle)]);
}

#[test]
fn a_failing_store_leaves_a_request_waiting() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.type_text(1, "a");
    rig.durable();
    rig.worker.store().fail(1);
    rig.send(1, &create(1, "v"));
    assert!(matches!(rig.client(1).refused[..], [(1, Code::StorageFailed, 1..)]));
    rig.later(10_000);
    rig.worker.store().fail(1);
    rig.send(1, &Client::ListVersions { handle: HANDLE, request: 2 });
    assert!(matches!(rig.client(1).refused[1..], [(2, Code::StorageFailed, 1..)]));
    assert_eq!(rig.machine.stats().requests_waiting, 0);
}

#[test]
fn a_connection_has_requests_without_end_under_way() {
    let mut rig = rig(DocumentKind::Yjs);
    rig.is_working = false;
    for request in 0..20 {
        rig.send(1, &Client::ListVersions { handle: HANDLE, request });
    }
    assert_eq!(rig.client(1).refused.len(), 12);
    assert!(rig.client(1).refused.iter().all(|&(_, code, retry)| code == Code::DocumentBusy && retry > 0));
    assert_eq!(rig.machine.stats().requests_busy, 12);
    let (first, job) = rig.machine.poll_job(rig.now).expect("a job");
    assert!(rig.machine.poll_job(rig.now).is_none(), "one at a time");
    rig.close(1);
    let done = rig.worker.handle(job);
    rig.job_done(first, done);
    while rig.work() {}
    let stats = rig.machine.stats();
    assert_eq!((stats.requests_waiting, stats.jobs_waiting, stats.documents), (0, 0, 0));
}

#[test]
fn a_slow_connection_gets_a_past_state_with_a_hole() {
    let mut rig = rig(DocumentKind::Opaque);
    for counter in 1..=100 {
        rig.op(1, counter, &[counter as u8; 3_000]);
    }
    rig.durable();
    rig.refuse(1);
    rig.send(1, &read(1, At::UnixMs(u64::MAX)));
    assert!(rig.client(1).pasts.is_empty());
    rig.writable(1);
    let past = &rig.client(1).pasts[0];
    assert_eq!((past.1, past.2), (100, past.3.len() as u64));
    assert!(past.3[2..3_002].iter().all(|&byte| byte == 1) && past.3.ends_with(&[100; 3_000]));
    let stats = rig.machine.stats();
    assert_eq!((stats.requests_waiting, rig.machine.answers_bytes), (0, 0));
}

#[test]
fn answers_that_nobody_reads_keep_others_from_the_past() {
    let mut rig = rig(DocumentKind::Opaque);
    rig.open(2, Access::Write);
    rig.join(2);
    rig.op(1, 1, &[1; 3_000]);
    rig.durable();
    rig.refuse(1);
    rig.send(1, &read(1, At::Sequence(1)));
    rig.machine.answers_bytes += crate::config::ANSWERS_BYTES_MAX;
    rig.send(2, &read(1, At::Sequence(1)));
    assert!(matches!(rig.client(2).refused[..], [(1, Code::DocumentBusy, 1..)]));
    rig.machine.answers_bytes -= crate::config::ANSWERS_BYTES_MAX - 1_000;
    rig.later(60_000);
    rig.machine.answers_bytes += crate::config::ANSWERS_BYTES_MAX - 1_000 - 3_002;
    rig.send(2, &read(2, At::Sequence(1)));
    assert_eq!(rig.client(2).pasts.len(), 1);
    rig.writable(1);
    assert_eq!(rig.client(1).refused, [(1, Code::Overloaded, 0)]);
}

#[test]
fn a_closed_handle_is_answered_or_its_request_stays() {
    for is_left in [true, false] {
        let mut rig = rig(DocumentKind::Yjs);
        rig.type_text(1, "a");
        rig.send(1, &create(1, "never"));
        if is_left {
            rig.send(1, &Client::Leave { handle: HANDLE });
        } else {
            rig.join(1);
        }
        rig.durable();
        rig.later(100_000);
        assert!(rig.client(1).done.is_empty());
        rig.later(100_000);
        let stats = rig.machine.stats();
        assert_eq!((stats.requests_waiting, stats.documents), (0, u64::from(!is_left)));
    }
}
