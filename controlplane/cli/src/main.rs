//! The command `aetherflow`: the whole appliance in one process, its parts as processes of their own, and
//! the operator's commands.

mod args;
mod demo;
mod dev;
mod logging;
mod output;
mod roles;
mod trace;
mod typing;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Dev(args) => dev::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Node(args) => roles::node(&args),
        Command::Control(args) => roles::control(&args),
        Command::Gateway(args) => roles::gateway(&args),
        Command::Config(args) => roles::check_config(&args),
    }
}
