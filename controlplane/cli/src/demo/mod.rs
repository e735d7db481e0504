//! `aetherflow demo`: replays real editing through a node of its own, and checks that nothing is lost.
//!
//! The node is a child process, `aetherflow dev`, whose shards begin at the first core; the load, one client
//! for each writer and reader, is one thread on the last core.

mod child;
mod load;
mod log_size;
mod reader;
mod report;
mod run;
mod verify;
mod workload;
mod writer;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aetherflow_client::ControlPlane;
use clap::Args;
use tempfile::TempDir;
use wire::{Access, Grant};

use self::child::{Node, NodeCommand, NodeError};
use self::load::{Load, LoadError, LoadOutcome, Target};
use self::report::{KillReport, Report, difference};
use self::run::Milestone;
use self::workload::{CLIENTS_MAX, Workload, WorkloadError, progress};
use crate::args::Output;
use crate::{output, roles};

/// The exit status of a command that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// The command line of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Editing trace, .json or .json.gz [default: people who type, from a model]
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Writers: typists in one text, or copies of a trace by one author, each in a document of its own
    /// [default: 3 typists; as many as wrote the trace]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(CLIENTS_MAX)))]
    pub(crate) writers: Option<u16>,
    /// Readers, each of all documents
    #[arg(long, value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(0..=i64::from(CLIENTS_MAX)))]
    pub(crate) readers: u16,
    /// Edits a second over all writers; 0 sends as fast as the node takes them
    /// [default: 45000 for one author, 5000 for several]
    #[arg(long, value_name = "OPS_PER_S")]
    pub(crate) rate: Option<u32>,
    /// End the node with SIGKILL halfway and start it again
    #[arg(long)]
    pub(crate) kill: bool,
    /// Where the node keeps its data [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Shards of the node [default: one for each core but one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) shards: Option<u16>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Role(#[from] roles::RoleError),
    #[error("cannot use the data directory: {0}")]
    DataDir(io::Error),
    #[error("cannot find the program that runs: {0}")]
    Program(io::Error),
}

/// Runs the demo. The exit status is 1 if anything diverged.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    match replay(args) {
        Ok(Some(report)) => {
            output::print(args.output, &report, || report.table());
            if report.is_good() {
                return output::OK;
            }
            eprintln!("error: {}", report.divergences.join("; "));
            ExitCode::FAILURE
        }
        Ok(None) => ExitCode::from(INTERRUPTED),
        Err(error) => output::fail(args.output, &error),
    }
}

/// None: interrupted.
fn replay(args: &DemoArgs) -> Result<Option<Report>, DemoError> {
    let began = Instant::now();
    let workload = Arc::new(Workload::prepare(args)?);
    let prepare_ms = began.elapsed().as_millis() as u64;
    let place = Place::new(args)?;
    let runtime = roles::runtime()?;
    // Dropping what runs kills the node; dropping the place removes its data.
    let report = runtime.block_on(async {
        tokio::select! {
            report = Stage { args, workload, prepare_ms }.play(place.node.clone()) => report.map(Some),
            asked = roles::asked_to_stop() => asked.map(|()| None).map_err(DemoError::from),
        }
    });
    runtime.shutdown_timeout(Duration::ZERO);
    report
}

/// Where the node keeps its data.
struct Place {
    node: NodeCommand,
    _removed_at_the_end: Option<TempDir>,
}

impl Place {
    fn new(args: &DemoArgs) -> Result<Self, DemoError> {
        let cores = rt::allowed_cores().len();
        let one_less = u16::try_from(cores.saturating_sub(1)).unwrap_or(u16::MAX);
        let shards = args.shards.unwrap_or_else(|| one_less.clamp(1, 256));
        let (directory, temporary) = match &args.data_dir {
            Some(directory) => (directory.clone(), None),
            None => {
                let temporary = tempfile::Builder::new().prefix("aetherflow-demo-").tempdir();
                let temporary = temporary.map_err(DemoError::DataDir)?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        std::fs::create_dir_all(&directory).map_err(DemoError::DataDir)?;
        let program = std::env::current_exe().map_err(DemoError::Program)?;
        let log = directory.join("demo-node.log");
        let node = NodeCommand { program, data_dir: directory.join("data"), log, shards };
        Ok(Self { node, _removed_at_the_end: temporary })
    }
}

/// What is played.
struct Stage<'a> {
    args: &'a DemoArgs,
    workload: Arc<Workload>,
    prepare_ms: u64,
}

/// What the node went through.
struct Ending {
    log_bytes: u64,
    recovery_ms: u64,
    recovered_ops: u64,
    ops_lost: usize,
    divergences: Vec<String>,
}

impl Stage<'_> {
    async fn play(self, command: NodeCommand) -> Result<Report, DemoError> {
        let shards = command.shards;
        let node = command.start().await?;
        let node_ready_ms = node.ready().ready_ms;
        let target = self.target(&node).await?;
        let bar = progress(self.args.output, "replaying", self.workload.ops());
        let load = load::start(Arc::clone(&self.workload), target.clone(), bar)?;
        let (node, kill, outcome) = self.attend(load, node).await?;
        let ending = self.look_again(node, &target).await?;
        Ok(self.report(shards, node_ready_ms, outcome, kill, ending))
    }

    /// Two sessions, one that writes and one that reads, and documents that nobody had before.
    async fn target(&self, node: &Node) -> Result<Target, LoadError> {
        let control = node.ready().control.clone();
        let session = async |access| {
            let grants = [Grant { pattern: "demo/*".to_owned(), access }];
            ControlPlane::create_session(&control, "demo", &grants, None, 0).await
        };
        let writer = session(Access::Write).await?;
        let reader = session(Access::Read).await?;
        let run = writer.session_id;
        let documents = (0..self.workload.documents).map(|number| format!("demo/{run}/{number}")).collect();
        Ok(Target { control, writer_token: writer.token, reader_token: reader.token, documents })
    }

    /// Waits for the load; kills the node halfway if that is wanted.
    async fn attend(
        &self,
        mut load: Load,
        mut node: Node,
    ) -> Result<(Node, Option<KillReport>, LoadOutcome), DemoError> {
        let mut kill = None;
        if self.args.kill
            && let Some(Milestone::Half(ops_acknowledged)) = load.milestones.recv().await
        {
            let killed = Instant::now();
            node = node.kill_and_restart().await?;
            let ready_after_ms = killed.elapsed().as_millis() as u64;
            let recovered_ops = node.ready().recovered_ops;
            kill = Some(KillReport { ops_acknowledged, recovered_ops, ready_after_ms });
        }
        let outcome = load.outcome.await.map_err(|_| LoadError::Vanished)??;
        Ok((node, kill, outcome))
    }

    /// Starts the node over its own log and compares what it has with what was sent.
    async fn look_again(&self, node: Node, target: &Target) -> Result<Ending, DemoError> {
        let command = node.stop().await?;
        let log_bytes = log_size::written_bytes(&command.data_dir).map_err(DemoError::DataDir)?;
        let node = command.start().await?;
        let (recovery_ms, recovered_ops) = (node.ready().ready_ms, node.ready().recovered_ops);
        let client = load::connect(&node.ready().control, &target.reader_token).await?;
        let mut ops_lost = 0;
        let mut divergences = Vec::new();
        for id in &target.documents {
            let script = &self.workload.script;
            let found = verify::recovered(&client, id, script).await?;
            ops_lost += found.ops_missing;
            if found.ops_missing > 0 {
                divergences.push(format!("the recovered {id} lacks {} acknowledged ops", found.ops_missing));
            }
            if let Some(difference) = difference(&script.text, &found.text) {
                divergences.push(format!("the recovered {id}: {difference}"));
            }
        }
        drop(client);
        node.stop().await?;
        Ok(Ending { log_bytes, recovery_ms, recovered_ops, ops_lost, divergences })
    }

    fn report(
        &self,
        shards: u16,
        node_ready_ms: u64,
        outcome: LoadOutcome,
        kill: Option<KillReport>,
        ending: Ending,
    ) -> Report {
        let LoadOutcome { figures, elapsed, stats, mut divergences } = outcome;
        let workload = &self.workload;
        divergences.extend(ending.divergences);
        let equal = divergences.is_empty();
        divergences.extend(figures.problems);
        if kill.is_none() && figures.repeated > 0 {
            divergences.push(format!("{} ops came twice, and no node was killed", figures.repeated));
        }
        if workload.script.equals_recording == Some(false) {
            divergences
                .push("the ops make another text than the one that the recording ends with".to_owned());
        }
        let seconds = elapsed.as_secs_f64();
        Report {
            event: "demo",
            trace: workload.name.clone(),
            ops: workload.ops(),
            payload_bytes: workload.payload_bytes(),
            documents: workload.documents,
            writers: workload.writers(),
            readers: workload.readers,
            shards,
            rate_ops_per_s: workload.rate_ops_per_s,
            prepare_ms: self.prepare_ms,
            node_ready_ms,
            seconds,
            durable_ops_per_s: workload.ops() as f64 / seconds,
            edit_to_durable: figures.edit_to_durable.summary(),
            edit_to_reader: figures.edit_to_reader.summary(),
            ops_read_in_state: figures.read_in_state,
            ops_repeated: figures.repeated,
            silence_max_ms: figures.silence_max.as_millis() as u64,
            wire_bytes_sent: stats.bytes_sent,
            wire_bytes_received: stats.bytes_received,
            packets_lost: stats.packets_lost,
            reconnects: stats.reconnects,
            log_bytes: ending.log_bytes,
            kill,
            recovery_ms: ending.recovery_ms,
            recovered_ops: ending.recovered_ops,
            ops_lost: ending.ops_lost,
            text_bytes: workload.script.text.len(),
            equals_recording: workload.script.equals_recording,
            equal,
            divergences,
        }
    }
}
