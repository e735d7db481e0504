//! What a receiver has lost, by the lengths of the runs (`PROTOCOL.md`, section "Forward error correction").

use wire::fec::LossReport;

/// A packet has not come when this many later ones have.
const REORDERING_PACKETS: u64 = 8;
/// How far back it is remembered which packets have come.
const HISTORY_PACKETS: u64 = u64::BITS as u64;

const _: () = assert!(REORDERING_PACKETS < HISTORY_PACKETS);

/// Counts packets that came and packets that did not.
#[derive(Clone, Debug)]
pub(crate) struct LossRuns {
    largest: u64,
    /// Bit `n`: packet `largest - n` has come.
    received: u64,
    /// The first packet that is not counted yet.
    frontier: u64,
    /// Packets before it that have not come, one after the other.
    run: u64,
}

impl LossRuns {
    /// Begins with a packet that has come.
    pub(crate) const fn new(number: u64) -> Self {
        Self { largest: number, received: 1, frontier: number, run: 0 }
    }

    /// A packet that has not come before.
    pub(crate) fn on_packet(&mut self, number: u64, report: &mut LossReport) {
        if number < self.frontier {
            report.reordered += u64::from(report.reordered < report.lost + self.run);
            return;
        }
        if number <= self.largest {
            self.received |= 1 << (self.largest - number);
            return;
        }
        let end = (number + 1).saturating_sub(REORDERING_PACKETS);
        // What the history holds is counted one by one, then come packets of which none has come.
        for next in self.frontier..end.min(self.largest + 1) {
            self.count(self.received >> (self.largest - next) & 1 != 0, report);
        }
        let unheard = end.saturating_sub(self.frontier.max(self.largest + 1));
        report.expected += unheard;
        self.run += unheard;
        self.frontier = self.frontier.max(end);
        let step = number - self.largest;
        self.received = if step < HISTORY_PACKETS { self.received << step | 1 } else { 1 };
        self.largest = number;
    }

    fn count(&mut self, has_come: bool, report: &mut LossReport) {
        report.expected += 1;
        if has_come {
            report.add_run(std::mem::take(&mut self.run));
        } else {
            self.run += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(numbers: &[u64]) -> LossReport {
        let (mut runs, mut report) = (LossRuns::new(numbers[0]), LossReport::default());
        numbers[1..].iter().for_each(|&number| runs.on_packet(number, &mut report));
        report
    }

    #[test]
    fn a_packet_out_of_order_is_counted_as_lost() {
        let found = report(&[0, 2, 1, 4, 5, 6, 7, 8, 9, 10, 3, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
        assert_eq!((found.expected, found.lost, found.reordered), (13, 0, 0));
        let late = report(&[0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 11]);
        assert_eq!((late.lost, late.runs[0], late.reordered), (1, 1, 1));
    }

    #[test]
    fn a_long_silence_is_counted_packet_by_packet() {
        let found = report(&[0, u64::MAX / 2, u64::MAX / 2 + 1]);
        assert_eq!(found.lost, 0, "the run has no end yet");
        let numbers: Vec<u64> = [0].into_iter().chain(1_000..1_020).collect();
        let found = report(&numbers);
        assert_eq!((found.expected, found.lost, found.runs), (1_012, 999, [0, 0, 0, 0, 0, 1]));
    }

    proptest! {
        #[test]
        fn runs_are_cut_or_joined(lost in prop::collection::vec(prop::bool::weighted(0.3), 1..300)) {
            let numbers: Vec<u64> = [0].into_iter()
                .chain((1..).zip(&lost).filter(|(_, lost)| !**lost).map(|(number, _)| number))
                .chain(lost.len() as u64 + 1..lost.len() as u64 + 10)
                .collect();
            let mut model = LossReport::default();
            for run in lost.chunk_by(|a, b| a == b).filter(|run| run[0]) {
                model.add_run(run.len() as u64);
            }
            let found = report(&numbers);
            prop_assert_eq!((found.lost, found.runs), (model.lost, model.runs));
        }
    }
}
