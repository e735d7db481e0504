//! `aether-perf impair`: a network that is worse than the one at hand, in front of any server.
//!
//! A relay in user space, for the kernels and the users that have no netem. The links are those of the crate `netem`;
//! here are the sockets and the clock around them. One thread does it all: it sleeps until shortly before the next
//! datagram is due and is awake for the rest, so that it leaves within microseconds of its instant; how late datagrams
//! left is counted and printed. A delay counts from the instant at which the kernel took the datagram.

mod args;
mod clients;
mod clock;
mod control;
mod handle;
pub mod namespace;
mod relay;
mod socket;
mod summary;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use wire::Span;

pub use args::{Args, NetworkArgs};
pub use control::{Control, Remote};
pub use handle::RelayHandle;
pub use relay::{CLIENTS_MAX, Relay, RelayOptions, Shown};
pub use summary::{Lateness, Ready, Summary};

use crate::args::Output;
use crate::error::Result;

/// How often the counters are shown on a terminal.
const TICK: Span = Span::from_ms(500);
/// The relay goes before those that it delays: it uses little, and its lateness would be taken for theirs.
const NICENESS: i32 = -15;

/// Runs the command `impair` until Ctrl-C, or until standard input closes where that was asked for.
///
/// # Errors
/// A network that makes no sense, an address that cannot be had, or a socket that broke.
pub fn run(args: &Args) -> Result<ExitCode> {
    let options = args.options()?;
    raise_limits();
    let (mut control, remote) = Control::new()?;
    remote.watch_signals()?;
    let mut relay = Relay::bind(options.clone())?;
    let ready = Ready {
        address: relay.address(),
        to: options.to,
        network: options.network.to_string(),
        seed: options.seed,
    };
    let Ready { address, to, network, seed } = &ready;
    print(args.output, &ready, || format!("relaying {address} to {to}: {network} (seed {seed})\n"));
    // Kept for as long as the relay runs: closing it would end the relay.
    let _remote = if args.until_stdin_closes {
        remote.watch_input()?;
        None
    } else {
        Some(remote)
    };
    let is_live = args.output == Output::Table && std::io::stderr().is_terminal();
    let result = relay.run(&mut control, is_live.then_some(TICK), &mut |relay, shown| match shown {
        Shown::Tick => eprint!("\r\x1b[K{}", relay.summary().line()),
        Shown::Asked => print(args.output, &relay.summary(), || relay.summary().text()),
    });
    if is_live {
        eprint!("\r\x1b[K");
    }
    let summary = relay.summary();
    print(args.output, &summary, || summary.text());
    result.map(|()| ExitCode::SUCCESS)
}

/// A socket for each client, and a good place in the queue for a processor: as much as this user may have.
fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without: fewer clients, whose datagrams are counted as refused; and a later relay, which it says.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let _ = setpriority_process(None, NICENESS);
    crate::serve::sharpen_timers();
}

fn print(output: Output, value: &impl serde::Serialize, text: impl FnOnce() -> String) {
    let text = match output {
        Output::Json => format!("{}\n", serde_json::json!(value)),
        Output::Table => text(),
    };
    let mut out = std::io::stdout().lock();
    // A reader that has gone away is no failure of the relay.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
