//! Capacity over time, as Mahimahi (Netravali et al., USENIX ATC 2015) writes it down: a text of one number a line,
//! each the millisecond of one opportunity to deliver 1,500 bytes. The trace repeats after its last line.

use std::sync::Arc;

use thiserror::Error;
use wire::Time;

/// Bytes that one opportunity delivers: a full packet, or several small ones, or a part of a greater one.
pub const OPPORTUNITY_BYTES: u64 = 1_500;
/// Lines of a trace at most: 12 Gbit/s for ten seconds, or hours of a phone's link.
pub const OPPORTUNITIES_MAX: usize = 10_000_000;
/// Bytes of a trace's text at most.
pub const TRACE_TEXT_BYTES_MAX: usize = 16 * OPPORTUNITIES_MAX;
/// The last millisecond that a trace may name: ten years, far from where microseconds overflow.
const LAST_MS_MAX: u64 = 10 * 366 * 24 * 3_600 * 1_000;

const _: () = assert!(LAST_MS_MAX < u64::MAX / 1_000_000);

/// Why a text is no capacity trace.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TraceError {
    /// A line that is not a number of milliseconds.
    #[error("line {line} of the trace is `{text}`: it must be a whole number of milliseconds")]
    Line {
        /// From 1.
        line: usize,
        /// As written.
        text: String,
    },
    /// A line that goes back in time.
    #[error("line {line} of the trace goes back in time: {ms} ms after {previous_ms} ms")]
    Order {
        /// From 1.
        line: usize,
        /// What it says.
        ms: u64,
        /// What the line before says.
        previous_ms: u64,
    },
    /// Nothing to repeat.
    #[error(
        "the trace has no opportunity after its millisecond 0: it needs at least one line greater than 0"
    )]
    Empty,
    /// Too long.
    #[error("the trace has more than {OPPORTUNITIES_MAX} lines: cut it, it repeats anyway")]
    TooLong,
}

/// A capacity that changes over time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CapacityTrace {
    /// Where it came from, as the user wrote it.
    source: String,
    /// Milliseconds from the start of a period, rising; the last is the period.
    opportunities_ms: Vec<u64>,
}

impl CapacityTrace {
    /// Reads a trace; `source` is the name that it is printed by. Empty lines and lines that begin with `#` are passed
    /// over.
    ///
    /// # Errors
    /// The text is no trace.
    pub fn parse(source: &str, text: &str) -> Result<Self, TraceError> {
        let mut opportunities_ms = Vec::new();
        let mut previous_ms = 0;
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if opportunities_ms.len() == OPPORTUNITIES_MAX {
                return Err(TraceError::TooLong);
            }
            let line_number = index + 1;
            let ms = line.parse().ok().filter(|&ms| ms <= LAST_MS_MAX).ok_or_else(|| TraceError::Line {
                line: line_number,
                text: line.chars().take(40).collect(),
            })?;
            if ms < previous_ms {
                return Err(TraceError::Order { line: line_number, ms, previous_ms });
            }
            previous_ms = ms;
            opportunities_ms.push(ms);
        }
        if previous_ms == 0 {
            return Err(TraceError::Empty);
        }
        Ok(Self { source: source.to_owned(), opportunities_ms })
    }

    /// Where it came from, as the user wrote it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// After so many milliseconds it repeats.
    #[must_use]
    pub fn period_ms(&self) -> u64 {
        self.opportunities_ms[self.opportunities_ms.len() - 1]
    }

    /// The mean over a period, bits a second.
    #[must_use]
    pub fn mean_bits_per_s(&self) -> u64 {
        let bits = self.opportunities_ms.len() as u64 * OPPORTUNITY_BYTES * 8;
        bits.saturating_mul(1_000) / self.period_ms()
    }

    /// When the opportunity of this number comes, milliseconds.
    fn at_ms(&self, number: u64) -> u64 {
        let length = self.opportunities_ms.len() as u64;
        let within = usize::try_from(number % length).expect("under the length");
        (number / length).saturating_mul(self.period_ms()).saturating_add(self.opportunities_ms[within])
    }

    /// The number of the first opportunity at or after a millisecond.
    fn first_from(&self, ms: u64) -> u64 {
        let length = self.opportunities_ms.len() as u64;
        // The last line of a period and a line 0 of the next fall on the same instant: look from the earlier.
        let period = ms.div_ceil(self.period_ms()).saturating_sub(1);
        let within_ms = ms - period * self.period_ms();
        period * length + self.opportunities_ms.partition_point(|&at_ms| at_ms < within_ms) as u64
    }
}

/// Plays a trace from the instant 0 on.
#[derive(Clone, Debug)]
pub(crate) struct TracePlayer {
    trace: Arc<CapacityTrace>,
    /// The opportunity in use.
    number: u64,
    /// What is left of it.
    left_bytes: u64,
}

impl TracePlayer {
    pub(crate) fn new(trace: Arc<CapacityTrace>) -> Self {
        Self { trace, number: 0, left_bytes: OPPORTUNITY_BYTES }
    }

    pub(crate) fn trace(&self) -> &Arc<CapacityTrace> {
        &self.trace
    }

    /// When a packet that is at the head of the queue from `start` on has left. An opportunity that finds no packet
    /// is wasted.
    pub(crate) fn serve(&mut self, start: Time, mut bytes: u64) -> Time {
        let start_ms = start.as_us().div_ceil(1_000);
        if self.trace.at_ms(self.number) < start_ms {
            self.number = self.trace.first_from(start_ms);
            self.left_bytes = OPPORTUNITY_BYTES;
        }
        while bytes > self.left_bytes {
            bytes -= self.left_bytes;
            self.number += 1;
            self.left_bytes = OPPORTUNITY_BYTES;
        }
        self.left_bytes -= bytes;
        Time::from_us(self.trace.at_ms(self.number).saturating_mul(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn player(text: &str) -> TracePlayer {
        TracePlayer::new(Arc::new(CapacityTrace::parse("test", text).expect("a trace")))
    }

    fn serve_ms(player: &mut TracePlayer, start_us: u64, bytes: u64) -> u64 {
        player.serve(Time::from_us(start_us), bytes).as_us() / 1_000
    }

    #[test]
    fn full_packets_miss_the_opportunities_of_the_trace() {
        let mut player = player("1\n1\n4\n\n# a remark\n10\n");
        let departures: Vec<u64> = (0..9).map(|_| serve_ms(&mut player, 0, 1_500)).collect();
        assert_eq!(departures, [1, 1, 4, 10, 11, 11, 14, 20, 21]);
    }

    #[test]
    fn small_packets_waste_an_opportunity_or_great_ones_use_one_only() {
        let mut player = player("2\n5\n9\n");
        assert_eq!(serve_ms(&mut player, 0, 500), 2);
        assert_eq!(serve_ms(&mut player, 0, 1_000), 2);
        assert_eq!(serve_ms(&mut player, 0, 1), 5);
        assert_eq!(serve_ms(&mut player, 0, 3_000), 11);
    }

    #[test]
    fn an_opportunity_that_found_no_packet_is_used_later() {
        let mut player = player("2\n5\n9\n");
        assert_eq!(serve_ms(&mut player, 2_001, 100), 5);
        // The rest of the opportunity at 5 ms has gone.
        assert_eq!(serve_ms(&mut player, 5_001, 100), 9);
        // Far on: 90 ms is the end of the tenth period.
        assert_eq!(serve_ms(&mut player, 90_000, 1_500), 90);
        assert_eq!(serve_ms(&mut player, 90_000, 1_500), 92);
        assert_eq!(serve_ms(&mut player, 9_000_000_001, 1), 9_000_002);
    }

    #[test]
    fn the_end_of_a_period_and_the_start_of_the_next_are_one_opportunity() {
        let mut player = player("0\n3\n");
        let departures: Vec<u64> = (0..5).map(|_| serve_ms(&mut player, 0, 1_500)).collect();
        assert_eq!(departures, [0, 3, 3, 6, 6]);
        let mut late = self::player("0\n3\n");
        assert_eq!([1_500; 2].map(|bytes| serve_ms(&mut late, 3_000, bytes)), [3, 3]);
    }

    #[test]
    fn a_text_that_is_no_trace_is_taken() {
        let refused = |text| CapacityTrace::parse("test", text).expect_err("refused");
        assert_eq!(refused(""), TraceError::Empty);
        assert_eq!(refused("0\n0\n"), TraceError::Empty);
        assert_eq!(refused("3\n2\n"), TraceError::Order { line: 2, ms: 2, previous_ms: 3 });
        assert_eq!(refused("3\nx"), TraceError::Line { line: 2, text: "x".to_owned() });
        assert_eq!(refused("1.5"), TraceError::Line { line: 1, text: "1.5".to_owned() });
        assert!(matches!(refused(&u64::MAX.to_string()), TraceError::Line { line: 1, .. }));
    }

    #[test]
    fn the_mean_rate_is_wrong() {
        // 12 Mbit/s is one full packet a millisecond.
        assert_eq!(player("1\n").trace.mean_bits_per_s(), 12_000_000);
    }
}
