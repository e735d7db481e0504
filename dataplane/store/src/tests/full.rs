//! A disk that is full for a while: a small file system of the test's own.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use statesync::DocumentStore;
use tempfile::tempdir;

use super::{head, op, open_with};
use crate::{FjallStore, StoreConfig, StoreError};

const CHILD_DIR: &str = "AETHERFLOW_STORE_TEST_DISK";
const DISK_BYTES: u64 = 256 << 20;
const STATE_BYTES: usize = 200_000;
/// So many documents are a little less than the engine gathers before it writes a table.
const GATHERED: u64 = 8;
const MEMTABLE_BYTES: u64 = 2 << 20;
const ENGINE_THREAD: &str = "fjall:worker";
const PATIENCE: Duration = Duration::from_secs(10);
/// What this machine says when it lets nobody have a file system of one's own.
const NO_DISK: [i32; 3] = [1, 77, 127];

/// Runs a test of this module in a process of its own, in which `dir` is a small disk; nobody need be root for that.
fn with_disk(child: &str) {
    // A name space keeps what others have mounted from being unmounted: they wait, too.
    let lock = File::create(std::env::temp_dir().join("aetherflow-test-disks.lock")).expect("a lock");
    lock.lock().expect("a lock");
    let dir = tempdir().expect("a directory");
    let script = format!("mount -t tmpfs -o size={DISK_BYTES} disk \"$0\" || exit 77; exec \"$@\"");
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(dir.path())
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", child, "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .status();
    match status.ok().and_then(|status| status.code()) {
        Some(code) if !NO_DISK.contains(&code) => assert_eq!(code, 0, "{child}"),
        // Past what the test's runner keeps to itself.
        _ => writeln!(std::io::stderr(), "SKIPPED {child}: no `unshare`, or no user namespaces")
            .expect("stderr"),
    }
}

struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// The one that a child of [`with_disk`] has.
    fn of_child() -> Option<Self> {
        std::env::var_os(CHILD_DIR).map(|dir| Self { dir: dir.into() })
    }

    fn fill_but(&self, bytes: u64) {
        let mut file = File::create(self.ballast()).expect("a file");
        let piece = vec![1; 1 << 20];
        while file.write_all(&piece).is_ok() {}
        let length = file.metadata().expect("a file").len();
        file.set_len(length - bytes).expect("room");
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).expect("a file");
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    fn store(&self) -> FjallStore {
        open_with(&self.dir, StoreConfig { memtable_bytes: MEMTABLE_BYTES, ..StoreConfig::default() })
    }
}

/// Bytes that nothing makes fewer.
fn random(seed: u64) -> Bytes {
    let mut random = seed;
    let byte = |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 40) as u8
    };
    (0..STATE_BYTES).map(byte).collect()
}

fn write(store: &mut FjallStore, document: u64) -> Result<(), statesync::StoreError> {
    let mut head = head(1, 1, 1);
    head.base.state = random(document);
    store.write(&super::snapshot(&format!("doc-{document}"), &head, &[op(1, 1, 1)]))
}

fn assert_kept(store: &mut FjallStore, documents: u64) {
    for document in 1..=documents {
        let found = store.head(&format!("doc-{document}")).expect("a sound head");
        assert_eq!(found.map(|head| head.base.state), Some(random(document)), "doc-{document}");
    }
}

#[test]
fn writes_into_a_full_disk() {
    let Some(disk) = Disk::of_child() else { return };
    let mut store = disk.store();
    let mut written = 0;
    for round in 0..4 {
        disk.fill_but(round * (2 << 20));
        while write(&mut store, written + 1).is_ok() {
            written += 1;
        }
        assert!(matches!(store.failure(), Some(StoreError::DiskFull { .. })), "{:?}", store.failure());
        assert!(!store.try_again(), "there is no room yet");
        assert_kept(&mut store, written);
        let export = store.export().expect("a store that is read");
        disk.free();
        assert!(!store.try_again(), "the export has the engine's lock");
        assert_kept(&mut store, written);
        drop(export);
        assert!(store.try_again(), "there is room: {:?}", store.failure());
        assert_kept(&mut store, written);
    }
    write(&mut store, written + 1).expect("a write");
    drop(store);
    assert_kept(&mut disk.store(), written + 1);
}

#[test]
fn a_full_disk_ends_the_store_or_loses_what_was_durable() {
    with_disk("tests::full::writes_into_a_full_disk");
}

/// Whether the engine's own thread lives.
fn engine_lives() -> bool {
    let threads = fs::read_dir("/proc/self/task").expect("threads");
    threads.flatten().any(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == ENGINE_THREAD)
    })
}

#[test]
fn has_a_full_disk_met_by_the_engine_alone() {
    let Some(disk) = Disk::of_child() else { return };
    let mut store = disk.store();
    for document in 1..=GATHERED {
        write(&mut store, document).expect("a write");
    }
    // Room for the journal, and none for the table that is due.
    disk.fill_but(5 * STATE_BYTES as u64);
    let written = GATHERED + 3;
    for document in GATHERED + 1..=written {
        write(&mut store, document).expect("a write");
    }
    let give_up = Instant::now() + PATIENCE;
    while engine_lives() {
        assert!(Instant::now() < give_up, "the table found room");
        std::thread::yield_now();
    }
    disk.free();
    write(&mut store, written + 1).expect_err("the engine has stopped");
    assert!(matches!(store.failure(), Some(StoreError::Stopped { .. })), "{:?}", store.failure());
    assert!(store.try_again(), "there is room: {:?}", store.failure());
    assert_kept(&mut store, written);
    write(&mut store, written + 1).expect("a write");
}

#[test]
fn a_full_disk_that_nobody_saw_ends_the_store() {
    with_disk("tests::full::has_a_full_disk_met_by_the_engine_alone");
}
