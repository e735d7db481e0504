//! The simulator at the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sim::latency::{BulkArgs, FirstByteArgs, LatencyArgs};

/// The transport in virtual time.
#[derive(Parser)]
#[command(name = "sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Latency(LatencyArgs),
    FirstByte(FirstByteArgs),
    Bulk(BulkArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Latency(args) => args.run(),
        Command::FirstByte(args) => args.run(),
        Command::Bulk(args) => args.run(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::FAILURE
        }
    }
}
