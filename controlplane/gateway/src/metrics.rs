//! What the gateway counts, in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::refusal::Refusal;

/// Counters and gauges of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Open sockets.
    pub(crate) sockets: AtomicU64,
    /// Open documents.
    pub(crate) documents: AtomicU64,
    /// Messages from sockets.
    pub(crate) messages_received: AtomicU64,
    /// Bytes of frames from sockets.
    pub(crate) bytes_received: AtomicU64,
    /// Frames to sockets.
    pub(crate) frames_sent: AtomicU64,
    /// Bytes of frames to sockets.
    pub(crate) bytes_sent: AtomicU64,
    /// Ops handed to nodes.
    pub(crate) ops: AtomicU64,
    /// Ops that nodes reported as durable.
    pub(crate) ops_durable: AtomicU64,
    /// Updates without anything new, not logged.
    pub(crate) updates_without_news: AtomicU64,
    /// Updates of sockets that may only read.
    pub(crate) updates_read_only: AtomicU64,
    /// Joins of documents that came again, because a node was lost or came back.
    pub(crate) rejoins: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Metrics {
    /// Counts a refusal under its code.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(refusal.code()).or_default() += 1;
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        let gauges = [
            ("sockets", "Open WebSocket connections.", &self.sockets),
            ("documents", "Open documents.", &self.documents),
        ];
        let counters = [
            ("messages_received_total", "Messages from sockets.", &self.messages_received),
            ("received_bytes_total", "Bytes of frames from sockets.", &self.bytes_received),
            ("frames_sent_total", "Frames to sockets.", &self.frames_sent),
            ("sent_bytes_total", "Bytes of frames to sockets.", &self.bytes_sent),
            ("ops_total", "Ops handed to nodes.", &self.ops),
            ("ops_durable_total", "Ops reported as durable.", &self.ops_durable),
            ("updates_without_news_total", "Updates not logged: nothing new.", &self.updates_without_news),
            ("updates_read_only_total", "Updates of sockets that may only read.", &self.updates_read_only),
            ("rejoins_total", "Documents joined again after a node was lost.", &self.rejoins),
        ];
        for (kind, rows) in [("gauge", &gauges[..]), ("counter", &counters[..])] {
            for (name, help, value) in rows {
                head(&mut out, name, kind, help);
                let _ = writeln!(out, "aetherflow_gateway_{name} {}", value.load(Relaxed));
            }
        }
        head(&mut out, "refused_total", "counter", "Requests and sockets refused, by code.");
        for (code, count) in &*self.refused.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "aetherflow_gateway_refused_total{{code=\"{code}\"}} {count}");
        }
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP aetherflow_gateway_{name} {help}");
    let _ = writeln!(out, "# TYPE aetherflow_gateway_{name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_not_counted_under_its_code() {
        let metrics = Metrics::default();
        metrics.refused(&Refusal::TextFrame);
        metrics.refused(&Refusal::TextFrame);
        metrics.sockets.fetch_add(3, Relaxed);
        let text = metrics.render();
        assert!(text.contains("aetherflow_gateway_refused_total{code=\"text-frame\"} 2\n"), "{text}");
        assert!(text.contains("aetherflow_gateway_sockets 3\n"), "{text}");
    }
}
