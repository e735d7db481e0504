//! `ops`: small edits into many documents; how many become durable, and when they are durable and with the readers.

mod edits;
mod growth;
mod progress;
mod room;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;
use wire::Access;

use self::edits::{Edits, Shape};
use self::progress::Progress;
use self::room::Room;
use super::{Measurement, Repeat, Title, measure_all};
use crate::args::{Common, Defaults, rate};
use crate::context::{Context, Effort};
use crate::error::{Error, Result};
use crate::load::Plan;
use crate::node_child::NodeProcess;
use crate::product::clients;
use crate::product::monitor::{CELL, Monitor, Watch};
use crate::product::runtime::on_generator;
use crate::product::target::{Target, TargetArgs};
use crate::result::Pace;

/// So long is waited for the last edits to be durable and read.
const REPLY_MAX: Duration = Duration::from_secs(5);
/// The same where the node is killed: a new one reads its log first.
const REPLY_AFTER_KILL_MAX: Duration = Duration::from_secs(60);
/// The most documents of a load, and the most clients.
const DOCUMENTS_MAX: i64 = 65_536;

/// What is measured with when nobody says otherwise.
pub const DEFAULTS: Defaults = Defaults { repeats: 3, seconds: 5.0, warmup_seconds: 1.0, report: None };

/// The command line of `ops`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  aether-perf ops\n  aether-perf ops --rate 10000,50000,100000 --documents 1000 \
                        --clients 16\n  aether-perf ops --rate 5000 --seconds 20 --kill-at 8\n  aether-perf ops \
                        --target http://control:7401 --api-key KEY --rate 1000"
)]
pub struct OpsArgs {
    /// What every measurement has
    #[command(flatten)]
    pub common: Common,
    /// Where the load goes
    #[command(flatten)]
    pub target: TargetArgs,
    /// Edits a second over all documents, each rate a run of its own; 'saturating': as fast as the node takes them
    #[arg(long, value_name = "PER_SECOND", value_delimiter = ',', default_value = "50000,saturating",
        value_parser = pace, help_heading = "Load")]
    pub rate: Vec<Pace>,
    /// What is edited, by whom, and who reads it
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// End the node with SIGKILL so many seconds into the measured time, and start it again over its log
    #[arg(long, value_name = "SECONDS", conflicts_with = "target", help_heading = "Load")]
    pub kill_at: Option<f64>,
}

/// Documents and clients.
#[derive(Args, Clone, Copy, Debug)]
pub struct ShapeArgs {
    /// Documents
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(1..=DOCUMENTS_MAX))]
    pub documents: u32,
    /// Clients, each a connection of its own; documents are dealt out among them
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(1..=DOCUMENTS_MAX))]
    pub clients: u32,
    /// Writers of each document
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(1..=DOCUMENTS_MAX))]
    pub writers: u32,
    /// Readers of each document, besides its writers
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(0..=DOCUMENTS_MAX))]
    pub readers: u32,
    /// How unevenly documents are edited: the exponent of Zipf's law; 0: all alike
    #[arg(long, value_name = "EXPONENT", default_value_t = 1.0, value_parser = exponent, help_heading = "Load")]
    pub zipf: f64,
    /// The share of the clients who take the next shard for the owner of each document, and stay there
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share, help_heading = "Load")]
    pub wrong_shard: f64,
}

impl Default for ShapeArgs {
    fn default() -> Self {
        Self { documents: 256, clients: 8, writers: 1, readers: 1, zipf: 1.0, wrong_shard: 0.0 }
    }
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &OpsArgs) -> Result<ExitCode> {
    args.shape.check()?;
    let mut context = Context::new("ops", &args.common, DEFAULTS)?;
    let outcome = measure(&mut context, args);
    Ok(context.finish(outcome))
}

pub(super) fn measure(context: &mut Context, args: &OpsArgs) -> Result<()> {
    let target = Target::start(context, &args.target)?;
    let kill_at = args.kill_at.map(Duration::from_secs_f64);
    let load = |&pace: &Pace| -> Box<dyn Measurement> {
        Box::new(Ops { kill_at, ..Ops::new(&target, args.shape, pace) })
    };
    let outcome = measure_all(context, args.rate.iter().map(load).collect());
    outcome.and(target.stop())
}

/// One load of edits.
#[derive(Clone, Debug)]
pub struct Ops {
    /// What it is called.
    pub workload: &'static str,
    /// Where it goes.
    pub target: Rc<Target>,
    /// Documents and clients.
    pub shape: ShapeArgs,
    /// What sets the pace.
    pub pace: Pace,
    /// When to kill the node, from the beginning of the measured time.
    pub kill_at: Option<Duration>,
    /// Edits overwrite a key of a map, one for each writer, in place of typing: documents do not grow.
    pub overwrites: bool,
    /// How much the node's memory may grow, megabytes an hour, where that is watched: then Ctrl-C ends the load, and
    /// what it gave counts.
    pub growth_mb_per_h_max: Option<f64>,
}

impl Ops {
    /// A load called `ops`, and nobody is killed.
    pub fn new(target: &Rc<Target>, shape: ShapeArgs, pace: Pace) -> Self {
        let target = Rc::clone(target);
        Self {
            workload: "ops",
            target,
            shape,
            pace,
            kill_at: None,
            overwrites: false,
            growth_mb_per_h_max: None,
        }
    }
}

impl Measurement for Ops {
    fn title(&self) -> Title {
        let ShapeArgs { documents, clients, writers, readers, zipf, wrong_shard } = self.shape;
        let mut parameters = self.target.parameters();
        parameters.extend([
            ("documents".to_owned(), json!(documents)),
            ("clients".to_owned(), json!(clients)),
            ("writers_per_document".to_owned(), json!(writers)),
            ("readers_per_document".to_owned(), json!(readers)),
            ("zipf_exponent".to_owned(), json!(zipf)),
        ]);
        if wrong_shard > 0.0 {
            parameters.insert("wrong_shard_share".to_owned(), json!(wrong_shard));
        }
        if self.overwrites {
            parameters.insert("edits".to_owned(), json!("overwrites"));
        }
        Title {
            workload: self.workload,
            subject: "node".to_owned(),
            waiting: self.target.waiting(),
            pace: self.pace,
            parameters,
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let Effort { warmup, measured, .. } = context.effort;
        let reply_max = if self.kill_at.is_some() { REPLY_AFTER_KILL_MAX } else { REPLY_MAX };
        let plan = Plan {
            pace: self.pace,
            warmup_ns: warmup.as_nanos() as u64,
            measured_ns: measured.as_nanos() as u64,
            reply_ns_max: reply_max.as_nanos() as u64,
        };
        let (control, api_key) = (self.target.control.clone(), self.target.api_key.clone());
        let (shape, kill_at) = (self.shape.shape(self.overwrites), self.kill_at);
        let interrupt = context.interrupt.clone();
        let progress = self.growth_mb_per_h_max.map(|_| context.progress.clone());
        let node = self.target.take_node();
        let work = || async move {
            let tickets = Target::session(&control, api_key.as_deref(), Access::Write).await?;
            let mut room = Room::open(&tickets, shape).await?;
            let progress = progress.map(|bar| Progress::new(bar, node.as_ref().map(NodeProcess::id)));
            let edits = Edits::begin(plan, shape, kill_at.is_some(), progress);
            let cell = (measured >= CELL * 2).then_some(CELL);
            let watch = Watch { begin: edits.origin() + warmup, kill_at, cell };
            let monitor = node.map(|node| Monitor::start(node, watch)).transpose()?;
            let mut tasks = JoinSet::new();
            let keyboards = room.listen(&edits, &mut tasks);
            let outcome = edits.run(keyboards, &mut tasks, &interrupt).await;
            tasks.shutdown().await;
            let observed = monitor.map(Monitor::end).transpose();
            let stats = clients::close(room.clients).await;
            outcome?;
            let (node, observed) = observed?.unzip();
            Ok((edits.into_repeat(&stats), node, observed))
        };
        let (mut repeat, node, observed) = on_generator(Some(context.cores.client), work)?;
        if let Some(node) = node {
            self.target.give_back(node);
        }
        if let Some(observed) = observed {
            if let Some(bound) = self.growth_mb_per_h_max {
                growth::judge(&mut repeat, &observed.usage, bound);
            }
            // A shard that never sleeps takes its whole core, whatever an op costs.
            let is_busy = self.target.parameters().get("idle_policy").is_some_and(|policy| policy == "busy");
            if let Some(cpu_us) = observed.cpu_us_per_op().filter(|_| !is_busy && self.kill_at.is_none()) {
                repeat.figures.insert("node_cpu_us_per_op".to_owned(), cpu_us);
            }
            if let Some(stages) = &observed.stages {
                let figures = [
                    ("ops_per_log_batch", stages.ops_per_batch),
                    ("log_bytes_per_op", stages.log_bytes_per_op),
                ];
                repeat.figures.extend(figures.map(|(name, figure)| (name.to_owned(), figure)));
            }
            repeat.marks = observed.marks;
            repeat.shards = observed.shards;
            repeat.stages = observed.stages;
        }
        Ok(repeat)
    }
}

impl ShapeArgs {
    /// Whether there are enough clients.
    ///
    /// # Errors
    /// There are not.
    pub fn check(&self) -> Result<()> {
        let needed = self.writers + self.readers;
        if needed > self.clients {
            return Err(Error::Usage(format!(
                "--writers {} and --readers {} need at least {needed} --clients, and there are {}",
                self.writers, self.readers, self.clients
            )));
        }
        Ok(())
    }

    fn shape(&self, overwrites: bool) -> Shape {
        Shape {
            documents: self.documents as usize,
            clients: self.clients as usize,
            writers: self.writers as usize,
            readers: self.readers as usize,
            zipf_exponent: self.zipf,
            wrong_shard_share: self.wrong_shard,
            overwrites,
        }
    }
}

/// A rate, or `saturating`.
///
/// # Errors
/// What is wrong with the text.
pub fn pace(text: &str) -> Result<Pace, String> {
    match text {
        "saturating" => Ok(Pace::Saturating),
        rate_text => rate(rate_text)
            .map(|rate_per_s| Pace::Open { rate_per_s })
            .map_err(|error| format!("{error}, or 'saturating'")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to 1 is wanted, such as 0.5".to_owned()),
    }
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(exponent) if (0.0..=10.0).contains(&exponent) => Ok(exponent),
        _ => Err("a number from 0 to 10 is wanted, such as 1.0".to_owned()),
    }
}
