//! The Quantum header: 32 clear bytes in front of every packet, parsed in place.
//!
//! It is the associated data of the packet's AEAD, so nothing in it can be changed on the way. The layout
//! is described in `PROTOCOL.md`, section "Header".

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guuid::{Guuid, SHARD_BYTE};
use crate::limits::INITIAL_DATAGRAM_BYTES;

/// The version in the upper half of the first byte.
pub const VERSION: u8 = 1;
/// The header's length.
pub const HEADER_BYTES: usize = 32;
/// The AEAD's tag behind every sealed packet.
pub const TAG_BYTES: usize = 16;
/// Where in a datagram the byte lies that names the shard: what the socket filter loads.
pub const SHARD_BYTE_OFFSET: usize = 16 + SHARD_BYTE;
/// The flag of the second key: it changes with each key update.
pub const FLAG_KEY_PHASE: u8 = 0b1000_0000;

/// What a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PacketType {
    /// A client's first: ticket, Noise message 1 with the first frames, padding.
    Initial = 1,
    /// The node's answer: Noise message 2 with frames.
    Handshake = 2,
    /// Everything later, sealed with the connection's keys.
    Data = 3,
    /// The answer of a node under load: a cookie, with which the client shows that it is where it says.
    Retry = 4,
    /// The answer to a version that is not spoken: those that are. Of no version itself.
    Versions = 5,
    /// The answer to data for a connection that is not known: a proof that only its client can check.
    Reset = 6,
}

impl PacketType {
    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::Initial),
            2 => Some(Self::Handshake),
            3 => Some(Self::Data),
            4 => Some(Self::Retry),
            6 => Some(Self::Reset),
            _ => None,
        }
    }
}

/// The version of packets that every version must understand: [`PacketType::Versions`].
const VERSION_NONE: u8 = 0;
/// Versions that will never be: whoever lists or is told versions meets them, so that nobody comes to rely on a list
/// without unknown ones.
pub const VERSIONS_GREASE: [u8; 2] = [0x0a, 0x0f];

const _: () =
    assert!(VERSION != VERSION_NONE && VERSION != VERSIONS_GREASE[0] && VERSION != VERSIONS_GREASE[1]);

/// The 32 bytes as they lie in the datagram.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Header {
    version_and_type: u8,
    /// [`FLAG_KEY_PHASE`] or zero; other bits must be zero.
    pub flags: u8,
    reserved: [u8; 2],
    timestamp_us: U32,
    packet_number: U64,
    /// The connection.
    pub connection: Guuid,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(Header, connection) + SHARD_BYTE == SHARD_BYTE_OFFSET);

/// Why a datagram has no header that we read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than a header and a tag.
    #[error("datagram of {0} bytes, shorter than header and tag")]
    Short(usize),
    /// A version that is not ours.
    #[error("version {0} is not spoken here")]
    Version(u8),
    /// An unknown type, or a bit that must be zero.
    #[error("unknown packet type or reserved bit set")]
    Reserved,
}

impl Header {
    /// A header of this version.
    #[must_use]
    pub fn new(kind: PacketType, connection: Guuid, packet_number: u64, timestamp_us: u32) -> Self {
        Self {
            version_and_type: VERSION << 4 | kind as u8,
            flags: 0,
            reserved: [0; 2],
            timestamp_us: U32::new(timestamp_us),
            packet_number: U64::new(packet_number),
            connection,
        }
    }

    /// The header of a VERSIONS packet for `connection`.
    #[must_use]
    pub fn versions(connection: Guuid) -> Self {
        let header = Self::new(PacketType::Versions, connection, 0, 0);
        Self { version_and_type: VERSION_NONE << 4 | PacketType::Versions as u8, ..header }
    }

    /// The connection that a datagram of any version names, if it is as long as the first one of a connection must
    /// be (`PROTOCOL.md`, section "Version negotiation").
    #[must_use]
    pub fn connection_of_any_version(datagram: &[u8]) -> Option<Guuid> {
        let is_first = datagram.len() >= INITIAL_DATAGRAM_BYTES && datagram[0] >> 4 != VERSION_NONE;
        is_first.then(|| Guuid::from_slice(&datagram[HEADER_BYTES - 16..HEADER_BYTES]))?
    }

    /// Reads the header of a datagram in place.
    pub fn parse(datagram: &[u8]) -> Result<(&Self, PacketType), HeaderError> {
        if datagram.len() < HEADER_BYTES + TAG_BYTES {
            return Err(HeaderError::Short(datagram.len()));
        }
        let header = Self::ref_from_bytes(&datagram[..HEADER_BYTES]).expect("32 bytes, no alignment");
        let version = header.version_and_type >> 4;
        let bits = header.version_and_type & 0x0f;
        let kind = match version {
            VERSION => PacketType::from_bits(bits).ok_or(HeaderError::Reserved)?,
            VERSION_NONE if bits == PacketType::Versions as u8 => PacketType::Versions,
            _ => return Err(HeaderError::Version(version)),
        };
        if header.flags & !FLAG_KEY_PHASE != 0 || header.reserved != [0; 2] {
            return Err(HeaderError::Reserved);
        }
        Ok((header, kind))
    }

    /// The packet's number, which is also the AEAD's nonce.
    #[must_use]
    pub fn packet_number(&self) -> u64 {
        self.packet_number.get()
    }

    /// The sender's clock in microseconds, modulo 2^32.
    #[must_use]
    pub fn timestamp_us(&self) -> u32 {
        self.timestamp_us.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_other_than_it_was_written() {
        let id = Guuid::new(1_700_000_000_000, [9; 10]).with_shard(5);
        let header = Header::new(PacketType::Data, id, 77, 0xdead_beef);
        let mut datagram = header.as_bytes().to_vec();
        datagram.extend([0; TAG_BYTES]);
        assert_eq!(datagram[SHARD_BYTE_OFFSET], 5);
        let (read, kind) = Header::parse(&datagram).unwrap();
        assert_eq!(kind, PacketType::Data);
        assert_eq!((read.packet_number(), read.timestamp_us(), read.connection), (77, 0xdead_beef, id));
    }

    #[test]
    fn a_malformed_header_is_read() {
        let good = [Header::new(PacketType::Data, Guuid::NIL, 0, 0).as_bytes(), &[0; TAG_BYTES]].concat();
        assert_eq!(Header::parse(&good[..47]).unwrap_err(), HeaderError::Short(47));
        for (at, value, error) in [
            (0, 0x23, HeaderError::Version(2)),
            (0, 0x17, HeaderError::Reserved),
            (0, 0x15, HeaderError::Reserved),
            (0, 0x03, HeaderError::Version(0)),
            (1, 0x01, HeaderError::Reserved),
            (2, 0x01, HeaderError::Reserved),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Header::parse(&bad).unwrap_err(), error);
        }
    }

    #[test]
    fn a_list_of_versions_is_of_a_version() {
        let id = Guuid::new(1, [9; 10]);
        let list = [Header::versions(id).as_bytes(), &[0; TAG_BYTES]].concat();
        assert_eq!(list[0], 0x05, "every version must read it");
        let (read, kind) = Header::parse(&list).unwrap();
        assert_eq!((read.connection, kind), (id, PacketType::Versions));
        let mut other = [list, vec![0; INITIAL_DATAGRAM_BYTES]].concat();
        assert_eq!(Header::connection_of_any_version(&other), None, "nobody answers it");
        other[0] = 0x71;
        assert_eq!(Header::connection_of_any_version(&other), Some(id));
        assert_eq!(Header::connection_of_any_version(&other[..INITIAL_DATAGRAM_BYTES - 1]), None);
    }
}
