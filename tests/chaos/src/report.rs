//! What came of a campaign.

use std::time::Duration;

use serde::Serialize;

/// What came of a campaign of kills.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// The seed of all draws.
    pub seed: u64,
    /// Kills, and how many of them came before the node was ready.
    pub kills: u64,
    /// Of these, before the node was ready again.
    pub kills_at_start: u64,
    /// Documents that were written in.
    pub documents: usize,
    /// Ops that were handed to the client library.
    pub ops_applied: u64,
    /// Ops that the node has acknowledged as durable.
    pub ops_acknowledged: u64,
    /// Of these, not in their document after a start.
    pub ops_lost: u64,
    /// Readers who, when everything had been acknowledged, had something else than who came anew.
    pub readers_diverged: u64,
    /// Starts over a log of which a bit had been changed, and how many of them the node refused.
    pub damages: u64,
    /// Of these, refused; after the others nothing was lost.
    pub damages_refused: u64,
    /// Documents that were looked at by somebody who came anew.
    pub visits: u64,
    /// Times that nobody wrote, and all readers were compared.
    pub audits: u64,
    /// From a start until the node was ready, milliseconds, p50.
    pub restart_p50_ms: f64,
    /// The same, p99.
    pub restart_p99_ms: f64,
    /// From a kill until the next acknowledgement, milliseconds, p50.
    pub outage_p50_ms: f64,
    /// The same, p99.
    pub outage_p99_ms: f64,
    /// Ops that the starts found in the log, all together.
    pub recovered_ops: u64,
    /// Of these, already in the store.
    pub recovered_ops_stored: u64,
    /// Segments of the log that were removed behind what is stored.
    pub segments_removed: u64,
    /// Lives that were long enough to be asked what the node did.
    pub lives_asked: u64,
    /// In these: documents stored.
    pub snapshots: u64,
    /// Documents that left memory.
    pub unloads: u64,
    /// Documents looked up in the store.
    pub loads: u64,
    /// What the node has on disk in the end, bytes.
    pub disk_bytes: u64,
    /// How long it took, seconds.
    pub elapsed_s: f64,
    /// What did not hold, in words.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether everything held.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.ops_lost == 0 && self.readers_diverged == 0
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines: Vec<String> =
            self.problems.iter().map(|problem| format!("DOES NOT HOLD: {problem}")).collect();
        lines.push(format!(
            "seed {}: {} kills ({} before the node was ready) in {:.1} s; {} documents, {} ops, {} acknowledged",
            self.seed,
            self.kills,
            self.kills_at_start,
            self.elapsed_s,
            self.documents,
            self.ops_applied,
            self.ops_acknowledged
        ));
        lines.push(format!(
            "lost {}, readers diverged {}; {} documents visited, readers compared {} times",
            self.ops_lost, self.readers_diverged, self.visits, self.audits
        ));
        lines.push(format!(
            "of {} starts over a log with a changed bit {} were refused, and the others lost nothing",
            self.damages, self.damages_refused
        ));
        lines.push(format!(
            "ready after {:.0} ms p50, {:.0} ms p99; from a kill to the next acknowledgement {:.0} ms p50, {:.0} ms p99",
            self.restart_p50_ms, self.restart_p99_ms, self.outage_p50_ms, self.outage_p99_ms
        ));
        lines.push(format!(
            "the starts read {} ops back, of which {} were stored already; {} segments of the log were removed; {} bytes on disk",
            self.recovered_ops, self.recovered_ops_stored, self.segments_removed, self.disk_bytes
        ));
        lines.push(format!(
            "{} lives that were asked: {} documents stored, {} unloaded, {} loaded",
            self.lives_asked, self.snapshots, self.unloads, self.loads
        ));
        lines.join("\n") + "\n"
    }
}

/// The value that this share of the spans do not exceed, milliseconds.
pub(crate) fn percentile_ms(spans: &mut [Duration], share: f64) -> f64 {
    spans.sort_unstable();
    let last = spans.len().saturating_sub(1);
    let at = (spans.len() as f64 * share).ceil() as usize;
    spans.get(at.saturating_sub(1).min(last)).map_or(0.0, |span| span.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_another_span() {
        let mut spans: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!((percentile_ms(&mut spans, 0.5), percentile_ms(&mut spans, 0.99)), (50.0, 99.0));
        assert_eq!((percentile_ms(&mut spans[..1], 0.5), percentile_ms(&mut [], 0.5)), (1.0, 0.0));
    }

    #[test]
    fn a_campaign_that_lost_something_is_good() {
        let report = Report::default();
        assert!(report.is_good());
        assert!(!Report { ops_lost: 1, ..report.clone() }.is_good());
        assert!(!Report { readers_diverged: 1, ..report.clone() }.is_good());
        let bad = Report { problems: vec!["gone".to_owned()], ..report };
        assert!(!bad.is_good() && bad.text().contains("DOES NOT HOLD: gone"));
    }
}
