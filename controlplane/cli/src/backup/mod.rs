//! `aetherflow backup` and `aetherflow restore`: copies of a node that serves, and a node's data directory made of one.

mod create;
mod read;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use ::backup::BackupError;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use thiserror::Error;

use crate::args::Output;
use crate::roles::RoleError;
use crate::{output, roles};

/// The exit status when there is a backup that is of no use.
const UNUSABLE: u8 = 1;
/// The exit status of a command that could not do what it was asked.
const FAILED: u8 = 2;

const PLACES: &str = "A place is file:///DIRECTORY, or s3://BUCKET/PREFIX of any S3-compatible store: credentials, region and \
    endpoint come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT (plain http also needs \
    AWS_ALLOW_HTTP=true).\n\nExit status: 0 done, 1 the backup is damaged or unfinished, 2 not done for another reason.";

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Have a node make a backup of itself while it serves
    #[command(after_help = format!(
        "Everything that was acknowledged before it began is in it. The node writes it: a directory is one of its machine, \
         and credentials are those that it was started with. It needs an `admin` address in its [node] section.\n\n{PLACES}\
         \n\nExample:\n  aetherflow backup create --node 127.0.0.1:7402 --to file:///var/backups/aetherflow\n  \
         AETHERFLOW_API_KEY=… aetherflow backup create --node 10.0.0.5:7402 --to s3://backups/node-1 --output json"
    ))]
    Create(CreateArgs),
    /// List the backups of a place, those included that were interrupted
    #[command(after_help = format!(
        "{PLACES}\n\nExample:\n  aetherflow backup list --at file:///var/backups/aetherflow"
    ))]
    List(ListArgs),
    /// Read a backup and check every part of it against its checksum
    #[command(after_help = format!(
        "{PLACES}\n\nExample:\n  aetherflow backup verify --at s3://backups/node-1 --id node-1-1764000000000"
    ))]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The node's `admin` address [default: that of the configuration file]
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "config")]
    node: Option<String>,
    /// The node's configuration file: its `admin` address and the API key. The key may come in AETHERFLOW_API_KEY instead
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to put it
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Where they are
    #[arg(long, value_name = "PLACE")]
    at: String,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Where it is
    #[arg(long, value_name = "PLACE")]
    at: String,
    /// Its name [default: the latest that is whole]
    #[arg(long)]
    id: Option<String>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// `aetherflow restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Where the backup is
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Its name [default: the latest that is whole]
    #[arg(long)]
    id: Option<String>,
    /// The node's data directory: it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What `aetherflow restore --help` ends with.
pub(crate) fn restore_help() -> String {
    format!(
        "No node may run over the directory. The one that is started over it afterwards has everything that was acknowledged \
         before the backup began.\n\n{PLACES}\n\nExample:\n  aetherflow restore --from file:///var/backups/aetherflow \
         --data-dir /var/lib/aetherflow/node"
    )
}

/// Why a command was not done.
#[derive(Debug, Error)]
enum CommandError {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(
        "{file} gives the node no address for this: set `admin` in its [node] section and start it again"
    )]
    NoAdmin { file: String },
    #[error(
        "the node cannot be reached at {address}: {reason}; is it the `admin` address of its [node] section?"
    )]
    Unreachable { address: String, reason: String },
    #[error("the node refused: {0}")]
    Refused(String),
    #[error(
        "the API key is not the node's: give its configuration with --config, or the key in AETHERFLOW_API_KEY"
    )]
    Key,
    #[error("the backup failed, and what there is of it is of no use: {0}")]
    Broken(String),
}

impl CommandError {
    /// A name that stays the same, for programs.
    const fn name(&self) -> &'static str {
        match self {
            Self::Backup(error) => error.name(),
            Self::Role(_) => "configuration",
            Self::NoAdmin { .. } => "no-admin-address",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused(_) => "refused",
            Self::Key => "unauthenticated",
            Self::Broken(_) => "backup-failed",
        }
    }

    const fn status(&self) -> u8 {
        match self {
            Self::Backup(BackupError::Damaged { .. } | BackupError::Unfinished { .. }) => UNUSABLE,
            _ => FAILED,
        }
    }
}

/// `aetherflow backup`.
pub(crate) fn run(args: &BackupArgs) -> ExitCode {
    match &args.command {
        BackupCommand::Create(args) => ended(args.output, create::run(args)),
        BackupCommand::List(args) => ended(args.output, read::list(args)),
        BackupCommand::Verify(args) => ended(args.output, read::verify(args)),
    }
}

/// `aetherflow restore`.
pub(crate) fn restore(args: &RestoreArgs) -> ExitCode {
    ended(args.output, read::restore(args))
}

fn ended(output: Output, result: Result<(), CommandError>) -> ExitCode {
    let Err(error) = result else { return output::OK };
    match output {
        Output::Json => {
            let told = json!({ "event": "error", "code": error.name(), "error": error.to_string() });
            eprintln!("{told}");
        }
        Output::Text => eprintln!("error: {error}"),
    }
    ExitCode::from(error.status())
}

fn block_on<T>(task: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    roles::runtime()?.block_on(task)
}

/// Shown to people only; `bytes` may be unknown.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{wide_bar} {bytes} of {total_bytes}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {bytes_per_sec}, {elapsed}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("a constant template"))
}
