//! The command `aether-perf`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use perf::error::Result;
use perf::node_child::{self, ServeArgs};
use perf::serve::PeerArgs;
use perf::workloads::{
    bulk, commit, connect, fanout, flood, join_storm, ops, presence, recover, replay, rtt, soak, stages,
};
use perf::{compare, context, impair, report, serve};

/// The harness counts what its threads and the node's shards allocate.
#[global_allocator]
static ALLOCATOR: rt::CountingAllocator = rt::CountingAllocator;

/// Where every microsecond goes, side by side with what else one could pick.
#[derive(Parser, Debug)]
#[command(version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Example: aether-perf compare --quick")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Every transport under the same loads, then the product: one table, with ratios to the floor and the targets.
    Compare(compare::Args),
    /// How long a message and its echo take, by transport, size, rate and way of waiting.
    Rtt(rtt::Args),
    /// How much goes one way, and what it costs both sides.
    Bulk(bulk::Args),
    /// What a connection costs to make, to have, and until its first answer.
    Connect(connect::Args),
    /// What a flood of forged first packets costs those who are connected.
    Flood(flood::Args),
    /// How many small edits become durable, and when they are durable and with the readers.
    Ops(ops::OpsArgs),
    /// One types, and many read: how long until each reader has an edit, and the last one.
    Fanout(fanout::FanoutArgs),
    /// Cursors move in one document: how long until the others see it, and how much is overtaken.
    Presence(presence::PresenceArgs),
    /// Many clients open one large document at the same moment.
    JoinStorm(join_storm::JoinStormArgs),
    /// What it costs and saves that ops wait for others before the log is written.
    Commit(commit::CommitArgs),
    /// How long a node takes to start over a long log.
    Recover(recover::RecoverArgs),
    /// Recorded editing, at its own pace, faster, or as fast as possible.
    Replay(replay::ReplayArgs),
    /// Edits for hours: memory must not grow.
    Soak(soak::SoakArgs),
    /// Where the time goes inside a node while edits come in: the waterfall.
    Stages(stages::StagesArgs),
    /// Draw again what was measured before: one report, or several side by side with their differences.
    Report(report::command::Arguments),
    /// A network that is worse than the one at hand, in front of any server: a relay with delay, loss and a bottleneck.
    Impair(Box<impair::Args>),
    /// A command inside network namespaces of its own, where the kernel loses packets and slows them down (root).
    Netns(impair::namespace::NamespaceArgs),
    /// A server under test; ends when its standard input closes.
    #[command(hide = true)]
    Serve {
        #[command(subcommand)]
        server: Server,
    },
}

#[derive(Subcommand, Debug)]
enum Server {
    /// A transport of the registry.
    Peer(PeerArgs),
    /// The product: a control plane and a node.
    Node(ServeArgs),
}

fn main() -> ExitCode {
    run(Cli::parse().command).unwrap_or_else(|error| context::say(&[error]))
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Compare(args) => compare::run(&args),
        Command::Rtt(args) => rtt::run(&args),
        Command::Bulk(args) => bulk::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Flood(args) => flood::run(&args),
        Command::Ops(args) => ops::run(&args),
        Command::Fanout(args) => fanout::run(&args),
        Command::Presence(args) => presence::run(&args),
        Command::JoinStorm(args) => join_storm::run(&args),
        Command::Commit(args) => commit::run(&args),
        Command::Recover(args) => recover::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Stages(args) => stages::run(&args),
        Command::Report(args) => report::command::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Impair(args) => impair::run(&args),
        Command::Netns(args) => impair::namespace::run(&args),
        Command::Serve { server } => match server {
            Server::Peer(args) => serve::run_peer(&args),
            Server::Node(args) => node_child::serve(&args),
        }
        .map(|()| ExitCode::SUCCESS),
    }
}
