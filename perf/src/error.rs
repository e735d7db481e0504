//! What can go wrong around a measurement. What goes wrong *within* one is a verdict, not an error.

use std::io;
use std::path::PathBuf;

/// Says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument that cannot be meant so.
    #[error("{0}")]
    Usage(String),
    /// A name that no peer has.
    #[error("no peer is called '{name}'; there are {known}")]
    UnknownPeer {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// A peer that this program was built without.
    #[error(
        "the peer '{name}' is not in this program: build it with `cargo build --release -p perf --features peers`"
    )]
    PeerNotBuilt {
        /// What was asked for.
        name: String,
    },
    /// A place for results that cannot be written, found before anything is measured.
    #[error("{path} cannot be written: {source}; name another place with {option}")]
    Output {
        /// Where.
        path: PathBuf,
        /// The option that says where.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A server under test that did not start or ended early.
    #[error("the server process `{command}` {what}")]
    Child {
        /// Its command line.
        command: String,
        /// What happened, with its last words.
        what: String,
    },
    /// A transport under test that broke.
    #[error("{subject}, {doing}: {source}")]
    Transport {
        /// Which.
        subject: String,
        /// While doing what.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Anything else, with what it happened to.
    #[error("{doing}: {source}")]
    While {
        /// What was being done, to what, and what to do about it.
        doing: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Ctrl-C. What was measured until then is kept.
    #[error("interrupted; what was measured until then is kept")]
    Interrupted,
    /// At least one run gave no figures to believe.
    #[error("{failed} of {runs} runs FAILED")]
    RunsFailed {
        /// How many.
        failed: usize,
        /// Of how many.
        runs: usize,
    },
}

impl Error {
    /// Wraps whatever went wrong with what was being done.
    pub fn doing(
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::While { doing: doing.into(), source: source.into() }
    }

    /// The status that the process ends with: 2 for a wrong command line, 1 for everything else.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::UnknownPeer { .. } | Self::PeerNotBuilt { .. } | Self::Output { .. } => 2,
            Self::Child { .. }
            | Self::Transport { .. }
            | Self::While { .. }
            | Self::Interrupted
            | Self::RunsFailed { .. } => 1,
        }
    }
}

/// With [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
