//! The campaign of kills at the command line.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    chaos::ChaosArgs::parse().run()
}
