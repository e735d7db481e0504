//! The command `aetherflow`: the whole appliance in one process, its parts as processes of their own, and
//! the operator's commands.

mod args;
mod backup;
mod demo;
mod dev;
mod log;
mod logging;
mod output;
mod roles;
mod transport;
mod tune;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

/// A gateway holds documents on the thread that it is started on: the same stack as a shard's.
fn main() -> ExitCode {
    let command = Cli::parse().command;
    let thread = std::thread::Builder::new().name("main".to_owned()).stack_size(rt::STACK_BYTES);
    match thread.spawn(move || run(command)).map(std::thread::JoinHandle::join) {
        Ok(Ok(status)) => status,
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: no thread can be started: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Dev(args) => dev::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Node(args) => roles::node(&args),
        Command::Control(args) => roles::control(&args),
        Command::Gateway(args) => roles::gateway(&args),
        Command::Log(args) => log::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Config(args) => roles::check_config(&args),
        Command::Tune(args) => tune::run(&args),
    }
}
