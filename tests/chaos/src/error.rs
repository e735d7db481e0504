//! Why a campaign could not be run to its end. What it is there to find is in its report instead.

use std::io;
use std::path::PathBuf;

use aetherflow_client::{ClientError, TicketRefusal};
use thiserror::Error;

/// Why a campaign could not be run.
#[derive(Debug, Error)]
pub enum ChaosError {
    /// The node's program is not to be had.
    #[error("cannot build or find the program `aetherflow`: {0}; give it with --program")]
    Program(String),
    /// The directory for the node's data cannot be used.
    #[error("cannot use {} for the node's data: {error}; give another one with --data-dir", path.display())]
    Data {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No ports for the node.
    #[error("no free ports of 127.0.0.1 for the node: {0}; end what holds them")]
    Ports(io::Error),
    /// The process could not be started or spoken to.
    #[error("cannot run {}: {error}", program.display())]
    Process {
        /// The program.
        program: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No session to be had.
    #[error("no session from the control plane: {0}")]
    Session(#[from] TicketRefusal),
    /// A client could not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
}
