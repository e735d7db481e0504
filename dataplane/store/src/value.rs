//! What surrounds every value: what it is, in which version it was written, and a checksum.
//!
//! `version u8 | kind u8 | zero u16 | CRC-32C u32`, little-endian, then the body. The checksum covers the key as well,
//! so that a value under another's key is seen.

use bytes::Bytes;

use crate::StoreError;

/// The version that is written, and the latest that is read.
pub(crate) const VERSION: u8 = 1;
const ENVELOPE_BYTES: usize = 8;
/// Where the checksum is in it.
const CHECKSUM_AT: usize = 4;

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Head = 1,
    Tombstone = 2,
    History = 3,
    Base = 4,
    Version = 5,
    Store = 6,
    Writes = 7,
}

/// A value in the making: [`put`](Self) its fields, then [`finish`](Self::finish).
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// With room for a body of `body_bytes`.
    pub(crate) fn new(kind: Kind, body_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(ENVELOPE_BYTES + body_bytes);
        bytes.extend([VERSION, kind as u8, 0, 0, 0, 0, 0, 0]);
        Self { bytes }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.bytes.extend(value);
    }

    /// A length and as many bytes.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).expect("documents and ops are far below 4 GiB"));
        self.raw(value);
    }

    pub(crate) fn finish(mut self, key: &[u8]) -> Bytes {
        let checksum = checksum(key, &self.bytes);
        self.bytes[CHECKSUM_AT..ENVELOPE_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.bytes.into()
    }
}

/// Of everything but the checksum itself.
fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let seed = crc32c::crc32c_append(crc32c::crc32c(key), &value[..CHECKSUM_AT]);
    crc32c::crc32c_append(seed, &value[ENVELOPE_BYTES..])
}

/// Reads a checked value's fields in the order in which they were put.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    document: &'a str,
    rest: Bytes,
}

impl<'a> Reader<'a> {
    /// Checks the envelope of a value of `document`; the body comes with the kind.
    pub(crate) fn open(document: &'a str, key: &[u8], value: &Bytes) -> Result<(u8, Self), StoreError> {
        let damaged =
            |what: &str| StoreError::Damaged { document: document.to_owned(), what: what.to_owned() };
        if value.len() < ENVELOPE_BYTES {
            return Err(damaged("a value is cut short"));
        }
        let stored = u32::from_le_bytes([value[4], value[5], value[6], value[7]]);
        if stored != checksum(key, value) {
            return Err(damaged("a checksum is wrong"));
        }
        // After the checksum, which no version moves: a flipped bit is not a newer version.
        if value[0] > VERSION {
            return Err(StoreError::TooNew {
                document: document.to_owned(),
                found: value[0],
                known: VERSION,
            });
        }
        let kind = value[1];
        Ok((kind, Self { document, rest: value.slice(ENVELOPE_BYTES..) }))
    }

    /// The same, when only one kind can be there.
    pub(crate) fn open_as(
        kind: Kind,
        document: &'a str,
        key: &[u8],
        value: &Bytes,
    ) -> Result<Self, StoreError> {
        let (found, reader) = Self::open(document, key, value)?;
        if found == kind as u8 { Ok(reader) } else { Err(reader.damaged("a value is of another kind")) }
    }

    pub(crate) fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { document: self.document.to_owned(), what: what.to_owned() }
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes, StoreError> {
        if self.rest.len() < bytes {
            return Err(self.damaged("a value is shorter than its fields"));
        }
        Ok(self.rest.split_to(bytes))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        Ok(self.take(N)?.as_ref().try_into().expect("as many as were taken"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, StoreError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StoreError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, StoreError> {
        self.array().map(u64::from_le_bytes)
    }

    /// What [`Writer::bytes`] put; not copied.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, StoreError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// How many elements follow, each of `bytes_min` at least: so that a length is never trusted with memory.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, StoreError> {
        let count = self.u32()? as usize;
        match count.checked_mul(bytes_min) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(self.damaged("a value is shorter than its elements")),
        }
    }

    pub(crate) fn finish(self) -> Result<(), StoreError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged("a value is longer than its fields")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(key: &[u8]) -> Bytes {
        let mut writer = Writer::new(Kind::Base, 16);
        writer.u64(7);
        writer.bytes(b"state");
        writer.finish(key)
    }

    #[test]
    fn any_flipped_bit_passes() {
        let good = value(b"key");
        assert!(Reader::open("doc", b"key", &good).is_ok());
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = Reader::open("doc", b"key", &bad.into()).expect_err("a flipped bit");
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
        for bytes in 0..good.len() {
            assert!(Reader::open("doc", b"key", &good.slice(..bytes)).is_err(), "{bytes} bytes");
        }
    }

    #[test]
    fn a_value_passes_under_anothers_key() {
        assert!(Reader::open("doc", b"kez", &value(b"key")).is_err());
        assert!(Reader::open_as(Kind::Head, "doc", b"key", &value(b"key")).is_err());
    }

    #[test]
    fn a_value_of_a_later_version_passes_for_damage() {
        let mut writer = Writer::new(Kind::Base, 0);
        writer.bytes[0] = VERSION + 1;
        let error = Reader::open("doc", b"key", &writer.finish(b"key")).expect_err("a later version");
        assert!(matches!(error, StoreError::TooNew { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("doc"), "{error}");
    }

    #[test]
    fn a_field_is_read_beyond_the_value_or_left_over() {
        let open = || Reader::open_as(Kind::Base, "doc", b"key", &value(b"key")).expect("a good value");
        let mut reader = open();
        assert_eq!((reader.u64().unwrap(), reader.bytes().unwrap().as_ref()), (7, &b"state"[..]));
        assert!(reader.u8().is_err());
        assert!(open().finish().is_err());
        let mut reader = open();
        reader.u64().unwrap();
        assert!(reader.count(2).is_err(), "5 elements of 2 bytes in 5 bytes");
    }
}
