//! Disks that fail beneath a node that serves. They need root, for file systems of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Dev, alone_with_disks};

/// Documents are stored, and trimmed out of the log, while a test lasts.
const CONFIG: &str = "[gateway.anonymous]\nenabled = true\naccess = \"write\"\n\
    [node.log]\nsegment_bytes = 8388608\nbytes_max = 16777216\nspare_segments_max = 0\n\
    [node.store]\nsnapshot_after_ms = 50\nunload_after_ms = 50\n\
    [log]\nlevel = \"warn\"\n";
const PATIENCE: Duration = Duration::from_secs(60);
const EDIT_BYTES: usize = 300_000;
/// Makes an ext4 file system answer everything with EIO from now on, as if its disk had gone (EXT4_IOC_SHUTDOWN).
const SHUT_DOWN: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A file system of its own that can be made to fail; unmounted when dropped.
struct Disk {
    at: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// One that can be made to fail, in the file `image`.
    fn that_fails(at: &Path, image: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        fs::File::create(image).unwrap().set_len(96 << 20).unwrap();
        let disk = Self { at: at.to_owned(), image: image.to_owned() };
        (run("mkfs.ext4", &["-q", "-F", text(image)]) && disk.mount()).then_some(disk)
    }

    fn mount(&self) -> bool {
        run("mount", &["-o", "loop", text(&self.image), text(&self.at)])
    }

    fn unmount(&self) {
        while run("umount", &[text(&self.at)]) {}
        let _ = run("umount", &["--lazy", text(&self.at)]);
    }

    fn fail(&self) -> bool {
        run("python3", &["-c", SHUT_DOWN, text(&self.at)])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn configured(dir: &Path) -> PathBuf {
    let config = dir.join("node.toml");
    fs::write(&config, CONFIG).unwrap();
    config
}

/// Text that no disk makes shorter.
pub(crate) fn edit(client: u64) -> String {
    let mut random = client;
    let letter = |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (random >> 40) as u8 % 90)
    };
    format!("<{client}>{}", (0..EDIT_BYTES).map(letter).collect::<String>())
}

/// Documents whose edits were acknowledged, one each.
pub(crate) fn assert_kept(dev: &Dev, acknowledged: &[u64]) {
    for client in acknowledged {
        let found = dev.text(&format!("doc-{client}"));
        assert!(
            found.is_ok_and(|found| found.starts_with(&format!("<{client}>"))),
            "doc-{client} is not there"
        );
    }
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_log_that_cannot_be_written_acknowledges_an_edit() {
    let _alone = alone_with_disks();
    let dir = tempfile::tempdir().unwrap();
    let (config, data_dir) = (configured(dir.path()), dir.path().join("data"));
    let Some(disk) = Disk::that_fails(&data_dir, &dir.path().join("image")) else {
        return println!("skipped: mounting ext4 needs root");
    };
    let dev = Dev::start(&config, &data_dir);
    let acknowledged: Vec<u64> = (1..=5).collect();
    for &client in &acknowledged {
        assert_eq!(dev.write(&format!("doc-{client}"), client, &edit(client)).0, 200);
    }
    if !disk.fail() {
        return println!("skipped: this ext4 cannot be shut down");
    }
    assert_ne!(dev.write("doc-6", 6, &edit(6)).0, 200, "an edit that the disk has not is acknowledged");
    assert_eq!(dev.ended(), Some(1));
    let events = fs::read_to_string(config.with_extension("log")).unwrap();
    assert!(events.contains("Input/output error") && events.contains("segment-"), "{events}");
    disk.unmount();
    assert!(disk.mount());
    assert_kept(&Dev::start(&config, &data_dir), &acknowledged);
}

#[test]
fn a_store_that_cannot_be_written_keeps_an_edit_from_being_taken() {
    let _alone = alone_with_disks();
    let dir = tempfile::tempdir().unwrap();
    let (config, data_dir) = (configured(dir.path()), dir.path().join("data"));
    let store = data_dir.join("node/shard-000/store");
    drop(Dev::start(&config, &data_dir));
    let moved = data_dir.join("moved");
    fs::rename(&store, &moved).unwrap();
    let Some(disk) = Disk::that_fails(&store, &dir.path().join("image")) else {
        return println!("skipped: mounting ext4 needs root");
    };
    assert!(run("cp", &["-a", &format!("{}/.", text(&moved)), text(&store)]));
    assert!(run("sync", &["-f", text(&store)]));

    let dev = Dev::start(&config, &data_dir);
    let write = |client: u64| dev.write(&format!("doc-{client}"), client, &edit(client)).0;
    assert_eq!(write(1), 200);
    if !disk.fail() {
        return println!("skipped: this ext4 cannot be shut down");
    }
    let acknowledged: Vec<u64> = (1..=10).collect();
    for &client in &acknowledged[1..] {
        assert_eq!(write(client), 200, "doc-{client}");
    }
    wait_until("nothing tells that the store failed", || {
        dev.metric("aetherflow_store_failures_total") == 1 && dev.metric("aetherflow_store_failed") == 1
    });
    assert_eq!(write(11), 200, "a new document is refused");
    let events = fs::read_to_string(config.with_extension("log")).unwrap();
    assert!(events.contains("Input/output error"), "{events}");
    drop(dev);
    disk.unmount();
    assert!(disk.mount());
    assert_kept(&Dev::start(&config, &data_dir), &acknowledged);
}
