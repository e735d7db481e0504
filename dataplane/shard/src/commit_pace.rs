//! When the next batch of the log is written.

use wire::{Span, Time};

/// Ops that come further apart than this are little load. Measured at 20,000 a second: with spaced writes readers get
/// them sooner, and they are durable as soon.
const LOAD_GAP_MAX: Span = Span::from_us(100);
/// So many ops have to come before that is said.
const LOAD_OPS_MIN: u64 = 4;
/// A batch that has grown to this many bytes does not wait for more: what a write costs is no longer the same whatever
/// its size.
const BATCH_BYTES_ENOUGH: usize = 64 << 10;

/// Spaces the writes of a log under load. A write costs a shard some 20 us of its core, and the acknowledgements that
/// follow it a datagram to each writer, whether it holds one op or a hundred: at 50,000 ops a second writes that follow
/// one another as fast as the disk allows take a fifth of a core, and the ops queue behind them. With little load
/// nothing waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitPace {
    /// The longest that an op waits for others; zero: none does.
    delay_max: Span,
    began: Time,
    is_loaded: bool,
}

impl CommitPace {
    pub(crate) const fn new(delay_max: Span) -> Self {
        Self { delay_max, began: Time::ZERO, is_loaded: false }
    }

    /// A batch of so many ops, all that came since the one before, has been handed out.
    pub(crate) fn on_write(&mut self, now: Time, ops: u64) {
        self.is_loaded = ops >= LOAD_OPS_MIN && now.since(self.began) <= LOAD_GAP_MAX.times(ops);
        self.began = now;
    }

    /// When a batch that now has `bytes` is to be written.
    pub(crate) fn due(&self, bytes: usize) -> Time {
        if !self.is_loaded || bytes >= BATCH_BYTES_ENOUGH {
            return Time::ZERO;
        }
        self.began + self.delay_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Span = Span::from_us(500);

    /// After writes of `ops` each, `gap_us` apart.
    fn after(delay_max: Span, ops: u64, gap_us: u64) -> (CommitPace, Time) {
        let mut pace = CommitPace::new(delay_max);
        let mut now = Time::from_us(1_000_000);
        assert!(pace.due(100) <= now, "the first");
        for _ in 0..3 {
            now += Span::from_us(gap_us);
            pace.on_write(now, ops);
        }
        (pace, now)
    }

    #[test]
    fn an_op_waits_for_others_though_there_is_little_load() {
        // 5,000 ops a second; single ops, however close.
        for (ops, gap_us) in [(5, 1_000), (25, 5_000), (1, 10)] {
            let (pace, now) = after(DELAY, ops, gap_us);
            assert!(pace.due(100) <= now, "{ops} ops each {gap_us} us");
        }
    }

    #[test]
    fn writes_under_load_follow_at_once_or_after_the_longest_delay() {
        // 50,000 ops a second, as fast as the disk allows and then spaced.
        for (ops, gap_us) in [(6, 120), (25, 500)] {
            let (pace, now) = after(DELAY, ops, gap_us);
            assert_eq!(pace.due(100), now + DELAY, "{ops} ops each {gap_us} us");
            assert_eq!(pace.due(BATCH_BYTES_ENOUGH), Time::ZERO, "there is enough to write");
        }
        let (pace, now) = after(Span::ZERO, 1_000, 100);
        assert!(pace.due(100) <= now);
    }
}
