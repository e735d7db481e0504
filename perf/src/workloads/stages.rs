//! `stages`: where the time goes inside a node while edits come in: the waterfall.

use std::process::ExitCode;

use clap::Args;

use super::ops::{self, OpsArgs};
use crate::args::Defaults;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::result::Verdict;

/// What is measured with when nobody says otherwise.
pub const DEFAULTS: Defaults = Defaults { repeats: 1, seconds: 5.0, warmup_seconds: 2.0, report: None };

/// The generator may be away for longer than elsewhere: the node times its stages itself.
const STALL_US_MAX: u64 = 100_000;

/// The command line of `stages`: that of `ops`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  aether-perf stages --rate 50000 --seconds 5\n  aether-perf stages --rate \
                        50000,100000 --sample 1/97 --output json"
)]
pub struct StagesArgs {
    /// The load
    #[command(flatten)]
    pub ops: OpsArgs,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &StagesArgs) -> Result<ExitCode> {
    args.ops.shape.check()?;
    if args.ops.target.target.is_some() {
        let reason = "--target is not for `stages`: a cluster's shards are timed all the time, in its own metrics \
                      (aetherflow_stage_seconds, aetherflow_hiccup_seconds)";
        return Err(Error::Usage(reason.to_owned()));
    }
    if args.ops.target.stage_sample_turns == 0 {
        return Err(Error::Usage("--sample 0 times no turn: give it as 1/N, such as 1/97".to_owned()));
    }
    let mut context = Context::new("stages", &args.ops.common, DEFAULTS)?;
    context.effort.stall_us_max = Some(context.effort.stall_limit_us().max(STALL_US_MAX));
    let outcome = ops::measure(&mut context, &args.ops);
    for run in context.runs().iter().filter(|run| run.verdict == Verdict::Passed && run.stages.is_none()) {
        let workload = &run.workload;
        eprintln!(
            "aether-perf: {workload}: too short: 2 seconds at least are needed to see where the time goes"
        );
    }
    Ok(context.finish(outcome))
}
