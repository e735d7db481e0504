//! The node that is killed: a process of its own that runs `aetherflow dev`.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::error::ChaosError;
use crate::ports::free_ports;
use crate::program::Program;

/// How long a node may take until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// So many of the last lines of the node's events are shown when it does not start.
const LOG_LINES_SHOWN: usize = 12;
/// Segments are small, and what they hold is trimmed early, so that kills meet that, too.
const CONFIG: &str = include_str!("node.toml");

/// How the node is started, every time.
#[derive(Clone, Debug)]
pub(crate) struct NodeCommand {
    program: PathBuf,
    pub(crate) data_dir: PathBuf,
    log: PathBuf,
    config: PathBuf,
    shards: u16,
    addresses: [String; 3],
}

/// A node that was started. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Node {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    started: Instant,
    is_ready: bool,
}

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    /// It has ended; the last that it said.
    #[error("the node does not start over its data:\n{0}")]
    Ended(String),
    /// It takes too long.
    #[error("the node is not ready after {READY_TIMEOUT:?}:\n{0}")]
    TooSlow(String),
    /// What it said makes no sense.
    #[error("cannot understand what the node said when it was ready: {0}: {1}")]
    Unreadable(serde_json::Error, String),
}

/// What the node says when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) control: String,
    pub(crate) recovered_ops: u64,
    pub(crate) recovered_ops_stored: u64,
}

impl NodeCommand {
    pub(crate) fn new(program: &Program, place: &Path, shards: u16) -> Result<Self, ChaosError> {
        let config = place.join("node.toml");
        std::fs::write(&config, CONFIG).map_err(|error| ChaosError::Data { path: config.clone(), error })?;
        let ports = free_ports(std::process::id()).map_err(ChaosError::Ports)?;
        Ok(Self {
            program: program.0.clone(),
            data_dir: place.join("data"),
            log: place.join("node.log"),
            config,
            shards,
            addresses: ports.map(|port| format!("127.0.0.1:{port}")),
        })
    }

    /// Starts it; it is not ready yet.
    pub(crate) fn start(&self) -> Result<Node, ChaosError> {
        let failed = |error| ChaosError::Process { program: self.program.clone(), error };
        let [listen, http, control] = &self.addresses;
        let mut arguments: Vec<OsString> =
            vec!["dev".into(), "--data-dir".into(), self.data_dir.clone().into()];
        arguments.extend(["--config".into(), self.config.clone().into()]);
        let shards = self.shards.to_string();
        let others = ["--shards", &shards, "--listen", listen, "--http", http, "--control", control];
        arguments.extend(others.map(OsString::from));
        arguments.extend(["--output", "json"].map(OsString::from));
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut process = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdout = process.stdout.take().ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok(Node { process, lines: BufReader::new(stdout).lines(), started: Instant::now(), is_ready: false })
    }

    /// HOST:PORT where its metrics are.
    pub(crate) fn http(&self) -> &str {
        let [_, http, _] = &self.addresses;
        http
    }

    /// The last that the node said.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// The bytes of everything that it has on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        fn bytes_below(path: &Path) -> u64 {
            let Ok(entries) = std::fs::read_dir(path) else { return 0 };
            let sizes = entries.flatten().map(|entry| match entry.metadata() {
                Ok(found) if found.is_dir() => bytes_below(&entry.path()),
                Ok(found) => found.len(),
                Err(_) => 0,
            });
            sizes.sum()
        }
        bytes_below(&self.data_dir)
    }
}

impl Node {
    /// Waits until it serves; how long that took since its start.
    pub(crate) async fn ready(&mut self, command: &NodeCommand) -> Result<(Ready, Duration), NotReady> {
        let line = match timeout(READY_TIMEOUT, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(_) => return Err(NotReady::Ended(command.last_words())),
            Err(_) => return Err(NotReady::TooSlow(command.last_words())),
        };
        let ready = serde_json::from_str(&line).map_err(|error| NotReady::Unreadable(error, line))?;
        self.is_ready = true;
        Ok((ready, self.started.elapsed()))
    }

    /// Whether it has said that it is ready.
    pub(crate) const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// Kills it, without a chance to do anything more.
    pub(crate) async fn kill(&mut self, command: &NodeCommand) -> Result<(), ChaosError> {
        let killed = self.process.kill().await;
        killed.map_err(|error| ChaosError::Process { program: command.program.clone(), error })
    }
}
