//! What came of it, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart from longer ones.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Three digits of each latency are kept.
const LATENCY_DIGITS: u8 = 3;

/// Latencies, from the intended send time.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None.
    #[must_use]
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS);
        Self(histogram.expect("the bounds are in order and the digits are at most five"))
    }

    /// One more.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// What is shown of them.
    #[must_use]
    pub(crate) fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.0.len(),
            p50_us: self.0.value_at_quantile(0.5),
            p99_us: self.0.value_at_quantile(0.99),
            p999_us: self.0.value_at_quantile(0.999),
            max_us: self.0.max(),
        }
    }
}

/// Quantiles of latencies.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct LatencySummary {
    count: u64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) event: &'static str,
    /// The trace's file, or what was typed.
    pub(crate) trace: String,
    pub(crate) ops: usize,
    pub(crate) payload_bytes: u64,
    pub(crate) documents: usize,
    pub(crate) writers: usize,
    pub(crate) readers: usize,
    pub(crate) shards: u16,
    /// Intended; zero: as fast as possible.
    pub(crate) rate_ops_per_s: u32,
    /// Reading the trace and turning it into updates, before the clock started.
    pub(crate) prepare_ms: u64,
    /// The node's own start.
    pub(crate) node_ready_ms: u64,
    /// From the first intended send until every op was durable and with every reader.
    pub(crate) seconds: f64,
    pub(crate) durable_ops_per_s: f64,
    pub(crate) edit_to_durable: LatencySummary,
    /// Ops that readers got as such, once for each reader.
    pub(crate) edit_to_reader: LatencySummary,
    /// Ops that readers got as part of a state, after a restart; their latencies are among the others.
    pub(crate) ops_read_in_state: u64,
    /// Ops that came to somebody twice, because a killed node had forgotten them before they were durable.
    pub(crate) ops_repeated: u64,
    /// The longest time in which nothing became durable.
    pub(crate) silence_max_ms: u64,
    /// Over all clients, without UDP and IP headers.
    pub(crate) wire_bytes_sent: u64,
    pub(crate) wire_bytes_received: u64,
    pub(crate) packets_lost: u64,
    pub(crate) reconnects: u64,
    pub(crate) log_bytes: u64,
    /// What the SIGKILL did, when there was one.
    pub(crate) kill: Option<KillReport>,
    /// The start of the node over its own log, at the end.
    pub(crate) recovery_ms: u64,
    pub(crate) recovered_ops: u64,
    /// Acknowledged ops that the recovered node does not have.
    pub(crate) ops_lost: usize,
    pub(crate) text_bytes: usize,
    /// Whether the CRDT makes the recording's last text of the ops; null: the recording has none.
    pub(crate) equals_recording: Option<bool>,
    /// Whether everybody has the same text.
    pub(crate) equal: bool,
    /// What diverged, and where.
    pub(crate) divergences: Vec<String>,
}

/// What the SIGKILL did.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct KillReport {
    /// How many ops had been acknowledged when it was sent.
    pub(crate) ops_acknowledged: usize,
    /// How many of those the new process found in its log, or more.
    pub(crate) recovered_ops: u64,
    /// From the kill until the new process was ready.
    pub(crate) ready_after_ms: u64,
}

impl Report {
    /// Whether everything is as it must be.
    #[must_use]
    pub(crate) fn is_good(&self) -> bool {
        self.equal && self.ops_lost == 0 && self.divergences.is_empty()
    }

    /// As a table.
    #[must_use]
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        let mut row = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(table, "  {name:<18} {value}");
        };
        let writers = plural(self.writers, "writer");
        let readers = plural(self.readers, "reader");
        let documents = plural(self.documents, "document");
        row("replayed", format!("{}: {writers}, {readers}, {documents}", self.trace));
        row("prepared in", format!("{:.1} s", self.prepare_ms as f64 / 1e3));
        row("ops", format!("{} of {} bytes together", group(self.ops as u64), group(self.payload_bytes)));
        row("time", format!("{:.2} s until durable and read by all", self.seconds));
        row("rate", format!("{} durable ops/s ({})", group(self.durable_ops_per_s as u64), self.intended()));
        row("edit to durable", latency_text(&self.edit_to_durable));
        if self.readers > 0 {
            row("edit to reader", latency_text(&self.edit_to_reader));
        }
        let (sent, received) = (group(self.wire_bytes_sent), group(self.wire_bytes_received));
        row("on the wire", format!("{sent} bytes sent by clients, {received} received"));
        row("log", format!("{} bytes on disk", group(self.log_bytes)));
        if let Some(kill) = &self.kill {
            let (acknowledged, ready_ms) = (group(kill.ops_acknowledged as u64), kill.ready_after_ms);
            let recovered = group(kill.recovered_ops);
            row(
                "killed",
                format!(
                    "after {acknowledged} acknowledged ops; {recovered} recovered, ready in {ready_ms} ms"
                ),
            );
            row("longest silence", format!("{} ms without an acknowledgement", self.silence_max_ms));
        }
        row("recovered", format!("{} ops in {} ms", group(self.recovered_ops), self.recovery_ms));
        row("acknowledged, lost", group(self.ops_lost as u64));
        let verdict = if self.equal { "equal to the byte" } else { "DIVERGED" };
        row(
            "texts",
            format!("{verdict}: {} bytes, readers and recovered node", group(self.text_bytes as u64)),
        );
        for divergence in &self.divergences {
            row("diverged", divergence.clone());
        }
        table
    }

    fn intended(&self) -> String {
        match self.rate_ops_per_s {
            0 => "as fast as possible".to_owned(),
            rate => format!("intended {}/s", group(u64::from(rate))),
        }
    }
}

fn latency_text(latency: &LatencySummary) -> String {
    let [p50, p99, p999, max] =
        [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us].map(|us| us as f64 / 1e3);
    format!("p50 {p50:.3} ms  p99 {p99:.3} ms  p99.9 {p999:.3} ms  max {max:.3} ms")
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Digits in groups of three.
fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Where two texts part; none: nowhere.
#[must_use]
pub(crate) fn difference(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let same = expected.bytes().zip(found.bytes()).take_while(|(a, b)| a == b).count();
    let (expected_bytes, found_bytes) = (expected.len(), found.len());
    Some(format!("{found_bytes} bytes instead of {expected_bytes}; the first difference is at byte {same}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_beyond_the_histogram_is_left_out() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(100_000));
        let summary = latencies.summary();
        assert_eq!(summary.count, 2);
        assert!(summary.max_us >= LATENCY_US_MAX);
    }

    #[test]
    fn a_difference_is_not_found() {
        assert_eq!(difference("abc", "abc"), None);
        assert!(difference("abc", "abd").unwrap().contains("at byte 2"));
        assert!(difference("abc", "abcd").unwrap().contains("4 bytes instead of 3"));
    }

    #[test]
    fn a_number_is_grouped_from_the_left() {
        assert_eq!(
            [group(0), group(999), group(1_000), group(12_345_678)],
            ["0", "999", "1,000", "12,345,678"]
        );
    }
}
