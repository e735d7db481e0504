//! The command line.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::campaign::{Campaign, CampaignOptions};
use crate::error::ChaosError;
use crate::program::Program;
use crate::report::Report;

/// Kills a serving node again and again, and looks for edits that it had acknowledged.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "chaos",
    version,
    after_help = "Example:\n  cargo run --release -p chaos -- --kills 1000 --output json"
)]
pub struct ChaosArgs {
    /// How often to kill it
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// Decides what is written, where, and when the kills come
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Shards of the node
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// The program to kill [default: built by cargo]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where the node's data is, on the disk that is meant; it stays [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How to print the report
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
}

impl ChaosArgs {
    /// Does it; fails when something did not hold.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        match self.report() {
            Ok(report) => {
                let text = match self.output {
                    Output::Text => report.text(),
                    Output::Json => serde_json::to_string(&report).unwrap_or_default() + "\n",
                };
                // A reader that has gone away, as `head` does, is no failure.
                let _ = std::io::stdout().write_all(text.as_bytes());
                if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                eprintln!("chaos: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn report(&self) -> Result<Report, ChaosError> {
        let program = match &self.program {
            Some(path) => Program::at(path.clone()),
            None => Program::build()?,
        };
        let options = CampaignOptions {
            kills: self.kills,
            seed: self.seed,
            shards: self.shards,
            data_dir: self.data_dir.clone(),
        };
        let is_shown = std::io::stderr().is_terminal();
        let report = Campaign::new(program, options).run(|kills, acknowledged| {
            if is_shown {
                eprint!("\r{kills} of {} kills, {acknowledged} ops acknowledged ", self.kills);
            }
        });
        if is_shown {
            eprintln!();
        }
        report
    }
}
