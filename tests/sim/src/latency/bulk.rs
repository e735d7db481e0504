//! How much of a bottleneck flows fill, how long its queue grows, and how they share it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use netem::PathSpec;
use quantum::{Config, ControllerKind};
use serde::Serialize;
use wire::limits::DATAGRAM_BYTES_MAX;
use wire::{Header, Span, Time};

use super::cli::MeasureArgs;
use super::ends::{Ends, Observer};
use super::run::LatencyError;
use super::sample::{Percentiles, Sample};

/// What the bottleneck passes, bits a second.
const LINK_BITS_PER_S: f64 = 100e6;
/// One way.
const DELAY: Span = Span::from_ms(20);
/// What one message holds.
const MESSAGE_BYTES: usize = 16 << 10;
/// What a sender keeps queued.
const QUEUED_BYTES: usize = 1 << 20;
/// How much later the second flow begins.
const LATER: Span = Span::from_ms(2_000);
/// The part of the time, at its beginning, that does not count: flows are still finding their rates.
const WARMUP_SHARE: f64 = 0.25;
/// Goodput, of the link: what must be reached.
const LINK_SHARE_MIN: f64 = 0.9;
/// Queue delay's 95th percentile, of the round trip: what must not be exceeded.
const QUEUE_SHARE_MAX: f64 = 0.5;

/// Flows through one bottleneck.
#[derive(Clone, Copy, Debug)]
struct BulkRow {
    name: &'static str,
    controllers: &'static [ControllerKind],
    network: &'static str,
    /// Whether it is one of those that have a target.
    is_bound: bool,
}

/// 40 ms there and back, and a queue of what the link passes in that time.
const CLEAN: &str = "delay=20ms up.rate=100mbit up.queue=500kb";
const LOSSY: &str = "delay=20ms up.rate=100mbit up.queue=500kb up.loss=1%";

const ROWS: [BulkRow; 7] = {
    use ControllerKind::{Bbr, Cubic};
    [
        BulkRow { name: "bbr", controllers: &[Bbr], network: CLEAN, is_bound: true },
        BulkRow { name: "bbr, 1 %", controllers: &[Bbr], network: LOSSY, is_bound: true },
        BulkRow { name: "bbr / bbr", controllers: &[Bbr, Bbr], network: CLEAN, is_bound: false },
        BulkRow { name: "bbr / cubic", controllers: &[Bbr, Cubic], network: CLEAN, is_bound: false },
        BulkRow { name: "cubic", controllers: &[Cubic], network: CLEAN, is_bound: false },
        BulkRow { name: "cubic, 1 %", controllers: &[Cubic], network: LOSSY, is_bound: false },
        BulkRow { name: "cubic / cubic", controllers: &[Cubic, Cubic], network: CLEAN, is_bound: false },
    ]
};

/// What flows through one bottleneck came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BulkMeasured {
    /// The row.
    pub name: &'static str,
    /// Bytes of messages delivered, of what the link could have carried of packets with all their headers.
    pub link_share: f64,
    /// Each flow's part of what was delivered.
    pub flow_shares: Vec<f64>,
    /// How long packets waited for the bottleneck.
    pub queue: Percentiles,
    /// Packets that the senders counted as lost, of those that they sent.
    pub loss_share: f64,
    /// Of what was sent again, how much was not lost, packets.
    pub spurious_losses: u64,
    /// Bounds that it breaks, in words.
    pub missed: Vec<String>,
}

/// Bulk through a bottleneck of 100 Mbit/s, 40 ms there and back, in virtual time.
///
/// The share of the link is the goodput: bytes of messages, held against what the link passes with all headers. The queue
/// holds what the link passes in 40 ms. Where there are two flows the second begins two seconds after the first. The
/// first quarter of the time does not count.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  cargo run --release -p sim -- bulk --seconds 30 --rows cubic")]
pub struct BulkArgs {
    /// Virtual seconds of each row.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,
    /// Only rows whose names contain one of these, comma-separated.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    #[command(flatten)]
    measure: MeasureArgs,
}

impl BulkArgs {
    /// Measures and prints. Whether the targets are met, or not asked for.
    pub fn run(&self) -> Result<bool, LatencyError> {
        let is_wanted = |row: &&BulkRow| {
            self.rows.is_empty() || self.rows.iter().any(|part| row.name.contains(part.as_str()))
        };
        let measured: Vec<BulkMeasured> = ROWS
            .iter()
            .filter(is_wanted)
            .map(|row| measure(row, Span::from_ms(self.seconds * 1_000), self.measure.seed))
            .collect::<Result<_, _>>()?;
        self.measure.conclude(
            &BulkTable(&measured),
            &measured,
            measured.iter().all(|row| row.missed.is_empty()),
        )
    }
}

/// Sums up what arrives.
struct Counter {
    count_from: Time,
    delivered_bytes: Vec<u64>,
    queue: Sample,
}

impl Observer for Counter {
    fn on_arrived(&mut self, now: Time, _: usize, datagram: &[u8]) {
        if now < self.count_from {
            return;
        }
        if let Ok((header, _)) = Header::parse(datagram) {
            // Both clocks are one; it counts modulo 2^32.
            let way_us = (now.as_us() as u32).wrapping_sub(header.timestamp_us());
            let alone_us = DELAY.as_us() + (datagram.len() as f64 * 8e6 / LINK_BITS_PER_S) as u64;
            self.queue.push(Span::from_us(u64::from(way_us).saturating_sub(alone_us)));
        }
    }

    fn on_message(&mut self, now: Time, flow: usize, message: &[u8]) {
        if now >= self.count_from {
            self.delivered_bytes[flow] += message.len() as u64;
        }
    }
}

fn measure(row: &BulkRow, length: Span, seed: u64) -> Result<BulkMeasured, LatencyError> {
    let network = |error: netem::SpecError| LatencyError::Network {
        text: row.network.to_owned(),
        error: error.to_string(),
    };
    let path: PathSpec = row.network.parse().map_err(network)?;
    let config = |controller| {
        Arc::new(Config { controller, datagram_bytes_max: DATAGRAM_BYTES_MAX, ..Config::default() })
    };
    let mut ends = Ends::new(path, seed, &config(row.controllers[0]));
    let start = ends.now;
    let end = start + length;
    let mut counter = Counter {
        count_from: start + Span::from_us((length.as_us() as f64 * WARMUP_SHARE) as u64),
        delivered_bytes: vec![0; row.controllers.len()],
        queue: Sample::default(),
    };
    let message = Bytes::from(vec![7; MESSAGE_BYTES]);
    let mut begun = 0;
    while ends.now < end {
        if let Some(&controller) = row.controllers.get(begun)
            && ends.now >= start + LATER.times(begun as u64)
        {
            ends.connect(&config(controller))?;
            begun += 1;
        }
        for flow in 0..begun {
            while ends.client(flow).queued_bytes() < QUEUED_BYTES {
                ends.send(flow, message.clone())
                    .map_err(|error| LatencyError::NotTaken { number: 0, error: error.to_string() })?;
            }
        }
        ends.flush(&mut counter)?;
        let at = ends.next_at().into_iter().chain([end]).min().unwrap_or(end);
        ends.advance(at, &mut counter)?;
    }
    Ok(summary(row, &ends, counter, end))
}

fn summary(row: &BulkRow, ends: &Ends, counter: Counter, end: Time) -> BulkMeasured {
    let all: u64 = counter.delivered_bytes.iter().sum();
    let counted_s = end.since(counter.count_from).as_us() as f64 / 1e6;
    let link_share = all as f64 * 8.0 / (counted_s * LINK_BITS_PER_S);
    let queue = counter.queue.percentiles();
    let sum = |of: fn(&quantum::ConnectionStats) -> u64| -> u64 {
        (0..row.controllers.len()).map(|flow| of(ends.client(flow).stats())).sum()
    };
    let queue_share = queue.p95_ms * 1_000.0 / DELAY.times(2).as_us() as f64;
    let mut missed = Vec::new();
    if row.is_bound && link_share < LINK_SHARE_MIN {
        missed.push(format!("share of the link {link_share:.3} < {LINK_SHARE_MIN}"));
    }
    if row.is_bound && queue_share > QUEUE_SHARE_MAX {
        missed.push(format!("queue p95 {queue_share:.2} > {QUEUE_SHARE_MAX} RTT"));
    }
    BulkMeasured {
        name: row.name,
        link_share,
        flow_shares: counter.delivered_bytes.iter().map(|&bytes| bytes as f64 / all.max(1) as f64).collect(),
        queue,
        loss_share: sum(|stats| stats.packets_lost) as f64 / sum(|stats| stats.datagrams_sent).max(1) as f64,
        spurious_losses: sum(|stats| stats.spurious_losses),
        missed,
    }
}

struct BulkTable<'a>(&'a [BulkMeasured]);

impl fmt::Display for BulkTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16}{:>10}{:>16}{:>30}{:>10}{:>10}  of the link >= {LINK_SHARE_MIN}, queue p95 <= {QUEUE_SHARE_MAX} RTT",
            "flows", "of link", "of each", "queue p50 / p95 / max ms", "lost", "spurious"
        )?;
        for row in self.0 {
            let shares: Vec<String> = row.flow_shares.iter().map(|share| format!("{share:.2}")).collect();
            let queue =
                format!("{:.1} / {:.1} / {:.1}", row.queue.p50_ms, row.queue.p95_ms, row.queue.max_ms);
            let verdict = if row.missed.is_empty() {
                String::new()
            } else {
                format!("MISSED: {}", row.missed.join(", "))
            };
            writeln!(
                f,
                "{:<16}{:>10.3}{:>16}{queue:>30}{:>10.4}{:>10}  {verdict}",
                row.name,
                row.link_share,
                shares.join(" : "),
                row.loss_share,
                row.spurious_losses,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bottleneck_passes_more_than_its_rate_or_lies_idle() {
        let measured = measure(&ROWS[0], Span::from_ms(6_000), 1).unwrap();
        // Headers take at least 5 % of a packet of 1,452 bytes.
        assert!((0.6..0.96).contains(&measured.link_share), "{}", measured.link_share);
        // The queue holds 40 ms.
        assert!((20.0..42.0).contains(&measured.queue.max_ms), "{}", measured.queue.max_ms);
    }

    #[test]
    fn a_flow_is_left_out_or_counted_twice() {
        let measured = measure(&ROWS[2], Span::from_ms(12_000), 1).unwrap();
        assert_eq!(measured.flow_shares.len(), 2);
        assert!((measured.flow_shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(measured.flow_shares.iter().all(|&share| share > 0.05), "{:?}", measured.flow_shares);
    }
}
