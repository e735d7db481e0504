//! The receiving side of forward error correction: what comes back, and what the sender is told of it (`PROTOCOL.md`,
//! section "Forward error correction").

use wire::fec::{LossReport, Recovered};
use wire::{Span, Time};

use super::loss_runs::LossRuns;
use super::{Decoder, FecError, HISTORY_SYMBOLS, Outcome, RepairHeader};

/// RECOVERED goes with so many acknowledgements: some may be lost.
const RECOVERED_COPIES: u8 = 3;
/// Losses are reported at most this often…
const REPORT_INTERVAL: Span = Span::from_ms(50);
/// … and packets that all came this often.
const QUIET_REPORT_INTERVAL: Span = Span::from_ms(1_000);
/// Without a symbol for so long the receiver is given up.
const REST_AFTER: Span = Span::from_ms(10_000);

/// The receiver's half, made when the first symbol comes.
pub(crate) struct FecReceiver {
    decoder: Decoder,
    runs: LossRuns,
    report: LossReport,
    reported: LossReport,
    reported_at: Time,
    recovered: Option<Recovered>,
    recovered_due: u8,
    /// When a symbol was known to be missing, by number modulo the history.
    missed: Box<[Time; HISTORY_SYMBOLS]>,
    /// One above the largest symbol that was heard of.
    heard: u64,
    last_symbol: Time,
}

impl FecReceiver {
    /// Begins with packet `number`, which holds symbol `symbol` or a repair of it.
    pub(crate) fn new(now: Time, number: u64, symbol: u64) -> Self {
        Self {
            decoder: Decoder::new(),
            runs: LossRuns::new(number),
            report: LossReport::default(),
            reported: LossReport::default(),
            reported_at: now,
            recovered: None,
            recovered_due: 0,
            missed: Box::new([now; HISTORY_SYMBOLS]),
            heard: symbol,
            last_symbol: now,
        }
    }

    /// Whether all of this can be dropped.
    pub(crate) fn is_at_rest(&self, now: Time) -> bool {
        now.since(self.last_symbol) >= REST_AFTER
    }

    /// Any packet that has not come before.
    pub(crate) fn on_packet(&mut self, number: u64) {
        self.runs.on_packet(number, &mut self.report);
    }

    /// Whether a symbol has come back before its packet came.
    pub(crate) fn is_recovered(&self, number: u64) -> bool {
        let Some(recovered) = self.recovered else { return false };
        match recovered.largest.checked_sub(number) {
            Some(0) => true,
            Some(distance) if distance <= u64::from(u64::BITS) => recovered.below >> (distance - 1) & 1 != 0,
            _ => false,
        }
    }

    /// Whether it is not known any more if a symbol has come back.
    pub(crate) fn is_forgotten(&self, number: u64) -> bool {
        number < self.decoder.floor()
    }

    pub(crate) fn handle_symbol(&mut self, now: Time, number: u64, symbol: &[u8]) -> Result<(), FecError> {
        self.last_symbol = now;
        self.note_missing(now, number);
        self.heard = self.heard.max(number.saturating_add(1));
        self.decoder.handle_symbol(number, symbol).map(|_| ())
    }

    pub(crate) fn handle_repair(
        &mut self,
        now: Time,
        header: RepairHeader,
        repair: &[u8],
    ) -> Result<Outcome, FecError> {
        self.note_missing(now, header.last.saturating_add(1));
        let outcome = self.decoder.handle_repair(header, repair)?;
        match outcome {
            Outcome::Unneeded => self.report.wasted += 1,
            Outcome::Late => self.report.late += 1,
            Outcome::Held | Outcome::Recovered(_) => {}
        }
        Ok(outcome)
    }

    /// Whatever is below `end` and has not come is missing from now on.
    fn note_missing(&mut self, now: Time, end: u64) {
        let from = self.heard.max(end.saturating_sub(HISTORY_SYMBOLS as u64));
        for number in from..end {
            self.missed[number as usize % HISTORY_SYMBOLS] = now;
        }
        self.heard = self.heard.max(end);
    }

    /// The next symbol that came back, with the time since it was known to be missing.
    pub(crate) fn poll_recovered(&mut self, now: Time) -> Option<(Span, &[u8])> {
        let (number, symbol) = self.decoder.poll_recovered()?;
        self.report.recovered += 1;
        self.recovered_due = RECOVERED_COPIES;
        self.recovered = Some(with_recovered(self.recovered, number));
        Some((now.since(self.missed[number as usize % HISTORY_SYMBOLS]), symbol))
    }

    /// All of a symbol that came back had come otherwise.
    pub(crate) const fn on_late(&mut self) {
        self.report.late += 1;
    }

    /// What to tell of symbols that came back, with this acknowledgement.
    pub(crate) const fn recovered_due(&self) -> Option<Recovered> {
        if self.recovered_due == 0 { None } else { self.recovered }
    }

    pub(crate) const fn on_recovered_told(&mut self) {
        self.recovered_due -= 1;
    }

    /// The report, when it is time.
    pub(crate) fn report_due(&self, now: Time) -> Option<&LossReport> {
        let (report, reported) = (&self.report, &self.reported);
        let interval = if report.lost == reported.lost && report.reordered == reported.reordered {
            QUIET_REPORT_INTERVAL
        } else {
            REPORT_INTERVAL
        };
        (report != reported && now.since(self.reported_at) >= interval).then_some(report)
    }

    pub(crate) const fn on_reported(&mut self, now: Time) {
        self.reported = self.report;
        self.reported_at = now;
    }
}

fn with_recovered(before: Option<Recovered>, number: u64) -> Recovered {
    let Some(Recovered { largest, below }) = before else { return Recovered { largest: number, below: 0 } };
    let shifted = |by: u64| if by < u64::from(u64::BITS) { below << by } else { 0 };
    if number > largest {
        let by = number - largest;
        let own = if by <= u64::from(u64::BITS) { 1 << (by - 1) } else { 0 };
        return Recovered { largest: number, below: shifted(by) | own };
    }
    match largest - number {
        0 => Recovered { largest, below },
        by if by <= u64::from(u64::BITS) => Recovered { largest, below: below | 1 << (by - 1) },
        _ => Recovered { largest, below },
    }
}

#[cfg(test)]
mod tests {
    use super::super::Encoder;
    use super::*;

    const START: Time = Time::from_us(1_000_000);

    #[test]
    fn recovered_symbols_are_told_wrongly() {
        let mut recovered = None;
        for number in [100, 103, 101, 40, 39, 103] {
            recovered = Some(with_recovered(recovered, number));
        }
        let numbers: Vec<u64> = recovered.unwrap().numbers().collect();
        assert_eq!(numbers, [103, 101, 100, 40, 39], "64 below the largest");
        let far = with_recovered(recovered, 200);
        assert_eq!(far.numbers().collect::<Vec<_>>(), [200]);
    }

    #[test]
    fn a_symbol_that_comes_back_is_told_once_or_timed_from_its_repair() {
        let (mut encoder, mut receiver) = (Encoder::new(7), FecReceiver::new(START, 0, 7));
        let at = |ms| START + Span::from_ms(ms);
        for number in 7..12 {
            encoder.push(&[number as u8; 100]);
            if number != 9 {
                receiver.handle_symbol(at(number - 7), number, &[number as u8; 100]).unwrap();
            }
        }
        let mut repair = [0; 102];
        encoder.repair(5, 0, &mut repair);
        let header = RepairHeader { last: 11, count: 5, index: 0 };
        assert_eq!(receiver.handle_repair(at(9), header, &repair), Ok(Outcome::Recovered(1)));
        assert_eq!(receiver.poll_recovered(at(9)), Some((Span::from_ms(6), &[9; 100][..])));
        assert!(receiver.is_recovered(9) && !receiver.is_recovered(8) && !receiver.is_recovered(10));
        let told = std::iter::from_fn(|| {
            let due = receiver.recovered_due()?;
            receiver.on_recovered_told();
            Some(due)
        });
        assert_eq!(told.count(), usize::from(RECOVERED_COPIES));
        assert_eq!(receiver.handle_repair(at(9), header, &repair), Ok(Outcome::Unneeded));
        let report = *receiver.report_due(at(2_000)).unwrap();
        assert_eq!((report.recovered, report.wasted, report.late), (1, 1, 0));
        receiver.on_reported(at(2_000));
        assert_eq!(receiver.report_due(at(9_000)), None, "no news");
        assert!(!receiver.is_at_rest(at(9_000)) && receiver.is_at_rest(at(11_000)));
    }
}
