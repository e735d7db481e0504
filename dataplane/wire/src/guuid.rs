//! The GUUID: a UUIDv7 that names a session, a connection, a writer or an op.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A 16-byte UUIDv7 (RFC 9562, section 5.7). Being 16 bytes it is also the W3C trace id of what it names.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Guuid([u8; 16]);

/// The byte of a connection's GUUID that names the shard. It lies in the random part: the leading 48 bits
/// are time, and indexing on them would put all the connections of a second on one core.
pub const SHARD_BYTE: usize = 15;

/// An op's counter takes the low 40 bits of its GUUID; the rest is the writer's.
pub const OP_COUNTER_MAX: u64 = (1 << 40) - 1;

impl Guuid {
    /// The GUUID that is all zero: no GUUID.
    pub const NIL: Self = Self([0; 16]);

    /// Makes one from the Unix time in milliseconds and ten random bytes.
    #[must_use]
    pub fn new(unix_ms: u64, entropy: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &entropy).into_uuid().into_bytes())
    }

    /// Takes 16 bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Takes a slice, which must be 16 bytes long.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads the usual text form, hyphens optional.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::parse_str(text).ok().map(|id| Self(id.into_bytes()))
    }

    /// The time in it, in Unix milliseconds.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        self.0[..6].iter().fold(0, |time, &byte| time << 8 | u64::from(byte))
    }

    /// The shard that a connection id names.
    #[must_use]
    pub const fn shard(&self) -> u8 {
        self.0[SHARD_BYTE]
    }

    /// The same id, naming `shard`.
    #[must_use]
    pub const fn with_shard(mut self, shard: u8) -> Self {
        self.0[SHARD_BYTE] = shard;
        self
    }

    /// The writer that an op id belongs to: the same with a counter of zero.
    #[must_use]
    pub const fn writer(self) -> Self {
        self.with_counter(0)
    }

    /// The id of this writer's op number `counter` (at most [`OP_COUNTER_MAX`]).
    #[must_use]
    pub const fn with_counter(mut self, counter: u64) -> Self {
        assert!(counter <= OP_COUNTER_MAX, "op counter above 40 bits");
        let low = counter.to_be_bytes();
        let mut at = 11;
        while at < 16 {
            self.0[at] = low[at - 8];
            at += 1;
        }
        self
    }

    /// The op counter in the low 40 bits.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.0[11..].iter().fold(0, |counter, &byte| counter << 8 | u64::from(byte))
    }
}

impl fmt::Display for Guuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for Guuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_counter_spills_into_the_writer() {
        let writer = Guuid::new(1_700_000_000_000, [0xff; 10]).writer();
        for counter in [0, 1, 255, 256, OP_COUNTER_MAX] {
            let op = writer.with_counter(counter);
            assert_eq!((op.writer(), op.counter()), (writer, counter));
        }
    }

    #[test]
    fn naming_a_shard_breaks_the_time_or_the_version() {
        let id = Guuid::new(1_700_000_000_123, [7; 10]).with_shard(3);
        assert_eq!((id.shard(), id.unix_ms()), (3, 1_700_000_000_123));
        assert_eq!(id.as_bytes()[6] >> 4, 7);
        assert_eq!(Guuid::parse(&id.to_string()), Some(id));
    }
}
