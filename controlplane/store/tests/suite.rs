//! One suite for both stores: what a `MetaStore` promises, on a file and on a real etcd server.

mod etcd_server;

use std::sync::Arc;

use etcd_server::EtcdServer;
use store::{Change, Compare, EmbeddedStore, EtcdStore, LeaseId, MetaStore, StoreError};

/// Runs the whole suite on one store, each part under a prefix of its own.
async fn promises_hold(store: Arc<dyn MetaStore>) {
    a_write_is_lost_or_read_with_another_revision(&*store).await;
    two_writers_both_win(&store).await;
    a_delete_ignores_its_condition(&*store).await;
    a_listing_holds_a_foreign_key(&*store).await;
    a_watch_misses_a_change(&*store).await;
    a_lease_leaves_its_keys_behind(&*store).await;
    a_lease_that_was_not_kept_alive_stays(&*store).await;
    an_oversized_key_or_value_is_taken(&*store).await;
}

async fn a_write_is_lost_or_read_with_another_revision(store: &dyn MetaStore) {
    assert_eq!(store.get("get/a").await.unwrap(), None);
    let first = store.put("get/a", b"1".to_vec(), Compare::Any, None).await.unwrap();
    let second = store.put("get/a", b"2".to_vec(), Compare::Any, None).await.unwrap();
    assert!(second > first);
    let entry = store.get("get/a").await.unwrap().unwrap();
    assert_eq!((entry.key.as_str(), &entry.value[..], entry.revision), ("get/a", &b"2"[..], second));
}

async fn two_writers_both_win(store: &Arc<dyn MetaStore>) {
    let write = |value: u8| {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.put("cas/a", vec![value], Compare::Absent, None).await })
    };
    let (one, two) = (write(1).await.unwrap(), write(2).await.unwrap());
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let revision = one.or(two).unwrap();
    let newer = store.put("cas/a", vec![3], Compare::Revision(revision), None).await.unwrap();
    let stale = store.put("cas/a", vec![4], Compare::Revision(revision), None).await.unwrap_err();
    assert!(matches!(stale, StoreError::Conflict { key } if key == "cas/a"));
    assert_eq!(store.get("cas/a").await.unwrap().unwrap().revision, newer);
}

async fn a_delete_ignores_its_condition(store: &dyn MetaStore) {
    let revision = store.put("del/a", vec![1], Compare::Any, None).await.unwrap();
    let stale = store.delete("del/a", Compare::Revision(revision - 1)).await.unwrap_err();
    assert!(matches!(stale, StoreError::Conflict { .. }));
    assert!(store.delete("del/a", Compare::Revision(revision)).await.unwrap());
    assert!(!store.delete("del/a", Compare::Any).await.unwrap());
    assert_eq!(store.get("del/a").await.unwrap(), None);
}

async fn a_listing_holds_a_foreign_key(store: &dyn MetaStore) {
    for key in ["list/b", "list/a", "list2", "lis"] {
        store.put(key, key.as_bytes().to_vec(), Compare::Any, None).await.unwrap();
    }
    let listing = store.list("list/").await.unwrap();
    let keys: Vec<_> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["list/a", "list/b"]);
    assert!(listing.entries.iter().all(|entry| entry.revision <= listing.revision));
}

async fn a_watch_misses_a_change(store: &dyn MetaStore) {
    let listed = store.list("watch/").await.unwrap().revision;
    let first = store.put("watch/a", vec![1], Compare::Any, None).await.unwrap();
    store.put("watched-not", vec![9], Compare::Any, None).await.unwrap();
    let mut watch = store.watch("watch/", listed + 1).await.unwrap();
    let second = store.put("watch/a", vec![2], Compare::Any, None).await.unwrap();
    store.delete("watch/a", Compare::Any).await.unwrap();
    let key = || "watch/a".to_owned();
    assert_eq!(watch.next().await.unwrap(), Change { revision: first, key: key(), value: Some(vec![1]) });
    assert_eq!(watch.next().await.unwrap(), Change { revision: second, key: key(), value: Some(vec![2]) });
    let last = watch.next().await.unwrap();
    assert_eq!((last.value, last.revision > second), (None, true));
}

async fn a_lease_leaves_its_keys_behind(store: &dyn MetaStore) {
    let lease = store.lease_grant(600).await.unwrap();
    store.put("lease/a", vec![1], Compare::Any, Some(lease)).await.unwrap();
    store.put("lease/b", vec![1], Compare::Any, Some(lease)).await.unwrap();
    store.put("lease/b", vec![2], Compare::Any, None).await.unwrap();
    assert_eq!(store.get("lease/a").await.unwrap().unwrap().lease, Some(lease));
    store.lease_keep_alive(lease).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(store.get("lease/a").await.unwrap(), None);
    assert!(store.get("lease/b").await.unwrap().is_some(), "a detached key lives");
    for error in [
        store.lease_keep_alive(lease).await.unwrap_err(),
        store.lease_revoke(lease).await.unwrap_err(),
        store.put("lease/c", vec![1], Compare::Any, Some(lease)).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::LeaseGone(id) if LeaseId(id) == lease), "{error}");
    }
}

async fn a_lease_that_was_not_kept_alive_stays(store: &dyn MetaStore) {
    let lease = store.lease_grant(1).await.unwrap();
    let put = store.put("expire/a", vec![1], Compare::Any, Some(lease)).await.unwrap();
    let mut watch = store.watch("expire/", put + 1).await.unwrap();
    let change = watch.next().await.unwrap();
    assert_eq!((change.key.as_str(), change.value), ("expire/a", None));
}

async fn an_oversized_key_or_value_is_taken(store: &dyn MetaStore) {
    let long = "k".repeat(store::KEY_BYTES_MAX + 1);
    assert!(matches!(store.put(&long, vec![], Compare::Any, None).await, Err(StoreError::Key(_))));
    assert!(matches!(store.put("", vec![], Compare::Any, None).await, Err(StoreError::Key(0))));
    let large = vec![0; store::VALUE_BYTES_MAX];
    store.put("large", large.clone(), Compare::Any, None).await.unwrap();
    assert_eq!(store.get("large").await.unwrap().unwrap().value, large);
    let larger = vec![0; store::VALUE_BYTES_MAX + 1];
    assert!(matches!(store.put("large", larger, Compare::Any, None).await, Err(StoreError::Value { .. })));
}

#[tokio::test]
async fn the_embedded_store_breaks_a_promise() {
    let dir = tempfile::tempdir().unwrap();
    promises_hold(Arc::new(EmbeddedStore::open(&dir.path().join("meta")).unwrap())).await;
}

#[tokio::test]
async fn the_etcd_store_breaks_a_promise() {
    let Some(server) = EtcdServer::start() else { return };
    promises_hold(Arc::new(server.connect().await)).await;
}

#[tokio::test]
async fn the_embedded_store_forgets_what_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/meta");
    let store = EmbeddedStore::open(&path).unwrap();
    let lease = store.lease_grant(600).await.unwrap();
    store.put("leased", vec![7], Compare::Any, Some(lease)).await.unwrap();
    let mut revision = 0;
    for round in 0..50_u8 {
        revision = store.put("key", vec![round], Compare::Any, None).await.unwrap();
    }
    assert!(matches!(EmbeddedStore::open(&path), Err(StoreError::InUse(_))));
    drop(store);
    let store = EmbeddedStore::open(&path).unwrap();
    let entry = store.get("key").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.revision), (vec![49], revision));
    assert_eq!(store.get("leased").await.unwrap().unwrap().lease, Some(lease));
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(store.get("leased").await.unwrap(), None);
    assert!(matches!(store.watch("", revision).await, Err(StoreError::Compacted(_))));
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_misses_changes_silently() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("meta")).unwrap();
    let mut watch = store.watch("", 1).await.unwrap();
    for _ in 0..=store::WATCH_QUEUE_MAX {
        store.put("k", vec![], Compare::Any, None).await.unwrap();
    }
    let mut seen = 0;
    let error = loop {
        match watch.next().await {
            Ok(_) => seen += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(seen, store::WATCH_QUEUE_MAX);
    assert!(matches!(error, StoreError::WatchEnded));
}

#[tokio::test]
async fn an_etcd_that_does_not_answer_is_not_named() {
    let error = EtcdStore::connect(&["http://127.0.0.1:1".to_owned()]).await.unwrap_err().to_string();
    assert!(error.starts_with("etcd at http://127.0.0.1:1: "), "{error}");
}
