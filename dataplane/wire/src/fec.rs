//! Frames of forward error correction (`PROTOCOL.md`, section "Forward error correction").

use crate::frame::{TYPE_LOSS_REPORT, TYPE_RECOVERED, TYPE_REPAIR, TYPE_SYMBOL};
use crate::varint::{Malformed, Reader, Writer, varint_len};

/// The classes by which a [`LossReport`] counts runs of lost packets: 1, 2, 3, 4, 5 to 8, 9 and more.
pub const RUN_CLASSES: usize = 6;
/// Symbols below the largest that a [`Recovered`] names.
pub const RECOVERED_BELOW_MAX: u32 = u64::BITS;
/// The most bytes of a REPAIR frame before its payload.
pub const REPAIR_OVERHEAD_BYTES_MAX: usize = 1 + 10 + 1 + 1;
/// The most bytes that RECOVERED takes.
pub const RECOVERED_BYTES_MAX: usize = 1 + 10 + 10;
/// The most bytes that LOSS_REPORT takes.
pub const LOSS_REPORT_BYTES_MAX: usize = 1 + (6 + RUN_CLASSES) * 10;

/// The rest of the packet is what repairs protect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol<'a> {
    /// Its number: one above that of the packet with a symbol before.
    pub number: u64,
    /// The frames of the symbol, to the end of the packet.
    pub frames: &'a [u8],
}

/// What replaces a lost symbol: the rest of the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repair<'a> {
    /// The last symbol that it covers.
    pub last: u64,
    /// How many symbols it covers, [`last`](Self::last) and those right before it.
    pub count: u8,
    /// Which of the code's repairs it is.
    pub index: u8,
    /// To the end of the packet.
    pub payload: &'a [u8],
}

/// Symbols that came back by repairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The largest number.
    pub largest: u64,
    /// Bit `n`: symbol `largest - 1 - n` too.
    pub below: u64,
}

impl Recovered {
    /// The numbers, from the largest down.
    pub fn numbers(self) -> impl Iterator<Item = u64> {
        let below = (0..RECOVERED_BELOW_MAX)
            .filter(move |bit| self.below >> bit & 1 != 0)
            .filter_map(move |bit| self.largest.checked_sub(1 + u64::from(bit)));
        std::iter::once(self.largest).chain(below)
    }
}

/// What a receiver has lost since the start of the connection. Every count only grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LossReport {
    /// Packets that should have come.
    pub expected: u64,
    /// Those that had not come when their absence was noted.
    pub lost: u64,
    /// Those among them that came after all.
    pub reordered: u64,
    /// Runs of lost packets by length: see [`RUN_CLASSES`].
    pub runs: [u64; RUN_CLASSES],
    /// Symbols that came back by repairs.
    pub recovered: u64,
    /// Symbols that came back after all that they held, and repairs that came after their symbols were forgotten.
    pub late: u64,
    /// Repairs of which nothing was needed.
    pub wasted: u64,
}

impl LossReport {
    /// Counts a run of `length` lost packets.
    pub fn add_run(&mut self, length: u64) {
        let class = match length {
            0 => return,
            1..=4 => length as usize - 1,
            5..=8 => 4,
            _ => 5,
        };
        self.lost += length;
        self.runs[class] += 1;
    }

    fn fields(&self) -> impl Iterator<Item = u64> {
        let Self { expected, lost, reordered, runs, recovered, late, wasted } = *self;
        [expected, lost, reordered].into_iter().chain(runs).chain([recovered, late, wasted])
    }
}

pub(crate) fn decode_symbol<'a>(reader: &mut Reader<'a>) -> Result<Symbol<'a>, Malformed> {
    let number = reader.varint("symbol number")?;
    let bad = reader.malformed("symbol");
    let frames = reader.rest();
    if frames.is_empty() {
        return Err(bad);
    }
    Ok(Symbol { number, frames })
}

pub(crate) fn decode_repair<'a>(reader: &mut Reader<'a>) -> Result<Repair<'a>, Malformed> {
    let last = reader.varint("last symbol")?;
    let count = reader.u8("symbol count")?;
    let index = reader.u8("repair index")?;
    let bad = reader.malformed("repair");
    let payload = reader.rest();
    if payload.is_empty() {
        return Err(bad);
    }
    Ok(Repair { last, count, index, payload })
}

pub(crate) fn decode_recovered(reader: &mut Reader<'_>) -> Result<Recovered, Malformed> {
    let bad = reader.malformed("RECOVERED");
    let largest = reader.varint("recovered symbol")?;
    let below = reader.varint("recovered symbols")?;
    let reach = u64::from(u64::BITS - below.leading_zeros());
    if reach > largest {
        return Err(bad);
    }
    Ok(Recovered { largest, below })
}

pub(crate) fn decode_loss_report(reader: &mut Reader<'_>) -> Result<LossReport, Malformed> {
    let mut next = || reader.varint("LOSS_REPORT");
    let mut report =
        LossReport { expected: next()?, lost: next()?, reordered: next()?, ..LossReport::default() };
    for runs in &mut report.runs {
        *runs = next()?;
    }
    (report.recovered, report.late, report.wasted) = (next()?, next()?, next()?);
    Ok(report)
}

/// How many bytes [`put_symbol`] writes.
#[must_use]
pub const fn symbol_overhead_bytes(number: u64) -> usize {
    1 + varint_len(number)
}

/// Writes the head of SYMBOL; the frames of the symbol follow, up to the end of the packet.
pub fn put_symbol(out: &mut Writer<'_>, number: u64) {
    out.put_u8(TYPE_SYMBOL);
    out.put_varint(number);
}

/// How many bytes [`put_repair`] writes.
#[must_use]
pub const fn repair_overhead_bytes(last: u64) -> usize {
    1 + varint_len(last) + 1 + 1
}

/// Writes the head of REPAIR; its payload follows, up to the end of the packet.
pub fn put_repair(out: &mut Writer<'_>, last: u64, count: u8, index: u8) {
    out.put_u8(TYPE_REPAIR);
    out.put_varint(last);
    out.put_u8(count);
    out.put_u8(index);
}

/// Writes RECOVERED: at most [`RECOVERED_BYTES_MAX`].
pub fn put_recovered(out: &mut Writer<'_>, recovered: Recovered) {
    out.put_u8(TYPE_RECOVERED);
    out.put_varint(recovered.largest);
    out.put_varint(recovered.below);
}

/// Writes LOSS_REPORT: at most [`LOSS_REPORT_BYTES_MAX`].
pub fn put_loss_report(out: &mut Writer<'_>, report: &LossReport) {
    out.put_u8(TYPE_LOSS_REPORT);
    report.fields().for_each(|value| out.put_varint(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::frame::tests::{read, written};

    #[test]
    fn a_frame_reads_other_than_it_was_written() {
        let bytes = written(|out| {
            put_symbol(out, 70_000);
            out.put(b"frames");
        });
        assert_eq!(symbol_overhead_bytes(70_000) + 6, bytes.len());
        assert_eq!(read(&bytes), Ok(Frame::Symbol(Symbol { number: 70_000, frames: b"frames" })));
        let bytes = written(|out| {
            put_repair(out, u64::MAX, 32, 15);
            out.put(b"sum");
        });
        assert_eq!(bytes.len(), REPAIR_OVERHEAD_BYTES_MAX + 3);
        let repair = Repair { last: u64::MAX, count: 32, index: 15, payload: b"sum" };
        assert_eq!(read(&bytes), Ok(Frame::Repair(repair)));
        let mut report = LossReport { expected: u64::MAX, wasted: 9, ..LossReport::default() };
        [1, 2, 3, 4, 5, 8, 9, 100, 0].into_iter().for_each(|length| report.add_run(length));
        assert_eq!((report.lost, report.runs), (132, [1, 1, 1, 1, 2, 2]));
        let bytes = written(|out| put_loss_report(out, &report));
        assert_eq!(read(&bytes), Ok(Frame::LossReport(report)));
    }

    #[test]
    fn recovered_names_other_symbols() {
        let recovered = Recovered { largest: 100, below: 1 | 1 << 4 | 1 << 63 };
        assert_eq!(recovered.numbers().collect::<Vec<_>>(), [100, 99, 95, 36]);
        let bytes = written(|out| put_recovered(out, recovered));
        assert_eq!(read(&bytes), Ok(Frame::Recovered(recovered)));
        let all = Recovered { largest: 64, below: u64::MAX };
        assert_eq!(all.numbers().last(), Some(0));
        assert_eq!(read(&written(|out| put_recovered(out, all))), Ok(Frame::Recovered(all)));
    }

    #[test]
    fn a_hostile_frame_is_taken() {
        for bytes in [
            &[TYPE_SYMBOL, 0][..],
            &[TYPE_SYMBOL],
            &[TYPE_REPAIR, 0, 1, 0],
            &[TYPE_REPAIR, 0, 1],
            &[TYPE_RECOVERED, 0, 1],
            &[TYPE_RECOVERED, 3, 0b1000],
            &[TYPE_LOSS_REPORT, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }
}
