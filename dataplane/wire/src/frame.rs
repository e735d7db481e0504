//! Frames: what the sealed part of a Quantum packet holds, one after the other.
//!
//! Described in `PROTOCOL.md`, section "Frames". Decoding borrows from the packet; encoding writes into the
//! packet's buffer. Integers are LEB128.

mod ack;
mod life;
mod message;
mod parameters;

pub use self::ack::{ACK_RANGES_MAX, Ack, AckRanges, EcnCounts, put_ack, put_ack_ecn};
pub use self::life::{
    NEW_CONNECTION_ID_BYTES_MAX, NewConnectionId, PATH_CHALLENGE_BYTES, PATH_FRAME_BYTES, RESET_TOKEN_BYTES,
    RETIRE_CONNECTION_ID_BYTES_MAX, TYPE_FINISH, TYPE_NEW_CONNECTION_ID, TYPE_PATH_CHALLENGE,
    TYPE_PATH_RESPONSE, TYPE_RETIRE_CONNECTION_ID, put_finish, put_new_connection_id, put_path_challenge,
    put_path_response, put_retire_connection_id,
};
pub use self::message::{
    Fragment, LATEST_OVERHEAD_BYTES_MAX, Latest, MESSAGE_OVERHEAD_BYTES_MAX, fragment_overhead_bytes,
    latest_bytes, message_bytes, put_fragment, put_latest, put_message,
};
pub use self::parameters::{PARAMETERS_BYTES_MAX, Parameters, put_parameters};
use crate::channel::Channel;
use crate::fec::{self, LossReport, Recovered, Repair, Symbol};
use crate::varint::{Malformed, Reader, Writer};

/// The rest of the packet is padding.
pub const TYPE_PADDING: u8 = 0x00;
/// Asks for an acknowledgement.
pub const TYPE_PING: u8 = 0x01;
/// Packet numbers received.
pub const TYPE_ACK: u8 = 0x02;
/// Packet numbers received, and how many of the packets were marked.
pub const TYPE_ACK_ECN: u8 = 0x07;
/// Credit of the connection.
pub const TYPE_MAX_DATA: u8 = 0x03;
/// Credit of a channel.
pub const TYPE_MAX_CHANNEL_DATA: u8 = 0x04;
/// The end.
pub const TYPE_CLOSE: u8 = 0x05;
/// What the sender can take.
pub const TYPE_PARAMETERS: u8 = 0x06;
/// The rest of the packet is protected by repairs.
pub const TYPE_SYMBOL: u8 = 0x0c;
/// What replaces a lost symbol.
pub const TYPE_REPAIR: u8 = 0x0d;
/// Symbols that came back.
pub const TYPE_RECOVERED: u8 = 0x0e;
/// What the receiver has lost.
pub const TYPE_LOSS_REPORT: u8 = 0x0f;
/// A whole message; the low half of the byte is the channel.
pub const TYPE_MESSAGE: u8 = 0x10;
/// A whole message, numbered one above the message before it in this packet.
pub const TYPE_NEXT: u8 = 0x20;
/// A part of a message.
pub const TYPE_FRAGMENT: u8 = 0x30;

/// A message of a latest-wins channel.
pub const TYPE_LATEST: u8 = 0x50;

/// The longest reason in a CLOSE frame, in bytes.
pub const CLOSE_REASON_BYTES_MAX: usize = 256;
/// One frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// Nothing but padding follows.
    Padding,
    /// Asks for an acknowledgement.
    Ping,
    /// Packets received.
    Ack(Ack<'a>),
    /// The connection's messages may sum up to this many bytes.
    MaxData(u64),
    /// The channel's messages may sum up to this many bytes.
    MaxChannelData(Channel, u64),
    /// The end of the connection.
    Close {
        /// See [`crate::Code`].
        code: u16,
        /// For people.
        reason: &'a str,
    },
    /// What the sender of the frame can take.
    Parameters(Parameters),
    /// A whole message.
    Message {
        /// Its channel.
        channel: Channel,
        /// Its number on the channel; none: one above that of the message before it in the packet.
        sequence: Option<u64>,
        /// All of it.
        payload: &'a [u8],
    },
    /// A part of a message.
    Fragment(Fragment<'a>),
    /// A message that overtakes the earlier ones of its key.
    Latest(Latest<'a>),
    /// The rest of the packet, which repairs protect.
    Symbol(Symbol<'a>),
    /// What replaces a lost symbol.
    Repair(Repair<'a>),
    /// Symbols that came back by repairs.
    Recovered(Recovered),
    /// What the receiver has lost.
    LossReport(LossReport),
    /// Asks for a response with the same bytes.
    PathChallenge([u8; PATH_CHALLENGE_BYTES]),
    /// The bytes of a challenge.
    PathResponse([u8; PATH_CHALLENGE_BYTES]),
    /// One more id of the connection.
    NewConnectionId(NewConnectionId),
    /// The id of this number is used no more, or is refused.
    RetireConnectionId(u64),
    /// The sender takes no new messages: what is queued will still come, then the end.
    Finish,
}

impl<'a> Frame<'a> {
    /// Reads one frame.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let bad = reader.malformed("frame type");
        let kind = reader.u8("frame type")?;
        match kind {
            TYPE_PADDING => {
                reader.rest();
                Ok(Self::Padding)
            }
            TYPE_PING => Ok(Self::Ping),
            TYPE_ACK => Ack::decode(reader).map(Self::Ack),
            TYPE_ACK_ECN => Ack::decode_ecn(reader).map(Self::Ack),
            TYPE_MAX_DATA => Ok(Self::MaxData(reader.varint("MAX_DATA")?)),
            TYPE_MAX_CHANNEL_DATA => {
                let channel = Channel::from_u8(reader.u8("channel")?).ok_or(bad)?;
                Ok(Self::MaxChannelData(channel, reader.varint("MAX_CHANNEL_DATA")?))
            }
            TYPE_CLOSE => {
                let code = u16::try_from(reader.varint("CLOSE code")?).map_err(|_| bad)?;
                let reason = reader.string("CLOSE reason")?;
                if reason.len() > CLOSE_REASON_BYTES_MAX {
                    return Err(bad);
                }
                Ok(Self::Close { code, reason })
            }
            TYPE_PARAMETERS => {
                let body = reader.bytes("PARAMETERS")?;
                if body.len() > PARAMETERS_BYTES_MAX {
                    return Err(bad);
                }
                Parameters::decode(body).map(Self::Parameters)
            }
            TYPE_SYMBOL => fec::decode_symbol(reader).map(Self::Symbol),
            TYPE_REPAIR => fec::decode_repair(reader).map(Self::Repair),
            TYPE_RECOVERED => fec::decode_recovered(reader).map(Self::Recovered),
            TYPE_LOSS_REPORT => fec::decode_loss_report(reader).map(Self::LossReport),
            _ => life::decode(kind, reader).unwrap_or_else(|| message::decode(kind, bad, reader)),
        }
    }
}

/// Writes MAX_DATA: at most 11 bytes.
pub fn put_max_data(out: &mut Writer<'_>, limit: u64) {
    out.put_u8(TYPE_MAX_DATA);
    out.put_varint(limit);
}

/// Writes MAX_CHANNEL_DATA: at most 12 bytes.
pub fn put_max_channel_data(out: &mut Writer<'_>, channel: Channel, limit: u64) {
    out.put_u8(TYPE_MAX_CHANNEL_DATA);
    out.put_u8(channel as u8);
    out.put_varint(limit);
}

/// Writes CLOSE, its reason cut to what the limit and the buffer allow.
pub fn put_close(out: &mut Writer<'_>, code: u16, reason: &str) {
    let room = out.remaining().saturating_sub(1 + 3 + 2).min(CLOSE_REASON_BYTES_MAX);
    let cut = (0..=room.min(reason.len())).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
    out.put_u8(TYPE_CLOSE);
    out.put_varint(u64::from(code));
    out.put_varint(cut as u64);
    out.put(&reason.as_bytes()[..cut]);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut buffer = [0; 600];
        let mut writer = Writer::new(&mut buffer);
        write(&mut writer);
        let length = writer.len();
        buffer[..length].to_vec()
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
        let mut reader = Reader::new(bytes);
        let frame = Frame::decode(&mut reader)?;
        assert!(reader.is_empty(), "{frame:?} left bytes behind");
        Ok(frame)
    }

    #[test]
    fn a_frame_reads_other_than_it_was_written() {
        let parameters =
            Parameters { datagram_bytes_max: 1_200, max_data: u64::MAX, ..Parameters::default() };
        assert_eq!(read(&written(|out| put_parameters(out, &parameters))), Ok(Frame::Parameters(parameters)));
        let fragment =
            Fragment { channel: Channel::Presence, sequence: 9, offset: 5, total: 8, payload: b"end" };
        assert_eq!(read(&written(|out| put_fragment(out, &fragment))), Ok(Frame::Fragment(fragment)));
        for sequence in [Some(300), None] {
            let bytes = written(|out| put_message(out, Channel::Sync, sequence, b"op"));
            assert_eq!(bytes.len(), message_bytes(sequence, 2));
            assert_eq!(read(&bytes), Ok(Frame::Message { channel: Channel::Sync, sequence, payload: b"op" }));
        }
        let latest = Latest { channel: Channel::Latest, key: 1 << 40, sequence: 300, payload: b"here" };
        let bytes = written(|out| put_latest(out, &latest));
        assert_eq!(bytes.len(), latest_bytes(latest.key, latest.sequence, latest.payload.len()));
        assert_eq!(read(&bytes), Ok(Frame::Latest(latest)));
        assert_eq!(read(&written(|out| put_max_data(out, 70_000))), Ok(Frame::MaxData(70_000)));
        let credit = written(|out| put_max_channel_data(out, Channel::Sync, 1));
        assert_eq!(read(&credit), Ok(Frame::MaxChannelData(Channel::Sync, 1)));
        let long = "ü".repeat(400);
        let close = written(|out| put_close(out, 7, &long));
        assert_eq!(read(&close), Ok(Frame::Close { code: 7, reason: &long[..CLOSE_REASON_BYTES_MAX] }));
    }

    #[test]
    fn a_hostile_frame_is_taken() {
        for bytes in [
            &[0x60][..],
            &[0x1f, 0, 0],
            &[TYPE_ACK, 5, 0, 6, 0],
            &[TYPE_ACK, 5, 0, 0, 1, 4, 0],
            &[TYPE_ACK, 5, 0, 0, 40],
            &[TYPE_FRAGMENT, 0, 0, 0, 0],
            &[TYPE_FRAGMENT, 0, 2, 3, 2, 1, 1],
            &[TYPE_CLOSE, 1, 1, 0xff],
            &[TYPE_PARAMETERS, 1, 1],
            &[TYPE_MESSAGE, 0, 5, 1],
            &[TYPE_LATEST | Channel::Latest as u8, 0, 0, 5, 1],
            &[TYPE_LATEST | Channel::COUNT as u8, 0, 0, 0],
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }
}
