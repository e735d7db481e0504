//! `commit`: what it costs and saves that ops wait for others before the log is written.

use std::process::ExitCode;

use clap::Args;

use super::ops::{self, OpsArgs};
use crate::args::Defaults;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::result::{Pace, Run, Verdict};

/// What is measured with when nobody says otherwise.
pub const DEFAULTS: Defaults = Defaults { repeats: 1, seconds: 3.0, warmup_seconds: 1.0, report: None };

/// The parameter that tells the runs apart.
const DELAY: &str = "commit_delay_us_max";

/// The command line of `commit`: that of `ops`, once for each delay.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Each delay is measured on a node of its own, at each rate.\n\nExample:\n  aether-perf commit --rate \
                  1000,10000,50000 --documents 1000 --clients 16\n  aether-perf commit --delays 0,500 --rate 20000"
)]
pub struct CommitArgs {
    /// The longest that an op waits for others, microseconds; each a node of its own
    #[arg(long, value_name = "MICROSECONDS", value_delimiter = ',', default_values_t = [0, 100, 250, 500, 1_000, 2_000],
        help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub delays: Vec<u32>,
    /// The load
    #[command(flatten)]
    pub ops: OpsArgs,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &CommitArgs) -> Result<ExitCode> {
    args.ops.shape.check()?;
    if args.ops.target.target.is_some() {
        let reason = "--target is not for `commit`: a cluster's delay is in its configuration (node.log)";
        return Err(Error::Usage(reason.to_owned()));
    }
    let mut context = Context::new("commit", &args.ops.common, DEFAULTS)?;
    let outcome = args.delays.iter().try_for_each(|&delay_us| {
        let mut ops = args.ops.clone();
        ops.target.commit_delay_us_max = delay_us;
        ops::measure(&mut context, &ops)
    });
    eprint!("{}", table(context.runs()));
    Ok(context.finish(outcome))
}

/// A line for each delay and rate.
fn table(runs: &[Run]) -> String {
    let mut lines = String::from(
        "delay us   rate/s      to durable us p50 / p99    to reader us p50 / p99   ops/batch  log bytes/op\n",
    );
    for run in runs.iter().filter(|run| run.verdict == Verdict::Passed) {
        let rate = match run.pace {
            Pace::Open { rate_per_s } => format!("{rate_per_s:.0}"),
            Pace::Saturating | Pace::Closed => "saturating".to_owned(),
        };
        let delay = run.parameters.get(DELAY).map(ToString::to_string).unwrap_or_default();
        let times = |name: &str| {
            let at = |percentile: &str| {
                let latency =
                    run.latencies.get(name).and_then(|latency| latency.percentiles_us.get(percentile));
                latency.map_or_else(|| "-".to_owned(), |spread| format!("{:.0}", spread.median))
            };
            format!("{} / {}", at("p50"), at("p99"))
        };
        let figure = |name: &str| {
            let found = run.figures.get(name);
            found.map_or_else(|| "-".to_owned(), |spread| format!("{:.1}", spread.median))
        };
        lines.push_str(&format!(
            "{delay:>8}  {rate:>10}  {:>24}  {:>24}  {:>9}  {:>12}\n",
            times("edit_to_durable"),
            times("edit_to_reader"),
            figure("ops_per_log_batch"),
            figure("log_bytes_per_op")
        ));
    }
    lines
}
