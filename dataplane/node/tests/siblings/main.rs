//! A node of two shards with real sockets, and clients that come to the wrong one.

mod rig;

use std::time::Duration;

use aetherflow_client::{ClientConfig, Document, DocumentEvent, DocumentKind, JoinOptions};
use bytes::Bytes;
use node::IdlePolicy;
use tokio::time::timeout;

use self::rig::Rig;

/// What takes longer has been lost.
const PATIENCE: Duration = Duration::from_secs(30);

fn stay() -> ClientConfig {
    ClientConfig { follow_advice: false, ..ClientConfig::default() }
}

/// The ops of a writer, by number, until `count` have come; fails when one is missing, doubled or out of order, or when
/// anything happens that a reader of a connection that lives would not be told.
async fn read(document: &mut Document, count: u64) {
    let mut next = 0;
    while next < count {
        match timeout(PATIENCE, document.next_event()).await.expect("an op in time") {
            Some(DocumentEvent::Op { payload, .. }) => {
                assert_eq!(payload[..8], next.to_be_bytes(), "op {next} in its place");
                next += 1;
            }
            Some(DocumentEvent::Joined { .. }) if next == 0 => {}
            Some(DocumentEvent::CaughtUp | DocumentEvent::Presence(_) | DocumentEvent::Durable { .. }) => {}
            other => panic!("after {next} ops: {other:?}"),
        }
    }
}

/// Until the last op is durable; fails when the writer is told of a connection that comes and goes.
async fn durable(document: &mut Document, last: u64) {
    let mut joined = 0;
    loop {
        match timeout(PATIENCE, document.next_event()).await.expect("durable in time") {
            Some(DocumentEvent::Durable { up_to_counter, .. }) if up_to_counter >= last => return,
            Some(DocumentEvent::CaughtUp | DocumentEvent::Durable { .. } | DocumentEvent::Presence(_)) => {}
            Some(DocumentEvent::Joined { .. }) if joined == 0 => joined += 1,
            other => panic!("{other:?}"),
        }
    }
}

async fn write(document: &Document, numbers: std::ops::Range<u64>) -> u64 {
    let mut last = 0;
    for number in numbers {
        let mut payload = number.to_be_bytes().to_vec();
        // Now and then one that is too long for a slot of a lane.
        payload.resize(if number % 50 == 7 { 5_000 } else { 40 }, 0);
        last = document.apply(Bytes::from(payload)).await.expect("taken").counter;
    }
    last
}

async fn join(
    rig: &Rig,
    config: ClientConfig,
    is_astray: bool,
    id: &str,
) -> (aetherflow_client::Client, Document) {
    let client = rig.client(config, is_astray).await;
    let document = client.join(id, DocumentKind::Opaque, JoinOptions::default()).expect("joins");
    (client, document)
}

#[tokio::test]
async fn a_document_is_served_by_its_owner_alone() {
    let rig = Rig::start(IdlePolicy::Adaptive).await;
    for id in ["a", "b", "c", "d"] {
        let (_writer, mut wrong) = join(&rig, stay(), true, id).await;
        let (_near, mut near) = join(&rig, stay(), false, id).await;
        let (_far, mut far) = join(&rig, stay(), true, id).await;
        let last = write(&wrong, 0..600).await;
        durable(&mut wrong, last).await;
        read(&mut near, 600).await;
        read(&mut far, 600).await;
    }
    for shard in 0..2 {
        assert!(rig.figure(shard, "messages_forwarded", 600).await, "the other one owns some of them");
        assert!(rig.figure(shard, "lane_messages_boxed", 1).await);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_sleeping_sibling_is_not_woken() {
    let rig = Rig::start(IdlePolicy::Saver).await;
    let (_writer, mut wrong) = join(&rig, stay(), true, "asleep").await;
    let (_near, mut near) = join(&rig, stay(), false, "asleep").await;
    // One at a time: both shards go to sleep in between.
    for number in 0..300_u64 {
        let last = write(&wrong, number..number + 1).await;
        durable_single(&mut wrong, last).await;
    }
    read(&mut near, 300).await;
    rig.stop().await;
}

async fn durable_single(document: &mut Document, last: u64) {
    while !matches!(
        timeout(PATIENCE, document.next_event()).await.expect("durable in time"),
        Some(DocumentEvent::Durable { up_to_counter, .. }) if up_to_counter >= last
    ) {}
}

#[tokio::test]
async fn a_move_to_the_owner_under_load_loses_or_doubles_an_op_or_is_noticed() {
    const OPS: u64 = 4_000;
    let rig = Rig::start(IdlePolicy::Adaptive).await;
    let mut writers = Vec::new();
    for id in ["e", "f", "g", "h"] {
        let (near_client, mut near) = join(&rig, stay(), false, id).await;
        let (writer_client, mut writer) = join(&rig, ClientConfig::default(), true, id).await;
        let (reader_client, mut reader) = join(&rig, ClientConfig::default(), true, id).await;
        writers.push(tokio::spawn(async move {
            let last = write(&writer, 0..OPS).await;
            durable(&mut writer, last).await;
            read(&mut reader, OPS).await;
            read(&mut near, OPS).await;
            for moved in [&writer_client, &reader_client] {
                assert_eq!(moved.stats().advised_moves, 1, "to the owner");
            }
            drop((near_client, near, writer, reader));
        }));
    }
    for writer in writers {
        writer.await.expect("all that was written was read once");
    }
    rig.stop().await;
}
