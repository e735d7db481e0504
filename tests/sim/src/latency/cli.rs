//! The subcommand `latency`.

use std::fmt::Display;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::report::{Table, measure_rows};
use super::rows::{ROWS, Row};
use super::run::LatencyError;

/// How the result is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    /// A table.
    Text,
    /// JSON, one document.
    Json,
}

impl Output {
    /// Prints a table, or what it was made of.
    fn print(self, table: &impl Display, data: &(impl Serialize + ?Sized)) -> Result<(), LatencyError> {
        match self {
            Self::Text => print!("{table}"),
            Self::Json => {
                let json = serde_json::to_string_pretty(data)
                    .map_err(|error| LatencyError::Setup(error.to_string()))?;
                println!("{json}");
            }
        }
        Ok(())
    }
}

/// What every measurement takes.
#[derive(Clone, Debug, Args)]
pub(super) struct MeasureArgs {
    /// What every random choice follows from.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Fail when a target is missed.
    #[arg(long)]
    check: bool,
}

impl MeasureArgs {
    /// Prints what was measured. Whether the targets are met, or not asked for.
    pub(super) fn conclude(
        &self,
        table: &impl Display,
        data: &(impl Serialize + ?Sized),
        is_met: bool,
    ) -> Result<bool, LatencyError> {
        self.output.print(table, data)?;
        Ok(!self.check || is_met)
    }
}

/// Latency under loss, exact, in virtual time.
///
/// Messages of 200 bytes go from a client to a node over a network of 10 ms one way, on a reliable, ordered channel.
/// Times are from sending to delivery in order. "Evidence" is from the first arrival of a packet sent after a lost one
/// to the delivery of what was lost. Bytes are UDP payload, with ratios to the run of the same length without loss.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  cargo run --release -p sim -- latency --messages 100000 --rows '5 %'")]
pub struct LatencyArgs {
    /// Messages of each row; by default 1,000,000, and 100,000 of the rows at 50 a second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    messages: Option<u64>,
    /// Only these rows, by name or part of a name, comma-separated.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    #[command(flatten)]
    measure: MeasureArgs,
}

impl LatencyArgs {
    /// Measures and prints. Whether the targets are met, or not asked for.
    pub fn run(&self) -> Result<bool, LatencyError> {
        let table = self.table()?;
        self.measure.conclude(&table, &table, table.is_met())
    }

    fn table(&self) -> Result<Table, LatencyError> {
        let rows: Vec<Row> = ROWS.into_iter().filter(|row| row.is_meant(&self.rows)).collect();
        measure_rows(&rows, self.messages, self.measure.seed)
    }
}
