//! The simulator at the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sim::latency::LatencyArgs;

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
}

fn main() -> ExitCode {
    let Command::Latency(args) = Cli::parse().command;
    match args.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::FAILURE
        }
    }
}
