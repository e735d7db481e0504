//! Backups as operators meet them: of a node that serves, restored, damaged, refused.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{BINARY, Dev, ask, typed};
use serde_json::Value;

const KEY: &str = "of-the-operators";
const DOCUMENTS: u64 = 5;
const WRITERS: u64 = 3;
/// So many words are acknowledged before the backup begins.
const WORDS_BEFORE: usize = 150;
const PATIENCE: Duration = Duration::from_secs(60);
/// Documents are stored and unloaded while the test lasts.
const CONFIG: &str = "[control]\napi_key = \"of-the-operators\"\n\
    [gateway.anonymous]\nenabled = true\naccess = \"write\"\n\
    [node.log]\nsegment_bytes = 8388608\n\
    [node.store]\nsnapshot_after_ms = 50\nunload_after_ms = 50\n\
    [log]\nlevel = \"warn\"\n";

fn admin(dev: &Dev) -> &str {
    dev.ready["admin"].as_str().unwrap()
}

/// People who write words, each by a client of its own, and what was acknowledged to them.
struct Writers {
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<(u64, String)>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    fn begin(http: &str) -> Self {
        let (is_over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let threads = (0..WRITERS).map(|writer| {
            let (http, is_over) = (http.to_owned(), Arc::clone(&is_over));
            let acknowledged: Arc<Mutex<Vec<_>>> = Arc::clone(&acknowledged);
            std::thread::spawn(move || {
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let (document, word) = ((writer + number) % DOCUMENTS, format!("<{writer}-{number}>"));
                    let update = typed(1 + writer + WRITERS * number, &word);
                    let path = format!("/v1/documents/doc-{document}");
                    let (status, answer) = ask(&http, "POST", &path, &update).unwrap();
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
                    acknowledged.lock().unwrap().push((document, word));
                }
            })
        });
        let threads = threads.collect();
        Self { is_over, acknowledged, threads }
    }

    fn acknowledged(&self) -> Vec<(u64, String)> {
        self.acknowledged.lock().unwrap().clone()
    }

    fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Runs the command: its exit status, and the JSON object that it ended with.
fn aetherflow(key: &str, arguments: &[&str]) -> (i32, Value) {
    let mut command = Command::new(BINARY);
    let output = command.args(arguments).args(["--output", "json"]).env("AETHERFLOW_API_KEY", key).output();
    let output = output.unwrap();
    let told = if output.status.success() { output.stdout } else { output.stderr };
    let last = String::from_utf8(told).unwrap().lines().last().unwrap_or_default().to_owned();
    let value = serde_json::from_str(&last).unwrap_or_else(|error| panic!("{error}: {last:?}"));
    (output.status.code().unwrap(), value)
}

fn damage_a_part(backup: &Path) {
    let parts: Vec<_> =
        fs::read_dir(backup.join("parts")).unwrap().map(|part| part.unwrap().path()).collect();
    let part = parts.iter().find(|part| fs::metadata(part).unwrap().len() > 0).unwrap();
    let mut content = fs::read(part).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(part, content).unwrap();
}

#[test]
fn a_backup_taken_under_writes_lacks_an_acknowledged_edit_or_passes_when_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.toml");
    fs::write(&config, CONFIG).unwrap();
    let place = format!("file://{}", dir.path().join("backups").display());
    let dev = Dev::start(&config, &dir.path().join("first"));

    let (status, told) = aetherflow("wrong", &["backup", "create", "--node", admin(&dev), "--to", &place]);
    assert_eq!((status, &told["code"]), (2, &Value::from("unauthenticated")), "{told}");
    let (status, told) = aetherflow(KEY, &["backup", "create", "--node", admin(&dev), "--to", "nowhere"]);
    assert_eq!((status, &told["code"]), (2, &Value::from("refused")), "{told}");

    let writers = Writers::begin(&dev.http());
    let deadline = Instant::now() + PATIENCE;
    while writers.acknowledged().len() < WORDS_BEFORE || dev.metric("aetherflow_snapshots_total") == 0 {
        assert!(
            Instant::now() < deadline,
            "{} words, {} snapshots",
            writers.acknowledged().len(),
            dev.metric("aetherflow_snapshots_total")
        );
        std::thread::yield_now();
    }
    let before = writers.acknowledged();
    // As if the log's thread were making it just now.
    let unfinished = dir.path().join("first/node/shard-000/segment-0000009999.log.new");
    fs::write(&unfinished, b"").unwrap();
    let (status, created) = aetherflow(KEY, &["backup", "create", "--node", admin(&dev), "--to", &place]);
    assert_eq!((status, &created["event"]), (0, &Value::from("created")), "{created}");
    assert!(unfinished.exists(), "a backup takes away what the log is about to use");
    let after = writers.acknowledged();
    writers.end();
    assert!(after.len() > before.len(), "nobody wrote meanwhile");
    let id = created["id"].as_str().unwrap();
    drop(dev);

    let (status, verified) = aetherflow(KEY, &["backup", "verify", "--at", &place]);
    assert_eq!((status, &verified["id"], &verified["bytes"]), (0, &created["id"], &created["bytes"]));
    let second = dir.path().join("second");
    let data_dir = second.join("node");
    fs::create_dir(&second).unwrap();
    let data_dir = data_dir.to_str().unwrap();
    let (status, told) = aetherflow(KEY, &["restore", "--from", &place, "--data-dir", data_dir]);
    assert_eq!(
        (status, &told["event"], &told["id"]),
        (0, &Value::from("restored"), &created["id"]),
        "{told}"
    );
    let dev = Dev::start(&config, &second);
    let texts: Vec<_> =
        (0..DOCUMENTS).map(|document| dev.text(&format!("doc-{document}")).unwrap()).collect();
    for (document, word) in &before {
        assert!(texts[*document as usize].contains(word), "{word} of doc-{document} is not there");
    }
    let writers = Writers::begin(&dev.http());
    while writers.acknowledged().is_empty() {
        assert!(!writers.threads.iter().any(JoinHandle::is_finished), "the restored node takes no edit");
        std::thread::yield_now();
    }
    writers.end();
    drop(dev);

    let (status, told) = aetherflow(KEY, &["restore", "--from", &place, "--data-dir", data_dir]);
    assert_eq!((status, &told["code"]), (2, &Value::from("restore-not-empty")), "{told}");
    damage_a_part(&dir.path().join("backups").join(id));
    let (status, told) = aetherflow(KEY, &["backup", "verify", "--at", &place, "--id", id]);
    assert_eq!((status, &told["code"]), (1, &Value::from("backup-damaged")), "{told}");
    let third = dir.path().join("third");
    let (status, told) =
        aetherflow(KEY, &["restore", "--from", &place, "--data-dir", third.to_str().unwrap()]);
    assert_eq!((status, &told["code"]), (1, &Value::from("backup-damaged")), "{told}");
    assert!(!third.exists());
    fs::remove_file(dir.path().join("backups").join(id).join("manifest.json")).unwrap();
    let (status, told) = aetherflow(KEY, &["backup", "list", "--at", &place]);
    assert_eq!((status, &told["code"]), (0, &Value::from("backup-unfinished")), "{told}");
}
