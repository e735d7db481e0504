//! What every measuring command has in common on its command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::peers::PACKET_BYTES;
use crate::result::Waiting;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For machines: one [`crate::result::Report`].
    Json,
}

/// Options of every command that measures.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// How to print the results.
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub output: Output,
    /// Where the files of the run go (report.json, report.html, *.hlog) [default: perf-results/COMMAND-TIME].
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub directory: Option<PathBuf>,
    /// Another place for the HTML report.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub report: Option<PathBuf>,
    /// Repeats of each run; their median and range are reported.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000), help_heading = "Load")]
    pub repeats: Option<u32>,
    /// Measured seconds of each repeat.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true, help_heading = "Load")]
    pub seconds: Option<f64>,
    /// Seconds before that, which do not count.
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_none, allow_negative_numbers = true,
        help_heading = "Load")]
    pub warmup_seconds: Option<f64>,
    /// A repeat in which the generator was away for longer is thrown away and done again [default: 0.5 % of the
    /// measured time, 2000 at least].
    #[arg(long, value_name = "MICROSECONDS", help_heading = "Load")]
    pub stall_us_max: Option<u64>,
    /// The core of the generator [default: the last one allowed].
    #[arg(long, value_name = "CORE", help_heading = "Machine")]
    pub client_core: Option<usize>,
    /// The core of the server [default: the last but one allowed].
    #[arg(long, value_name = "CORE", help_heading = "Machine")]
    pub server_core: Option<usize>,
    /// Go through the impairment relay, such as 'delay=10ms loss=1%' or a preset.
    #[arg(long, value_name = "SPEC", help_heading = "Machine")]
    pub network: Option<String>,
}

/// Options of every command that measures transports.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Packets {
    /// UDP payload of a full packet, for all that make packets of their own [default: 1452].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(PACKET_BYTES_RANGE),
        help_heading = "Machine")]
    pub packet_bytes: Option<u16>,
}

/// Options of every command that measures some of the transports.
#[derive(Args, Clone, Debug)]
pub struct Transports {
    /// Which transports, in turns [default: all in this program].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub peer: Vec<String>,
    /// How both ends wait [default: polling; blocking behind a relay that has no core of its own].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub waiting: Vec<Waiting>,
    /// Packets.
    #[command(flatten)]
    pub packets: Packets,
    /// What every measurement has.
    #[command(flatten)]
    pub common: Common,
}

impl Packets {
    /// What a full packet holds.
    pub fn bytes(self) -> u16 {
        self.packet_bytes.unwrap_or(PACKET_BYTES)
    }
}

/// What a command measures with when its user does not say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// Repeats of each run.
    pub repeats: u32,
    /// Measured seconds of each.
    pub seconds: f64,
    /// Seconds before that.
    pub warmup_seconds: f64,
    /// Where `compare` puts its report besides.
    pub report: Option<&'static str>,
}

/// What a full packet can be asked to hold: the least that QUIC allows, to what one datagram can carry with room.
const PACKET_BYTES_RANGE: std::ops::RangeInclusive<i64> = 1_200..=65_000;
/// Longest measured time, seconds: a week.
const SECONDS_MAX: f64 = 7.0 * 86_400.0;

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = seconds_or_none(text)?;
    if seconds == 0.0 { Err("more than 0 seconds are needed".to_owned()) } else { Ok(seconds) }
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => Ok(seconds),
        Ok(_) => Err(format!("0 to {SECONDS_MAX} seconds are possible")),
        Err(_) => Err("a number of seconds is wanted, such as 0.5".to_owned()),
    }
}

/// A rate: messages a second, more than none.
///
/// # Errors
/// What is wrong with the text.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 && rate <= 1e9 => Ok(rate),
        Ok(_) => Err("more than 0 and at most 1000000000 messages/s are possible".to_owned()),
        Err(_) => Err("a number of messages a second is wanted, such as 10000".to_owned()),
    }
}
