//! Frames that are nearly right, and frames that are right.

use quantum::Channel;
use quantum::fec::Encoder;
use wire::fec;
use wire::frame::{
    Fragment, Latest, TYPE_PING, put_ack, put_fragment, put_latest, put_max_data, put_message,
    put_path_challenge,
};
use wire::varint::{Writer, put_varint};

use crate::Source;

/// A field of a frame.
#[derive(Clone, Copy)]
enum Field {
    /// A number, of seven bits a byte.
    Number,
    /// A byte.
    Byte,
    /// So many bytes.
    Bytes(usize),
    /// Bytes with their length in front, which is right or not.
    Counted,
    /// Further frames, to the end of the packet.
    Frames,
    /// Bytes, to the end of the packet.
    Rest,
}

use Field::{Byte, Bytes, Counted, Frames, Number, Rest};

/// The frames by type (`PROTOCOL.md`, section "Frames"). From 0x10 on the lower half is the channel.
const SHAPES: [(u8, &[Field]); 23] = [
    (0x01, &[]),
    (0x02, &[Number, Number, Number, Byte, Number, Number, Number, Number]),
    (0x03, &[Number]),
    (0x04, &[Byte, Number]),
    (0x05, &[Number, Counted]),
    (0x06, &[Counted]),
    (0x07, &[Number, Number, Number, Byte, Number, Number, Number, Number, Number]),
    (0x08, &[Bytes(8)]),
    (0x09, &[Bytes(8)]),
    (0x0a, &[Number, Bytes(16), Bytes(16)]),
    (0x0b, &[Number]),
    (0x0c, &[Number, Frames]),
    (0x0c, &[Number, Rest]),
    (0x0d, &[Number, Byte, Byte, Rest]),
    (0x0e, &[Number, Number]),
    (0x0f, &[Number, Number, Number, Number, Number, Number, Number, Number, Number, Number, Number, Number]),
    (0x10, &[Number, Counted]),
    (0x10, &[Number, Counted]),
    (0x20, &[Counted]),
    (0x30, &[Number, Number, Number, Counted]),
    (0x40, &[]),
    (0x50, &[Number, Number, Counted]),
    (0x60, &[]),
];

/// Appends a few frames, at most up to a length of `bytes_max`. Returns how many.
pub(crate) fn put_frames(source: &mut Source<'_>, out: &mut Vec<u8>, bytes_max: usize) -> usize {
    let count = 1 + source.below(6);
    for _ in 0..count {
        put_frame(source, out, bytes_max);
    }
    out.truncate(bytes_max);
    count
}

fn put_frame(source: &mut Source<'_>, out: &mut Vec<u8>, bytes_max: usize) {
    let (kind, fields) = source.pick(&SHAPES);
    let channel = if kind >= 0x10 { source.below(8) as u8 } else { 0 };
    out.push(kind | channel);
    for field in fields {
        match field {
            Number => put_varint(out, source.number()),
            Byte => out.push(source.byte() % 40),
            Bytes(length) => out.extend((0..*length).map(|_| source.byte())),
            Counted => {
                let bytes = if source.once_in(3) { source.bytes(12).to_vec() } else { source.filler(200) };
                let length = if source.once_in(16) { source.number() } else { bytes.len() as u64 };
                put_varint(out, length);
                out.extend_from_slice(&bytes);
            }
            Frames if out.len() < bytes_max => _ = put_frames(source, out, bytes_max),
            Frames => {}
            Rest => out.extend(source.filler(600)),
        }
    }
}

/// What a peer must remember to say what is right.
pub(crate) struct Dialogue {
    /// The next message of each channel.
    sequences: [u64; Channel::COUNT],
    encoder: Encoder,
    /// The largest packet number that has come from the other end.
    pub(crate) largest: Option<u64>,
}

impl Dialogue {
    pub(crate) fn new() -> Self {
        Self { sequences: [0; Channel::COUNT], encoder: Encoder::new(0), largest: None }
    }

    /// Appends frames that an honest peer might send, as seen from here. Returns how many.
    pub(crate) fn put_frames(&mut self, source: &mut Source<'_>, out: &mut Vec<u8>) -> usize {
        let mut buffer = [0; 1_400];
        let mut writer = Writer::new(&mut buffer);
        let count = 1 + source.below(3);
        let window = self.encoder.window_symbols();
        match source.below(6) {
            0 if window > 0 => self.put_repair(1 + source.below(window), source.byte() % 16, &mut writer),
            0 | 1 => self.put_symbol(source, count, &mut writer),
            _ => (0..count).for_each(|_| self.put_frame(source, &mut writer)),
        }
        let length = writer.len();
        out.extend_from_slice(&buffer[..length]);
        count
    }

    fn put_symbol(&mut self, source: &mut Source<'_>, count: usize, out: &mut Writer<'_>) {
        let mut buffer = [0; 1_300];
        let mut frames = Writer::new(&mut buffer);
        (0..count).for_each(|_| self.put_message(source, &mut frames));
        let length = frames.len();
        fec::put_symbol(out, self.encoder.push(&buffer[..length]));
        out.put(&buffer[..length]);
    }

    fn put_repair(&mut self, count: usize, index: u8, out: &mut Writer<'_>) {
        let mut buffer = [0; 1_400];
        let length = self.encoder.repair(count, index, &mut buffer);
        fec::put_repair(out, self.encoder.next_number() - 1, count as u8, index);
        out.put(&buffer[..length]);
    }

    fn put_frame(&mut self, source: &mut Source<'_>, out: &mut Writer<'_>) {
        match (source.below(8), self.largest) {
            (0 | 1, Some(largest)) => {
                let first = largest.saturating_sub(source.below(20) as u64);
                put_ack(out, source.number(), std::iter::once((first, largest)));
            }
            (2, _) => put_max_data(out, source.number()),
            (3, _) => put_path_challenge(out, &[source.byte(); 8]),
            (4, _) => out.put_u8(TYPE_PING),
            _ => self.put_message(source, out),
        }
    }

    fn put_message(&mut self, source: &mut Source<'_>, out: &mut Writer<'_>) {
        let channel = source.pick(&Channel::ALL);
        let payload = &source.filler(300)[..];
        let sequence = self.sequences[channel as usize];
        if channel.is_reliable() && !payload.is_empty() && source.once_in(3) {
            // The whole of the message, or a part of which the rest is still to come, or never.
            let total = payload.len() as u32 + source.pick(&[0, 1, 60_000]);
            put_fragment(out, &Fragment { channel, sequence, offset: 0, total, payload });
            self.sequences[channel as usize] += 1;
            return;
        }
        // One that is missing makes the later ones wait.
        let sequence = sequence + u64::from(source.once_in(8));
        if channel == Channel::Latest {
            put_latest(out, &Latest { channel, key: source.byte().into(), sequence, payload });
        } else {
            put_message(out, channel, Some(sequence), payload);
        }
        self.sequences[channel as usize] = sequence + 1;
    }
}
