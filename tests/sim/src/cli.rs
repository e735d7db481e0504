//! The simulator's command line.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::campaign::{Campaign, Failure, Kind, Totals, run_seed};

/// Failures after which a run of many seeds stops.
const FAILURES_MAX: usize = 200;

/// Runs the worlds of many seeds, or of one.
#[derive(Args, Clone, Debug)]
pub struct SeedArgs {
    /// Worlds of a whole node, with documents, logs, disks and crashes, instead of the transport alone.
    #[arg(long)]
    pub whole_node: bool,
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000, conflicts_with = "seed")]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// Threads; default one for each core.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Runs this seed alone.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Tells the story of the seed, line by line.
    #[arg(long, requires = "seed")]
    pub trace: bool,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How the result is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl SeedArgs {
    /// Does it; fails when an invariant did not hold.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        match self.seed {
            Some(seed) => self.run_one(seed),
            None => self.run_many(),
        }
    }

    const fn kind(&self) -> Kind {
        if self.whole_node { Kind::WholeNode } else { Kind::Transport }
    }

    fn run_one(&self, seed: u64) -> ExitCode {
        let result = run_seed(self.kind(), seed, self.trace);
        print(&result.trace);
        let digest = format!("{:016x}", result.digest);
        match self.output {
            Output::Text => {
                let verdict = result
                    .violation
                    .as_ref()
                    .map_or_else(|| "every invariant held".to_owned(), ToString::to_string);
                print(&format!("seed {seed}, digest {digest}: {verdict}\n"));
            }
            Output::Json => {
                let violation = result.violation.as_ref().map(ToString::to_string);
                print(&format!("{}\n", json!({ "seed": seed, "digest": digest, "violation": violation })));
            }
        }
        exit_code(result.violation.is_none())
    }

    fn run_many(&self) -> ExitCode {
        let started = Instant::now();
        let jobs = self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
        let campaign = Campaign {
            kind: self.kind(),
            from: self.from,
            seeds: self.seeds,
            time_max: Duration::MAX,
            jobs,
            failures_max: FAILURES_MAX,
        };
        let is_shown = std::io::stderr().is_terminal();
        let (totals, failures) = campaign.run(|totals, failures| {
            if is_shown {
                let rate = totals.seeds as f64 / started.elapsed().as_secs_f64();
                eprint!("\r{} of {} seeds, {rate:.0} a second, {failures} failed ", totals.seeds, self.seeds);
            }
        });
        if is_shown {
            eprintln!();
        }
        self.print_totals(&totals, &failures, started.elapsed());
        exit_code(failures.is_empty())
    }

    fn print_totals(&self, totals: &Totals, failures: &[Failure], elapsed: Duration) {
        let rate = totals.seeds as f64 / elapsed.as_secs_f64().max(1e-9);
        if self.output == Output::Json {
            let failures: Vec<_> = failures
                .iter()
                .map(|failure| {
                    json!({
                        "seed": failure.seed,
                        "invariant": failure.violation.invariant.name(),
                        "seen": failure.violation.seen,
                        "command": failure.command(),
                    })
                })
                .collect();
            let node: serde_json::Map<_, _> =
                totals.node.fields().map(|(name, value)| (name.to_owned(), value.into())).collect();
            let result = json!({ "totals": totals, "node": node, "seeds_per_s": rate, "failures": failures });
            return print(&format!("{result}\n"));
        }
        for failure in failures {
            print(&format!("seed {}: {}\n    {}\n", failure.seed, failure.violation, failure.command()));
        }
        print(&format!(
            "{} seeds in {:.1} s ({rate:.0} a second): {} datagrams, {} messages, {:.0} s of virtual time; {} failed\n",
            totals.seeds,
            elapsed.as_secs_f64(),
            totals.datagrams,
            totals.messages,
            totals.virtual_ms as f64 / 1e3,
            failures.len()
        ));
        if self.whole_node {
            for field in totals.node.described() {
                print(&format!("{:>11}  {:<24} {}\n", field.value, field.name, field.help));
            }
        }
    }
}

/// A reader that has gone away, as `head` does, is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn exit_code(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
