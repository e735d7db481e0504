//! `replay`: recorded editing, at its own pace, faster, or as fast as possible.

mod play;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use editing::{Catalog, Script, Trace};
use serde_json::json;
use tokio::task::JoinSet;
use wire::Access;

use self::play::Play;
use super::{Measurement, Repeat, Title, measure_all};
use crate::args::{Common, Defaults, rate};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::product::clients;
use crate::product::runtime::on_generator;
use crate::product::target::{Target, TargetArgs};
use crate::result::Pace;

const DEFAULTS: Defaults = Defaults { repeats: 1, seconds: 60.0, warmup_seconds: 0.0, report: None };
/// The most documents, and the most readers of each.
const DOCUMENTS_MAX: i64 = 1_024;

/// The command line of `replay`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "A trace is played to its end, whatever --seconds says.\n\nExample:\n  aether-perf replay \
                        automerge-paper.json.gz --rate 45000\n  aether-perf replay friendsforever.json.gz --speed 100"
)]
pub struct ReplayArgs {
    /// What every measurement has
    #[command(flatten)]
    pub common: Common,
    /// Where the load goes
    #[command(flatten)]
    pub target: TargetArgs,
    /// Editing traces, .json or .json.gz, each a run of its own
    #[arg(value_name = "TRACE", required = true)]
    pub traces: Vec<PathBuf>,
    /// So many times the recorded pace, where the trace has times
    #[arg(long, value_name = "TIMES", value_parser = rate, conflicts_with = "rate", help_heading = "Load")]
    pub speed: Option<f64>,
    /// Edits a second over all documents, in place of the recorded pace; 'saturating': as fast as the node takes them
    #[arg(long, value_name = "PER_SECOND", value_parser = super::ops::pace, help_heading = "Load")]
    pub rate: Option<Pace>,
    /// Documents that the trace is played into at the same time
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(1..=DOCUMENTS_MAX))]
    pub documents: u32,
    /// Readers of each document
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(0..=DOCUMENTS_MAX))]
    pub readers: u32,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument or trace, before anything is measured.
pub fn run(args: &ReplayArgs) -> Result<ExitCode> {
    let pieces = args.traces.iter().map(|path| Piece::read(path, args)).collect::<Result<Vec<_>>>()?;
    let mut context = Context::new("replay", &args.common, DEFAULTS)?;
    let outcome = measure(&mut context, args, pieces);
    Ok(context.finish(outcome))
}

fn measure(context: &mut Context, args: &ReplayArgs, pieces: Vec<Piece>) -> Result<()> {
    let target = Target::start(context, &args.target)?;
    let (documents, readers) = (args.documents as usize, args.readers as usize);
    let play = |piece: Piece| -> Box<dyn Measurement> {
        Box::new(Replay { target: Rc::clone(&target), piece: Arc::new(piece), documents, readers })
    };
    let outcome = measure_all(context, pieces.into_iter().map(play).collect());
    outcome.and(target.stop())
}

/// A trace that is ready to be played.
struct Piece {
    name: String,
    script: Script,
    catalog: Catalog,
    tempo: Tempo,
}

/// When an edit is due.
#[derive(Clone, Debug)]
enum Tempo {
    /// Nanoseconds from the start, for each edit of a document.
    Recorded {
        due_ns: Vec<u64>,
        speed: f64,
    },
    /// Over all documents.
    Rate(f64),
    Saturating,
}

impl Piece {
    fn read(path: &Path, args: &ReplayArgs) -> Result<Self> {
        let doing = || format!("preparing the trace {}", path.display());
        let trace = Trace::read(path).map_err(|error| Error::doing(doing(), error))?;
        let tempo = Tempo::choose(path, &trace, args)?;
        let script = Script::prepare(&trace, || {}).map_err(|error| Error::doing(doing(), error))?;
        if script.equals_recording == Some(false) {
            return Err(Error::doing(doing(), "its edits make another text than the one that it ends with"));
        }
        let catalog = Catalog::new(&script);
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, script, catalog, tempo })
    }
}

impl Tempo {
    fn choose(path: &Path, trace: &Trace, args: &ReplayArgs) -> Result<Self> {
        match args.rate {
            Some(Pace::Open { rate_per_s }) => return Ok(Self::Rate(rate_per_s)),
            Some(Pace::Closed | Pace::Saturating) => return Ok(Self::Saturating),
            None => {}
        }
        if trace.times.is_empty() {
            let path = path.display();
            return Err(Error::Usage(format!(
                "{path} does not say when its edits were typed (its times are none, or of a \
                 conversion); give a pace with --rate 5000 or --rate saturating"
            )));
        }
        let speed = args.speed.unwrap_or(1.0);
        let due = |time: &Duration| (time.as_nanos() as f64 / speed) as u64;
        Ok(Self::Recorded { due_ns: trace.times.iter().map(due).collect(), speed })
    }

    /// When the edit `op` of `document` is due, nanoseconds from the start; none: as soon as it can be.
    fn due_ns(&self, op: usize, document: usize, documents: usize) -> Option<u64> {
        match self {
            Self::Recorded { due_ns, .. } => Some(due_ns[op]),
            Self::Rate(per_s) => Some(((op * documents + document) as f64 * 1e9 / per_s) as u64),
            Self::Saturating => None,
        }
    }

    /// The pace on average.
    fn pace(&self, ops: usize, documents: usize) -> Pace {
        match self {
            Self::Recorded { due_ns, .. } => {
                let seconds = due_ns.last().map_or(1.0, |&last| (last as f64 / 1e9).max(1e-9));
                Pace::Open { rate_per_s: (ops * documents) as f64 / seconds }
            }
            Self::Rate(rate_per_s) => Pace::Open { rate_per_s: *rate_per_s },
            Self::Saturating => Pace::Saturating,
        }
    }
}

struct Replay {
    target: Rc<Target>,
    piece: Arc<Piece>,
    documents: usize,
    readers: usize,
}

impl Measurement for Replay {
    fn title(&self) -> Title {
        let mut parameters = self.target.parameters();
        parameters.extend([
            ("trace".to_owned(), json!(self.piece.name)),
            ("documents".to_owned(), json!(self.documents)),
            ("writers_per_document".to_owned(), json!(self.piece.script.agents)),
            ("readers_per_document".to_owned(), json!(self.readers)),
        ]);
        if let Tempo::Recorded { speed, .. } = self.piece.tempo {
            parameters.insert("speed".to_owned(), json!(speed));
        }
        Title {
            workload: "replay",
            subject: "node".to_owned(),
            waiting: self.target.waiting(),
            pace: self.piece.tempo.pace(self.piece.script.ops.len(), self.documents),
            parameters,
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let (control, api_key) = (self.target.control.clone(), self.target.api_key.clone());
        let (piece, documents, readers) = (Arc::clone(&self.piece), self.documents, self.readers);
        let interrupt = context.interrupt.clone();
        on_generator(Some(context.cores.client), || async move {
            let tickets = Target::session(&control, api_key.as_deref(), Access::Write).await?;
            // One client for each agent and each reader, in all documents.
            let everybody = clients::connect(&tickets, piece.script.agents + readers).await?;
            let first = clients::fresh_documents(&everybody);
            let mut joined = Vec::with_capacity(documents);
            for number in 0..documents {
                let id = format!("{first}/{number}");
                let of_document: Result<Vec<_>> =
                    everybody.iter().map(|client| clients::join(client, &id, true)).collect();
                joined.push(of_document?);
            }
            for document in joined.iter_mut().flatten() {
                clients::opened(document).await?;
            }
            let play = Play::new(piece, documents, readers);
            let mut tasks = JoinSet::new();
            let keyboards = play.listen(joined, &mut tasks);
            let outcome = play.run(&keyboards, &mut tasks, &interrupt).await;
            tasks.shutdown().await;
            drop(keyboards);
            clients::close(everybody).await;
            outcome?;
            Ok(play.repeat())
        })
    }
}
