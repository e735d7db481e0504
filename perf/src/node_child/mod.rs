//! The product under test: a control plane and a node in a process of their own, on cores of their own.
//!
//! The child is this program again (`aether-perf serve node`). It says in one line when it is ready, answers each
//! line `metrics` with one of its figures, and ends when its standard input closes, so that none outlives whoever
//! started it.

mod options;
mod serve;
mod usage;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

pub use self::options::{IdlePolicy, NodeOptions, data_cores};
pub use self::serve::{ServeArgs, serve};
pub use self::usage::Usage;
use crate::error::{Error, Result};
use crate::stages::ShardTimes;

/// So many bytes of the last of a child's events are shown when it fails.
const LAST_WORDS_BYTES: u64 = 2_048;

/// What a child says when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeReady {
    /// URL of the control plane.
    pub control: String,
    /// The Quantum socket.
    pub quantum: SocketAddr,
    /// How many shards it has.
    pub shards: usize,
    /// Ops that it found in its log.
    pub recovered_ops: u64,
}

/// A child's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeMetrics {
    /// What `/metrics` of the product would say, in Prometheus' text format; the shards renew it once a second.
    pub prometheus: String,
    /// Each shard's counters and where its time went; renewed as often.
    pub shards: Vec<ShardTimes>,
    /// Processor time and memory of the whole process.
    pub usage: Usage,
}

impl NodeMetrics {
    /// A figure of one shard by its name, without `aetherflow_` before and `_total` behind it.
    pub fn of_shard(&self, name: &str, shard: usize) -> Option<f64> {
        let label = format!("shard=\"{shard}\"");
        self.series(name)
            .find(|(labels, _)| labels.split(',').any(|one| one == label))
            .map(|(_, value)| value)
    }

    /// A figure over all shards; 0 where it is not known.
    pub fn total(&self, name: &str) -> f64 {
        self.series(name).map(|(_, value)| value).sum()
    }

    fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.prometheus.lines().filter_map(move |line| {
            let rest = line.strip_prefix("aetherflow_")?.strip_prefix(name)?;
            let (labels, value) =
                rest.strip_prefix("_total").unwrap_or(rest).strip_prefix('{')?.split_once("} ")?;
            Some((labels, value.trim().parse().ok()?))
        })
    }
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct NodeProcess {
    options: NodeOptions,
    place: Place,
    process: Process,
}

/// Where a node keeps its data.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    _removed_at_the_end: Option<TempDir>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    ready: NodeReady,
    log: PathBuf,
}

impl NodeProcess {
    /// Starts a node on free ports and waits until it is ready.
    ///
    /// # Errors
    /// The data directory cannot be used, or the child did not become ready, with its last words.
    pub fn start(options: NodeOptions) -> Result<Self> {
        let place = Place::new(&options)?;
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let process = Process::start(&options, &place.path, free, free)?;
        Ok(Self { options, place, process })
    }

    /// What it said when it was ready.
    pub fn ready(&self) -> &NodeReady {
        &self.process.ready
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Its figures now.
    ///
    /// # Errors
    /// It has ended.
    pub fn metrics(&mut self) -> Result<NodeMetrics> {
        self.process.metrics()
    }

    /// Kills it, without a chance to do anything more, and starts it again over its own log at the same addresses.
    /// How long that took, until it was ready.
    ///
    /// # Errors
    /// It does not start again.
    pub fn kill_and_restart(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.process.kill();
        let (control, quantum) = (self.process.ready.control.clone(), self.process.ready.quantum);
        let address = control.trim_start_matches("http://").parse();
        let address =
            address.map_err(|error| Error::doing(format!("reading the address of {control}"), error))?;
        self.process = Process::start(&self.options, &self.place.path, address, quantum)?;
        Ok(began.elapsed())
    }

    /// Has it drain and end; what it used and did.
    ///
    /// # Errors
    /// It failed, with its last words.
    pub fn stop(mut self) -> Result<NodeMetrics> {
        self.process.stop()
    }
}

impl Place {
    fn new(options: &NodeOptions) -> Result<Self> {
        let (path, temporary) = match &options.data_dir {
            Some(path) => (path.clone(), None),
            None => {
                let base = options::disk_for_logs();
                let temporary = tempfile::Builder::new().prefix("aether-perf-").tempdir_in(&base);
                let doing = || format!("making a directory for the node's data in {}", base.display());
                let temporary = temporary.map_err(|error| Error::doing(doing(), error))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        std::fs::create_dir_all(&path).map_err(|source| Error::Output {
            path: path.clone(),
            option: "--data-dir",
            source,
        })?;
        Ok(Self { path, _removed_at_the_end: temporary })
    }
}

impl Process {
    fn start(options: &NodeOptions, place: &Path, control: SocketAddr, quantum: SocketAddr) -> Result<Self> {
        let program = std::env::current_exe().map_err(|error| Error::doing("finding this program", error))?;
        let log = place.join("node.log");
        let failed = |what: String| Error::Child { command: "aether-perf serve node".to_owned(), what };
        let events = File::options().create(true).append(true).open(&log);
        let events =
            events.map_err(|source| Error::Output { path: log.clone(), option: "--data-dir", source })?;
        let mut child = Command::new(program)
            .args(options.arguments(place, control, quantum))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(events)
            // Ctrl-C is for the generator, which ends its child itself.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(format!("cannot be started: {error}")))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("has no pipes".to_owned()));
        };
        let (stdin, mut stdout) = (Some(stdin), BufReader::new(stdout));
        let line = line_of(&mut stdout);
        match line.as_deref().map(serde_json::from_str) {
            Some(Ok(ready)) => Ok(Self { child, stdin, stdout, ready, log }),
            Some(Err(error)) => {
                end(&mut child);
                Err(failed(format!("said something else than that it is ready: {error}")))
            }
            None => {
                end(&mut child);
                Err(failed(format!("ended before it was ready; its last words:\n{}", last_words(&log))))
            }
        }
    }

    fn metrics(&mut self) -> Result<NodeMetrics> {
        let asked =
            self.stdin.as_mut().map(|stdin| stdin.write_all(b"metrics\n").and_then(|()| stdin.flush()));
        match asked {
            Some(Ok(())) => self.read(),
            Some(Err(_)) | None => Err(self.ended()),
        }
    }

    fn read(&mut self) -> Result<NodeMetrics> {
        let line = line_of(&mut self.stdout).ok_or_else(|| self.ended())?;
        serde_json::from_str(&line).map_err(|error| Error::doing("reading the figures of the node", error))
    }

    fn stop(&mut self) -> Result<NodeMetrics> {
        drop(self.stdin.take());
        let metrics = self.read()?;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(metrics),
            _ => Err(self.ended()),
        }
    }

    fn ended(&self) -> Error {
        let what = format!("has ended; its last words:\n{}", last_words(&self.log));
        Error::Child { command: "aether-perf serve node".to_owned(), what }
    }

    fn kill(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills a child, if it still runs, and waits for it.
fn end(child: &mut Child) {
    // One that has ended and was waited for is left alone.
    let _ = child.kill();
    let _ = child.wait();
}

fn line_of(stdout: &mut BufReader<ChildStdout>) -> Option<String> {
    let mut line = String::new();
    matches!(stdout.read_line(&mut line), Ok(1..)).then_some(line)
}

fn last_words(log: &Path) -> String {
    let mut words = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let start = file.metadata()?.len().saturating_sub(LAST_WORDS_BYTES);
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut words)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&words).trim().to_owned(),
        Err(error) => format!("({}: {error})", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_taken_from_another_shard_or_name() {
        let prometheus = "# TYPE aetherflow_ops_logged_total counter\n\
            aetherflow_ops_logged_total{shard=\"0\"} 3\n\
            aetherflow_ops_logged_total{shard=\"1\"} 4\n\
            aetherflow_ops_logged_bytes{shard=\"0\"} 50\n\
            aetherflow_stage_seconds_sum{shard=\"1\",stage=\"open\"} 0.5\n"
            .to_owned();
        let metrics = NodeMetrics { prometheus, shards: Vec::new(), usage: Usage::default() };
        assert_eq!(metrics.of_shard("ops_logged", 1), Some(4.0));
        assert_eq!(metrics.of_shard("ops_logged", 2), None);
        assert_eq!(metrics.total("ops_logged"), 7.0);
        assert_eq!(metrics.of_shard("stage_seconds_sum", 1), Some(0.5));
        assert_eq!(metrics.total("ops"), 0.0);
    }
}
