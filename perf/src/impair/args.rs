//! The command line of `impair`.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;

use netem::{PathSpec, TRACE_TEXT_BYTES_MAX};
use wire::Span;

use super::relay::{CLIENTS_MAX, RelayOptions};
use crate::args::Output;
use crate::error::{Error, Result};

/// Seconds between two changes of address at most: a day.
const REBIND_S_MAX: f64 = 86_400.0;

/// The command line of `impair`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_long_help = examples())]
pub struct Args {
    /// Where to listen; port 0 for any.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The server that is to be behind the network.
    #[arg(long, value_name = "ADDRESS")]
    pub to: SocketAddr,
    /// What lies between.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// The fates of packets follow from it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// All clients share one bottleneck and its fates; without, each has a network of its own.
    #[arg(long)]
    pub shared: bool,
    /// Clients at most; those that were silent for a minute make room for others.
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = clients)]
    pub clients_max: usize,
    /// Gives each client another address towards the server every so many seconds, as a NAT does.
    #[arg(long, value_name = "SECONDS", value_parser = rebind_every)]
    pub rebind_every_s: Option<f64>,
    /// How to print where it listens, and what became of the packets.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
    /// End when standard input closes; the line `summary` on it asks for the counters.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// A network on the command line. Each option is a word of `--network`, for both directions.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// A preset and what differs from it, or all of it: 'wifi loss=2%', 'delay=10ms up.rate=5mbit'.
    #[arg(long, value_name = "SPEC", conflicts_with = "preset")]
    pub network: Option<String>,
    /// A network with a name; see --help.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Delay, one way.
    #[arg(long, value_name = "MS")]
    pub delay_ms: Option<String>,
    /// Give or take so much.
    #[arg(long, value_name = "MS")]
    pub jitter_ms: Option<String>,
    /// Jitter lets packets overtake each other.
    #[arg(long)]
    pub jitter_reorders: bool,
    /// Each packet by itself, such as 1%.
    #[arg(long, value_name = "PROBABILITY")]
    pub loss: Option<String>,
    /// Loss in bursts: good to bad, bad to good, loss in the bad state (100%), in the good (0%).
    #[arg(long, value_name = "P,R[,BAD[,GOOD]]")]
    pub gilbert_elliott: Option<String>,
    /// Packets held back so that others overtake them, such as 1%,5ms.
    #[arg(long, value_name = "PROBABILITY[,TIME]")]
    pub reorder: Option<String>,
    /// Packets that come twice.
    #[arg(long, value_name = "PROBABILITY")]
    pub duplicate: Option<String>,
    /// Packets that come with one bit flipped.
    #[arg(long, value_name = "PROBABILITY")]
    pub corrupt: Option<String>,
    /// Bottleneck, megabits a second, headers of IP and UDP included.
    #[arg(long, value_name = "MBIT")]
    pub rate_mbit: Option<String>,
    /// What waits for the bottleneck at most, kilobytes.
    #[arg(long, value_name = "KB")]
    pub queue_kb: Option<String>,
    /// A token bucket that drops, such as 5mbit,32kb.
    #[arg(long, value_name = "RATE,BURST")]
    pub policer: Option<String>,
    /// The medium is down, such as 2s,500ms, or 2s,500ms,10s for again and again.
    #[arg(long, value_name = "AFTER,LENGTH[,EVERY]")]
    pub blackhole: Option<String>,
    /// Capacity from clients to the server, in Mahimahi's format.
    #[arg(long, value_name = "FILE")]
    pub trace_up: Option<String>,
    /// Capacity from the server to clients.
    #[arg(long, value_name = "FILE")]
    pub trace_down: Option<String>,
}

impl NetworkArgs {
    /// The network that they describe.
    ///
    /// # Errors
    /// They describe none, or a trace cannot be read.
    pub fn spec(&self) -> Result<PathSpec> {
        let spec = self.network.iter().chain(&self.preset).flat_map(|spec| spec.split_whitespace());
        let mut words: Vec<String> = spec.map(str::to_owned).collect();
        let mut say = |key: &str, value: &Option<String>, unit: &str| {
            words.extend(value.iter().map(|value| format!("{key}={value}{unit}")));
        };
        say("delay", &self.delay_ms, "ms");
        say("jitter", &self.jitter_ms, "ms");
        say("jitter-reorders", &self.jitter_reorders.then(|| "yes".to_owned()), "");
        say("loss", &self.loss, "");
        say("gilbert-elliott", &self.gilbert_elliott, "");
        say("reorder", &self.reorder, "");
        say("duplicate", &self.duplicate, "");
        say("corrupt", &self.corrupt, "");
        say("rate", &self.rate_mbit, "mbit");
        say("queue", &self.queue_kb, "kb");
        say("policer", &self.policer, "");
        say("blackhole", &self.blackhole, "");
        say("up.trace", &self.trace_up, "");
        say("down.trace", &self.trace_down, "");
        PathSpec::from_words(words.iter().map(String::as_str), &mut read_trace)
            .map_err(|error| Error::Usage(error.to_string()))
    }
}

/// Reads a network in words, and the files of its traces.
///
/// # Errors
/// The text describes no network, or a trace cannot be read.
pub(super) fn network(text: &str) -> Result<PathSpec> {
    PathSpec::parse(text, &mut read_trace).map_err(|error| Error::Usage(error.to_string()))
}

impl Args {
    /// What the relay is to do.
    ///
    /// # Errors
    /// The network makes no sense.
    pub fn options(&self) -> Result<RelayOptions> {
        let network = self.network.spec()?;
        if self.listen.is_ipv4() != self.to.is_ipv4() && !self.listen.ip().is_unspecified() {
            let Self { listen, to, .. } = self;
            return Err(Error::Usage(format!("--listen {listen} and --to {to} are of different families")));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
        let rebind_every = self.rebind_every_s.map(|s| Span::from_us((s * 1e6) as u64));
        Ok(RelayOptions {
            listen: self.listen,
            to: self.to,
            network,
            seed: self.seed,
            is_shared: self.shared,
            clients_max: self.clients_max,
            rebind_every,
        })
    }
}

fn read_trace(path: &str) -> std::result::Result<String, String> {
    let mut text = String::new();
    let limit = TRACE_TEXT_BYTES_MAX as u64;
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes > TRACE_TEXT_BYTES_MAX => Err(format!("it is longer than {limit} bytes")),
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string()),
    }
}

fn clients(text: &str) -> std::result::Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=CLIENTS_MAX).contains(count))
        .ok_or_else(|| format!("1 to {CLIENTS_MAX} clients are possible"))
}

fn rebind_every(text: &str) -> std::result::Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.001..=REBIND_S_MAX).contains(seconds))
        .ok_or_else(|| format!("0.001 to {REBIND_S_MAX} seconds are possible"))
}

fn examples() -> String {
    let presets = netem::PRESETS.iter().map(|preset| {
        let name = preset.name;
        format!("  {name:<14} {}\n  {:<14} {}\n", preset.about, "", preset.text)
    });
    format!(
        "Presets (delays are one way):\n{}\nExamples:\n  \
         aether-perf impair --to 127.0.0.1:4433 --preset wifi\n  \
         aether-perf impair --listen 127.0.0.1:5000 --to 127.0.0.1:4433 --network 'delay=10ms loss=1%'\n  \
         aether-perf impair --to 127.0.0.1:4433 --delay-ms 20 --trace-down phone.trace --queue-kb 500\n",
        presets.collect::<String>()
    )
}
