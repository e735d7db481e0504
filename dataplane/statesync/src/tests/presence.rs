//! Who is here.

use super::*;

fn two() -> Rig {
    let mut rig = Rig::new(DocumentKind::Yjs);
    for key in [1, 2] {
        rig.open(key, Access::Presence);
        join_presence(&mut rig, key);
    }
    rig
}

fn join_presence(rig: &mut Rig, key: u8) {
    let join = Join {
        handle: HANDLE,
        kind: DocumentKind::Yjs,
        content: false,
        document: "doc",
        resume: None,
        state_vector: &[],
    };
    rig.send(key, &Client::Join(join));
}

fn here(clock: u32, state: &[u8]) -> Option<(u32, Vec<u8>)> {
    Some((clock, state.to_vec()))
}

#[test]
fn a_burst_is_broadcast_one_by_one_or_late() {
    let mut rig = two();
    rig.presence(1, 11, 1, b"a");
    assert_eq!(rig.client(2).here.get(&11).cloned(), here(1, b"a"), "at once after a pause");
    for clock in 2..10 {
        rig.presence(1, 11, clock, b"b");
    }
    assert_eq!(rig.client(2).here.get(&11).cloned(), here(1, b"a"));
    let due = rig.machine.poll_timeout().unwrap();
    assert_eq!(due, rig.now + SyncConfig::default().presence_tick);
    rig.later(20);
    assert_eq!(rig.client(2).here.get(&11).cloned(), here(9, b"b"));
    assert_eq!((rig.client(2).presence_messages, rig.machine.poll_timeout()), (2, None));
}

#[test]
fn another_session_changes_an_entry() {
    let mut rig = two();
    rig.presence(1, 11, 1, b"a");
    rig.presence(2, 11, 2, b"forged");
    rig.presence(2, 11, 2, b"");
    rig.later(100);
    assert_eq!(rig.client(2).here.get(&11).cloned(), here(1, b"a"));
    assert_eq!(rig.machine.stats().presence_spoofed, 2);
}

#[test]
fn an_older_clock_wins() {
    let mut rig = two();
    rig.presence(1, 11, 5, b"a");
    rig.presence(1, 11, 5, b"b");
    rig.presence(1, 11, 4, b"");
    rig.later(100);
    assert_eq!(rig.client(2).here.get(&11).cloned(), here(5, b"a"));
    rig.presence(1, 11, 5, b"");
    assert!(rig.client(2).here.is_empty(), "gone at the same clock");
}

#[test]
fn a_closed_connection_stays_or_its_return_at_the_same_clock_is_invisible() {
    let mut rig = two();
    rig.presence(1, 11, 5, b"a");
    rig.later(100);
    rig.close(1);
    assert!(rig.client(2).here.is_empty());
    rig.reopen(1, 3);
    join_presence(&mut rig, 3);
    rig.later(100);
    rig.presence(3, 11, 5, b"a");
    assert_eq!(rig.client(2).here.get(&11).cloned(), here(5, b"a"));
}

#[test]
fn a_client_that_is_back_before_its_old_connection_died_is_removed_with_it() {
    let mut rig = two();
    rig.presence(1, 11, 5, b"a");
    rig.reopen(1, 3);
    join_presence(&mut rig, 3);
    rig.presence(3, 11, 5, b"a");
    rig.later(100);
    rig.close(1);
    rig.later(100);
    assert_eq!(rig.client(2).here.get(&11).cloned(), here(5, b"a"));
    assert_eq!(rig.machine.stats().presence_spoofed, 0);
}

#[test]
fn a_joiner_does_not_see_who_is_here() {
    let mut rig = two();
    rig.presence(1, 11, 1, b"a");
    rig.presence(2, 12, 1, b"b");
    rig.open(3, Access::Read);
    rig.join(3);
    assert_eq!(rig.client(3).here.len(), 2);
    rig.send(1, &Client::Leave { handle: HANDLE });
    rig.later(100);
    assert_eq!(rig.client(3).here.keys().copied().collect::<Vec<_>>(), [12]);
}

#[test]
fn presence_takes_memory_without_bound() {
    let mut config = SyncConfig::default();
    config.limits.presence_clients_per_connection_max = 2;
    config.limits.presence_bytes_per_connection_max = 10;
    let mut rig = Rig::with(DocumentKind::Yjs, config);
    rig.open(1, Access::Presence);
    join_presence(&mut rig, 1);
    for client in 1..=3 {
        rig.presence(1, client, 1, b"x");
    }
    rig.presence(1, 1, 2, &[0; 10]);
    assert_eq!(rig.client(1).errors, [Code::LimitReached], "once a second");
    rig.later(2_000);
    rig.presence(1, 1, 2, &[0; 9]);
    rig.presence(1, 2, 2, b"");
    rig.presence(1, 1, 3, &[0; 10]);
    rig.presence(1, 3, 1, b"");
    assert_eq!((rig.client(1).errors.len(), rig.machine.stats().presence_refused), (1, 2));
}

#[test]
fn many_entries_make_a_message_over_the_limit() {
    let mut rig = two();
    let state = [7; 4_000];
    let entries: Vec<_> = (0..60).map(|client| PresenceEntry { client, clock: 1, state: &state }).collect();
    rig.send(1, &Client::Presence { handle: HANDLE, entries });
    assert_eq!(rig.client(2).here.len(), 60);
    assert!(rig.client(2).presence_messages > 3);
}

#[test]
fn presence_brings_content_or_edits() {
    let mut rig = two();
    rig.open(3, Access::Write);
    rig.join(3);
    rig.type_text(3, "secret");
    assert!(rig.client(1).ops.is_empty() && rig.client(1).joined().state_bytes == 0);
    rig.op(1, 1, &[0, 0]);
    assert_eq!(rig.client(1).rejects, [(1, Code::Forbidden)]);
}

#[test]
fn a_tick_costs_an_encoding_for_each_subscriber_or_goes_before_the_answers_to_others() {
    use crate::config::SUBSCRIBERS_FEW;
    let mut rig = Rig::new(DocumentKind::Yjs);
    let count = SUBSCRIBERS_FEW as u8 + 1;
    for key in 0..count {
        rig.open(key, Access::Presence);
        join_presence(&mut rig, key);
        rig.presence(key, u64::from(key), 1, b"here");
        rig.later(100);
    }
    let before = rig.machine.stats().presence_broadcasts;
    for clock in 2..12 {
        for key in 0..count {
            let entries = vec![PresenceEntry { client: u64::from(key), clock, state: b"moves" }];
            let message = Client::Presence { handle: HANDLE, entries }.to_vec();
            let from = SubscriberKey::alone(u64::from(key));
            rig.machine.handle_message(rig.now, from, Channel::Presence, &message, &mut rig.log);
        }
    }
    rig.now += SyncConfig::default().presence_tick;
    rig.machine.handle_tick(rig.now);
    assert_eq!(rig.machine.stats().presence_broadcasts - before, 2, "the first at once, the rest in a tick");
    let mut messages = BTreeSet::new();
    let mut sent = 0;
    while let Some(Output::Send { message, can_wait, .. }) = rig.machine.poll_output() {
        assert!(can_wait);
        messages.insert(message.as_ptr() as usize);
        sent += 1;
    }
    assert_eq!((sent, messages.len()), (2 * usize::from(count), 2));
}
