//! Frames: what the sealed part of a Quantum packet holds, one after the other.
//!
//! Described in `PROTOCOL.md`, section "Frames". Decoding borrows from the packet; encoding writes into the
//! packet's buffer. Integers are LEB128.

mod life;

pub use self::life::{
    NEW_CONNECTION_ID_BYTES_MAX, NewConnectionId, PATH_CHALLENGE_BYTES, PATH_FRAME_BYTES, RESET_TOKEN_BYTES,
    RETIRE_CONNECTION_ID_BYTES_MAX, TYPE_FINISH, TYPE_NEW_CONNECTION_ID, TYPE_PATH_CHALLENGE,
    TYPE_PATH_RESPONSE, TYPE_RETIRE_CONNECTION_ID, put_finish, put_new_connection_id, put_path_challenge,
    put_path_response, put_retire_connection_id,
};
use crate::channel::Channel;
use crate::fec::{self, LossReport, Recovered, Repair, Symbol};
use crate::varint::{Malformed, Reader, Writer, varint_len};

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

/// The most ranges that an ACK frame carries.
pub const ACK_RANGES_MAX: usize = 32;
/// The longest reason in a CLOSE frame, in bytes.
pub const CLOSE_REASON_BYTES_MAX: usize = 256;
/// The longest PARAMETERS frame's body.
pub const PARAMETERS_BYTES_MAX: usize = 128;
/// The most bytes of a MESSAGE frame before its payload.
pub const MESSAGE_OVERHEAD_BYTES_MAX: usize = 1 + 10 + 3;
/// The most bytes of a LATEST frame before its payload.
pub const LATEST_OVERHEAD_BYTES_MAX: usize = 1 + 10 + 10 + 3;

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

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
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

    fn decode_ecn(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
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

macro_rules! parameters {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal;)+) => {
        /// What the sender of a PARAMETERS frame can take, sent once in the handshake.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Parameters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Parameters {
            /// Those that are not zero, which is what is taken for one that is left out.
            fn fields(&self) -> impl Iterator<Item = (u64, u64)> {
                [$(($id, self.$name)),+].into_iter().filter(|(_, value)| *value != 0)
            }

            fn set(&mut self, id: u64, value: u64) {
                match id {
                    $($id => self.$name = value,)+
                    _ => {}
                }
            }
        }
    };
}

parameters! {
    /// The largest datagram.
    datagram_bytes_max = 1;
    /// Silence after which it drops the connection.
    idle_timeout_ms = 2;
    /// The longest that it holds back an acknowledgement.
    max_ack_delay_us = 3;
    /// The first credit of the connection.
    max_data = 4;
    /// The first credit of each reliable channel.
    max_channel_data = 5;
    /// The largest message.
    message_bytes_max = 6;
    /// The first half of the token that resets the connection, from a node (`PROTOCOL.md`, section "Stateless
    /// reset").
    reset_token_high = 7;
    /// Its second half.
    reset_token_low = 8;
    /// How many symbols back it can use repairs; none: it decodes none.
    fec_window = 9;
    /// The node's time when it opened the connection, Unix milliseconds, from a node.
    unix_ms = 10;
    /// The node that a client's first packet is for; none: any.
    audience = 11;
}

impl Parameters {
    fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let mut parameters = Self::default();
        while !reader.is_empty() {
            let id = reader.varint("parameter id")?;
            parameters.set(id, reader.varint("parameter value")?);
        }
        Ok(parameters)
    }
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
            _ => life::decode(kind, reader).unwrap_or_else(|| Self::decode_message(kind, bad, reader)),
        }
    }

    fn decode_message(kind: u8, bad: Malformed, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let channel = Channel::from_u8(kind & 0x0f).ok_or(bad)?;
        match kind & 0xf0 {
            TYPE_MESSAGE => {
                let sequence = Some(reader.varint("message sequence")?);
                Ok(Self::Message { channel, sequence, payload: reader.bytes("message")? })
            }
            TYPE_NEXT => Ok(Self::Message { channel, sequence: None, payload: reader.bytes("message")? }),
            TYPE_FRAGMENT => {
                let sequence = reader.varint("message sequence")?;
                let offset = reader.varint32("fragment offset")?;
                let total = reader.varint32("message length")?;
                let payload = reader.bytes("fragment")?;
                let end = u64::from(offset) + payload.len() as u64;
                if payload.is_empty() || end > u64::from(total) {
                    return Err(bad);
                }
                Ok(Self::Fragment(Fragment { channel, sequence, offset, total, payload }))
            }
            TYPE_LATEST => {
                let key = reader.varint("LATEST key")?;
                let sequence = reader.varint("message sequence")?;
                Ok(Self::Latest(Latest { channel, key, sequence, payload: reader.bytes("message")? }))
            }
            _ => Err(bad),
        }
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

/// Writes PARAMETERS: at most [`PARAMETERS_BYTES_MAX`] and three bytes.
pub fn put_parameters(out: &mut Writer<'_>, parameters: &Parameters) {
    let bytes: usize = parameters.fields().map(|(id, value)| varint_len(id) + varint_len(value)).sum();
    out.put_u8(TYPE_PARAMETERS);
    out.put_varint(bytes as u64);
    for (id, value) in parameters.fields() {
        out.put_varint(id);
        out.put_varint(value);
    }
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
