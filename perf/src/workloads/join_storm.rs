//! `join-storm`: many clients open one large document at the same moment.

use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aetherflow_client::{Client, ControlPlane, Document, DocumentEvent};
use clap::Args;
use editing::Author;
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
#[command(after_help = "Example:\n  aether-perf join-storm --clients 500 --edits 200000")]
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
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub edits: u32,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &JoinStormArgs) -> Result<ExitCode> {
    let mut context = Context::new("join-storm", &args.common, DEFAULTS)?;
    let outcome = measure(&mut context, args);
    Ok(context.finish(outcome))
}

fn measure(context: &mut Context, args: &JoinStormArgs) -> Result<()> {
    let target = Target::start(context, &args.target)?;
    let storm = JoinStorm { target: Rc::clone(&target), clients: args.clients, edits: args.edits };
    let outcome = measure_all(context, vec![Box::new(storm)]);
    outcome.and(target.stop())
}

struct JoinStorm {
    target: Rc<Target>,
    clients: u32,
    edits: u32,
}

impl Measurement for JoinStorm {
    fn title(&self) -> Title {
        let mut parameters = self.target.parameters();
        parameters.insert("clients".to_owned(), json!(self.clients));
        parameters.insert("document_edits".to_owned(), json!(self.edits));
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
        let (count, edits) = (self.clients as usize, self.edits);
        on_generator(Some(context.cores.client), || async move {
            let tickets = Target::session(&control, api_key.as_deref(), Access::Write).await?;
            let (author, document) = prepare(&tickets, edits).await?;
            let id = document.writer().id().to_owned();
            let waiting = clients::connect(&tickets, count).await?;
            let (repeat, joined) = storm(&waiting, &id).await?;
            drop(joined);
            let stats = clients::close(waiting).await;
            drop(document);
            clients::close(vec![author]).await;
            let mut repeat = repeat;
            let per_client = stats.bytes_received as f64 / count as f64;
            repeat.figures.insert("received_bytes_per_client".to_owned(), per_client);
            Ok(repeat)
        })
    }
}

/// Makes the document, and waits until all of it is durable.
async fn prepare(tickets: &ControlPlane, edits: u32) -> Result<(Client, Document)> {
    let failed = |error| Error::doing("making the document to join", error);
    let author = clients::connect(tickets, 1).await?;
    let id = clients::fresh_documents(&author);
    let Some(author) = author.into_iter().next() else { return Err(failed("no client")) };
    let mut document = clients::join(&author, &id, true)?;
    clients::opened(&mut document).await?;
    let mut typist = Author::new(1, SEED);
    let mut last = 0;
    for _ in 0..edits {
        let applied = document.apply(typist.edit()).await;
        last = applied.map_err(|error| Error::doing("making the document to join", error))?.counter;
    }
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
        Ok(true) => Ok((author, document)),
        Ok(false) => Err(failed("the node closed the document")),
        Err(_) => Err(failed("it is not durable in time")),
    }
}

async fn watch_turns(stall: Rc<StallMeter>) {
    loop {
        stall.turn(Instant::now());
        tokio::task::yield_now().await;
    }
}

/// Everybody joins at once. The documents stay open until all have one.
async fn storm(clients: &[Client], id: &str) -> Result<(Repeat, Vec<Document>)> {
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
            let opened = clients::opened(&mut document).await;
            (opened, began.elapsed(), document)
        });
    }
    let mut documents = Vec::with_capacity(clients.len());
    let (mut state_bytes, mut reasons) = (0, Vec::new());
    let mut all_joined = Duration::ZERO;
    while let Some(joined) = tasks.join_next().await {
        let (opened, took, document) = joined.map_err(|error| Error::doing("joining the document", error))?;
        match opened {
            Ok(bytes) => {
                state_bytes = state_bytes.max(bytes);
                all_joined = all_joined.max(took);
                recorder.record(0, took.as_nanos() as u64);
                documents.push(document);
            }
            Err(error) => reasons.push(error.to_string()),
        }
    }
    let (sent, replies) = (clients.len() as u64, documents.len() as u64);
    reasons.truncate(1);
    let tally = Tally { sent, replies, lost: sent - replies, ..Tally::default() };
    let figures = [
        ("state_bytes", state_bytes as f64),
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
