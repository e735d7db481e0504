//! Disks that are full for a while beneath a node that serves: small file systems in a name space of the test's own, for
//! which nobody need be root.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::disk::{assert_kept, edit, wait_until};
use crate::support::{Dev, alone_with_disks};

const IN_CHILD: &str = "AETHERFLOW_TEST_OWN_DISKS";
const DISK_BYTES: u64 = 96 << 20;
/// The log's next segment of 8 MiB finds no room, and what is left of this one does for a while.
const LOG_LEFT_BYTES: u64 = 4 << 20;
/// Not even the store's next write.
const STORE_LEFT_BYTES: u64 = 64 << 10;
/// Documents are stored while a test lasts, and the log may grow as long as there is room.
const CONFIG: &str = "[gateway.anonymous]\nenabled = true\naccess = \"write\"\n\
    [node.log]\nsegment_bytes = 8388608\nspare_segments_max = 0\n\
    [node.store]\nsnapshot_after_ms = 50\nunload_after_ms = 50\n\
    [log]\nlevel = \"warn\"\n";
/// Edits that are refused at the latest when a disk is full.
const EDITS_MAX: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test of this module again, in a process that may mount what nobody else sees.
fn with_own_disks(child: &str) {
    let _alone = alone_with_disks();
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]).args(arguments).env(IN_CHILD, "1");
        command.stdin(Stdio::null()).status()
    };
    if !unshare(&["true"]).is_ok_and(|status| status.success()) {
        // Past what the test's runner keeps to itself.
        writeln!(std::io::stderr(), "SKIPPED {child}: no `unshare`, or no user namespaces").expect("stderr");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let status = unshare(&[own.to_str().unwrap(), "--exact", child, "--nocapture"]).unwrap();
    assert!(status.success(), "{child}");
}

struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={DISK_BYTES}");
        let mut mount = Command::new("mount");
        assert!(mount.args(["-t", "tmpfs", "-o", &size, "disk"]).arg(at).status().unwrap().success());
        Self { at: at.to_owned() }
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    fn fill_but(&self, bytes: u64) {
        let mut file = File::create(self.ballast()).unwrap();
        let piece = vec![1; 64 << 10];
        while file.write_all(&piece).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(bytes)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

/// Where a node has its configuration and its data.
fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (config, data_dir) = (dir.path().join("node.toml"), dir.path().join("data"));
    fs::write(&config, CONFIG).unwrap();
    (dir, config, data_dir)
}

fn write(dev: &Dev, client: u64) -> (u16, String) {
    dev.write(&format!("doc-{client}"), client, &edit(client))
}

/// Writes; false: it was taken at once. When the log has no room (`log-busy`), the client tries it again, and it must be
/// acknowledged after `make_room`, not before.
fn is_refused_until(dev: &Dev, client: u64, mut make_room: impl FnMut()) -> bool {
    let refusals = || dev.metric("aetherflow_ops_log_busy_total");
    let before = refusals();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(dev, client));
        while !writing.is_finished() && refusals() == before {
            std::thread::yield_now();
        }
        let is_refused = !writing.is_finished();
        if is_refused {
            make_room();
        }
        let (status, answer) = writing.join().unwrap();
        assert_eq!(status, 200, "doc-{client}: {answer}");
        is_refused
    })
}

#[test]
fn with_a_full_log() {
    if std::env::var_os(IN_CHILD).is_none() {
        return;
    }
    let (_place, config, data_dir) = place();
    let disk = SmallDisk::mount(&data_dir);
    let dev = Dev::start(&config, &data_dir);
    let mut acknowledged = vec![1];
    assert_eq!(write(&dev, 1).0, 200);
    for _ in 0..2 {
        disk.fill_but(LOG_LEFT_BYTES);
        let first = acknowledged.len() as u64 + 1;
        let refused = (first..first + EDITS_MAX).find(|&client| {
            let is_refused = is_refused_until(&dev, client, || {
                assert_kept(&dev, &acknowledged);
                disk.free();
            });
            acknowledged.push(client);
            is_refused
        });
        assert!(refused.is_some(), "{EDITS_MAX} edits into a full disk");
    }
    drop(dev);
    assert_kept(&Dev::start(&config, &data_dir), &acknowledged);
}

#[test]
fn a_full_disk_loses_an_acknowledged_edit_or_keeps_the_log_shut_when_it_has_room() {
    with_own_disks("full::with_a_full_log");
}

#[test]
fn with_a_full_store() {
    if std::env::var_os(IN_CHILD).is_none() {
        return;
    }
    let (_place, config, data_dir) = place();
    drop(Dev::start(&config, &data_dir));
    // The store alone is on the small disk.
    let (store, moved) = (data_dir.join("node/shard-000/store"), data_dir.join("moved"));
    fs::rename(&store, &moved).unwrap();
    let disk = SmallDisk::mount(&store);
    assert!(Command::new("cp").arg("-a").arg(moved.join(".")).arg(&store).status().unwrap().success());

    let dev = Dev::start(&config, &data_dir);
    let snapshots = || dev.metric("aetherflow_snapshots_total");
    assert_eq!(write(&dev, 1).0, 200);
    wait_until("nothing is stored", || snapshots() > 0);
    disk.fill_but(STORE_LEFT_BYTES);
    let acknowledged: Vec<u64> = (1..=10).collect();
    for &client in &acknowledged[1..] {
        assert_eq!(write(&dev, client).0, 200, "doc-{client}");
    }
    wait_until("nothing tells that the store failed", || dev.metric("aetherflow_store_failed") == 1);
    assert_kept(&dev, &acknowledged);
    assert_eq!(write(&dev, 11).0, 200, "an edit is refused although the log has room");

    let before = snapshots();
    disk.free();
    // It is looked for room every five seconds.
    let begun = Instant::now();
    wait_until("there is room, and the store is not used", || dev.metric("aetherflow_store_failed") == 0);
    wait_until("what waited is not stored", || snapshots() >= before + 10);
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(dev.metric("aetherflow_store_failures_total"), 1);
    assert_eq!(write(&dev, 12).0, 200);
    drop(dev);
    let all: Vec<u64> = (1..=12).collect();
    assert_kept(&Dev::start(&config, &data_dir), &all);
}

#[test]
fn a_store_without_room_stops_the_service_or_stays_unused_when_it_has_room() {
    with_own_disks("full::with_a_full_store");
}
