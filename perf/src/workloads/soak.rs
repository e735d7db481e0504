//! `soak`: edits for hours; latencies stay, and memory does not grow.
//!
//! The edits leave documents as long as they are, since documents that grow are no leak. What a node keeps of every
//! document for those who fall behind, a mebibyte of recent ops, fills first: that is what the warm-up is for, and why
//! documents are few and edited alike.

use std::process::ExitCode;

use clap::Args;

use super::measure_all;
use super::ops::{Ops, ShapeArgs, pace};
use crate::args::{Common, Defaults};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::product::target::{Target, TargetArgs};
use crate::result::Pace;

const DEFAULTS: Defaults = Defaults { repeats: 1, seconds: 3_600.0, warmup_seconds: 300.0, report: None };
/// The generator of a soak may be away for longer than that of a measurement, microseconds: over hours it will be.
const STALL_US_MAX: u64 = 1_000_000;

/// The command line of `soak`.
#[derive(Args, Clone, Debug)]
#[command(
    mut_arg("documents", |documents| documents.default_value("32")),
    mut_arg("zipf", |zipf| zipf.default_value("0")),
    after_help = "Edits overwrite, so that documents stay as long as they are. The recent ops that a node keeps of each \
                  document, 1 MiB, must fill within --warmup-seconds: 20000 edits of each document are enough.\n\n\
                  Ctrl-C ends it, and keeps what it found.\n\nExample:\n  aether-perf soak --seconds 14400 --rate \
                  2000\n  aether-perf soak --documents 4 --warmup-seconds 60 --seconds 180"
)]
pub struct SoakArgs {
    /// What every measurement has
    #[command(flatten)]
    pub common: Common,
    /// Where the load goes
    #[command(flatten)]
    pub target: TargetArgs,
    /// Edits a second over all documents
    #[arg(long, value_name = "PER_SECOND", default_value = "2000", value_parser = pace, help_heading = "Load")]
    pub rate: Pace,
    /// What is edited, by whom, and who reads it
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// How much the node's memory may grow in the second half of the time, megabytes an hour
    #[arg(long, value_name = "MB", default_value_t = 64.0, help_heading = "Load")]
    pub growth_mb_per_h_max: f64,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &SoakArgs) -> Result<ExitCode> {
    args.shape.check()?;
    if args.target.target.is_some() {
        let reason = "soak watches the memory of a node of its own; for a cluster that runs, use ops --target \
                      with long --seconds, and the cluster's own metrics";
        return Err(Error::Usage(reason.to_owned()));
    }
    let mut context = Context::new("soak", &args.common, DEFAULTS)?;
    context.effort.stall_us_max = Some(context.effort.stall_limit_us().max(STALL_US_MAX));
    let outcome = measure(&mut context, args);
    Ok(context.finish(outcome))
}

fn measure(context: &mut Context, args: &SoakArgs) -> Result<()> {
    let target = Target::start(context, &args.target)?;
    let growth_mb_per_h_max = Some(args.growth_mb_per_h_max);
    let soak = Ops {
        workload: "soak",
        overwrites: true,
        growth_mb_per_h_max,
        ..Ops::new(&target, args.shape, args.rate)
    };
    let outcome = measure_all(context, vec![Box::new(soak)]);
    outcome.and(target.stop())
}
