//! The product under test: a control plane and a node in a process of their own, on cores of their own.
//!
//! The child is this program again (`aether-perf serve node`). It says in one line when it is ready, answers each
//! line `metrics` with one of its figures, and ends when its standard input closes, so that none outlives whoever
//! started it.

mod options;
mod serve;
mod usage;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

pub use self::options::{IdlePolicy, NodeOptions, data_cores};
pub use self::serve::{ServeArgs, serve};
pub use self::usage::Usage;
use crate::error::{Error, Result};
use crate::serve::ServerProcess;
use crate::stages::ShardTimes;

/// The line that asks a child for its [`NodeMetrics`].
const ASK_METRICS: &str = "metrics";

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
    server: ServerProcess,
    ready: NodeReady,
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
        self.process.server.id()
    }

    /// Its figures now.
    ///
    /// # Errors
    /// It has ended.
    pub fn metrics(&mut self) -> Result<NodeMetrics> {
        self.process.server.ask(ASK_METRICS)
    }

    /// Kills it, without a chance to do anything more, and starts it again over its own log at the same addresses.
    /// How long that took, until it was ready.
    ///
    /// # Errors
    /// It does not start again.
    pub fn kill_and_restart(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.process.server.kill();
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
    pub fn stop(self) -> Result<NodeMetrics> {
        self.process.server.stop()
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
        let arguments = options.arguments(place, control, quantum);
        let (server, ready) = ServerProcess::spawn_with_log(&arguments, &place.join("node.log"))?;
        Ok(Self { server, ready })
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
