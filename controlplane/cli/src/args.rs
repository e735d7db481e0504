//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps shared documents in sync between many people, and never loses an edit that it acknowledged.
#[derive(Debug, Parser)]
#[command(name = "aetherflow", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process: control plane, node and gateway, with nothing to install
    #[command(
        after_help = "Example:\n  aetherflow dev\n  aetherflow dev --data-dir ./data --shards 2 --http 127.0.0.1:8080"
    )]
    Dev(DevArgs),
    /// Replay an editing trace through a node of its own and check that nothing is lost
    #[command(
        after_help = "Example:\n  aetherflow demo\n  aetherflow demo --trace automerge-paper.json.gz --kill --output json"
    )]
    Demo(crate::demo::DemoArgs),
    /// Run a node: the data plane of one machine
    #[command(after_help = "Example:\n  aetherflow node --config configs/aetherflow.toml")]
    Node(RoleArgs),
    /// Run the control plane: sessions, placement, settings
    #[command(after_help = "Example:\n  aetherflow control --config configs/aetherflow.toml")]
    Control(RoleArgs),
    /// Run a gateway: WebSocket and REST for browsers and Yjs editors
    #[command(after_help = "Example:\n  aetherflow gateway --config configs/aetherflow.toml")]
    Gateway(RoleArgs),
    /// Look into the logs of a node that does not run, and mend them
    #[command(after_help = "Example:\n  aetherflow log verify --data-dir /var/lib/aetherflow/node")]
    Log(crate::log::LogArgs),
    /// Make, list and check backups of nodes
    Backup(crate::backup::BackupArgs),
    /// Make a node's data directory of a backup
    #[command(after_help = crate::backup::restore_help())]
    Restore(crate::backup::RestoreArgs),
    /// Check a configuration file and say what is wrong with it
    #[command(after_help = "Example:\n  aetherflow config configs/aetherflow.toml")]
    Config(ConfigArgs),
    /// Say what of this machine keeps a node from its best, and how to change it
    #[command(
        after_help = "Example:\n  aetherflow tune --check\n  aetherflow tune --check --cores 2,3 --strict --output json\n\nChanges nothing and needs no privilege. Status 1 with --strict when something is to improve."
    )]
    Tune(TuneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Where documents and sessions are kept [default: aetherflow-data below the current directory]
    #[arg(long, value_name = "DIR", default_value = "aetherflow-data", hide_default_value = true)]
    pub(crate) data_dir: PathBuf,
    /// Shards, one core each [default: as the data directory was made with, or one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) shards: Option<u16>,
    /// UDP address for Quantum; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub(crate) listen: SocketAddr,
    /// HTTP address for browsers, WebSocket and REST; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480")]
    pub(crate) http: SocketAddr,
    /// gRPC address of the control plane; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7401")]
    pub(crate) control: SocketAddr,
    /// gRPC address where `aetherflow backup` is taken; port 0 takes a free one [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// What a shard does when idle: busy (never sleeps), adaptive (spins, then sleeps) or saver (sleeps)
    #[arg(long, value_name = "POLICY")]
    pub(crate) idle_policy: Option<IdlePolicyArg>,
    /// Configuration file; flags go before it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How to print what is running
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// How to print what is running
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    /// Check and explain; there is nothing else that it does
    #[arg(long)]
    pub(crate) check: bool,
    /// Exit with status 1 when something is to improve
    #[arg(long)]
    pub(crate) strict: bool,
    /// The cores that shards run on [default: all that this process may use]
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub(crate) cores: Vec<usize>,
    /// The UDP port of the node
    #[arg(long, value_name = "PORT", default_value_t = 7400)]
    pub(crate) port: u16,
    /// Where /proc and /sys are: those of a host that is mounted here, or of another machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// How a command prints its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// What a shard does when idle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum IdlePolicyArg {
    Busy,
    Adaptive,
    Saver,
}
