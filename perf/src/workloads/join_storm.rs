//! `join-storm`: many clients open one large document at the same moment, on request just after the node was killed and
//! started again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aetherflow_client::{Client, ControlPlane, Document, DocumentEvent};
use bytes::Bytes;
use clap::Args;
use editing::{Author, Contents, Script, Trace};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wire::Access;

use super::{Measurement, Repeat, Title, measure_all};
use crate::args::{Common, Defaults};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::load::Tally;
use crate::product::clients;
use crate::product::runtime::on_generator;
use crate::product::target::{Target, TargetArgs};
use crate::record::{INTERVAL, Recorder};
use crate::result::Pace;
use crate::stall::StallMeter;
use crate::verdict::Findings;

const DEFAULTS: Defaults = Defaults { repeats: 3, seconds: 1.0, warmup_seconds: 0.0, report: None };
/// The most clients.
const CLIENTS_MAX: i64 = 5_000;
/// What the document holds follows from this.
const SEED: u64 = 0x057a_7e00;
/// How long the edits that make the document may take to be durable.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(120);

/// The command line of `join-storm`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "A client has joined when it holds the last edit, in a state or as an op of its own.\n\nExample:\n  \
                        aether-perf join-storm --clients 500 --edits 200000\n  aether-perf join-storm \
                        automerge-paper.json.gz --clients 1 --restart --pending-edits 1"
)]
pub struct JoinStormArgs {
    /// What every measurement has
    #[command(flatten)]
    pub common: Common,
    /// Where the load goes
    #[command(flatten)]
    pub target: TargetArgs,
    /// Clients that join at once, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub clients: u32,
    /// Edits that the document was made with
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Load", conflicts_with = "trace",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub edits: u32,
    /// An editing trace, .json or .json.gz, that the document was made with
    #[arg(value_name = "TRACE")]
    pub trace: Option<PathBuf>,
    /// End the node with SIGKILL before everybody joins, and start it again over its data
    #[arg(long, conflicts_with = "target", help_heading = "Load")]
    pub restart: bool,
    /// Edits typed after that and before everybody joins
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Load")]
    pub pending_edits: u32,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &JoinStormArgs) -> Result<ExitCode> {
    let piece = match &args.trace {
        Some(path) => Piece::read(path)?,
        None => Piece::typed(args.edits),
    };
    let mut context = Context::new("join-storm", &args.common, DEFAULTS)?;
    let outcome = measure(&mut context, args, piece);
    Ok(context.finish(outcome))
}

fn measure(context: &mut Context, args: &JoinStormArgs, piece: Piece) -> Result<()> {
    let target = Target::start(context, &args.target)?;
    let storm = JoinStorm {
        target: Rc::clone(&target),
        piece: Arc::new(piece),
        clients: args.clients,
        restart: args.restart,
        pending_edits: args.pending_edits as usize,
    };
    let outcome = measure_all(context, vec![Box::new(storm)]);
    outcome.and(target.stop())
}

/// What the document is made with.
struct Piece {
    name: String,
    updates: Vec<Bytes>,
}

impl Piece {
    fn typed(edits: u32) -> Self {
        let mut typist = Author::new(1, SEED);
        Self { name: "typed".to_owned(), updates: (0..edits).map(|_| typist.edit()).collect() }
    }

    fn read(path: &Path) -> Result<Self> {
        let doing = || format!("preparing the trace {}", path.display());
        let trace = Trace::read(path).map_err(|error| Error::doing(doing(), error))?;
        let script = Script::prepare(&trace, || {}).map_err(|error| Error::doing(doing(), error))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, updates: script.ops.into_iter().map(|op| op.payload).collect() })
    }
}

struct JoinStorm {
    target: Rc<Target>,
    piece: Arc<Piece>,
    clients: u32,
    restart: bool,
    pending_edits: usize,
}

impl Measurement for JoinStorm {
    fn title(&self) -> Title {
        let mut parameters = self.target.parameters();
        parameters.insert("clients".to_owned(), json!(self.clients));
        parameters.insert("document".to_owned(), json!(self.piece.name));
        parameters.insert("document_edits".to_owned(), json!(self.piece.updates.len()));
        parameters.insert("restart".to_owned(), json!(self.restart));
        parameters.insert("pending_edits".to_owned(), json!(self.pending_edits));
        Title {
            workload: "join-storm",
            subject: "node".to_owned(),
            waiting: self.target.waiting(),
            pace: Pace::Saturating,
            parameters,
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let (control, api_key) = (self.target.control.clone(), self.target.api_key.clone());
        let (count, piece) = (self.clients as usize, Arc::clone(&self.piece));
        let (restart, pending) = (self.restart, self.pending_edits);
        let mut node = self.target.take_node();
        let work = || async move {
            let session = || Target::session(&control, api_key.as_deref(), Access::Write);
            let (made, pending) = piece.updates.split_at(piece.updates.len().saturating_sub(pending));
            let (id, author) = Making::begin(&session().await?).await?;
            Making::open(&author[0], &id).await?.add(made).await?;
            clients::close(author).await;
            if let Some(node) = node.as_mut().filter(|_| restart) {
                node.kill_and_restart()?;
            }
            let tickets = session().await?;
            if !pending.is_empty() {
                let author = clients::connect(&tickets, 1).await?;
                Making::open(&author[0], &id).await?.add(pending).await?;
                clients::close(author).await;
            }
            let waiting = clients::connect(&tickets, count).await?;
            let last = piece.updates.last().cloned().unwrap_or_default();
            let (mut repeat, joined) = storm(&waiting, &id, &last, piece.updates.len() as u64).await?;
            drop(joined);
            let stats = clients::close(waiting).await;
            let per_client = stats.bytes_received as f64 / count as f64;
            repeat.figures.insert("received_bytes_per_client".to_owned(), per_client);
            Ok((repeat, node))
        };
        let (repeat, node) = on_generator(Some(context.cores.client), work)?;
        if let Some(node) = node {
            self.target.give_back(node);
        }
        Ok(repeat)
    }
}

/// The document, while it is made.
struct Making {
    document: Document,
}

impl Making {
    /// The id of a document that nobody had before, and a client to make it.
    async fn begin(tickets: &ControlPlane) -> Result<(String, Vec<Client>)> {
        let author = clients::connect(tickets, 1).await?;
        Ok((clients::fresh_documents(&author), author))
    }

    async fn open(author: &Client, id: &str) -> Result<Self> {
        let mut document = clients::join(author, id, true)?;
        clients::opened(&mut document).await?;
        Ok(Self { document })
    }

    fn failed(error: impl std::fmt::Display) -> Error {
        Error::doing("making the document to join", error.to_string())
    }

    /// Adds edits, and waits until all of them are durable.
    async fn add(&mut self, updates: &[Bytes]) -> Result<()> {
        let mut last = None;
        for update in updates {
            last = Some(self.document.apply(update.clone()).await.map_err(Self::failed)?.counter);
        }
        let Some(last) = last else { return Ok(()) };
        let document = &mut self.document;
        let durable = async {
            while let Some(event) = document.next_event().await {
                match event {
                    DocumentEvent::Durable { up_to_counter, .. } if up_to_counter >= last => return true,
                    DocumentEvent::Closed { .. } => return false,
                    _ => {}
                }
            }
            false
        };
        match timeout(PREPARE_TIMEOUT, durable).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Self::failed("the node closed the document")),
            Err(_) => Err(Self::failed("it is not durable in time")),
        }
    }
}

/// Waits until the document is there up to op `last`; the state, and the ops behind it.
async fn whole(document: &mut Document, last: u64) -> Result<Held> {
    let id = document.writer().id().to_owned();
    let failed = |what: String| Error::doing(format!("joining {id}"), what);
    let mut held = Held::default();
    let whole = async {
        while let Some(event) = document.next_event().await {
            match event {
                DocumentEvent::Joined { sequence, .. } => held.sequence = sequence,
                DocumentEvent::State(state) => held.state = state,
                DocumentEvent::CaughtUp if held.sequence >= last => return Ok(held),
                DocumentEvent::Op { sequence, payload } => {
                    held.ops += 1;
                    held.sequence = held.sequence.max(sequence);
                    held.last = payload;
                }
                DocumentEvent::Closed { code, text } => return Err(failed(format!("{code}: {text}"))),
                _ => {}
            }
        }
        Err(failed("the client was closed".to_owned()))
    };
    let late = |_| failed(format!("it is not there after {} s", clients::JOIN_TIMEOUT.as_secs()));
    timeout(clients::JOIN_TIMEOUT, whole).await.map_err(late)?
}

/// What a joiner holds.
#[derive(Debug, Default)]
struct Held {
    /// The last op in what was announced, or has come.
    sequence: u64,
    state: Bytes,
    /// Ops that came behind the state.
    ops: u64,
    /// The last of them.
    last: Bytes,
}

impl Held {
    fn contains(&self, update: &Bytes) -> bool {
        let in_state = || Contents::read(&self.state).is_ok_and(|contents| contents.contains_update(update));
        self.last == update || in_state()
    }
}

async fn watch_turns(stall: Rc<StallMeter>) {
    loop {
        stall.turn(Instant::now());
        tokio::task::yield_now().await;
    }
}

/// Everybody joins at once. The documents stay open until all have one.
async fn storm(
    clients: &[Client],
    id: &str,
    last: &Bytes,
    last_sequence: u64,
) -> Result<(Repeat, Vec<Document>)> {
    let mut recorder = Recorder::new(INTERVAL, INTERVAL);
    let mut tasks = JoinSet::new();
    // Looks at the clock in every turn of the runtime; ends with this function.
    let stall = Rc::new(StallMeter::default());
    let mut watch = JoinSet::new();
    watch.spawn_local(watch_turns(Rc::clone(&stall)));
    let began = Instant::now();
    for client in clients {
        let mut document = clients::join(client, id, true)?;
        tasks.spawn_local(async move {
            let held = whole(&mut document, last_sequence).await;
            (held, began.elapsed(), document)
        });
    }
    let mut documents = Vec::with_capacity(clients.len());
    let (mut state_bytes, mut ops, mut reasons) = (0, 0, Vec::new());
    let mut first = None;
    let mut all_joined = Duration::ZERO;
    while let Some(joined) = tasks.join_next().await {
        let (held, took, document) = joined.map_err(|error| Error::doing("joining the document", error))?;
        match held {
            Ok(held) => {
                state_bytes = state_bytes.max(held.state.len());
                ops = ops.max(held.ops);
                first.get_or_insert(held);
                all_joined = all_joined.max(took);
                recorder.record(0, took.as_nanos() as u64);
                documents.push(document);
            }
            Err(error) => reasons.push(error.to_string()),
        }
    }
    let (sent, replies) = (clients.len() as u64, documents.len() as u64);
    reasons.truncate(1);
    if first.is_some_and(|held| !held.contains(last)) {
        reasons.push("a client that has joined does not hold the last edit".to_owned());
    }
    let tally = Tally { sent, replies, lost: sent - replies, ..Tally::default() };
    let figures = [
        ("state_bytes", state_bytes as f64),
        ("ops_behind_state", ops as f64),
        ("joins_per_s", replies as f64 / all_joined.as_secs_f64().max(f64::MIN_POSITIVE)),
    ];
    let repeat = Repeat {
        findings: Findings {
            tally,
            generator_stall_us: stall.take_longest_us(),
            reasons,
            ..Findings::default()
        },
        figures: figures.map(|(name, figure)| (name.to_owned(), figure)).into(),
        latencies: [("joined".to_owned(), recorder)].into(),
        ..Repeat::default()
    };
    Ok((repeat, documents))
}
