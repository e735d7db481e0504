//! The binary as its users meet it: started, killed, started again, and given bad input.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update};

const BINARY: &str = env!("CARGO_BIN_EXE_aetherflow");

/// A running `aetherflow dev`; killed when dropped.
struct Dev {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    ready: Value,
}

fn command(data_dir: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.args([
        "dev",
        "--output",
        "json",
        "--control",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0",
    ]);
    command.args(["--shards", "1", "--idle-policy", "saver", "--data-dir"]).arg(data_dir);
    command.stdin(Stdio::null());
    command
}

impl Dev {
    fn start(data_dir: &Path) -> Self {
        let mut child = command(data_dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let ready = next_line(&mut lines);
        assert_eq!(ready["event"], "ready", "{ready}");
        Self { child, lines, ready }
    }

    fn http(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let address = self.ready["http"].as_str().unwrap().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")
            .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        (status, answer[head + 4..].to_vec())
    }

    fn text(&self, document: &str) -> String {
        let (status, update) = self.http("GET", &format!("/v1/documents/{document}?format=update"), b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&update));
        let doc = Doc::new();
        let text = doc.get_or_insert_text("content");
        let mut transaction = doc.transact_mut();
        transaction.apply_update(Update::decode_v1(&update).unwrap()).unwrap();
        text.get_string(&transaction)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn interrupt(mut self) -> (ExitStatus, Value) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let stopped = next_line(&mut self.lines);
        (self.child.wait().unwrap(), stopped)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next_line(lines: &mut impl BufRead) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// The update of somebody who types `text` into an empty document.
fn typed(client: u64, text: &str) -> Vec<u8> {
    let doc = Doc::with_client_id(client);
    let content = doc.get_or_insert_text("content");
    content.push(&mut doc.transact_mut(), text);
    doc.transact().encode_state_as_update_v1(&StateVector::default())
}

fn refused(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert_eq!(status.code(), Some(1), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stderr).unwrap()
}

fn segment(data_dir: &Path) -> File {
    let path = data_dir.join("node/shard-000/segment-0000000000.log");
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn an_acknowledged_edit_is_lost_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let (status, answer) = dev.http("POST", "/v1/documents/notes", &typed(1, "kept"));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    dev.kill();
    let dev = Dev::start(dir.path());
    assert_eq!(dev.ready["recovered_ops"], 1);
    assert_eq!(dev.text("notes"), "kept");
}

#[test]
fn ctrl_c_loses_an_edit_or_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    assert_eq!(dev.http("POST", "/v1/documents/notes", &typed(1, "kept")).0, 200);
    let (status, stopped) = dev.interrupt();
    assert!(status.success());
    assert_eq!((&stopped["event"], &stopped["ops"]), (&Value::from("stopped"), &Value::from(1)));
    assert_eq!(Dev::start(dir.path()).text("notes"), "kept");
}

#[test]
fn an_undecodable_update_is_taken_or_disturbs_others() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    assert_eq!(dev.http("POST", "/v1/documents/notes", &typed(1, "kept")).0, 200);
    let (status, problem) = dev.http("POST", "/v1/documents/notes", &[0xff; 40]);
    assert!((400..500).contains(&status), "{status}");
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    assert!(problem["code"].is_string(), "{problem}");
    assert_eq!(dev.text("notes"), "kept");
}

#[test]
fn two_nodes_open_one_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let error = refused(command(dir.path()));
    assert!(error.contains(&dir.path().display().to_string()), "where: {error}");
    assert!(error.contains("in use"), "what: {error}");
    assert_eq!(dev.http("GET", "/healthz", b"").0, 200, "the first one serves on");
}

#[test]
fn a_port_in_use_is_not_named() {
    let dir = tempfile::tempdir().unwrap();
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let mut second = Command::new(BINARY);
    second
        .args([
            "dev",
            "--control",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--listen",
            &taken.to_string(),
            "--data-dir",
        ])
        .arg(dir.path());
    let error = refused(second);
    assert!(error.contains(&taken.port().to_string()) && error.contains("in use"), "{error}");
}

#[test]
fn a_node_starts_over_a_corrupted_log() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    for edit in ["a", "b", "c"] {
        assert_eq!(dev.http("POST", "/v1/documents/notes", &typed(1, edit)).0, 200);
    }
    dev.kill();
    // A bit of the first batch flips.
    let mut log = segment(dir.path());
    let mut byte = [0];
    log.seek(SeekFrom::Start(70)).unwrap();
    log.read_exact(&mut byte).unwrap();
    log.seek(SeekFrom::Start(70)).unwrap();
    log.write_all(&[byte[0] ^ 1]).unwrap();
    log.sync_all().unwrap();
    let error = refused(command(dir.path()));
    assert!(error.contains("shard-000"), "where: {error}");
    assert!(error.contains("segment"), "what: {error}");
}

#[test]
fn a_torn_write_at_the_end_of_the_log_keeps_a_node_down() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    assert_eq!(dev.http("POST", "/v1/documents/notes", &typed(1, "kept")).0, 200);
    assert_eq!(dev.http("POST", "/v1/documents/notes", &typed(2, &"torn ".repeat(2_000))).0, 200);
    dev.kill();
    // Of the last batch, which is longer than a block, the end never reached the disk.
    let mut log = segment(dir.path());
    let mut whole = Vec::new();
    log.read_to_end(&mut whole).unwrap();
    let last = whole.chunks(4_096).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap();
    log.seek(SeekFrom::Start(last as u64 * 4_096)).unwrap();
    log.write_all(&[0; 4_096]).unwrap();
    log.sync_all().unwrap();
    let dev = Dev::start(dir.path());
    assert_eq!(dev.text("notes"), "kept");
}

#[test]
fn another_number_of_shards_hides_documents() {
    let dir = tempfile::tempdir().unwrap();
    Dev::start(dir.path()).interrupt();
    let mut two = Command::new(BINARY);
    two.args([
        "dev",
        "--control",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "2",
        "--data-dir",
    ]);
    two.arg(dir.path());
    let error = refused(two);
    assert!(error.contains("--shards 1"), "what to do: {error}");
}

#[test]
fn an_unknown_configuration_key_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("aetherflow.toml");
    std::fs::write(&file, "[node]\nshard = 2\n").unwrap();
    let mut check = Command::new(BINARY);
    check.arg("config").arg(&file);
    let error = refused(check);
    assert!(error.contains("line 2") && error.contains("did you mean `shards`"), "{error}");
    let mut dev = command(dir.path());
    dev.arg("--config").arg(&file);
    assert!(refused(dev).contains("did you mean `shards`"));
}

#[test]
fn the_demo_diverges_over_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Command::new(BINARY)
        .args(["demo", "--kill", "--output", "json", "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{out}\n{}", String::from_utf8_lossy(&demo.stderr));
}

/// A file system of 16 MiB: not room for one segment of the log.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Only root may make one.
    fn mount() -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(disk.0.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).stderr(Stdio::null()).status();
    }
}

#[test]
fn a_node_whose_log_cannot_be_written_lives_on_or_hides_why() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: a full disk (mount needs root)");
        return;
    };
    let error = refused(command(disk.0.path()));
    assert!(error.contains("no room for log segment 0"), "what: {error}");
    assert!(error.contains("make room in the data directory"), "what to do: {error}");
}
