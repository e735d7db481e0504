//! ACK frames: which packets were received, and how many of them were marked.

use super::{TYPE_ACK, TYPE_ACK_ECN};
use crate::varint::{Malformed, Reader, Writer, varint_len};

/// The most ranges that an ACK frame carries.
pub const ACK_RANGES_MAX: usize = 32;

/// How many packets were received with each mark, from the start of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EcnCounts {
    /// With ECT(0).
    pub ect0: u64,
    /// With ECT(1).
    pub ect1: u64,
    /// Marked by a congested queue.
    pub ce: u64,
}

impl EcnCounts {
    const fn bytes(&self) -> usize {
        varint_len(self.ect0) + varint_len(self.ect1) + varint_len(self.ce)
    }
}

/// The body of an ACK or ACK_ECN frame, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// The largest packet number received.
    pub largest: u64,
    /// How long its receiver held it, in microseconds.
    pub delay_us: u64,
    /// The marks of what was received, if any had one.
    pub ecn: Option<EcnCounts>,
    first_length: u64,
    rest: &'a [u8],
}

impl<'a> Ack<'a> {
    /// The ranges `(first, last)`, both included, from the largest down.
    #[must_use]
    pub fn ranges(&self) -> AckRanges<'a> {
        AckRanges {
            next: Some((self.largest - self.first_length, self.largest)),
            rest: Reader::new(self.rest),
        }
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let bad = reader.malformed("ACK frame");
        let largest = reader.varint("ACK largest")?;
        let delay_us = reader.varint("ACK delay")?;
        let first_length = reader.varint("ACK first range")?;
        let mut smallest = largest.checked_sub(first_length).ok_or(bad)?;
        let count = reader.varint("ACK range count")?;
        if count >= ACK_RANGES_MAX as u64 {
            return Err(bad);
        }
        let before = reader.clone();
        for _ in 0..count {
            let gap = reader.varint("ACK gap")?;
            let length = reader.varint("ACK range")?;
            let last = smallest.checked_sub(gap).and_then(|left| left.checked_sub(2)).ok_or(bad)?;
            smallest = last.checked_sub(length).ok_or(bad)?;
        }
        let rest = before.clone().take(reader.offset() - before.offset(), "ACK ranges")?;
        Ok(Self { largest, delay_us, ecn: None, first_length, rest })
    }

    pub(super) fn decode_ecn(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let ack = Self::decode(reader)?;
        let ect0 = reader.varint("ECT(0) count")?;
        let ect1 = reader.varint("ECT(1) count")?;
        let ce = reader.varint("CE count")?;
        Ok(Self { ecn: Some(EcnCounts { ect0, ect1, ce }), ..ack })
    }
}

/// Iterates over the ranges of an [`Ack`].
#[derive(Clone, Debug)]
pub struct AckRanges<'a> {
    next: Option<(u64, u64)>,
    rest: Reader<'a>,
}

impl Iterator for AckRanges<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let (first, last) = self.next.take()?;
        if let (Ok(gap), Ok(length)) = (self.rest.varint("ACK gap"), self.rest.varint("ACK range")) {
            let end = first.saturating_sub(gap).saturating_sub(2);
            self.next = Some((end.saturating_sub(length), end));
        }
        Some((first, last))
    }
}

/// Writes ACK for ranges `(first, last)`, both included, from the largest down and not touching each other;
/// as many as fit, [`ACK_RANGES_MAX`] at the most. Writes nothing and says so when not even one fits.
pub fn put_ack(
    out: &mut Writer<'_>,
    delay_us: u64,
    ranges: impl Iterator<Item = (u64, u64)> + Clone,
) -> bool {
    put_ack_ecn(out, delay_us, ranges, None)
}

/// The same, and ACK_ECN when there are counts.
pub fn put_ack_ecn(
    out: &mut Writer<'_>,
    delay_us: u64,
    ranges: impl Iterator<Item = (u64, u64)> + Clone,
    ecn: Option<EcnCounts>,
) -> bool {
    let Some((first, largest)) = ranges.clone().next() else { return false };
    let counts_bytes = ecn.map_or(0, |counts| counts.bytes());
    let numbers_bytes = varint_len(largest) + varint_len(delay_us) + varint_len(largest - first);
    let head = 1 + numbers_bytes + 1 + counts_bytes;
    if out.remaining() < head {
        return false;
    }
    let mut room = out.remaining() - head;
    let mut count = 0;
    let mut smallest = first;
    for (first, last) in ranges.clone().skip(1).take(ACK_RANGES_MAX - 1) {
        let bytes = varint_len(smallest - last - 2) + varint_len(last - first);
        if bytes > room {
            break;
        }
        room -= bytes;
        count += 1;
        smallest = first;
    }
    out.put_u8(if ecn.is_some() { TYPE_ACK_ECN } else { TYPE_ACK });
    out.put_varint(largest);
    out.put_varint(delay_us);
    out.put_varint(largest - first);
    out.put_varint(count as u64);
    let mut smallest = first;
    for (first, last) in ranges.skip(1).take(count) {
        out.put_varint(smallest - last - 2);
        out.put_varint(last - first);
        smallest = first;
    }
    if let Some(counts) = ecn {
        out.put_varint(counts.ect0);
        out.put_varint(counts.ect1);
        out.put_varint(counts.ce);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::frame::tests::{read, written};

    #[test]
    fn an_ack_names_other_packets() {
        let ranges = [(90, 100), (80, 88), (3, 3), (0, 1)];
        let bytes = written(|out| assert!(put_ack(out, 25, ranges.iter().copied())));
        let Ok(Frame::Ack(ack)) = read(&bytes) else { panic!("no ACK") };
        assert_eq!((ack.largest, ack.delay_us), (100, 25));
        assert_eq!((ack.ranges().collect::<Vec<_>>(), ack.ecn), (ranges.to_vec(), None));
        let counts = EcnCounts { ect0: 300, ect1: 0, ce: u64::MAX };
        let bytes = written(|out| assert!(put_ack_ecn(out, 25, ranges.iter().copied(), Some(counts))));
        let Ok(Frame::Ack(ack)) = read(&bytes) else { panic!("no ACK") };
        assert_eq!((ack.ranges().collect::<Vec<_>>(), ack.ecn), (ranges.to_vec(), Some(counts)));
    }

    #[test]
    fn an_ack_outgrows_its_buffer() {
        let ranges = (0..200_u64).rev().map(|n| (n * 1_000, n * 1_000));
        for room in 0..120 {
            let mut buffer = [0; 120];
            let mut writer = Writer::new(&mut buffer[..room]);
            let counts = (room % 2 == 0).then_some(EcnCounts { ect0: 99, ect1: 1, ce: 1_000 });
            let fits = put_ack_ecn(&mut writer, 3, ranges.clone(), counts);
            let length = writer.len();
            assert_eq!(length > 0, fits);
            if fits {
                read(&buffer[..length]).unwrap();
            }
        }
    }
}
