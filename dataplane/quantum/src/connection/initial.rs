//! The clear part of a first packet (`PROTOCOL.md`, section "Handshake").

use wire::frame::PARAMETERS_BYTES_MAX;
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::limits::{DATAGRAM_BYTES_MAX, INITIAL_DATAGRAM_BYTES, TICKET_BYTES_MAX};
use wire::varint::{Reader, Writer};
use wire::{Guuid, Header, PacketType};
use zerocopy::IntoBytes;

use crate::cookie::{COOKIE_BYTES, Cookie};
use crate::noise::NOISE_OVERHEAD_BYTES;

/// The length of the cookie's length.
const COOKIE_LENGTH_BYTES: usize = 1;
/// The length of the ticket's length.
const TICKET_LENGTH_BYTES: usize = 2;
/// What a first packet has left for frames, at the least.
const PAYLOAD_BYTES_MIN: usize = INITIAL_DATAGRAM_BYTES
    - HEADER_BYTES
    - COOKIE_LENGTH_BYTES
    - COOKIE_BYTES
    - TICKET_LENGTH_BYTES
    - TICKET_BYTES_MAX
    - NOISE_OVERHEAD_BYTES;

const _: () = assert!(PAYLOAD_BYTES_MIN >= PARAMETERS_BYTES_MAX + 256, "room for a join");
const _: () = assert!(COOKIE_BYTES <= u8::MAX as usize && TICKET_BYTES_MAX <= u16::MAX as usize);

/// Writes everything before the Noise message; returns its length. The packet with a cookie is another than the one
/// without, and has the next number.
pub(super) fn put_prologue(
    datagram: &mut [u8],
    header: &Header,
    cookie: Option<&Cookie>,
    ticket: &[u8],
) -> usize {
    let mut out = Writer::new(datagram);
    out.put(header.as_bytes());
    let cookie = cookie.map_or(&[][..], |cookie| cookie);
    out.put_u8(cookie.len() as u8);
    out.put(cookie);
    out.put(&(ticket.len() as u16).to_be_bytes());
    out.put(ticket);
    out.len()
}

/// A first packet, taken apart.
pub(crate) struct Initial<'a> {
    pub(crate) id: Guuid,
    /// 0, or 1 when it has a cookie.
    pub(crate) number: u64,
    pub(crate) cookie: Option<&'a Cookie>,
    pub(crate) ticket: &'a [u8],
    /// Everything before the Noise message, which authenticates it.
    pub(crate) prologue: &'a [u8],
    pub(crate) message: &'a [u8],
}

impl<'a> Initial<'a> {
    /// Takes a datagram apart whose header says that it is a first packet.
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<Self> {
        if !(INITIAL_DATAGRAM_BYTES..=DATAGRAM_BYTES_MAX).contains(&datagram.len()) {
            return None;
        }
        let (header, kind) = Header::parse(datagram).ok()?;
        let mut reader = Reader::new(&datagram[HEADER_BYTES..]);
        let cookie_bytes = reader.u8("cookie").ok()?;
        let cookie = reader.take(usize::from(cookie_bytes), "cookie").ok()?;
        let cookie = if cookie.is_empty() { None } else { Some(cookie.try_into().ok()?) };
        let number = u64::from(cookie.is_some());
        if kind != PacketType::Initial || header.packet_number() != number || header.flags != 0 {
            return None;
        }
        let ticket_bytes = u16::from_be_bytes(reader.array("ticket").ok()?);
        let ticket = reader.take(usize::from(ticket_bytes), "ticket").ok()?;
        let (prologue, message) = datagram.split_at(HEADER_BYTES + reader.offset());
        if message.len() < NOISE_OVERHEAD_BYTES {
            return None;
        }
        Some(Self { id: header.connection, number, cookie, ticket, prologue, message })
    }

    /// By which its repetitions are known, and the answers to it.
    pub(crate) fn tag(&self) -> [u8; TAG_BYTES] {
        tag_of(self.message)
    }
}

/// The last bytes of a first packet.
pub(super) fn tag_of(datagram: &[u8]) -> [u8; TAG_BYTES] {
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&datagram[datagram.len() - TAG_BYTES..]);
    tag
}
