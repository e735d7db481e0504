//! A relay in a process of its own.

use std::net::SocketAddr;

use netem::PathSpec;

use super::control::ASK_SUMMARY;
use super::relay::Relay;
use super::summary::{Ready, Summary};
use crate::error::Result;
use crate::serve::ServerProcess;

/// A relay that runs as a child process, and ends when this is dropped.
pub struct RelayHandle {
    process: ServerProcess,
    ready: Ready,
}

impl Relay {
    /// Starts a relay in front of `to`, in a process of its own, on a free port of the loopback interface of the same
    /// family. The network is a [`netem::LinkSpec`] (the same both ways) or a [`PathSpec`]; equal seeds give equal
    /// fates.
    ///
    /// # Errors
    /// The process does not start.
    pub fn spawn(network: impl Into<PathSpec>, to: SocketAddr, seed: u64) -> Result<RelayHandle> {
        let listen = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let (network, to, seed) = (network.into().to_string(), to.to_string(), seed.to_string());
        let words = ["impair", "--listen", listen, "--to", &to, "--seed", &seed, "--network", &network];
        let ending = ["--output", "json", "--until-stdin-closes"];
        let arguments: Vec<String> = words.into_iter().chain(ending).map(str::to_owned).collect();
        let (process, ready) = ServerProcess::spawn(&arguments)?;
        Ok(RelayHandle { process, ready })
    }
}

impl RelayHandle {
    /// Where clients are to send.
    pub fn address(&self) -> SocketAddr {
        self.ready.address
    }

    /// What became of the packets so far.
    ///
    /// # Errors
    /// The process has ended.
    pub fn summary(&mut self) -> Result<Summary> {
        self.process.ask(ASK_SUMMARY)
    }

    /// Reads a network in words, and the files of its traces: what `--network` takes.
    ///
    /// # Errors
    /// The text describes no network, or a trace cannot be read.
    pub fn network(text: &str) -> Result<PathSpec> {
        super::args::network(text)
    }
}
