//! Frames that hold a message, a part of one, or a message that overtakes others.

use super::{Frame, TYPE_FRAGMENT, TYPE_LATEST, TYPE_MESSAGE, TYPE_NEXT};
use crate::channel::Channel;
use crate::varint::{Malformed, Reader, Writer, varint_len};

/// The most bytes of a MESSAGE frame before its payload.
pub const MESSAGE_OVERHEAD_BYTES_MAX: usize = 1 + 10 + 3;
/// The most bytes of a LATEST frame before its payload.
pub const LATEST_OVERHEAD_BYTES_MAX: usize = 1 + 10 + 10 + 3;

/// A part of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment<'a> {
    /// The message's channel.
    pub channel: Channel,
    /// The message's number on the channel.
    pub sequence: u64,
    /// Where in the message the part begins.
    pub offset: u32,
    /// The length of the message.
    pub total: u32,
    /// The part: not empty, and inside the message.
    pub payload: &'a [u8],
}

/// A message of a latest-wins channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latest<'a> {
    /// The message's channel.
    pub channel: Channel,
    /// Whose earlier messages it overtakes.
    pub key: u64,
    /// The message's number on the channel.
    pub sequence: u64,
    /// All of it.
    pub payload: &'a [u8],
}

/// Reads the rest of a frame of type `kind` that holds a message or a part of one.
pub(super) fn decode<'a>(kind: u8, bad: Malformed, reader: &mut Reader<'a>) -> Result<Frame<'a>, Malformed> {
    let channel = Channel::from_u8(kind & 0x0f).ok_or(bad)?;
    match kind & 0xf0 {
        TYPE_MESSAGE => {
            let sequence = Some(reader.varint("message sequence")?);
            Ok(Frame::Message { channel, sequence, payload: reader.bytes("message")? })
        }
        TYPE_NEXT => Ok(Frame::Message { channel, sequence: None, payload: reader.bytes("message")? }),
        TYPE_FRAGMENT => {
            let sequence = reader.varint("message sequence")?;
            let offset = reader.varint32("fragment offset")?;
            let total = reader.varint32("message length")?;
            let payload = reader.bytes("fragment")?;
            let end = u64::from(offset) + payload.len() as u64;
            if payload.is_empty() || end > u64::from(total) {
                return Err(bad);
            }
            Ok(Frame::Fragment(Fragment { channel, sequence, offset, total, payload }))
        }
        TYPE_LATEST => {
            let key = reader.varint("LATEST key")?;
            let sequence = reader.varint("message sequence")?;
            Ok(Frame::Latest(Latest { channel, key, sequence, payload: reader.bytes("message")? }))
        }
        _ => Err(bad),
    }
}

/// How many bytes [`put_message`] writes.
#[must_use]
pub const fn message_bytes(sequence: Option<u64>, payload_bytes: usize) -> usize {
    let number = match sequence {
        Some(sequence) => varint_len(sequence),
        None => 0,
    };
    1 + number + varint_len(payload_bytes as u64) + payload_bytes
}

/// Writes MESSAGE, or NEXT when there is no `sequence`. Panics when it does not fit, as all `put` do.
pub fn put_message(out: &mut Writer<'_>, channel: Channel, sequence: Option<u64>, payload: &[u8]) {
    match sequence {
        Some(sequence) => {
            out.put_u8(TYPE_MESSAGE | channel as u8);
            out.put_varint(sequence);
        }
        None => out.put_u8(TYPE_NEXT | channel as u8),
    }
    out.put_varint(payload.len() as u64);
    out.put(payload);
}

/// Writes FRAGMENT: at most [`fragment_overhead_bytes`] before the payload.
pub fn put_fragment(out: &mut Writer<'_>, fragment: &Fragment<'_>) {
    out.put_u8(TYPE_FRAGMENT | fragment.channel as u8);
    out.put_varint(fragment.sequence);
    out.put_varint(u64::from(fragment.offset));
    out.put_varint(u64::from(fragment.total));
    out.put_varint(fragment.payload.len() as u64);
    out.put(fragment.payload);
}

/// How many bytes [`put_latest`] writes.
#[must_use]
pub const fn latest_bytes(key: u64, sequence: u64, payload_bytes: usize) -> usize {
    1 + varint_len(key) + varint_len(sequence) + varint_len(payload_bytes as u64) + payload_bytes
}

/// Writes LATEST.
pub fn put_latest(out: &mut Writer<'_>, latest: &Latest<'_>) {
    out.put_u8(TYPE_LATEST | latest.channel as u8);
    out.put_varint(latest.key);
    out.put_varint(latest.sequence);
    out.put_varint(latest.payload.len() as u64);
    out.put(latest.payload);
}

/// How many bytes [`put_fragment`] writes before a payload of at most `payload_bytes_max`.
#[must_use]
pub const fn fragment_overhead_bytes(
    sequence: u64,
    offset: u32,
    total: u32,
    payload_bytes_max: usize,
) -> usize {
    let place = varint_len(offset as u64) + varint_len(total as u64);
    1 + varint_len(sequence) + place + varint_len(payload_bytes_max as u64)
}
