//! What a long load says of itself while it runs.

use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use crate::node_child::Usage;

/// How often.
const EVERY: Duration = Duration::from_secs(10);
/// What counts as so long, nanoseconds: more is told as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant figures of a latency.
const DIGITS: u8 = 2;

/// Counts since the last line.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What the line must not be written into.
    bar: ProgressBar,
    /// The process of the node, where it is one's own.
    node: Option<u32>,
    next_ns: u64,
    edit_to_durable: Histogram<u32>,
    edit_to_reader: Histogram<u32>,
}

impl Progress {
    /// The first line is due after as long as every other.
    pub(crate) fn new(bar: ProgressBar, node: Option<u32>) -> Self {
        let next_ns = EVERY.as_nanos() as u64;
        Self { bar, node, next_ns, edit_to_durable: empty(), edit_to_reader: empty() }
    }

    pub(crate) fn note_durable(&mut self, latency_ns: u64) {
        self.edit_to_durable.saturating_record(latency_ns);
    }

    pub(crate) fn note_read(&mut self, latency_ns: u64) {
        self.edit_to_reader.saturating_record(latency_ns);
    }

    /// Says how it goes, when that is due, and begins to count anew.
    pub(crate) fn turn(&mut self, now_ns: u64) {
        if now_ns < self.next_ns {
            return;
        }
        let every_ns = EVERY.as_nanos() as u64;
        let seconds = (every_ns + now_ns - self.next_ns) as f64 / 1e9;
        self.next_ns = now_ns + every_ns;
        let line = self.line(now_ns, seconds);
        self.bar.suspend(|| eprintln!("{line}"));
        self.edit_to_durable.reset();
        self.edit_to_reader.reset();
    }

    fn line(&self, now_ns: u64, seconds: f64) -> String {
        let p99_ms = |histogram: &Histogram<u32>| histogram.value_at_quantile(0.99) as f64 / 1e6;
        let rss = self
            .node
            .and_then(Usage::of)
            .map_or_else(String::new, |usage| format!(", node {:.1} MB", usage.rss_bytes as f64 / 1e6));
        format!(
            "{:>6} s: {:.0} durable ops/s, p99 to durable {:.2} ms, to reader {:.2} ms{rss}",
            now_ns / 1_000_000_000,
            self.edit_to_durable.len() as f64 / seconds,
            p99_ms(&self.edit_to_durable),
            p99_ms(&self.edit_to_reader),
        )
    }
}

fn empty() -> Histogram<u32> {
    match Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_told_again() {
        let mut progress = Progress::new(ProgressBar::hidden(), None);
        for _ in 0..1_000 {
            progress.note_durable(2_000_000);
        }
        progress.note_read(5_000_000);
        let line = progress.line(10_000_000_000, 10.0);
        assert!(line.contains("10 s: 100 durable ops/s, p99 to durable 2.0"), "{line}");
        assert!(!line.contains("MB"), "there is no node: {line}");
        progress.turn(9_999_999_999);
        assert_eq!(progress.edit_to_durable.len(), 1_000, "not yet");
        progress.turn(10_000_000_000);
        assert_eq!(progress.edit_to_durable.len() + progress.edit_to_reader.len(), 0);
        assert_eq!(progress.next_ns, 20_000_000_000);
    }

    #[test]
    fn a_node_that_runs_has_no_memory() {
        let progress = Progress::new(ProgressBar::hidden(), Some(std::process::id()));
        assert!(progress.line(0, 1.0).contains("MB"));
    }
}
