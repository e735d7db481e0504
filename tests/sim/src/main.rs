//! The simulator at the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sim::SeedArgs;
use sim::latency::{BulkArgs, FirstByteArgs, LatencyArgs};

/// The transport in virtual time.
///
/// Runs worlds drawn from seeds and checks what must hold in each: `sim --seeds 10000`. Tells one as a story: `sim --seed
/// 17 --trace`.
#[derive(Parser)]
#[command(name = "sim", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    seeds: SeedArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Latency(LatencyArgs),
    FirstByte(FirstByteArgs),
    Bulk(BulkArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => return cli.seeds.run(),
        Some(Command::Latency(args)) => args.run(),
        Some(Command::FirstByte(args)) => args.run(),
        Some(Command::Bulk(args)) => args.run(),
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
