//! Reading and writing of integers and byte strings, with bounds checked at every step.

use thiserror::Error;

/// Input that does not follow the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("malformed {what} at byte {offset}")]
pub struct Malformed {
    /// The field that could not be read.
    pub what: &'static str,
    /// Where it begins.
    pub offset: usize,
}

/// A cursor over received bytes. Every method takes the name of the field, for the error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// Whether all has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Where the next field begins.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The error for a field that begins here.
    #[must_use]
    pub const fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, offset: self.offset }
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        if length > self.remaining() {
            return Err(self.malformed(what));
        }
        let bytes = &self.bytes[self.offset..self.offset + length];
        self.offset += length;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N, what)?;
        Ok(bytes.try_into().expect("take returned N bytes"))
    }

    /// All that remains.
    pub fn rest(&mut self) -> &'a [u8] {
        let bytes = &self.bytes[self.offset..];
        self.offset = self.bytes.len();
        bytes
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.take(1, what)?[0])
    }

    /// A LEB128 integer of at most 64 bits.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let start = self.malformed(what);
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8(what).map_err(|_| start)?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                break;
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(start)
    }

    /// A LEB128 integer that must fit 32 bits.
    pub fn varint32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        let start = self.malformed(what);
        u32::try_from(self.varint(what)?).map_err(|_| start)
    }

    /// A byte string behind its length.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let start = self.malformed(what);
        let length = usize::try_from(self.varint(what)?).map_err(|_| start)?;
        self.take(length, what).map_err(|_| start)
    }

    /// A UTF-8 string behind its length in bytes.
    pub fn string(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        let start = self.malformed(what);
        std::str::from_utf8(self.bytes(what)?).map_err(|_| start)
    }
}

/// How many bytes [`put_varint`] writes for `value`.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends a LEB128 integer.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a byte string behind its length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes into a fixed buffer; refuses, and writes nothing, when the field does not fit.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    offset: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.offset
    }

    /// Whether nothing has been written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.offset == 0
    }

    /// Room left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// Appends bytes. Panics when they do not fit: check [`remaining`](Self::remaining) first.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.offset..self.offset + bytes.len()].copy_from_slice(bytes);
        self.offset += bytes.len();
    }

    /// Appends zeros, for the caller to write over. Panics when they do not fit.
    pub fn put_zeros(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.offset;
        self.offset += bytes;
        let zeros = &mut self.bytes[start..self.offset];
        zeros.fill(0);
        zeros
    }

    /// Takes out a part of what was written; what was written behind it moves up.
    pub fn remove(&mut self, part: std::ops::Range<usize>) {
        self.bytes.copy_within(part.end..self.offset, part.start);
        self.offset -= part.len();
    }

    /// Appends one byte. Panics when it does not fit.
    pub fn put_u8(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    /// Appends a LEB128 integer. Panics when it does not fit.
    pub fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_changes_on_its_way() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            let mut fixed = [0; 10];
            let mut writer = Writer::new(&mut fixed);
            writer.put_varint(value);
            assert_eq!(writer.len(), out.len());
            assert_eq!(fixed[..out.len()], out[..]);
            assert_eq!(Reader::new(&out).varint("v"), Ok(value));
        }
    }

    #[test]
    fn an_overlong_or_cut_varint_is_taken() {
        assert!(Reader::new(&[0xff; 10]).varint("v").is_err());
        assert!(Reader::new(&[0x80; 11]).varint("v").is_err());
        assert!(Reader::new(&[0x80]).varint("v").is_err());
        assert!(Reader::new(&[]).varint("v").is_err());
    }

    #[test]
    fn a_length_beyond_the_input_is_believed() {
        let error = Reader::new(&[5, 1, 2]).bytes("payload").unwrap_err();
        assert_eq!(error, Malformed { what: "payload", offset: 0 });
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).bytes("x").is_err());
    }
}
