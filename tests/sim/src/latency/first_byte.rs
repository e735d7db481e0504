//! How long it takes from nothing to the first data: delivered, and back.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use netem::PathSpec;
use quantum::Config;
use serde::Serialize;
use wire::{Span, Time};

use super::cli::MeasureArgs;
use super::ends::{Ends, Observer};
use super::run::LatencyError;
use super::sample::{Percentiles, Sample};

/// Networks: there and back 20 ms, with losses both ways.
const NETWORKS: [(&str, &str); 3] =
    [("0 %", "delay=10ms"), ("1 %", "delay=10ms loss=1%"), ("5 %", "delay=10ms loss=5%")];
/// When the first data must be there, and its answer, ms: half a round trip, and one, without a loss.
const TARGET_MS: (f64, f64) = (10.05, 21.0);
/// Nobody waits longer.
const PATIENCE: Span = Span::from_ms(10_000);
/// What is said first, bytes.
const MESSAGE_BYTES: usize = 200;
const FLOW: usize = 0;

/// How long fresh connections take until their first data has arrived, and until the first answer has, in virtual time.
///
/// A client that the node has never met sends one message of 200 bytes, which rides in its first packet; the node answers
/// it at once. 20 ms there and back.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  cargo run --release -p sim -- first-byte --connections 10000")]
pub struct FirstByteArgs {
    /// Connections of each row, one after another.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    connections: u64,
    #[command(flatten)]
    measure: MeasureArgs,
}

/// What connections over one network took.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FirstByteMeasured {
    /// How much is lost.
    pub loss: &'static str,
    /// From nothing to the delivery of the first message.
    pub delivered: Percentiles,
    /// From nothing to the delivery of its answer.
    pub back: Percentiles,
    /// Whether it took too long, where nothing was lost.
    pub is_missed: bool,
}

impl FirstByteArgs {
    /// Measures and prints. Whether the targets are met, or not asked for.
    pub fn run(&self) -> Result<bool, LatencyError> {
        let rows: Vec<FirstByteMeasured> = NETWORKS
            .into_iter()
            .map(|(loss, network)| first_bytes(loss, network, self.connections, self.measure.seed))
            .collect::<Result<_, _>>()?;
        self.measure.conclude(&FirstByteTable(&rows), &rows, rows.iter().all(|row| !row.is_missed))
    }
}

#[derive(Default)]
struct Waiter {
    delivered: Option<Time>,
    back: Option<Time>,
}

impl Observer for Waiter {
    fn on_message(&mut self, now: Time, _: usize, _: &[u8]) {
        self.delivered.get_or_insert(now);
    }

    fn on_answer(&mut self, now: Time, _: usize, _: &[u8]) {
        self.back.get_or_insert(now);
    }
}

/// Makes connections, each over a network of its own, and times their first messages.
pub fn first_bytes(
    loss: &'static str,
    network: &str,
    connections: u64,
    seed: u64,
) -> Result<FirstByteMeasured, LatencyError> {
    let spec: PathSpec = network.parse().map_err(|error: netem::SpecError| LatencyError::Network {
        text: network.to_owned(),
        error: error.to_string(),
    })?;
    let config = Arc::new(Config::default());
    let (mut delivered, mut back) = (Sample::default(), Sample::default());
    for number in 0..connections {
        let seed = netem::Random::stream(seed, number).next_u64();
        let (there_at, back_at) = first_byte(spec.clone(), seed, &config)?;
        delivered.push(there_at);
        back.push(back_at);
    }
    let (delivered, back) = (delivered.percentiles(), back.percentiles());
    let is_missed = spec.up.loss == netem::Probability::ZERO
        && (delivered.max_ms > TARGET_MS.0 || back.max_ms > TARGET_MS.1);
    Ok(FirstByteMeasured { loss, delivered, back, is_missed })
}

fn first_byte(path: PathSpec, seed: u64, config: &Arc<Config>) -> Result<(Span, Span), LatencyError> {
    let mut ends = Ends::new(path, seed, config);
    let mut waiter = Waiter::default();
    let start = ends.now;
    let message = Bytes::from(vec![1; MESSAGE_BYTES]);
    let not_taken =
        |error: quantum::SendError| LatencyError::NotTaken { number: 0, error: error.to_string() };
    ends.connect(config)?;
    ends.send(FLOW, message.clone()).map_err(not_taken)?;
    ends.flush(&mut waiter)?;
    let mut is_answered = false;
    loop {
        if let (Some(there), Some(back)) = (waiter.delivered, waiter.back) {
            return Ok((there.since(start), back.since(start)));
        }
        let at = ends.next_at().filter(|&at| at <= start + PATIENCE).ok_or(LatencyError::Missing(0))?;
        ends.advance(at, &mut waiter)?;
        if waiter.delivered.is_some() && !is_answered {
            is_answered = true;
            ends.answer(FLOW, message.clone()).map_err(not_taken)?;
            ends.flush(&mut waiter)?;
        }
    }
}

struct FirstByteTable<'a>(&'a [FirstByteMeasured]);

impl fmt::Display for FirstByteTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8}{:>12}{:>32}{:>32}  targets without loss: {} and {} ms",
            "loss",
            "connections",
            "there p50 / p99 / max ms",
            "back p50 / p99 / max ms",
            TARGET_MS.0,
            TARGET_MS.1
        )?;
        let words =
            |times: &Percentiles| format!("{:.2} / {:.2} / {:.1}", times.p50_ms, times.p99_ms, times.max_ms);
        for row in self.0 {
            writeln!(
                f,
                "{:<8}{:>12}{:>32}{:>32}  {}",
                row.loss,
                row.back.count,
                words(&row.delivered),
                words(&row.back),
                if row.is_missed { "MISSED" } else { "" }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_data_waits_for_a_round_trip() {
        let measured = first_bytes("0 %", "delay=10ms", 3, 1).unwrap();
        assert_eq!((measured.delivered.max_ms, measured.back.max_ms), (10.0, 20.0));
        assert!(!measured.is_missed);
    }

    #[test]
    fn a_lost_first_packet_is_not_sent_again() {
        let measured = first_bytes("20 %", "delay=10ms loss=20%", 50, 1).unwrap();
        assert!(measured.delivered.max_ms > 50.0 && measured.delivered.count == 50);
    }
}
