use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use docstore::{FjallStore, StoreConfig, StoreEntry};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use tempfile::tempdir;
use wire::Guuid;

use super::*;

fn subject() -> Subject {
    Subject { node_id: "node-1".to_owned(), shards: 1, log_id: Guuid::new(1, [5; 10]) }
}

fn store_part() -> Bytes {
    let mut part = Vec::new();
    let entry = StoreEntry { table: 0, key: Bytes::from_static(b"key"), value: Bytes::from_static(b"value") };
    encode_entry(&mut part, &entry);
    encode_entry(&mut part, &entry);
    part.into()
}

async fn write(target: &Target) -> Manifest {
    let mut writer = BackupWriter::new(target.clone(), subject(), 7);
    writer.put(0, PartKind::Store, store_part()).await.expect("a part");
    writer.put(0, PartKind::Segment(3), Bytes::from_static(b"one")).await.expect("a part");
    writer.put(0, PartKind::Segment(3), Bytes::from_static(b" two")).await.expect("a part");
    writer.finish(9).await.expect("a backup")
}

fn memory() -> (Arc<InMemory>, Target) {
    let objects = Arc::new(InMemory::new());
    (objects.clone(), Target::new(objects, Path::from("some/prefix")))
}

#[tokio::test]
async fn a_backup_is_restored_as_something_else() {
    let dir = tempdir().expect("a directory");
    let local = Target::parse(&format!("file://{}", dir.path().join("backups").display())).expect("a place");
    for (round, target) in [memory().1, local].into_iter().enumerate() {
        let manifest = write(&target).await;
        let data_dir = dir.path().join(format!("data-{round}"));
        let restored = restore(&target, None, &data_dir, 1_000, |_, _| {}).await.expect("a restore");
        assert_eq!((restored.manifest, restored.entries), (manifest, 2));
        let shard = data_dir.join("shard-000");
        assert_eq!(fs::read(shard.join("segment-0000000003.log")).expect("a segment"), b"one two");
        let layout = rt::DataDir::lock(&data_dir, ([127, 0, 0, 1], 0).into()).expect("a lock").layout();
        let layout = layout.expect("a sound layout").expect("a layout");
        assert_eq!((layout.shards, layout.log_id, layout.incarnation_min), (1, subject().log_id, 1_000));
        let store =
            FjallStore::open(shard.join("store"), subject().log_id.with_shard(0), StoreConfig::default());
        let export = store.expect("the store").export().expect("an export");
        assert_eq!(export.entries().count(), 1);
        let again = restore(&target, None, &data_dir, 1_000, |_, _| {}).await;
        assert!(matches!(again, Err(BackupError::NotEmpty { .. })));
    }
}

#[tokio::test]
async fn a_torn_or_damaged_backup_is_restored() {
    let dir = tempdir().expect("a directory");
    for part in 0..3 {
        for is_missing in [true, false] {
            let (objects, target) = memory();
            let id = write(&target).await.id;
            let path = Path::from(format!("some/prefix/{id}/parts/{part:08}"));
            if is_missing {
                objects.delete(&path).await.expect("a removal");
            } else {
                let mut content =
                    objects.get(&path).await.expect("a part").bytes().await.expect("it").to_vec();
                content[1] ^= 4;
                objects.put(&path, content.into()).await.expect("damage");
            }
            let data_dir = dir.path().join("data");
            let refused = restore(&target, None, &data_dir, 0, |_, _| {}).await.expect_err("a restore");
            assert!(refused.to_string().contains(&format!("parts/{part:08}")), "{refused}");
            assert!(!data_dir.exists());
            assert!(matches!(verify(&target, Some(&id), |_, _| {}).await, Err(BackupError::Damaged { .. })));
        }
    }
}

#[tokio::test]
async fn an_interrupted_backup_is_taken_for_a_whole_one() {
    let dir = tempdir().expect("a directory");
    let (objects, target) = memory();
    let id = write(&target).await.id;
    let manifest = Path::from(format!("some/prefix/{id}/manifest.json"));
    let whole = objects.get(&manifest).await.expect("a manifest").bytes().await.expect("it");
    for cut in [0, whole.len() / 2, whole.len() - 2] {
        objects.put(&manifest, whole.slice(..cut).into()).await.expect("damage");
        assert!(
            restore(&target, Some(&id), &dir.path().join("data"), 0, |_, _| {}).await.is_err(),
            "{cut} bytes"
        );
    }
    objects.delete(&manifest).await.expect("a removal");
    let listed = list(&target).await.expect("a list");
    assert!(matches!(&listed[..], [Listed { manifest: Err(BackupError::Unfinished { .. }), .. }]));
    let refused = restore(&target, None, &dir.path().join("data"), 0, |_, _| {}).await;
    assert!(matches!(refused, Err(BackupError::None { .. })));
}

#[test]
fn a_place_that_is_none_is_taken() {
    for url in ["/tmp", "file://relative", "gs://bucket/x", "s3://"] {
        assert!(matches!(Target::parse(url), Err(BackupError::Target { .. })), "{url}");
    }
}
