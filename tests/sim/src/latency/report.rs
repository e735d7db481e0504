//! Rows beside their targets.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use quantum::Config;
use serde::Serialize;

use super::rows::{Row, Target};
use super::run::{FecCounts, LatencyError, Measured, measure};

/// A row, what it gave, and how that compares.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Checked {
    /// The row.
    pub row: Row,
    /// What it gave.
    pub measured: Measured,
    /// Bytes that the sender sent, times those of the run without loss.
    pub sender_ratio: f64,
    /// Bytes of both ends, times those of the run without loss.
    pub both_ratio: f64,
    /// Bounds that it breaks, in words.
    pub missed: Vec<String>,
}

impl Checked {
    /// Compares a row with its target, and with the same run without loss.
    #[must_use]
    pub fn new(row: Row, measured: Measured, clean: &Measured) -> Self {
        let ratio = |bytes: u64, clean: u64| bytes as f64 / clean.max(1) as f64;
        let sender_ratio = ratio(measured.sender_bytes, clean.sender_bytes);
        let both_ratio = ratio(measured.both_bytes, clean.both_bytes);
        let mut missed = Vec::new();
        let mut check = |name: &str, value: f64, bound: Option<f64>| {
            if let Some(bound) = bound.filter(|&bound| value > bound) {
                missed.push(format!("{name} {value:.2} > {bound:.2}"));
            }
        };
        let Target { p50_ms, p99_ms, p999_ms, evidence_p99_ms, bytes_ratio } = row.target;
        check("p50", measured.latency.p50_ms, p50_ms);
        check("p99", measured.latency.p99_ms, p99_ms);
        check("p99.9", measured.latency.p999_ms, p999_ms);
        check("evidence p99", measured.evidence_by_fec().p99_ms, evidence_p99_ms);
        // Both: neither end may pay what the other saves.
        check("bytes", sender_ratio.max(both_ratio), bytes_ratio);
        Self { row, measured, sender_ratio, both_ratio, missed }
    }
}

/// All rows of one run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Table {
    /// Of every random choice.
    pub seed: u64,
    /// In the order in which they were run.
    pub rows: Vec<Checked>,
}

impl Table {
    /// Whether every target is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.rows.iter().all(|row| row.missed.is_empty())
    }
}

/// Measures rows, and whatever they are to be held against: `messages` of each, or as many as each says.
pub fn measure_rows(rows: &[Row], messages: Option<u64>, seed: u64) -> Result<Table, LatencyError> {
    let config = Config::default();
    let mut clean: HashMap<(u64, u64), Measured> = HashMap::new();
    let mut checked = Vec::new();
    for row in rows {
        let messages = messages.unwrap_or(row.messages);
        let clean = match clean.entry((row.rate_per_s, messages)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(measure(&row.without_loss(), messages, seed, &config)?),
        };
        let measured = if row.is_lossy() { measure(row, messages, seed, &config)? } else { clean.clone() };
        checked.push(Checked::new(*row, measured, clean));
    }
    Ok(Table { seed, rows: checked })
}

/// A bound, or a dash.
fn bound(bound: Option<f64>, digits: usize) -> String {
    bound.map_or_else(|| "-".to_owned(), |bound| format!("{bound:.digits$}"))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20}{:>9}{:>36}{:>24}{:>12}{:>12}{:>10}{:>10}{:>10}{:>9}{:>34}  targets",
            "loss",
            "messages",
            "p50 / p99 / p99.9 / max",
            "evidence p99 all / FEC",
            "bytes",
            "of both",
            "x sender",
            "x both",
            "packets",
            "again",
            "repairs / back / late / wasted",
        )?;
        for Checked { row, measured, sender_ratio, both_ratio, missed } in &self.rows {
            let latency = measured.latency;
            let times = format!(
                "{:.2} / {:.2} / {:.2} / {:.1}",
                latency.p50_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
            );
            let evidence = format!("{:.2} / {:.2}", measured.evidence.p99_ms, measured.evidence_fec.p99_ms);
            let FecCounts { repairs, recovered, late, wasted } = measured.fec;
            let repairs = format!("{repairs} / {recovered} / {late} / {wasted}");
            let target = row.target;
            let targets = format!(
                "{} / {} / {}, evidence {}, bytes x {}",
                bound(target.p50_ms, 2),
                bound(target.p99_ms, 0),
                bound(target.p999_ms, 0),
                bound(target.evidence_p99_ms, 0),
                bound(target.bytes_ratio, 2)
            );
            let verdict =
                if missed.is_empty() { "met".to_owned() } else { format!("MISSED: {}", missed.join(", ")) };
            writeln!(
                f,
                "{:<20}{:>9}{times:>36}{evidence:>24}{:>12}{:>12}{sender_ratio:>10.3}{both_ratio:>10.3}{:>10}{:>9.0}{repairs:>34}  \
                 {targets}: {verdict}",
                row.name,
                measured.messages,
                measured.sender_bytes,
                measured.both_bytes,
                measured.sender_packets,
                measured.retransmissions,
            )?;
        }
        Ok(())
    }
}
