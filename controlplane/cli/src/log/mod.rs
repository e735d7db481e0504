//! `aetherflow log`: looking into the logs of a node that does not run, and mending what can be mended.

mod dump;
mod lost;
mod open;
mod repair;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use thiserror::Error;

use crate::args::Output;
use crate::output;

/// The exit status of a log that cannot be trusted.
const DAMAGED: u8 = 1;
/// The exit status of a command that could not do what it was asked.
const USAGE: u8 = 2;

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Prove every record of the logs: checksums, order, holes, the end; nothing is changed
    #[command(
        after_help = "Exit status: 0 the logs can be trusted, 1 damaged, 2 not looked at.\n\nExample:\n  aetherflow log verify --data-dir /var/lib/aetherflow/node"
    )]
    Verify(Source),
    /// Print the records of the logs, one a line
    #[command(
        after_help = "Exit status: 0 all were printed, 1 damage was met, 2 not looked at.\n\nExample:\n  aetherflow log dump --data-dir ./aetherflow-data --document notes --from 100 --payload hex --output json"
    )]
    Dump(DumpArgs),
    /// Cut off the damaged end of a log, and say what that loses
    #[command(
        after_help = "Nothing is changed without --yes. What is cut stays in the data directory, in files that end in `.damaged`.\nBefore you do: a copy of the data directory, or a backup, loses less.\n\nExit status: 0 there is nothing (more) to repair, 1 damaged, 2 not looked at.\n\nExample:\n  aetherflow log repair --data-dir /var/lib/aetherflow/node --shard 0 --yes"
    )]
    Repair(RepairArgs),
}

/// Which logs.
#[derive(Debug, Args)]
struct Source {
    /// The data directory of a node that does not run, or that of `aetherflow dev`
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Only the log of this shard [default: all]
    #[arg(long, value_name = "N")]
    shard: Option<usize>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct DumpArgs {
    #[command(flatten)]
    source: Source,
    /// Only records of this document
    #[arg(long, value_name = "ID")]
    document: Option<String>,
    /// Only ops from this number in their document on
    #[arg(long, value_name = "SEQUENCE", requires = "document")]
    from: Option<u64>,
    /// Only ops up to this number in their document
    #[arg(long, value_name = "SEQUENCE", requires = "document")]
    to: Option<u64>,
    /// How to print what clients sent
    #[arg(long, value_enum, default_value_t = Payload::None)]
    payload: Payload,
}

#[derive(Debug, Args)]
struct RepairArgs {
    #[command(flatten)]
    source: Source,
    /// Do it, instead of saying what would be done
    #[arg(long)]
    yes: bool,
}

/// How payloads are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Payload {
    /// Only their length
    None,
    /// As hexadecimal digits
    Hex,
}

/// Why a log was not looked at.
#[derive(Debug, Error)]
enum LogError {
    #[error(
        "{} is no data directory of a node: it has no file `layout`. Give the directory that [node] data_dir names, or \
         that of `aetherflow dev`", .0.display()
    )]
    NoDataDir(PathBuf),
    #[error("there is no shard {found}: the data directory was made with {shards}, so 0 to {}", shards - 1)]
    NoShard { found: usize, shards: usize },
    #[error(transparent)]
    Machine(#[from] rt::RtError),
    #[error("{what} {} failed: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
}

pub(crate) fn run(args: &LogArgs) -> ExitCode {
    let (source, result) = match &args.command {
        LogCommand::Verify(source) => (source, verify::run(source)),
        LogCommand::Dump(args) => (&args.source, dump::run(args)),
        LogCommand::Repair(args) => (&args.source, repair::run(args)),
    };
    match result {
        Ok(true) => output::OK,
        Ok(false) => ExitCode::from(DAMAGED),
        Err(error) => {
            output::fail(source.output, &error);
            ExitCode::from(USAGE)
        }
    }
}
