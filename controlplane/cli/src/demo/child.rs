//! The demo's own node: a child process that runs `aetherflow dev`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long a node may take until it is ready: it reads its log first.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take to drain.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// So many of the last lines of the node's events are shown when it fails.
const LOG_LINES_SHOWN: usize = 12;

/// How the node is started, every time.
#[derive(Clone, Debug)]
pub(crate) struct NodeCommand {
    /// The program.
    pub(crate) program: PathBuf,
    /// Where its documents are kept.
    pub(crate) data_dir: PathBuf,
    /// Where its events go.
    pub(crate) log: PathBuf,
    /// How many shards it has.
    pub(crate) shards: u16,
}

/// A running node. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Node {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    command: NodeCommand,
    ready: Ready,
}

/// What the node says when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ready {
    /// URL of the gateway.
    pub(crate) http: String,
    /// URL of the control plane.
    pub(crate) control: String,
    /// Address of the Quantum socket.
    pub(crate) quantum: SocketAddr,
    /// How many ops it found in its log.
    pub(crate) recovered_ops: u64,
    /// How long it took to start.
    pub(crate) ready_ms: u64,
}

/// Why the node does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The process could not be started or spoken to.
    #[error("cannot run {}: {error}", program.display())]
    Process {
        /// The program.
        program: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It ended, or closed its output, before it had said what it should.
    #[error("the node ended before it was {state}; the last of its events ({}):\n{last_lines}", log.display())]
    Ended {
        /// What it should have become.
        state: &'static str,
        /// Where its events are.
        log: PathBuf,
        /// The last of them.
        last_lines: String,
    },
    /// It did not say it in time.
    #[error("the node is not {state} after {} s; its events are in {}", after.as_secs(), log.display())]
    TooSlow {
        /// What it should have become.
        state: &'static str,
        /// How long it had.
        after: Duration,
        /// Where its events are.
        log: PathBuf,
    },
    /// What it said makes no sense.
    #[error("cannot understand what the node printed when it was ready: {error}: {line}")]
    Unreadable {
        /// What is wrong.
        error: serde_json::Error,
        /// What it said.
        line: String,
    },
}

impl NodeCommand {
    /// Starts a node on free ports and waits until it is ready.
    pub(crate) async fn start(self) -> Result<Node, NodeError> {
        self.start_at(["127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()]).await
    }

    async fn start_at(self, [listen, http, control]: [String; 3]) -> Result<Node, NodeError> {
        let arguments: [OsString; 13] = [
            "dev".into(),
            "--data-dir".into(),
            self.data_dir.clone().into(),
            "--shards".into(),
            self.shards.to_string().into(),
            "--listen".into(),
            listen.into(),
            "--http".into(),
            http.into(),
            "--control".into(),
            control.into(),
            "--output".into(),
            "json".into(),
        ];
        let failed = |error| NodeError::Process { program: self.program.clone(), error };
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut process = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for the demo, which stops the node itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdout = process.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = next_line(&mut lines, &self, "ready", READY_TIMEOUT).await?;
        let ready = Ready::read(line)?;
        Ok(Node { process, lines, command: self, ready })
    }
}

impl Node {
    /// What it said when it was ready.
    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Kills it, without a chance to do anything more, and starts it again at the same addresses.
    pub(crate) async fn kill_and_restart(self) -> Result<Self, NodeError> {
        let Self { mut process, command, ready, .. } = self;
        process
            .kill()
            .await
            .map_err(|error| NodeError::Process { program: command.program.clone(), error })?;
        command.start_at(ready.addresses()).await
    }

    /// Asks it to drain and end; returns how to start it again.
    pub(crate) async fn stop(mut self) -> Result<NodeCommand, NodeError> {
        let failed = |error| NodeError::Process { program: self.command.program.clone(), error };
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(|error| failed(error.into()))?;
        }
        next_line(&mut self.lines, &self.command, "drained", STOP_TIMEOUT).await?;
        if self.process.wait().await.map_err(failed)?.success() {
            return Ok(self.command);
        }
        let log = self.command.log;
        Err(NodeError::Ended { state: "drained", last_lines: last_lines(&log), log })
    }
}

impl Ready {
    fn read(line: String) -> Result<Self, NodeError> {
        serde_json::from_str(&line).map_err(|error| NodeError::Unreadable { error, line })
    }

    /// Quantum, HTTP and gRPC, as HOST:PORT.
    fn addresses(&self) -> [String; 3] {
        let host_and_port = |url: &str| url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        [self.quantum.to_string(), host_and_port(&self.http), host_and_port(&self.control)]
    }
}

async fn next_line(
    lines: &mut Lines<BufReader<ChildStdout>>,
    command: &NodeCommand,
    state: &'static str,
    after: Duration,
) -> Result<String, NodeError> {
    match timeout(after, lines.next_line()).await {
        Ok(Ok(Some(line))) => Ok(line),
        Ok(Ok(None)) => {
            Err(NodeError::Ended { state, log: command.log.clone(), last_lines: last_lines(&command.log) })
        }
        Ok(Err(error)) => Err(NodeError::Process { program: command.program.clone(), error }),
        Err(_) => Err(NodeError::TooSlow { state, after, log: command.log.clone() }),
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_node_gets_other_addresses() {
        let line = r#"{"event":"ready","http":"http://127.0.0.1:7480","control":"http://127.0.0.1:7481",
            "quantum":"127.0.0.1:7400","data_dir":"/x","shards":1,"recovered_ops":0,"ready_ms":3,"pid":1}"#;
        let ready = Ready::read(line.to_owned()).unwrap();
        assert_eq!(ready.addresses(), ["127.0.0.1:7400", "127.0.0.1:7480", "127.0.0.1:7481"]);
    }

    #[test]
    fn what_the_node_printed_is_lost() {
        let error = Ready::read("panicked".to_owned()).unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
    }
}
