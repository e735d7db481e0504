//! Bad disks and strange files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fjall::PersistMode;
use statesync::{DocumentStore, StoreError as SyncError};
use tempfile::tempdir;
use wire::Guuid;

use super::{head, log_id, op, open, snapshot};
use crate::{FjallStore, StoreConfig, StoreError, key};

#[test]
fn a_damaged_document_takes_others_with_it() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    for document in ["good", "bad"] {
        store.write(&snapshot(document, &head(2, 2, 50), &[op(1, 1, 9), op(2, 2, 9)])).expect("a write");
    }
    let tables = store.tables().expect("an open store");
    let key = key::document("bad");
    let mut value = tables.heads.get(&key).expect("a read").expect("a head").to_vec();
    *value.last_mut().expect("a byte") ^= 1;
    tables.heads.insert(&key, value).expect("damage");
    tables.database.persist(PersistMode::SyncAll).expect("damage");
    drop(store);

    let mut store = open(dir.path());
    assert!(matches!(store.head("bad"), Err(SyncError::Damaged { document, .. }) if document == "bad"));
    assert_eq!(store.head("good"), Ok(Some(head(2, 2, 50))));
    assert_eq!(store.history("bad", 1, usize::MAX).map(|ops| ops.len()), Ok(2));
    assert!(store.failure().is_none());
    store.write(&snapshot("good", &head(3, 3, 50), &[op(3, 3, 9)])).expect("a write of another document");
}

#[test]
fn a_value_of_a_later_version_is_taken_for_damage() {
    let dir = tempdir().expect("a directory");
    let store = open(dir.path());
    let tables = store.tables().expect("an open store");
    let key = key::document("doc");
    let mut value = crate::document::encode_head(&key, &head(1, 1, 1)).to_vec();
    value[0] = 2;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&key), &value[..4]);
    let checksum = crc32c::crc32c_append(checksum, &value[8..]);
    value[4..8].copy_from_slice(&checksum.to_le_bytes());
    tables.heads.insert(&key, value).expect("a value");
    let error = store.read_head("doc").expect_err("a later version");
    assert!(matches!(error, StoreError::TooNew { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("start the release that wrote it"), "{error}");
}

#[test]
fn the_store_of_another_log_is_taken() {
    let dir = tempdir().expect("a directory");
    drop(open(dir.path()));
    let other = Guuid::new(1_700_000_000_001, [4; 10]);
    let opened = FjallStore::open(dir.path().join("store"), other, StoreConfig::default());
    let error = opened.err().expect("another log's store").to_string();
    assert!(error.contains(&other.to_string()) && error.contains(&log_id().to_string()), "{error}");
}

/// Every byte of the store's files is in reach of a bad disk: whatever is flipped, what is answered is right, missing,
/// or an error, and never a panic or another's content.
#[test]
fn a_flipped_bit_anywhere_is_served() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    let good = head(3, 3, 6_000);
    for round in 1..=3_u64 {
        let head = head(round, round, 6_000);
        store.write(&snapshot("doc", &head, &[op(round, round, 5_000)])).expect("a write");
    }
    store.note_writes().expect("a mark");
    // From the journal into tables and blob files.
    let tables = store.tables().expect("an open store");
    for table in [&tables.heads, &tables.history] {
        table.rotate_memtable_and_wait().expect("a flush");
    }
    drop(store);

    let mut files = Vec::new();
    collect(&dir.path().join("store"), &mut files);
    let mut errors = 0;
    for file in files {
        let whole = fs::read(&file).expect("a file");
        let used = whole.len().min(64 << 10);
        for at in (0..used).step_by(used / 8 + 1) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&file, &flipped).expect("damage");
            errors += u32::from(!is_sound_or_refused(&dir.path().join("store"), &good));
            fs::write(&file, &whole).expect("repair");
        }
    }
    assert!(errors > 0, "no flip was ever noticed: the test flips nothing that counts");
    assert!(is_sound_or_refused(&dir.path().join("store"), &good), "sound again");
}

/// True when all was read back as written.
fn is_sound_or_refused(path: &std::path::Path, good: &statesync::StoredDocument) -> bool {
    let copy = tempdir().expect("a directory");
    copy_tree(path, &copy.path().join("store"));
    fs::copy(crate::mark::path(path), copy.path().join("store.mark")).expect("a copy");
    let path = copy.path().join("store");
    let read = std::panic::catch_unwind(|| {
        let mut store =
            FjallStore::open(path, log_id(), StoreConfig::default()).map_err(|error| error.to_string())?;
        let head = store.head("doc").map_err(|error| error.to_string())?;
        let ops = store.history("doc", 1, usize::MAX).map_err(|error| error.to_string())?;
        Ok::<_, String>((head, ops))
    });
    let Ok(Ok((head, ops))) = read else { return false };
    if let Some(head) = &head {
        assert!(head == good, "a flipped bit is served");
    }
    for (found, sequence) in ops.iter().zip(1..) {
        assert_eq!(*found, op(sequence, sequence, 5_000), "a flipped bit is served");
    }
    head.is_some() && ops.len() == 3
}

fn collect(dir: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            // The journal is as long as it may get, and mostly holes.
            let whole = fs::read(&path).expect("a file");
            let used = whole.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            fs::write(&target, &whole[..used]).expect("a copy");
            fs::File::options()
                .write(true)
                .open(&target)
                .and_then(|file| file.set_len(whole.len() as u64))
                .expect("a copy");
        }
    }
}

#[test]
fn a_store_that_has_lost_durable_writes_is_opened() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    let write = |store: &mut FjallStore, round| {
        store.write(&snapshot("doc", &head(round, round, 5), &[op(round, round, 9)])).expect("a write");
    };
    write(&mut store, 1);
    drop(store);
    let (path, old) = (dir.path().join("store"), dir.path().join("old"));
    copy_tree(&path, &old);
    let mut store = open(dir.path());
    (2..=3).for_each(|round| write(&mut store, round));
    store.note_writes().expect("a mark");
    // Those behind the mark may be missing: it is not written for each.
    write(&mut store, 4);
    drop(store);
    let opened = || FjallStore::open(&path, log_id(), StoreConfig::default());
    drop(opened().expect("a whole store"));

    fs::remove_dir_all(&path).expect("a removal");
    for is_missing in [true, false] {
        let error = opened().err().expect("a store that lacks writes");
        assert!(matches!(error, StoreError::Lost { noted: 3, found: 0..=1, .. }), "{error}");
        assert!(error.to_string().contains(&crate::mark::path(&path).display().to_string()), "{error}");
        fs::remove_dir_all(&path).expect("a removal");
        if is_missing {
            copy_tree(&old, &path);
        }
    }
    copy_tree(&old, &path);
    fs::write(crate::mark::path(&path), "aetherflow store mark 1 00 9").expect("half a mark");
    let mut store = opened().expect("a store of which nothing is known");
    assert_eq!(store.head("doc"), Ok(Some(head(1, 1, 5))));
    store.note_writes().expect("a mark");
}

#[test]
fn a_read_only_directory_is_not_named() {
    let dir = tempdir().expect("a directory");
    let inner = dir.path().join("node");
    fs::create_dir(&inner).expect("a directory");
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o500)).expect("read-only");
    // Root may write everywhere.
    if fs::write(inner.join("probe"), b"").is_ok() {
        return;
    }
    let opened = FjallStore::open(inner.join("store"), log_id(), StoreConfig::default());
    let error = opened.err().expect("a read-only directory").to_string();
    assert!(error.contains(&inner.display().to_string()), "{error}");
}
