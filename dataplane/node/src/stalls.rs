//! Which stalls are told to the agent, and how it tells them.

use tracing::warn;
use wire::{Span, Time};

use crate::turn_meter::Stall;

/// Stalls are told no more often than this; the worst in between is the one that is told.
const REPORT_INTERVAL: Span = Span::from_ms(1_000);

/// A stall, and how many more there were.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StallReport {
    stall: Stall,
    /// Others since the last report.
    others: u64,
}

impl StallReport {
    /// Writes it to the log.
    pub(crate) fn log(&self, shard: usize) {
        let offender = self.stall.offender.as_ref();
        let connection = offender.and_then(|found| found.connection).map(tracing::field::display);
        let document = offender.and_then(|found| found.document.as_deref());
        warn!(
            shard,
            step = self.stall.step.name(),
            took_us = self.stall.ns / 1_000,
            connection,
            document,
            others = self.others,
            "a turn was held up: whatever waited for this core waited so long"
        );
    }
}

/// Chooses what is told.
#[derive(Debug, Default)]
pub(crate) struct StallReports {
    due: Time,
    worst: Option<Stall>,
    untold: u64,
}

impl StallReports {
    /// Takes a stall, and gives what is to be told now.
    pub(crate) fn report(&mut self, now: Time, stall: Stall) -> Option<StallReport> {
        if self.worst.as_ref().is_none_or(|worst| stall.ns > worst.ns) {
            self.worst = Some(stall);
        }
        self.untold += 1;
        if now < self.due {
            return None;
        }
        self.due = now + REPORT_INTERVAL;
        let others = std::mem::take(&mut self.untold) - 1;
        self.worst.take().map(|stall| StallReport { stall, others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn_meter::Step;

    #[test]
    fn a_flood_of_stalls_floods_the_log_or_hides_the_worst() {
        let mut reports = StallReports::default();
        let stall = |ns| Stall { step: Step::Receive, ns, offender: None };
        let at = |ms: u64| Time::from_us(ms * 1_000);
        assert_eq!(reports.report(at(1), stall(5)), Some(StallReport { stall: stall(5), others: 0 }));
        for ns in [7, 9, 8] {
            assert_eq!(reports.report(at(500), stall(ns)), None);
        }
        assert_eq!(reports.report(at(1_001), stall(1)), Some(StallReport { stall: stall(9), others: 3 }));
        assert_eq!(reports.report(at(2_001), stall(2)), Some(StallReport { stall: stall(2), others: 0 }));
    }
}
