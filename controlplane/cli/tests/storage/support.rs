//! A node in a process of its own, asked over HTTP.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update};

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_aetherflow");

/// Held by whoever mounts: a name space that is made meanwhile keeps what is mounted elsewhere from being unmounted.
pub(crate) fn alone_with_disks() -> fs::File {
    let lock = fs::File::create(std::env::temp_dir().join("aetherflow-test-disks.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

/// A running `aetherflow dev`; killed when dropped.
pub(crate) struct Dev {
    child: Child,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

/// `aetherflow dev` at free ports.
fn command(config: &Path, data_dir: &Path) -> Command {
    let any = "127.0.0.1:0";
    let mut command = Command::new(BINARY);
    command.args(["dev", "--output", "json", "--shards", "1", "--idle-policy", "saver"]);
    command.args(["--control", any, "--http", any, "--listen", any, "--admin", any, "--config"]);
    command.arg(config).arg("--data-dir").arg(data_dir).stdin(Stdio::null());
    command
}

impl Dev {
    /// Starts it and waits until it is ready. Its events go into `node.log` beside its data.
    pub(crate) fn start(config: &Path, data_dir: &Path) -> Self {
        Self::start_with(config, data_dir, &[])
    }

    /// The same, with variables in its environment.
    pub(crate) fn start_with(config: &Path, data_dir: &Path, variables: &[(&str, String)]) -> Self {
        let events = fs::File::create(config.with_extension("log")).unwrap();
        let variables = variables.iter().map(|(name, value)| (name, value));
        let started = command(config, data_dir).envs(variables).stdout(Stdio::piped()).stderr(events).spawn();
        let mut child = started.unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = || fs::read_to_string(config.with_extension("log")).unwrap_or_default();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", said()));
        assert_eq!(ready["event"], "ready");
        Self { child, ready }
    }

    /// HOST:PORT of its HTTP.
    pub(crate) fn http(&self) -> String {
        self.ready["http"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned()
    }

    /// What a document says, or the status that it is refused with.
    pub(crate) fn text(&self, document: &str) -> Result<String, u16> {
        let path = format!("/v1/documents/{document}?format=update");
        let (status, update) = ask(&self.http(), "GET", &path, b"").unwrap_or((0, Vec::new()));
        if status != 200 {
            return Err(status);
        }
        let doc = Doc::new();
        let text = doc.get_or_insert_text("content");
        let mut transaction = doc.transact_mut();
        transaction.apply_update(Update::decode_v1(&update).unwrap()).unwrap();
        Ok(text.get_string(&transaction))
    }

    /// Writes as a new client; the status, and 0 when there is no answer.
    pub(crate) fn write(&self, document: &str, client: u64, text: &str) -> (u16, String) {
        let answer = ask(&self.http(), "POST", &format!("/v1/documents/{document}"), &typed(client, text));
        answer.map_or((0, String::new()), |(status, answer)| {
            (status, String::from_utf8_lossy(&answer).into_owned())
        })
    }

    /// One of its metrics; zero while it was not told.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let answer = ask(&self.http(), "GET", "/metrics", b"").unwrap_or_default().1;
        let metrics = String::from_utf8(answer).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name}{{")));
        line.and_then(|line| line.rsplit_once(' ')).map_or(0, |(_, value)| value.parse().unwrap())
    }

    /// Waits until it ends by itself; its exit status.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request; the status and the body.
pub(crate) fn ask(address: &str, method: &str, path: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let head = head.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let text = String::from_utf8_lossy(&answer[..head]);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, answer[head + 4..].to_vec()))
}

/// The update of somebody who types `text` into an empty document.
pub(crate) fn typed(client: u64, text: &str) -> Vec<u8> {
    let doc = Doc::with_client_id(client);
    doc.get_or_insert_text("content").push(&mut doc.transact_mut(), text);
    doc.transact().encode_state_as_update_v1(&StateVector::default())
}
