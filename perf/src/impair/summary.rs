//! What a relay says: where it listens, and what became of the packets.

use std::fmt::Write as _;
use std::net::SocketAddr;

use hdrhistogram::Histogram;
use netem::LinkStats;
use serde::{Deserialize, Serialize};

/// A relay whose datagrams left later than this, at the 99th percentile, has put its own time into the figures,
/// microseconds.
const LATE_US_MAX: u64 = 1_000;

/// The line of JSON that a relay prints when it is ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it relays to.
    pub to: SocketAddr,
    /// The network in words.
    pub network: String,
    /// What its fates follow from.
    pub seed: u64,
}

/// What became of the packets so far.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Clients that there ever were.
    pub clients: u64,
    /// Datagrams of clients for which there was no room.
    pub refused: u64,
    /// From clients to the server.
    pub up: LinkStats,
    /// From the server to clients.
    pub down: LinkStats,
    /// Datagrams that had come through and could not be sent: nobody listens there, or it cannot take more.
    pub send_failed: u64,
    /// Datagrams that the kernel dropped before the relay read them: it was too slow, and the figures are not those of
    /// the network that was asked for. Of sockets that are still open.
    pub overrun: u64,
    /// How late datagrams left after the instant at which they were to leave.
    pub late_us: Lateness,
}

/// Microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lateness {
    /// Half of them were later than this.
    pub p50: u64,
    /// One of a hundred was.
    pub p99: u64,
    /// None was.
    pub max: u64,
}

impl From<&Histogram<u32>> for Lateness {
    fn from(histogram: &Histogram<u32>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50: at(0.5), p99: at(0.99), max: histogram.max() }
    }
}

impl Summary {
    /// Why figures measured through this relay are not those of the network that was asked for. `late_us_max`: how much
    /// somebody wants to put up with, where that is more.
    pub fn held_up(&self, late_us_max: u64) -> Vec<String> {
        let late_us_max = late_us_max.max(LATE_US_MAX);
        let mut reasons = Vec::new();
        let late_us = self.late_us.p99;
        if late_us > late_us_max {
            reasons.push(format!(
                "the relay sent 1 % of the datagrams {late_us} us or more after they were due (at most \
                 {late_us_max} us allowed)"
            ));
        }
        if self.overrun > 0 {
            reasons.push(format!("the relay was too slow for {} datagrams", self.overrun));
        }
        reasons
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { clients, up, down, .. } = self;
        let way = |stats: &LinkStats| format!("{}/{} ({})", stats.delivered, stats.taken, stats.dropped());
        format!("clients {clients}  up {}  down {}  delivered/taken (dropped)", way(up), way(down))
    }

    /// Several lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("clients {}\n", self.clients);
        for (name, stats) in [("up", &self.up), ("down", &self.down)] {
            text += &way(name, stats);
        }
        let Lateness { p50, p99, max } = self.late_us;
        let _ = writeln!(text, "left late by: p50 {p50} us, p99 {p99} us, at most {max} us");
        for (count, what) in [
            (self.refused, "datagrams refused: too many clients (--clients-max)"),
            (self.send_failed, "datagrams could not be sent on: does the server listen?"),
            (
                self.overrun,
                "datagrams dropped by the kernel before the relay could read them: too much for one core",
            ),
        ] {
            if count > 0 {
                let _ = writeln!(text, "{count} {what}");
            }
        }
        text
    }
}

fn way(name: &str, stats: &LinkStats) -> String {
    let mut text = format!("{name:<5} taken {}  delivered {}", stats.taken, stats.delivered);
    for (count, what) in [
        (stats.lost, "lost"),
        (stats.dropped_queue, "queue full"),
        (stats.dropped_policer, "policed"),
        (stats.dropped_blackhole, "medium down"),
        (stats.dropped_overflow, "too many under way"),
        (stats.dropped_unmapped, "to a forgotten mapping"),
        (stats.duplicated, "duplicated"),
        (stats.corrupted, "corrupted"),
        (stats.reordered, "held back"),
    ] {
        if count > 0 {
            let _ = write!(text, "  {what} {count}");
        }
    }
    if stats.lost > 0 {
        let packets = stats.taken.max(1) as f64;
        let burst = stats.lost as f64 / stats.loss_bursts.max(1) as f64;
        let percent = stats.lost as f64 / packets * 100.0;
        let _ = write!(text, " ({percent:.2} % in bursts of {burst:.2})");
    }
    text.push('\n');
    text
}
