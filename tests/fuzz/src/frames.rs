//! The frames of a packet.

use wire::Malformed;
use wire::fec::{put_loss_report, put_recovered, put_repair, put_symbol};
use wire::frame::{
    self, ACK_RANGES_MAX, Frame, put_ack, put_close, put_finish, put_fragment, put_latest,
    put_max_channel_data, put_max_data, put_message, put_new_connection_id, put_parameters,
    put_path_challenge, put_path_response, put_retire_connection_id,
};
use wire::varint::{Reader, Writer};

use crate::Source;
use crate::hostile::put_frames;

/// The longest sealed part of a packet.
const PAYLOAD_BYTES_MAX: usize = 1_404;

/// Frames one behind the other: reading them ends, and what is accepted is the same when it is written and
/// read again.
pub fn frames(input: &[u8]) {
    let mut source = Source::new(input);
    let mut built = Vec::new();
    let payload = match source.once_in(4) {
        true => input,
        false => {
            put_frames(&mut source, &mut built, PAYLOAD_BYTES_MAX);
            if source.once_in(4) {
                source.mutate(&mut built);
            }
            &built
        }
    };
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        let before = reader.offset();
        let Ok(frame) = Frame::decode(&mut reader) else { return };
        assert!(reader.offset() > before, "a frame of no bytes");
        let mut buffer = vec![0; payload.len() + frame::PARAMETERS_BYTES_MAX];
        let Some(bytes) = rewritten(&frame, &mut buffer) else { continue };
        assert!(bytes.len() <= reader.offset() - before, "{frame:?} has grown");
        assert!(is_same(Frame::decode(&mut Reader::new(bytes)), &frame), "{frame:?}");
    }
}

/// ACK frames of any ranges: they name the packets that they were written for, and no others.
pub fn acks(input: &[u8]) {
    let mut source = Source::new(input);
    let mut ranges = Vec::new();
    let mut end = source.number();
    for _ in 0..source.below(50) {
        let first = end.saturating_sub(source.number());
        ranges.push((first, end));
        match first.checked_sub(source.number().saturating_add(2)) {
            Some(below) => end = below,
            None => break,
        }
    }
    let delay_us = source.number();
    let mut buffer = vec![0; source.below(600)];
    let mut out = Writer::new(&mut buffer);
    if !put_ack(&mut out, delay_us, ranges.iter().copied()) {
        assert!(out.is_empty());
        return;
    }
    let length = out.len();
    let Ok(Frame::Ack(ack)) = Frame::decode(&mut Reader::new(&buffer[..length])) else {
        panic!("an ACK that was just written is refused");
    };
    let read: Vec<_> = ack.ranges().collect();
    assert!(read.len() <= ACK_RANGES_MAX && ranges.starts_with(&read));
    assert_eq!((ack.largest, ack.delay_us), (ranges[0].1, delay_us));
}

/// The frame as it is written; none: this file does not know how.
fn rewritten<'b>(frame: &Frame<'_>, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut out = Writer::new(buffer);
    match frame {
        Frame::Padding => out.put_u8(frame::TYPE_PADDING),
        Frame::Ping => out.put_u8(frame::TYPE_PING),
        Frame::Ack(ack) => assert!(put_ack(&mut out, ack.delay_us, ack.ranges()), "no room for an ACK"),
        Frame::MaxData(limit) => put_max_data(&mut out, *limit),
        Frame::MaxChannelData(channel, limit) => put_max_channel_data(&mut out, *channel, *limit),
        Frame::Close { code, reason } => put_close(&mut out, *code, reason),
        Frame::Parameters(parameters) => put_parameters(&mut out, parameters),
        Frame::Message { channel, sequence, payload } => put_message(&mut out, *channel, *sequence, payload),
        Frame::Fragment(fragment) => put_fragment(&mut out, fragment),
        Frame::Latest(latest) => put_latest(&mut out, latest),
        Frame::Symbol(symbol) => {
            put_symbol(&mut out, symbol.number);
            out.put(symbol.frames);
        }
        Frame::Repair(repair) => {
            put_repair(&mut out, repair.last, repair.count, repair.index);
            out.put(repair.payload);
        }
        Frame::Recovered(recovered) => put_recovered(&mut out, *recovered),
        Frame::LossReport(report) => put_loss_report(&mut out, report),
        Frame::PathChallenge(data) => put_path_challenge(&mut out, data),
        Frame::PathResponse(data) => put_path_response(&mut out, data),
        Frame::NewConnectionId(new) => put_new_connection_id(&mut out, new),
        Frame::RetireConnectionId(sequence) => put_retire_connection_id(&mut out, *sequence),
        Frame::Finish => put_finish(&mut out),
        #[allow(unreachable_patterns, reason = "frames to come are read without a look back")]
        _ => return None,
    }
    let length = out.len();
    Some(&buffer[..length])
}

fn is_same(read: Result<Frame<'_>, Malformed>, frame: &Frame<'_>) -> bool {
    match (read, frame) {
        // An ACK keeps its ranges as they were written, and a number can be written in more than one way.
        (Ok(Frame::Ack(read)), Frame::Ack(ack)) => {
            (read.largest, read.delay_us) == (ack.largest, ack.delay_us) && read.ranges().eq(ack.ranges())
        }
        (Ok(read), frame) => read == *frame,
        (Err(_), _) => false,
    }
}
