//! Packets and frames in words.

use std::fmt::Write as _;

use wire::Header;
use wire::channel::Channel;
use wire::frame::Frame;
use wire::varint::Reader;

/// Packet numbers of an ACK that are told one by one.
const RANGES_TOLD_MAX: usize = 4;

/// `DATA 7`.
pub(super) fn packet(datagram: &[u8]) -> String {
    let Ok((header, kind)) = Header::parse(datagram) else { return "a datagram".to_owned() };
    let name = format!("{kind:?}").to_uppercase();
    let phase = if header.flags != 0 { " (key phase 1)" } else { "" };
    format!("{name} {}{phase}", header.packet_number())
}

/// What a packet says, frame by frame.
pub(super) fn frames(bytes: &[u8]) -> String {
    let mut reader = Reader::new(bytes);
    let mut text = String::new();
    // Messages that follow each other are told as one.
    let mut run: Option<Run> = None;
    while !reader.is_empty() {
        let Ok(frame) = Frame::decode(&mut reader) else {
            text.push_str(", something unreadable");
            break;
        };
        if let Frame::Message { channel, sequence, payload } = frame {
            match &mut run {
                Some(run) if run.channel == channel && sequence.is_none() => run.add(payload.len()),
                _ => {
                    flush(&mut text, &mut run);
                    run = Some(Run { channel, first: sequence.unwrap_or(0), count: 1, bytes: payload.len() });
                }
            }
            continue;
        }
        flush(&mut text, &mut run);
        let words = one(&frame);
        if !words.is_empty() {
            let _ = write!(text, ", {words}");
        }
    }
    flush(&mut text, &mut run);
    text.trim_start_matches(", ").to_owned()
}

struct Run {
    channel: Channel,
    first: u64,
    count: u64,
    bytes: usize,
}

impl Run {
    const fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }
}

fn flush(text: &mut String, run: &mut Option<Run>) {
    let Some(Run { channel, first, count, bytes }) = run.take() else { return };
    let channel = name(channel);
    let _ = match count {
        1 => write!(text, ", {channel} {first} ({bytes} B)"),
        _ => write!(text, ", {channel} {first}-{} ({bytes} B)", first + count - 1),
    };
}

/// A channel in lower case.
pub(crate) fn name(channel: Channel) -> String {
    format!("{channel:?}").to_lowercase()
}

fn one(frame: &Frame<'_>) -> String {
    match frame {
        Frame::Padding => String::new(),
        Frame::Ping => "PING".to_owned(),
        Frame::Ack(ack) => {
            let ranges: Vec<(u64, u64)> = ack.ranges().collect();
            let told = ranges.iter().take(RANGES_TOLD_MAX).map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            });
            let told = told.collect::<Vec<_>>().join(" and ");
            let more = ranges.len().saturating_sub(RANGES_TOLD_MAX);
            if more > 0 { format!("ACK {told} and {more} ranges below") } else { format!("ACK {told}") }
        }
        Frame::MaxData(limit) => format!("credit up to {limit} B"),
        Frame::MaxChannelData(channel, limit) => format!("credit of {} up to {limit} B", name(*channel)),
        Frame::Close { code, reason } => format!("CLOSE {code} \"{reason}\""),
        Frame::Parameters(_) => "PARAMETERS".to_owned(),
        Frame::Message { channel, .. } => name(*channel),
        Frame::Fragment(fragment) => format!(
            "{} {} bytes {}-{} of {}",
            name(fragment.channel),
            fragment.sequence,
            fragment.offset,
            fragment.offset as usize + fragment.payload.len() - 1,
            fragment.total
        ),
        Frame::Symbol(symbol) => format!("SYMBOL {} of {}", symbol.number, frames(symbol.frames)),
        Frame::Repair(repair) => {
            format!("REPAIR of the {} symbols up to {}", repair.count, repair.last)
        }
        Frame::Recovered(recovered) => {
            let numbers: Vec<String> = recovered.numbers().map(|number| number.to_string()).collect();
            format!("RECOVERED {}", numbers.join(" and "))
        }
        other => frame_name(&format!("{other:?}")),
    }
}

/// `PATH_CHALLENGE`, of what begins with `PathChallenge`.
fn frame_name(debug: &str) -> String {
    let mut name = String::new();
    for letter in debug.chars().take_while(|letter| letter.is_alphanumeric()) {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}
