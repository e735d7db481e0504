//! How a path loses packets: a Gilbert-Elliott chain, fitted to what the receiver reports.
//!
//! In the good state of the chain all packets come, in the bad state none (E. N. Gilbert, "Capacity of a burst-noise
//! channel", 1960). Two numbers describe it: the share of packets that is lost, and the chance that the packet after a
//! lost one is lost too.

use wire::fec::LossReport;

/// Counts weigh 1/e after so many more packets: the memory that a steady estimate needs.
const LONG_PACKETS: f64 = 8_000.0;
/// The memory that sees a change for the worse.
const SHORT_PACKETS: f64 = 400.0;
/// By how many standard deviations the estimate is on the safe side.
const SAFE_DEVIATIONS: f64 = 1.0;
/// A change for the worse is believed when it is so many standard deviations away from chance.
const CHANGE_DEVIATIONS: f64 = 2.0;
/// Runs of lost packets that are assumed of a path of which little is known…
const PRIOR_RUNS: f64 = 2.0;
/// … and the chance that such a run goes on.
const PRIOR_STAY: f64 = 0.1;
/// No chain that is worse than this is worth protecting.
const LOSS_MAX: f64 = 0.5;
/// Nor one with longer runs.
const STAY_MAX: f64 = 0.95;

/// A chain.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Chain {
    /// The share of packets that is lost.
    pub(crate) loss: f64,
    /// The chance that the packet after a lost one is lost.
    pub(crate) stay: f64,
}

/// Counts that fade.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    expected: f64,
    lost: f64,
    runs: f64,
}

/// Follows the reports.
#[derive(Clone, Debug)]
pub(crate) struct Estimator {
    reported: LossReport,
    long: Counts,
    short: Counts,
}

impl Counts {
    fn add(&mut self, expected: f64, lost: f64, runs: f64, memory: f64) {
        let keep = (-expected / memory).exp();
        self.expected = self.expected * keep + expected;
        self.lost = self.lost * keep + lost;
        self.runs = self.runs * keep + runs;
    }

    fn loss(&self) -> f64 {
        self.lost / self.expected.max(1.0)
    }

    /// The standard deviation of the share of lost packets: that of chance, widened because losses come in runs.
    fn loss_deviation(&self, stay: f64) -> f64 {
        let loss = self.loss().min(1.0);
        (loss * (1.0 - loss) / self.expected.max(1.0) * (1.0 + stay) / (1.0 - stay)).sqrt()
    }
}

impl Estimator {
    /// Begins with what the sender has seen itself: `lost` of its last `sent` packets.
    pub(crate) fn new(sent: u64, lost: u64) -> Self {
        let expected = (sent as f64).clamp(1.0, SHORT_PACKETS);
        let lost = (lost as f64).clamp(1.0, expected);
        let counts = Counts { expected, lost, runs: lost };
        Self { reported: LossReport::default(), long: counts, short: counts }
    }

    /// Takes a report. Returns the one before.
    pub(crate) fn on_report(&mut self, report: &LossReport) -> LossReport {
        let before = std::mem::replace(&mut self.reported, *report);
        let runs =
            |report: &LossReport| report.runs.iter().fold(0_u64, |sum, runs| sum.saturating_add(*runs));
        // Smaller totals: the receiver has begun anew.
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let expected = since(report.expected, before.expected);
        let came = since(report.reordered, before.reordered);
        let lost = since(report.lost, before.lost).saturating_sub(came).min(expected);
        let runs = since(runs(report), runs(&before)).min(lost);
        for (counts, memory) in [(&mut self.long, LONG_PACKETS), (&mut self.short, SHORT_PACKETS)] {
            counts.add(expected as f64, lost as f64, runs as f64, memory);
        }
        before
    }

    /// The share of packets that is lost, as measured.
    pub(crate) fn loss(&self) -> f64 {
        self.long.loss().min(LOSS_MAX)
    }

    /// The chain at an upper confidence bound.
    pub(crate) fn chain(&self) -> Chain {
        let lost = self.long.lost + PRIOR_RUNS;
        let went_on = (self.long.lost - self.long.runs).max(0.0) + PRIOR_RUNS * PRIOR_STAY;
        let stay = (went_on / lost).min(1.0);
        let stay = (stay + SAFE_DEVIATIONS * (stay * (1.0 - stay) / lost).sqrt()).min(STAY_MAX);
        let steady = self.long.loss() + SAFE_DEVIATIONS * self.long.loss_deviation(stay);
        let changed = self.short.loss() - CHANGE_DEVIATIONS * self.short.loss_deviation(stay);
        Chain { loss: steady.max(changed).clamp(0.0, LOSS_MAX), stay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports of a path that loses runs of `length`, one in `period` packets.
    fn estimate(estimator: &mut Estimator, report: &mut LossReport, period: u64, length: u64, packets: u64) {
        for _ in 0..packets / period {
            report.expected += period;
            report.add_run(length);
            estimator.on_report(report);
        }
    }

    #[test]
    fn single_losses_are_taken_for_bursts() {
        let (mut estimator, mut report) = (Estimator::new(100, 1), LossReport::default());
        estimate(&mut estimator, &mut report, 100, 1, 50_000);
        let chain = estimator.chain();
        assert!((0.010..0.0125).contains(&chain.loss), "{chain:?}");
        assert!(chain.stay < 0.02, "{chain:?}");
        estimate(&mut estimator, &mut report, 300, 3, 50_000);
        let chain = estimator.chain();
        assert!((0.010..0.0135).contains(&chain.loss), "{chain:?}");
        assert!((0.6..0.75).contains(&chain.stay), "{chain:?}");
    }

    #[test]
    fn a_path_that_becomes_worse_is_trusted_for_seconds() {
        let (mut estimator, mut report) = (Estimator::new(100, 1), LossReport::default());
        estimate(&mut estimator, &mut report, 100, 1, 50_000);
        estimate(&mut estimator, &mut report, 10, 1, 400);
        assert!(estimator.chain().loss > 0.03, "{:?}", estimator.chain());
    }

    #[test]
    fn a_typist_loses_protection_between_two_losses() {
        let (mut estimator, mut report) = (Estimator::new(100, 1), LossReport::default());
        estimate(&mut estimator, &mut report, 100, 1, 1_000);
        report.expected += 400;
        estimator.on_report(&report);
        assert!(estimator.chain().loss > 0.005, "{:?}", estimator.chain());
    }

    #[test]
    fn a_hostile_report_makes_nonsense_of_the_chain() {
        let mut estimator = Estimator::new(0, 9);
        for report in [
            LossReport { expected: u64::MAX, lost: u64::MAX, runs: [u64::MAX; 6], ..LossReport::default() },
            LossReport::default(),
            LossReport {
                expected: 5,
                lost: 900,
                reordered: 3,
                runs: [0, 0, 0, 0, 0, 7],
                ..LossReport::default()
            },
        ] {
            estimator.on_report(&report);
            let chain = estimator.chain();
            assert!(
                (0.0..=LOSS_MAX).contains(&chain.loss) && (0.0..=STAY_MAX).contains(&chain.stay),
                "{chain:?}"
            );
        }
    }
}
