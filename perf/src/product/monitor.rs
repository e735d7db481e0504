//! Watches one's own node while a load runs, from a thread of its own: its figures over time, and its death.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::node_child::{NodeMetrics, NodeProcess, Usage};
use crate::result::{Mark, MarkKind, ShardStrip};
use crate::stages::{self, ShardTimes, Stages};

/// Shards renew their figures once a second: a cell of a strip is no shorter.
pub const CELL: Duration = Duration::from_secs(1);

/// What to do when, from the beginning of the measured time.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// When the measured time begins.
    pub begin: Instant,
    /// When to kill the node and start it again.
    pub kill_at: Option<Duration>,
    /// How often to take its figures; none: never.
    pub cell: Option<Duration>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Observed {
    /// Ops of each shard over time.
    pub shards: Vec<ShardStrip>,
    /// Deaths.
    pub marks: Vec<Mark>,
    /// The process over time, from the beginning of the measured time.
    pub usage: Vec<(Duration, Usage)>,
    /// Where the shards' time went since the first look, or since the node was killed.
    pub stages: Option<Stages>,
}

impl Observed {
    /// Processor time of the whole process for each op that it logged, microseconds.
    pub fn cpu_us_per_op(&self) -> Option<f64> {
        let (first, last) = (self.usage.first()?.1, self.usage.last()?.1);
        let cpu_s = last.user_s + last.system_s - first.user_s - first.system_s;
        let of_strip = |strip: &ShardStrip| strip.cells.iter().sum::<f64>() * strip.cell_ms as f64 / 1e3;
        let ops: f64 = self.shards.iter().map(of_strip).sum();
        (ops > 0.0).then(|| cpu_s * 1e6 / ops)
    }
}

/// A node that is watched.
#[derive(Debug)]
pub struct Monitor {
    stop: Sender<()>,
    thread: JoinHandle<Result<(NodeProcess, Observed)>>,
}

impl Monitor {
    /// Begins to watch.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(node: NodeProcess, watch: Watch) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let watched = move || {
            let mut eye = Eye { node, watch, observed: Observed::default(), logged: Vec::new(), first: None };
            eye.look(&stopped)?;
            Ok((eye.node, eye.observed))
        };
        let thread = std::thread::Builder::new().name("monitor".to_owned()).spawn(watched);
        let thread =
            thread.map_err(|error| Error::doing("starting a thread that watches the node", error))?;
        Ok(Self { stop, thread })
    }

    /// Ends, and gives the node back with what was seen.
    ///
    /// # Errors
    /// The node has ended, or did not start again.
    pub fn end(self) -> Result<(NodeProcess, Observed)> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

struct Eye {
    node: NodeProcess,
    watch: Watch,
    observed: Observed,
    /// Ops of each shard at the last look.
    logged: Vec<f64>,
    /// Where the shards' time had gone when that began to be watched.
    first: Option<(Duration, Vec<ShardTimes>)>,
}

impl Eye {
    fn look(&mut self, stopped: &mpsc::Receiver<()>) -> Result<()> {
        let mut kill_at = self.watch.kill_at;
        let mut look_at = self.watch.cell.map(|_| Duration::ZERO);
        while let Some(due) = [kill_at, look_at].into_iter().flatten().min() {
            let wait = (self.watch.begin + due).saturating_duration_since(Instant::now());
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
            if kill_at == Some(due) {
                kill_at = None;
                self.kill(due)?;
            } else if let Some(cell) = self.watch.cell {
                look_at = Some(due + cell);
                let metrics = self.node.metrics()?;
                self.note(due, cell, &metrics);
            }
        }
        // Nothing more to do: until the load has ended.
        let _ended = stopped.recv();
        Ok(())
    }

    fn kill(&mut self, at: Duration) -> Result<()> {
        let took = self.node.kill_and_restart()?;
        self.logged.clear();
        self.first = None;
        let text = format!("node killed; ready again after {} ms", took.as_millis());
        self.observed.marks.push(Mark { at_ms: at.as_millis() as u64, kind: MarkKind::Failover, text });
        Ok(())
    }

    fn note(&mut self, at: Duration, cell: Duration, metrics: &NodeMetrics) {
        self.observed.usage.push((at, metrics.usage));
        match &self.first {
            None => self.first = Some((at, metrics.shards.clone())),
            Some((began, first)) => {
                let seconds = at.saturating_sub(*began).as_secs_f64();
                self.observed.stages = stages::between(first, &metrics.shards, seconds);
            }
        }
        let shards = self.node.ready().shards;
        let logged: Vec<f64> =
            (0..shards).map(|shard| metrics.of_shard("ops_logged", shard).unwrap_or_default()).collect();
        if self.observed.shards.is_empty() {
            let strip = |shard| ShardStrip {
                shard: shard as u32,
                cell_ms: cell.as_millis() as u64,
                unit: "ops_per_s".to_owned(),
                cells: Vec::new(),
            };
            self.observed.shards = (0..shards).map(strip).collect();
        }
        for (strip, (now, before)) in self
            .observed
            .shards
            .iter_mut()
            .zip(logged.iter().zip(self.logged.iter().chain(std::iter::repeat(&0.0))))
        {
            // The first look is where counting begins.
            if !at.is_zero() {
                strip.cells.push((now - before).max(0.0) / cell.as_secs_f64());
            }
        }
        self.logged = logged;
    }
}
