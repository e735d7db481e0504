//! The simulator at the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sim::SeedArgs;
use sim::latency::LatencyArgs;

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
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Some(Command::Latency(args)) = cli.command else { return cli.seeds.run() };
    match args.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::FAILURE
        }
    }
}
