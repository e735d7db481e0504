//! What must hold of forwarded documents, whatever blocks and closes.

use proptest::prelude::*;
use wire::limits::STATE_CHUNK_BYTES;
use wire::sync::{At, Client};
use wire::{Access, Code};

use super::world::{World, document_of};
use crate::Command;
use crate::lanes::SUBSCRIBER_WINDOW_BYTES;
use crate::lanes::origin::number_of;

#[test]
fn a_document_of_a_sibling_is_not_served_or_its_client_not_told() {
    let mut world = World::new();
    let document = document_of(1);
    let (near, far) = (world.connect(1, Access::Write), world.connect(0, Access::Write));
    for client in [near, far] {
        world.join(client, &document);
    }
    // An op that comes before its document is loaded would have to be sent again.
    (0..10).for_each(|_| world.turn(usize::MAX));
    for client in [near, far] {
        world.write(client, 40);
    }
    (0..30).for_each(|_| world.turn(usize::MAX));
    let [near, far] = [near, far].map(|client| &world.clients[client].seen);
    assert_eq!((near.joined, near.acked, near.ops.len()), (1, 1, 1), "{near:?}");
    assert_eq!((far.joined, far.acked, far.ops.len()), (1, 1, 1), "{far:?}");
    assert_eq!((&near.advice, &far.advice), (&vec![], &vec![1]), "told once, and only who is here");
    assert_eq!(world.figure(0, "ops_logged"), 0);
    assert_eq!((world.figure(1, "ops_logged"), world.figure(0, "messages_forwarded")), (2, 2));
}

#[test]
fn a_refused_or_left_handle_is_still_passed_on() {
    let mut world = World::new();
    let reader = world.connect(0, Access::Presence);
    world.join(reader, &document_of(1));
    (0..10).for_each(|_| world.turn(usize::MAX));
    assert_eq!(
        world.clients[reader].seen.errors,
        [Code::Forbidden],
        "by the owner, whom the grants have reached"
    );
    // The handle is free for a document of this shard.
    world.join(reader, &document_of(0));
    (0..10).for_each(|_| world.turn(usize::MAX));
    assert_eq!(world.clients[reader].seen.errors, [Code::Forbidden; 2]);
    assert_eq!(world.figure(0, "messages_forwarded"), 1);

    let writer = world.connect(0, Access::Write);
    world.join(writer, &document_of(1));
    world.say(writer, &Client::Leave { handle: 5 });
    world.write(writer, 10);
    (0..10).for_each(|_| world.turn(usize::MAX));
    assert_eq!((world.figure(1, "subscriptions"), world.figure(0, "messages_forwarded")), (0, 3));
}

#[test]
fn a_closed_or_revoked_connection_stays_open_at_the_owner() {
    let mut world = World::new();
    let clients = [world.connect(0, Access::Write), world.connect(0, Access::Write)];
    clients.iter().for_each(|&client| world.join(client, &document_of(1)));
    (0..10).for_each(|_| world.turn(usize::MAX));
    assert_eq!((world.figure(1, "connections_remote"), world.figure(1, "subscriptions")), (2, 2));
    let now = world.now;
    let revoked = wire::Guuid::new(1, [1; 10]);
    world.shards[0].handle_command(now, Command::RevokeSession(revoked));
    world.clients[clients[1]].connection.close(now.mono, Code::Done as u16, "");
    (0..10).for_each(|_| world.turn(usize::MAX));
    assert_eq!((world.figure(1, "connections_remote"), world.figure(1, "subscriptions")), (0, 0));
    assert_eq!(world.figure(0, "connections_forwarding"), 0);
}

#[test]
fn the_past_of_a_siblings_document_is_cut_or_its_end_not_told() {
    let mut world = World::with_send_buffer(2 * STATE_CHUNK_BYTES);
    let (far, near) = (world.connect(0, Access::Admin), world.connect(1, Access::Write));
    for client in [far, near] {
        world.join(client, &document_of(1));
    }
    (0..10).for_each(|_| world.turn(usize::MAX));
    // More than a subscriber's window.
    for _ in 0..100 {
        world.write(far, 5_000);
        (0..3).for_each(|_| world.turn(usize::MAX));
    }
    let written = world.clients[far].said;
    let at = At::Sequence(written);
    assert!(world.say(far, &Client::ReadAt { handle: 5, request: 1, at }));
    (0..400).for_each(|_| world.turn(2));
    let bytes = written * 5_002;
    assert!(bytes > SUBSCRIBER_WINDOW_BYTES as u64);
    assert_eq!(world.clients[far].seen.past_bytes, (bytes, bytes));
    assert!(world.say(far, &Client::Delete { handle: 5, request: 2 }));
    (0..10).for_each(|_| world.turn(usize::MAX));
    assert_eq!(world.clients[far].seen.done, [2]);
    for client in [far, near] {
        assert_eq!(world.clients[client].seen.errors, [Code::DocumentDeleted]);
    }
    // The handle is nobody's any more.
    let forwarded = world.figure(0, "messages_forwarded");
    world.say(far, &Client::ListVersions { handle: 5, request: 3 });
    (0..10).for_each(|_| world.turn(usize::MAX));
    assert_eq!((world.figure(0, "messages_forwarded"), world.figure(1, "documents")), (forwarded, 0));
}

#[test]
fn a_message_that_breaks_the_format_is_passed_on_without_an_end() {
    let mut world = World::new();
    let client = world.connect(0, Access::Write);
    world.join(client, &document_of(1));
    (0..10).for_each(|_| world.turn(usize::MAX));
    // An op under the forwarded handle, cut off in its counter.
    let cut = bytes::Bytes::from_static(&[3, 5, 0x80]);
    world.clients[client].connection.send(wire::sync::Channel::Sync, cut).unwrap();
    (0..10).for_each(|_| world.turn(usize::MAX));
    let events = std::iter::from_fn(|| world.clients[client].connection.poll_event());
    let closed = events.filter_map(|event| match event {
        quantum::Event::Closed(reason) => Some(reason.code),
        _ => None,
    });
    assert_eq!(closed.collect::<Vec<_>>(), [Code::MalformedMessage as u16]);
    assert_eq!(world.figure(1, "connections_remote"), 0);
}

#[test]
fn two_documents_have_one_number_on_a_connection() {
    let numbers: std::collections::BTreeSet<u32> =
        (0..300).flat_map(|number| (0..3).map(move |owner| number_of(owner, number))).collect();
    assert_eq!(numbers.len(), 900);
    assert!(numbers.iter().all(|number| *number > 1 << 30), "this shard's own are small");
}

#[test]
fn a_client_that_does_not_hear_takes_memory_without_end() {
    let mut world = World::new();
    let document = document_of(1);
    let (writer, deaf) = (world.connect(1, Access::Write), world.connect(0, Access::Write));
    [writer, deaf].iter().for_each(|&client| world.join(client, &document));
    (0..10).for_each(|_| world.turn(usize::MAX));
    world.clients[deaf].is_deaf = true;
    for _ in 0..100 {
        world.write(writer, 20_000);
        world.turn(8);
    }
    assert!(world.figure(1, "lane_window_exhausted") > 0, "two megabytes, and a window of a quarter");
    let held = world.figure(0, "lane_messages_held");
    assert!(held > 0 && held <= (256 << 10) / 20_000 + 2, "{held} messages held");
    assert_eq!(world.figure(1, "lane_queue_messages"), 0);
    world.settle();
    assert_eq!(world.clients[deaf].seen.ops.len(), 100);
}

#[derive(Clone, Debug)]
enum Step {
    Write { client: usize, bytes: usize },
    Turns { turns: usize, lane_slots: usize },
    Deafen(usize),
    Hear(usize),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..6_usize;
    let bytes = prop_oneof![4 => 10..80_usize, 2 => 150..300_usize, 1 => 2_000..40_000_usize];
    prop_oneof![
        12 => (client.clone(), bytes).prop_map(|(client, bytes)| Step::Write { client, bytes }),
        6 => (1..4_usize, 0..12_usize).prop_map(|(turns, lane_slots)| Step::Turns { turns, lane_slots }),
        2 => client.clone().prop_map(Step::Deafen),
        2 => client.clone().prop_map(Step::Hear),
        1 => client.prop_map(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn an_op_is_lost_doubled_or_out_of_order(steps in proptest::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        let document = document_of(1);
        for client in 0..6 {
            world.connect(u32::from(client % 3 == 0), Access::Write);
            world.join(client, &document);
        }
        (0..10).for_each(|_| world.turn(usize::MAX));
        let mut closed = [false; 6];
        for step in steps {
            match step {
                Step::Write { client, bytes } => world.write(client, bytes),
                Step::Turns { turns, lane_slots } => (0..turns).for_each(|_| world.turn(lane_slots)),
                Step::Deafen(client) => world.clients[client].is_deaf = true,
                Step::Hear(client) => world.clients[client].is_deaf = false,
                Step::Close(client) => {
                    let now = world.now.mono;
                    world.clients[client].connection.close(now, Code::Done as u16, "");
                    closed[client] = true;
                }
            }
        }
        world.settle();
        let logged = world.figure(1, "ops_logged");
        for (number, client) in world.clients.iter().enumerate().filter(|(number, _)| !closed[*number]) {
            let seen = &client.seen;
            prop_assert_eq!(seen.acked, client.said, "client {}", number);
            prop_assert_eq!(seen.ops.len() as u64 + client.said, logged, "client {}", number);
            prop_assert!(seen.ops.is_sorted_by(|one, next| one.0 < next.0));
            let mut counters = [0_u64; 6];
            for (_, payload) in &seen.ops {
                let writer = usize::from(payload[0]);
                let counter = u64::from_be_bytes(payload[1..9].try_into().unwrap());
                counters[writer] += 1;
                prop_assert_eq!(counter, counters[writer], "of writer {} at {}", writer, number);
            }
        }
        prop_assert_eq!(world.figure(0, "lane_queue_messages"), 0);
    }
}
