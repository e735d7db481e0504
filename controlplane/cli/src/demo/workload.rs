//! What is replayed: from the command line to ops with a time to be sent at.

use std::path::PathBuf;
use std::time::Duration;

use editing::{Catalog, Script, ScriptError, Trace, TraceError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::DemoArgs;
use crate::args::Output;

/// One author alone: at this rate the largest trace of the suite takes under six seconds.
const SEQUENTIAL_OPS_PER_S: u32 = 45_000;
/// Several authors wait for each other's edits, as the recording has them do.
const CONCURRENT_OPS_PER_S: u32 = 5_000;
/// Without a trace, so many people type.
const TYPISTS: usize = 3;
/// Without a trace, so many edits are made.
const TYPED_EDITS: usize = 20_000;
/// What the typing model types follows from this.
const TYPING_SEED: u64 = 0xAE7E;
/// The most writers, and the most readers.
pub(crate) const CLIENTS_MAX: u16 = 64;

/// What is replayed.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The trace's file, or what is typed.
    pub(crate) name: String,
    /// The ops of one document.
    pub(crate) script: Script,
    /// Where its ops are found.
    pub(crate) catalog: Catalog,
    /// In how many documents the script is played at the same time.
    pub(crate) documents: usize,
    /// How many read all of them.
    pub(crate) readers: usize,
    /// Over all documents; zero: as fast as the node takes them.
    pub(crate) rate_ops_per_s: u32,
}

/// Why there is nothing to replay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkloadError {
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The trace cannot be replayed.
    #[error("the trace {} cannot be replayed: {error}", path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// Why.
        error: ScriptError,
    },
    /// The typing model failed.
    #[error("the typing model failed: {0}")]
    Typing(ScriptError),
    /// The trace says how many write.
    #[error(
        "--writers {asked}, and the trace {} was written by {agents} agents at once; leave --writers out",
        path.display()
    )]
    Writers {
        /// The file.
        path: PathBuf,
        /// How many were asked for.
        asked: usize,
        /// How many wrote the trace.
        agents: usize,
    },
}

impl Workload {
    /// Reads or types it. Takes seconds; shows how far it is.
    pub(crate) fn prepare(args: &DemoArgs) -> Result<Self, WorkloadError> {
        let writers = args.writers.map(usize::from);
        let (name, script, documents) = match &args.trace {
            None => {
                let typists = writers.unwrap_or(TYPISTS);
                let bar = progress(args.output, "typing", TYPED_EDITS);
                let script = Script::typed(typists, TYPED_EDITS, TYPING_SEED, || bar.inc(1));
                bar.finish_and_clear();
                (format!("{typists} typists"), script.map_err(WorkloadError::Typing)?, 1)
            }
            Some(path) => {
                let trace = Trace::read(path)?;
                let documents = match writers {
                    Some(asked) if trace.agents > 1 && asked != trace.agents => {
                        return Err(WorkloadError::Writers {
                            path: path.clone(),
                            asked,
                            agents: trace.agents,
                        });
                    }
                    Some(writers) if trace.agents == 1 => writers,
                    _ => 1,
                };
                let bar = progress(args.output, "preparing", trace.transactions.len());
                let script = Script::prepare(&trace, || bar.inc(1));
                bar.finish_and_clear();
                let script = script.map_err(|error| WorkloadError::Script { path: path.clone(), error })?;
                (path.display().to_string(), script, documents)
            }
        };
        let default_rate = if script.agents == 1 { SEQUENTIAL_OPS_PER_S } else { CONCURRENT_OPS_PER_S };
        let catalog = Catalog::new(&script);
        let rate_ops_per_s = args.rate.unwrap_or(default_rate);
        let readers = usize::from(args.readers);
        Ok(Self { name, script, catalog, documents, readers, rate_ops_per_s })
    }

    /// Ops over all documents.
    #[must_use]
    pub(crate) fn ops(&self) -> usize {
        self.script.ops.len() * self.documents
    }

    /// Ops that come to readers, over all of them.
    #[must_use]
    pub(crate) fn reads(&self) -> usize {
        self.ops() * self.readers
    }

    /// Writers over all documents.
    #[must_use]
    pub(crate) fn writers(&self) -> usize {
        self.script.agents * self.documents
    }

    /// Bytes of all ops.
    #[must_use]
    pub(crate) fn payload_bytes(&self) -> u64 {
        let of_one = self.script.ops.iter().map(|op| op.payload.len() as u64).sum::<u64>();
        of_one * self.documents as u64
    }

    /// When an op of a document is to be sent, from the start; none: as soon as it can be.
    #[must_use]
    pub(crate) fn due(&self, document: usize, op: usize) -> Option<Duration> {
        let place = (op * self.documents + document) as u64;
        (self.rate_ops_per_s > 0).then(|| {
            Duration::from_nanos(place.saturating_mul(1_000_000_000) / u64::from(self.rate_ops_per_s))
        })
    }
}

/// A progress bar on standard error; hidden where nobody looks.
pub(crate) fn progress(output: Output, what: &'static str, total: usize) -> ProgressBar {
    // Without a terminal, stderr() draws nothing.
    let target = match output {
        Output::Text => ProgressDrawTarget::stderr(),
        Output::Json => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(total as u64), target);
    let style =
        ProgressStyle::with_template("{msg:>10} {wide_bar} {human_pos} of {human_len} ops, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}
