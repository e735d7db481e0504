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
            missed: Box::new([Time::ZERO; HISTORY_SYMBOLS]),
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
