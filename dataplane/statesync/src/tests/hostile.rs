//! What no honest client sends.

use proptest::prelude::*;

use super::*;
use wire::limits::SHARED_TYPES_MAX;
use wire::sync::At;
use wire::varint::put_varint;

use crate::STACK_BYTES_MIN;

#[test]
fn a_malformed_message_is_survived_by_its_connection() {
    let mut rig = Rig::new(DocumentKind::Yjs);
    rig.open(1, Access::Write);
    rig.join(1);
    rig.presence(1, 1, 1, b"x");
    rig.send_bytes(1, &[200, 1, 2]);
    assert_eq!(rig.client(1).closed, Some(Code::MalformedMessage));
    let stats = rig.machine.stats();
    assert_eq!((stats.connections, stats.subscriptions, stats.documents), (0, 0, 0));
    rig.send_bytes(1, &[]);
    rig.send_bytes(77, &[1]);
}

/// A message with a sound head and any tail, so that more than the decoder is reached.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let small = 0_u64..4;
    prop_oneof![
        bytes(),
        (1..5_u8, bytes()).prop_map(|(tag, rest)| [vec![tag], rest].concat()),
        (0..3_u32, small, bytes()).prop_map(|(handle, counter, payload)| {
            Client::Op { handle, counter, payload: &payload }.to_vec()
        }),
        (0..3_u32, 0..4_u8, any::<bool>(), any::<bool>(), bytes()).prop_map(
            |(handle, document, yjs, content, vector)| {
                let kind = if yjs { DocumentKind::Yjs } else { DocumentKind::Opaque };
                let document = &["", "a", "b", "c"][usize::from(document)];
                Client::Join(Join { handle, kind, content, document, resume: None, state_vector: &vector })
                    .to_vec()
            }
        ),
        (0..3_u32, 0..4_u64, 0..3_u32, bytes()).prop_map(|(handle, client, clock, state)| {
            let entries = vec![PresenceEntry { client, clock, state: &state }];
            Client::Presence { handle, entries }.to_vec()
        }),
        (0..3_u32).prop_map(|handle| Client::Leave { handle }.to_vec()),
        (0..3_u32, 0..7_u8, 0..9_u64).prop_map(|(handle, what, number)| {
            let request = number as u32;
            let name = &["v", "w", "name"][number as usize % 3];
            match what {
                0 => Client::Delete { handle, request },
                1 | 2 => Client::CreateVersion { handle, request, name },
                3 => Client::ListVersions { handle, request },
                4 => Client::ReadAt { handle, request, at: At::Sequence(number) },
                5 => Client::ReadAt { handle, request, at: At::UnixMs(number) },
                _ => Client::ReadAt { handle, request, at: At::Version(name) },
            }
            .to_vec()
        }),
        // A Yjs update that decodes: one block of one client at any clock, or a deletion.
        (0..3_u32, 1..9_u64, 0..3_u8, 0..5_u8).prop_map(|(handle, counter, client, clock)| {
            let payload = [1, 1, client, clock, 4, 1, 1, b't', 1, b'x', 1, client, 1, clock, 1];
            Client::Op { handle, counter, payload: &payload }.to_vec()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn messages_make_the_machine_panic(
        steps in prop::collection::vec((0..3_u64, message(), 0..12_u8), 1..60),
    ) {
        let mut rig = Rig::new(DocumentKind::Yjs);
        let open = |rig: &mut Rig, key: u64| {
            let access = if key == 0 { Access::Admin } else { Access::Write };
            let session = ModelClient::new(key as u8 + 1, access).session;
            rig.machine.handle_open(SubscriberKey::alone(key), session);
        };
        (0..3).for_each(|key| open(&mut rig, key));
        for (key, bytes, event) in steps {
            let key = SubscriberKey::alone(key);
            rig.machine.handle_message(rig.now, key, Channel::Sync, &bytes, &mut rig.log);
            match event {
                0 => rig.machine.handle_durable(rig.log.records.len() as u64),
                1 => { rig.work(); }
                2 => rig.machine.handle_writable(key),
                3 => { rig.now += wire::Span::from_ms(7); rig.machine.handle_tick(rig.now); }
                4 => open(&mut rig, key.connection),
                5 => { rig.refusing.insert(key.connection); }
                6 => { rig.refusing.remove(&key.connection); rig.machine.handle_writable(key); }
                _ => {}
            }
            while let Some(output) = rig.machine.poll_output() {
                match output {
                    Output::Send { to, message, .. } => {
                        prop_assert!(Server::decode(&message).is_ok());
                        if rig.refusing.contains(&to.connection) {
                            rig.machine.handle_blocked(to);
                        }
                    }
                    Output::Close { to, .. } => {
                        rig.machine.handle_close(rig.now, to);
                        open(&mut rig, to.connection);
                    }
                }
            }
        }
        (0..3).for_each(|key| rig.machine.handle_close(rig.now, SubscriberKey::alone(key)));
        rig.machine.handle_durable(rig.log.records.len() as u64);
        while rig.work() {}
        let stats = rig.machine.stats();
        prop_assert_eq!((stats.connections, stats.subscriptions, stats.requests_waiting), (0, 0, 0));
        prop_assert_eq!((stats.jobs_waiting, rig.machine.answers_bytes), (0, 0));
        for document in rig.machine.documents() {
            prop_assert!(document.sequence > 0, "{:?} holds nothing", document);
        }
    }
}

/// An update that nests `levels` arrays in each other, below the root `a`.
fn nested_arrays(levels: u32) -> Vec<u8> {
    let mut update = vec![1];
    put_varint(&mut update, u64::from(levels));
    update.extend([9, 0]);
    for level in 0..levels {
        // A block that holds a shared type, without neighbours: its parent is named.
        update.push(7);
        if level == 0 {
            update.extend([1, 1, b'a']);
        } else {
            update.extend([0, 9]);
            put_varint(&mut update, u64::from(level - 1));
        }
        update.push(0);
    }
    update.push(0);
    update
}

#[test]
fn a_deep_document_overflows_the_stack_when_its_root_is_deleted() {
    let integrate = || {
        let op = |sequence, payload: Vec<u8>| crate::jobs::HistoryOp {
            sequence,
            op_id: Guuid::NIL,
            unix_ms: 0,
            payload: payload.into(),
        };
        let nested = nested_arrays(SHARED_TYPES_MAX as u32);
        assert_eq!(wire::yjs_scan::scan_update(&nested), Ok(SHARED_TYPES_MAX));
        let ops = [op(1, nested), op(2, vec![0, 1, 9, 1, 0, 1])];
        let merged = crate::materializer::Materializer::new(1 << 30).merge("d", &Default::default(), &ops);
        assert_eq!(merged.unwrap().sequence, 2);
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES_MIN).spawn(integrate).unwrap();
    thread.join().unwrap();
}

#[test]
fn an_op_comes_by_a_channel_that_does_not_keep_the_order() {
    for channel in
        Channel::ALL.into_iter().filter(|channel| !matches!(channel, Channel::Sync | Channel::Presence))
    {
        let mut rig = Rig::new(DocumentKind::Opaque);
        rig.open(1, Access::Write);
        rig.join(1);
        let logged = rig.log.records.len();
        let op = Client::Op { handle: 1, counter: 1, payload: b"op" }.to_vec();
        rig.machine.handle_message(rig.now, SubscriberKey::alone(1), channel, &op, &mut rig.log);
        rig.pump();
        assert_eq!(rig.log.records.len(), logged);
        let closed = (channel != Channel::Probe).then_some(Code::MalformedMessage);
        assert_eq!(rig.client(1).closed, closed, "{channel:?}");
    }
}
