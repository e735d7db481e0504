//! `fanout`: one types, and many read.

use std::process::ExitCode;

use clap::Args;

use super::ops::{Ops, ShapeArgs, pace};
use super::{Measurement, measure_all};
use crate::args::{Common, Defaults};
use crate::context::Context;
use crate::error::Result;
use crate::product::target::{Target, TargetArgs};
use crate::result::Pace;

const DEFAULTS: Defaults = Defaults { repeats: 3, seconds: 5.0, warmup_seconds: 1.0, report: None };
/// The most readers of the document.
const READERS_MAX: i64 = 5_000;

/// The command line of `fanout`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  aether-perf fanout --readers 100,1000,5000 --rate 10")]
pub struct FanoutArgs {
    /// What every measurement has
    #[command(flatten)]
    pub common: Common,
    /// Where the load goes
    #[command(flatten)]
    pub target: TargetArgs,
    /// Readers of the one document, each a client of its own; each number is a run of its own
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100,1000", help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(1..=READERS_MAX))]
    pub readers: Vec<u32>,
    /// Edits a second, each of which every reader gets
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = pace, help_heading = "Load")]
    pub rate: Pace,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &FanoutArgs) -> Result<ExitCode> {
    let mut context = Context::new("fanout", &args.common, DEFAULTS)?;
    let outcome = measure(&mut context, args);
    Ok(context.finish(outcome))
}

fn measure(context: &mut Context, args: &FanoutArgs) -> Result<()> {
    let target = Target::start(context, &args.target)?;
    let to = |&readers: &u32| -> Box<dyn Measurement> {
        let shape =
            ShapeArgs { documents: 1, clients: readers + 1, readers, zipf: 0.0, ..ShapeArgs::default() };
        Box::new(Ops { workload: "fanout", ..Ops::new(&target, shape, args.rate) })
    };
    let outcome = measure_all(context, args.readers.iter().map(to).collect());
    outcome.and(target.stop())
}
