//! How far a log has been read back, said once a second.

use std::time::{Duration, Instant};

use tracing::info;
use wal::Progress;

/// How often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Says how far reading has come, when it takes long enough to wait for.
pub(crate) struct RecoveryProgress {
    shard: usize,
    bytes_total: u64,
    began: Instant,
    due: Instant,
}

impl RecoveryProgress {
    pub(crate) fn new(shard: usize, bytes_total: u64) -> Self {
        let began = Instant::now();
        Self { shard, bytes_total, began, due: began + INTERVAL }
    }

    pub(crate) fn handle(&mut self, read: &Progress) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + INTERVAL;
        let (shard, records, bytes, bytes_total) = (self.shard, read.records, read.bytes, self.bytes_total);
        let elapsed_s = now.duration_since(self.began).as_secs_f64();
        let line = line(shard, records, bytes, bytes_total, elapsed_s);
        info!(shard, records, bytes, bytes_total, elapsed_s, "{line}");
    }
}

fn line(shard: usize, records: u64, bytes: u64, bytes_total: u64, elapsed_s: f64) -> String {
    let share = bytes as f64 / bytes_total.max(1) as f64;
    // Records lie evenly enough for a guess.
    let total = records as f64 / share.max(f64::MIN_POSITIVE);
    format!(
        "recovering: shard {shard} {:.1} of about {:.1} M ops, {:.0} %, {elapsed_s:.1} s",
        records as f64 / 1e6,
        total / 1e6,
        share * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_who_waits_is_told_nothing_of_use() {
        assert_eq!(
            line(0, 4_100_000, 410, 1_000, 1.94),
            "recovering: shard 0 4.1 of about 10.0 M ops, 41 %, 1.9 s"
        );
        assert!(line(1, 0, 0, 0, 1.0).ends_with("0 %, 1.0 s"));
    }
}
