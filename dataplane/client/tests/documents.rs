//! A client against a node that holds real documents, on loopback.

mod past;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aetherflow_client::{
    Client, ClientConfig, ClientError, DocumentEvent, DocumentKind, JoinOptions, PlacementMap,
};
use bytes::Bytes;
use statesync::SessionRates;
use support::{Disk, Node, PATIENCE, Tickets, client, config, durable, joined, next, numbered, ops};
use wire::{Access, Code, Span};
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, Text, Transact};

const OPAQUE: DocumentKind = DocumentKind::Opaque;

#[tokio::test]
async fn ops_arrive_out_of_order_twice_or_not_at_all() {
    let disk = Arc::default();
    let node = Node::start(&disk);
    let (writing, reading) = (client(1, node.address).await, client(2, node.address).await);
    let mut reader = reading.join("log", OPAQUE, JoinOptions::default()).unwrap();
    let mut writer = writing.join("log", OPAQUE, JoinOptions::default()).unwrap();
    for number in 1..=5_000 {
        let id = writer.apply(numbered(number)).await.unwrap();
        assert_eq!((id.counter, id.guuid), (number, writing.writer_id().with_counter(number)));
    }
    durable(&mut writer, 5_000).await;
    assert_eq!(ops(&mut reader, 5_000).await, (1..=5_000).collect::<Vec<_>>());
    assert_eq!(disk.payloads("log").len(), 5_000);
    assert_eq!(writing.stats().ops_durable, 5_000);
    assert!(writing.stats().packets_sent < 2_000, "ops share packets: {:?}", writing.stats());
    assert!(writing.close(PATIENCE).await);
}

#[tokio::test]
async fn a_late_joiner_misses_what_was_there_before() {
    let disk = Arc::default();
    let node = Node::start(&disk);
    let writing = client(1, node.address).await;
    let mut writer = writing.join("text", DocumentKind::Yjs, JoinOptions::default()).unwrap();
    let doc = Doc::with_client_id(7);
    let text = doc.get_or_insert_text("content");
    for word in ["one ", "two ", "three"] {
        let mut transaction = doc.transact_mut();
        let end = text.len(&transaction);
        text.insert(&mut transaction, end, word);
        writer.apply(transaction.encode_update_v1().into()).await.unwrap();
    }
    durable(&mut writer, 3).await;

    let reading = client(2, node.address).await;
    let mut reader = reading.join("text", DocumentKind::Yjs, JoinOptions::default()).unwrap();
    let copy = Doc::with_client_id(8);
    let copied = copy.get_or_insert_text("content");
    while copied.get_string(&copy.transact()) != "one two three" {
        if let DocumentEvent::State(update) | DocumentEvent::Op { payload: update, .. } =
            next(&mut reader).await
        {
            copy.transact_mut().apply_update(yrs::Update::decode_v1(&update).unwrap()).unwrap();
        }
    }
    let error = reader.apply("no update".into()).await.map(|id| id.counter);
    assert_eq!(error, Ok(1));
    loop {
        if let DocumentEvent::Rejected { counter, code, .. } = next(&mut reader).await {
            assert_eq!((counter, code), (1, Code::UndecodableUpdate));
            break;
        }
    }
    assert_eq!(doc.transact().state_vector(), copy.transact().state_vector());
}

#[tokio::test]
async fn a_kill_of_the_node_loses_or_repeats_ops() {
    let disk: Arc<Disk> = Arc::default();
    let mut node = Node::start(&disk);
    let (writing, reading) = (client(1, node.address).await, client(2, node.address).await);
    let mut reader = reading.join("log", OPAQUE, JoinOptions::default()).unwrap();
    let (writer, mut written) = writing.join("log", OPAQUE, JoinOptions::default()).unwrap().split();
    let expected: Vec<u64> = (1..=2_000).collect();
    for round in expected.chunks(500) {
        let (synced, torn) = round.split_at(300);
        for &number in synced {
            writer.apply(numbered(number)).await.unwrap();
        }
        assert_eq!(ops(&mut reader, synced.len()).await, synced);
        disk.set(&disk.hold, true);
        for &number in torn {
            writer.apply(numbered(number)).await.unwrap();
        }
        writer.ping(PATIENCE).await.unwrap();
        let address = node.kill();
        disk.set(&disk.hold, false);
        node = Node::at(address, &disk, statesync::Placement::single_node(0, 1, 16));
        assert_eq!(ops(&mut reader, torn.len()).await, torn);
    }
    let mut acknowledged = 0;
    while acknowledged < 2_000 {
        let event = tokio::time::timeout(PATIENCE, written.next_event()).await.unwrap().unwrap();
        if let DocumentEvent::Durable { up_to_counter, .. } = event {
            acknowledged = up_to_counter;
        }
    }
    let expected: Vec<Bytes> = expected.into_iter().map(numbered).collect();
    assert_eq!(disk.payloads("log"), expected);
    assert!(writing.stats().reconnects >= 4, "{:?}", writing.stats());
}

#[tokio::test]
async fn a_reader_of_a_restarted_node_waits_until_it_loses_patience() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let slow = ClientConfig { unresponsive_after: PATIENCE, ..config() };
    let reading = Client::builder(Tickets::new(1, node.address)).config(slow).connect().await.unwrap();
    let mut reader = reading.join("log", OPAQUE, JoinOptions::default()).unwrap();
    let writing = client(2, node.address).await;
    let writer = writing.join("log", OPAQUE, JoinOptions::default()).unwrap();
    writer.apply(numbered(1)).await.unwrap();
    assert_eq!(ops(&mut reader, 1).await, [1]);
    let address = node.kill();
    let _node = Node::at(address, &disk, statesync::Placement::single_node(0, 1, 16));
    // The reader has nothing to say but that it is there: that is enough for the node to tell it.
    writer.apply(numbered(2)).await.unwrap();
    let told = tokio::time::timeout(PATIENCE / 4, ops(&mut reader, 1)).await;
    assert_eq!(told.expect("far sooner than its patience ends"), [2]);
    assert_eq!(reading.stats().reconnects, 1);
}

#[tokio::test]
async fn a_moved_document_is_lost_sight_of() {
    let (first_disk, second_disk) = (Arc::default(), Arc::default());
    let second = Node::start(&second_disk);
    let owner = statesync::Owner { epoch: 2, shard: 0, address: second.address.to_string().into() };
    let elsewhere = statesync::Placement::new(0, std::iter::repeat_n(owner, 16).collect());
    let first = Node::at("127.0.0.1:0".parse().unwrap(), &first_disk, elsewhere);
    let moved = client(1, first.address).await;
    let mut document = moved.join("log", OPAQUE, JoinOptions::default()).unwrap();
    document.apply(numbered(1)).await.unwrap();
    durable(&mut document, 1).await;
    assert_eq!(second_disk.payloads("log").len(), 1);
    assert_eq!(first_disk.payloads("log").len(), 0);
    assert_eq!(moved.stats().moves, 1);
}

#[tokio::test]
async fn an_op_that_the_log_has_no_room_for_is_lost_or_overtaken() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let writing = client(1, node.address).await;
    let mut writer = writing.join("log", OPAQUE, JoinOptions::default()).unwrap();
    joined(&mut writer).await;
    disk.set(&disk.busy, true);
    for number in 1..=300 {
        writer.apply(numbered(number)).await.unwrap();
    }
    while writing.stats().ops_retried == 0 {
        tokio::task::yield_now().await;
    }
    disk.set(&disk.busy, false);
    durable(&mut writer, 300).await;
    let expected: Vec<Bytes> = (1..=300).map(numbered).collect();
    assert_eq!(disk.payloads("log"), expected);
}

#[tokio::test]
async fn a_reader_without_write_access_writes_or_is_told_nothing() {
    let disk = Arc::default();
    let node = Node::start(&disk);
    let tickets = Tickets::new(1, node.address).access(Access::Read);
    let reading = Client::builder(tickets).config(config()).connect().await.unwrap();
    let mut reader = reading.join("log", OPAQUE, JoinOptions::default()).unwrap();
    reader.apply(numbered(1)).await.unwrap();
    loop {
        if let DocumentEvent::Rejected { code, counter, .. } = next(&mut reader).await {
            assert_eq!((code, counter), (Code::Forbidden, 1));
            break;
        }
    }
    assert!(disk.payloads("log").is_empty());
    assert!(reading.close(PATIENCE).await, "nothing is left to acknowledge");
}

#[tokio::test]
async fn ops_are_taken_without_end_while_none_is_acknowledged() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let small = ClientConfig { unacked_bytes_max: 5 << 20, ..config() };
    let writing = Client::builder(Tickets::new(1, node.address)).config(small).connect().await.unwrap();
    let mut writer = writing.join("log", OPAQUE, JoinOptions::default()).unwrap();
    disk.set(&disk.hold, true);
    let large = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..4 {
        writer.try_apply(large.clone()).unwrap();
    }
    assert_eq!(writer.try_apply(large.clone()), Err(ClientError::Full));
    let waiting = tokio::spawn({
        let writer = writer.writer().clone();
        async move { writer.apply(large).await }
    });
    joined(&mut writer).await;
    assert!(!waiting.is_finished());
    disk.set(&disk.hold, false);
    assert_eq!(waiting.await.unwrap().unwrap().counter, 5);
    durable(&mut writer, 5).await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_loses_ops_or_takes_memory() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let writing = client(1, node.address).await;
    let small = ClientConfig { event_bytes_max: 64 << 10, ..config() };
    let reading = Client::builder(Tickets::new(2, node.address)).config(small).connect().await.unwrap();
    let mut reader = reading.join("log", OPAQUE, JoinOptions::default()).unwrap();
    let mut writer = writing.join("log", OPAQUE, JoinOptions::default()).unwrap();
    joined(&mut reader).await;
    let op = |number: u64| Bytes::from([&number.to_be_bytes()[..], &[0; 100 << 10]].concat());
    for number in 1..=300 {
        writer.apply(op(number)).await.unwrap();
    }
    durable(&mut writer, 300).await;
    let taken = reading.stats().bytes_received;
    assert!(taken < 12 << 20, "the node sent {taken} bytes to who does not read");
    assert_eq!(ops(&mut reader, 300).await, (1..=300).collect::<Vec<_>>());
}

#[tokio::test]
async fn presence_is_lost_with_the_connection() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let (one, two) = (client(1, node.address).await, client(2, node.address).await);
    let here = one.join("log", OPAQUE, JoinOptions::default()).unwrap();
    let mut there = two.join("log", OPAQUE, JoinOptions::default()).unwrap();
    here.set_presence(7, "typing".into()).unwrap();
    let seen = async |there: &mut aetherflow_client::Document| loop {
        if let DocumentEvent::Presence(entries) = next(there).await {
            return entries.into_iter().map(|entry| (entry.client, entry.state)).collect::<Vec<_>>();
        }
    };
    assert_eq!(seen(&mut there).await, [(7, Bytes::from("typing"))]);
    let address = node.kill();
    let _node = Node::at(address, &disk, statesync::Placement::single_node(0, 1, 16));
    assert_eq!(seen(&mut there).await, [(7, Bytes::from("typing"))]);
    here.remove_presence(7).unwrap();
    assert_eq!(seen(&mut there).await, [(7, Bytes::new())]);
}

#[tokio::test]
async fn a_revoked_session_tries_for_ever() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let tickets = Tickets::new(1, node.address);
    let client = Client::builder(tickets.clone()).config(config()).connect().await.unwrap();
    let mut document = client.join("log", OPAQUE, JoinOptions::default()).unwrap();
    joined(&mut document).await;
    tickets.refused.store(true, Ordering::SeqCst);
    node.kill();
    assert_eq!(support::closed(&mut document).await, Code::SessionRevoked);
    assert_eq!(document.next_event().await, None);
    let error = document.apply(numbered(1)).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    assert!(client.join("other", OPAQUE, JoinOptions::default()).is_err());
}

#[tokio::test]
async fn a_document_cannot_be_left_or_joined_again() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let client = client(1, node.address).await;
    let document = client.join("log", OPAQUE, JoinOptions::default()).unwrap();
    document.apply(numbered(1)).await.unwrap();
    let twice = client.join("log", OPAQUE, JoinOptions::default()).map(drop);
    assert_eq!(twice, Err(ClientError::AlreadyJoined("log".to_owned())));
    drop(document);
    let mut again = client.join("log", OPAQUE, JoinOptions::default()).unwrap();
    joined(&mut again).await;
    assert_eq!(disk.payloads("log").len(), 1, "an op went lost with its document");
    let rtt = again.writer().ping(PATIENCE).await.unwrap();
    assert!(rtt < PATIENCE);
    assert!(client.ping(&node.address.to_string(), 0, PATIENCE).await.unwrap() < PATIENCE);
    again.leave().await.unwrap();
    assert!(client.close(PATIENCE).await);
}

#[tokio::test]
async fn a_document_of_another_kind_is_mixed_up() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let client = client(1, node.address).await;
    let document = client.join("log", OPAQUE, JoinOptions::default()).unwrap();
    document.apply(numbered(1)).await.unwrap();
    document.leave().await.unwrap();
    let mut document = client.join("log", DocumentKind::Yjs, JoinOptions::default()).unwrap();
    assert_eq!(support::closed(&mut document).await, Code::KindMismatch);
    let error = document.apply(numbered(1)).await.unwrap_err();
    assert!(matches!(error, ClientError::DocumentClosed { code: Code::KindMismatch, .. }), "{error}");
    document.leave().await.unwrap_err();
}

#[tokio::test]
async fn a_document_stays_with_a_node_that_is_gone() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let tickets = Tickets::new(1, node.address);
    let client = Client::builder(tickets.clone()).config(config()).connect().await.unwrap();
    let mut document = client.join("log", OPAQUE, JoinOptions::default()).unwrap();
    document.apply(numbered(1)).await.unwrap();
    durable(&mut document, 1).await;
    node.kill();
    document.apply(numbered(2)).await.unwrap();
    let other = Node::start(&disk);
    tickets.set_map(PlacementMap {
        revision: 2,
        ..PlacementMap::single_node(&other.address.to_string(), 1, 16)
    });
    durable(&mut document, 2).await;
    assert_eq!(disk.payloads("log"), [numbered(1), numbered(2)]);
}

#[tokio::test]
async fn an_expired_ticket_is_shown_or_a_silent_control_plane_ends_the_client() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let tickets = Tickets::new(1, node.address);
    tickets.expired.store(true, Ordering::SeqCst);
    let client = Client::builder(tickets.clone()).config(config()).connect().await.unwrap();
    tickets.unavailable.store(true, Ordering::SeqCst);
    let mut document = client.join("log", OPAQUE, JoinOptions::default()).unwrap();
    document.apply(numbered(1)).await.unwrap();
    tickets.asked_in_vain.notified().await;
    assert_eq!(client.stats().packets_sent, 0, "a handshake with an expired ticket");
    tickets.expired.store(false, Ordering::SeqCst);
    tickets.unavailable.store(false, Ordering::SeqCst);
    durable(&mut document, 1).await;
    assert_eq!(client.stats().tickets, 2);
}

#[tokio::test]
async fn many_documents_of_one_client_disturb_each_other() {
    let disk: Arc<Disk> = Arc::default();
    let mut node = Node::start(&disk);
    let client = client(1, node.address).await;
    let join = |number: u64| client.join(&format!("log/{number}"), OPAQUE, JoinOptions::default()).unwrap();
    let mut documents: Vec<_> = (0..200).map(join).collect();
    for round in 1..=4 {
        for document in &documents {
            document.apply(numbered(round)).await.unwrap();
        }
        if round == 2 {
            let address = node.kill();
            node = Node::at(address, &disk, statesync::Placement::single_node(0, 1, 16));
        }
    }
    for (number, document) in documents.iter_mut().enumerate() {
        durable(document, 600 + number as u64 + 1).await;
        let expected: Vec<Bytes> = (1..=4).map(numbered).collect();
        assert_eq!(disk.payloads(document.writer().id()), expected);
    }
    assert!(client.close(PATIENCE).await);
}

#[tokio::test]
async fn a_flooder_is_closed_or_slows_others_down() {
    const FLOOD: u64 = 2_000;
    // A whole flood would take ten seconds at this rate.
    let rates = SessionRates { ops_per_s: 200, burst: Span::from_ms(500), ..SessionRates::UNLIMITED };
    let disk: Arc<Disk> = Arc::default();
    *disk.rates.lock().unwrap() = Some(rates);
    let node = Node::start(&disk);
    let flooding = client(1, node.address).await;
    let mut flooder = flooding.join("flood", OPAQUE, JoinOptions::default()).unwrap();
    joined(&mut flooder).await;
    for number in 1..=FLOOD {
        flooder.apply(numbered(number)).await.unwrap();
    }
    let (writing, reading) = (client(2, node.address).await, client(3, node.address).await);
    let writer = writing.join("calm", OPAQUE, JoinOptions::default()).unwrap();
    let mut reader = reading.join("calm", OPAQUE, JoinOptions::default()).unwrap();
    joined(&mut reader).await;
    for number in 1..=20 {
        writer.apply(numbered(number)).await.unwrap();
        assert_eq!(ops(&mut reader, 1).await, [number]);
    }
    let taken = disk.payloads("flood");
    assert!((taken.len() as u64) < FLOOD, "the others waited until the flood was over");
    while flooding.stats().ops_retried == 0 {
        tokio::task::yield_now().await;
    }
    // It is not closed, and goes on in order at the rate that it may.
    durable(&mut flooder, taken.len() as u64 + 1).await;
    let taken = disk.payloads("flood");
    let expected: Vec<Bytes> = (1..=taken.len() as u64).map(numbered).collect();
    assert_eq!(taken, expected);
}
