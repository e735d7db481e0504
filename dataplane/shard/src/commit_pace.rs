//! When the next batch of the log is written.

use wire::{Span, Time};

/// A batch with fewer ops than this is a sign of little load: the next one does not wait.
const LOAD_OPS_MIN: u64 = 4;
/// A batch that has grown to this many bytes does not wait for more: what a write costs is no longer the same whatever
/// its size.
const BATCH_BYTES_ENOUGH: usize = 64 << 10;

/// Spaces the writes of a log under load. A write costs a shard some 20 us of its core, and the acknowledgements that
/// follow it a datagram to each writer, whether it holds one op or a hundred: writes that follow one another as fast
/// as the disk allows take a fifth of a core. With little load nothing waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitPace {
    /// The longest that an op waits for others; zero: none does.
    delay_max: Span,
    began: Time,
    /// Ops of the batch before.
    ops: u64,
}

impl CommitPace {
    pub(crate) const fn new(delay_max: Span) -> Self {
        Self { delay_max, began: Time::ZERO, ops: 0 }
    }

    /// A batch of so many ops has been handed out.
    pub(crate) const fn on_write(&mut self, now: Time, ops: u64) {
        (self.began, self.ops) = (now, ops);
    }

    /// When a batch that now has `bytes` is to be written.
    pub(crate) fn due(&self, bytes: usize) -> Time {
        if self.ops < LOAD_OPS_MIN || bytes >= BATCH_BYTES_ENOUGH {
            return Time::ZERO;
        }
        self.began + self.delay_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Span = Span::from_us(500);

    #[test]
    fn an_op_of_a_quiet_document_waits_for_others() {
        let mut pace = CommitPace::new(DELAY);
        let now = Time::from_us(1_000);
        assert!(pace.due(100) <= now, "the first");
        pace.on_write(now, LOAD_OPS_MIN - 1);
        assert!(pace.due(100) <= now);
    }

    #[test]
    fn writes_under_load_follow_at_once_or_after_the_longest_delay() {
        let mut pace = CommitPace::new(DELAY);
        pace.on_write(Time::from_us(1_000), LOAD_OPS_MIN);
        assert_eq!(pace.due(100), Time::from_us(1_500));
        assert_eq!(pace.due(BATCH_BYTES_ENOUGH), Time::ZERO, "there is enough to write");
        let mut pace = CommitPace::new(Span::ZERO);
        pace.on_write(Time::from_us(1_000), 1_000);
        assert!(pace.due(100) <= Time::from_us(1_000));
    }
}
