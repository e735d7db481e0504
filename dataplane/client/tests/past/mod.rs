//! Versions, the past and the end of documents, as a client asks for them.

use std::sync::Arc;

use aetherflow_client::{At, Client, ClientError, Document, DocumentKind, JoinOptions, Version};
use bytes::Bytes;
use wire::{Access, Code};

use crate::support::{self, Disk, Node, PATIENCE, Tickets, client, config, durable, joined};

const OPAQUE: DocumentKind = DocumentKind::Opaque;

async fn administrator(node: &Node) -> Client {
    let tickets = Tickets::new(9, node.address).access(Access::Admin);
    Client::builder(tickets).config(config()).connect().await.unwrap()
}

async fn apply(document: &mut Document, ops: std::ops::RangeInclusive<u64>) {
    let last = *ops.end();
    for number in ops {
        document.apply(Bytes::from(vec![number as u8; 1_000])).await.unwrap();
    }
    durable(document, last).await;
}

#[tokio::test]
async fn a_past_state_is_cut_or_of_another_moment() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let client = client(1, node.address).await;
    let mut document = client.join("log", OPAQUE, JoinOptions::default()).unwrap();
    apply(&mut document, 1..=150).await;
    assert_eq!(document.create_version("draft").await, Ok(150));
    apply(&mut document, 151..=200).await;
    assert_eq!(document.create_version("final").await, Ok(200));
    let versions = document.versions().await.unwrap();
    let named = |version: &Version| (version.name.clone(), version.sequence);
    let named: Vec<_> = versions.iter().map(named).collect();
    assert_eq!(named, [("draft".to_owned(), 150), ("final".to_owned(), 200)]);
    for (at, last) in
        [(At::Sequence(3), 3), (At::Version("draft".to_owned()), 150), (At::UnixMs(u64::MAX), 200)]
    {
        let past = document.read_at(at).await.unwrap();
        let ops: Vec<_> = (1..=last).map(|number| Bytes::from(vec![number as u8; 1_000])).collect();
        assert_eq!((past.sequence, past.ops().unwrap()), (last, ops));
    }
    let unknown = document.read_at(At::Version("never".to_owned())).await.unwrap_err();
    assert!(matches!(unknown, ClientError::RequestRefused { code: Code::UnknownVersion, .. }), "{unknown}");
    let late = document.read_at(At::Sequence(201)).await.unwrap_err();
    assert!(matches!(late, ClientError::RequestRefused { code: Code::HistoryNotKept, .. }), "{late}");
    assert_eq!(document.create_version("").await, Err(ClientError::VersionName(0)));
    assert!(client.close(PATIENCE).await);
}

#[tokio::test]
async fn a_deleted_document_is_there_again_after_a_restart() {
    let disk: Arc<Disk> = Arc::default();
    let node = Node::start(&disk);
    let (writing, ruling) = (client(1, node.address).await, administrator(&node).await);
    let mut document = writing.join("log", OPAQUE, JoinOptions::default()).unwrap();
    apply(&mut document, 1..=3).await;
    let refused = document.delete().await.unwrap_err();
    assert!(matches!(refused, ClientError::RequestRefused { code: Code::Forbidden, .. }), "{refused}");
    let mut ruled = ruling.join("log", OPAQUE, JoinOptions::default()).unwrap();
    joined(&mut ruled).await;
    ruled.delete().await.unwrap();
    for document in [&mut document, &mut ruled] {
        assert_eq!(support::closed(document).await, Code::DocumentDeleted);
    }
    let address = node.kill();
    let node = Node::at(address, &disk, statesync::Placement::single_node(0, 1, 16));
    let late = client(3, node.address).await;
    let mut late = late.join("log", OPAQUE, JoinOptions::default()).unwrap();
    assert_eq!(support::closed(&mut late).await, Code::DocumentDeleted);
}
