//! The y-websocket dialect: one message a frame, integers as LEB128 of at most 53 bits.
//!
//! | type | body |
//! |---|---|
//! | 0 sync | 0 step 1: state vector; 1 step 2: update; 2 update; each behind its length |
//! | 1 awareness | behind its length: count, then client, clock and JSON (`null`: gone) of each |
//! | 2 auth | from the server alone: 0 and a reason |
//! | 3 query awareness | nothing |
//!
//! Source: PROTOCOL.md of y-protocols. What we send holds exactly one message, because version 3 of the
//! provider reads no further; what we receive may hold several.

use bytes::Bytes;
use wire::Malformed;
use wire::limits::{PRESENCE_ENTRIES_MAX, PRESENCE_STATE_BYTES_MAX};
use wire::varint::{Reader, put_bytes, put_varint, varint_len};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;

const STEP_1: u64 = 0;
const STEP_2: u64 = 1;
const UPDATE: u64 = 2;

/// Integers above this are not exact in JavaScript, so no client sends them.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// An awareness frame without entries: what is sent when there is nothing else to say, because the
/// provider closes a socket on which it has heard nothing for 30 s.
pub(crate) const AWARENESS_EMPTY: &[u8] = &[AWARENESS as u8, 1, 0];

/// The Yjs update (v1) that changes nothing.
pub(crate) const UPDATE_EMPTY: &[u8] = &[0, 0];

/// One message from a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// What the client has, as a state vector (v1): it wants the rest.
    Step1(Bytes),
    /// The answer to our step 1: an update (v1) with what we lack.
    Step2(Bytes),
    /// A new update (v1).
    Update(Bytes),
    /// Presence.
    Awareness(Vec<Entry>),
    /// Asks for the presence of all.
    QueryAwareness,
}

/// The presence of one Yjs client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The Yjs client id, at most 53 bits.
    pub(crate) client: u64,
    /// Grows with each change.
    pub(crate) clock: u32,
    /// The state as JSON; empty: gone.
    pub(crate) state: Bytes,
}

/// Takes the messages of a frame off it, one by one.
#[derive(Debug)]
pub(crate) struct Messages<'a> {
    frame: &'a Bytes,
    reader: Reader<'a>,
}

impl<'a> Messages<'a> {
    /// Starts at the first message.
    #[must_use]
    pub(crate) fn new(frame: &'a Bytes) -> Self {
        Self { frame, reader: Reader::new(frame) }
    }

    /// The next message; nothing at the end of the frame.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, Malformed> {
        if self.reader.is_empty() && self.reader.offset() > 0 {
            return Ok(None);
        }
        let bad = self.reader.malformed("message type");
        match integer(&mut self.reader, "message type")? {
            SYNC => self.sync().map(Some),
            AWARENESS => {
                let body = self.bytes("awareness")?;
                decode_awareness(&body).map(|entries| Some(Message::Awareness(entries)))
            }
            QUERY_AWARENESS => Ok(Some(Message::QueryAwareness)),
            _ => Err(bad),
        }
    }

    fn sync(&mut self) -> Result<Message, Malformed> {
        let bad = self.reader.malformed("sync type");
        match integer(&mut self.reader, "sync type")? {
            STEP_1 => Ok(Message::Step1(self.bytes("state vector")?)),
            STEP_2 => Ok(Message::Step2(self.bytes("step 2")?)),
            UPDATE => Ok(Message::Update(self.bytes("update")?)),
            _ => Err(bad),
        }
    }

    /// A byte string behind its length, sharing the frame's memory.
    fn bytes(&mut self, what: &'static str) -> Result<Bytes, Malformed> {
        self.reader.bytes(what).map(|bytes| self.frame.slice_ref(bytes))
    }
}

fn integer(reader: &mut Reader<'_>, what: &'static str) -> Result<u64, Malformed> {
    let bad = reader.malformed(what);
    let value = reader.varint(what)?;
    if value > INTEGER_MAX { Err(bad) } else { Ok(value) }
}

fn decode_awareness(body: &Bytes) -> Result<Vec<Entry>, Malformed> {
    let mut reader = Reader::new(body);
    let bad = reader.malformed("awareness count");
    let count = integer(&mut reader, "awareness count")?;
    // An entry takes three bytes at least: no memory is taken for a count that cannot be true.
    if count > PRESENCE_ENTRIES_MAX as u64 || count > reader.remaining() as u64 / 3 {
        return Err(bad);
    }
    let entries = (0..count).map(|_| decode_entry(&mut reader, body)).collect::<Result<_, _>>()?;
    if reader.is_empty() { Ok(entries) } else { Err(reader.malformed("end of awareness")) }
}

fn decode_entry(reader: &mut Reader<'_>, body: &Bytes) -> Result<Entry, Malformed> {
    let client = integer(reader, "awareness client")?;
    let clock = reader.varint32("awareness clock")?;
    let bad = reader.malformed("awareness state");
    let state = reader.string("awareness state")?;
    if state.is_empty() || state.len() > PRESENCE_STATE_BYTES_MAX {
        return Err(bad);
    }
    let state = if state == "null" { Bytes::new() } else { body.slice_ref(state.as_bytes()) };
    Ok(Entry { client, clock, state })
}

fn sync_frame(kind: u64, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(2 + varint_len(body.len() as u64) + body.len());
    put_varint(&mut out, SYNC);
    put_varint(&mut out, kind);
    put_bytes(&mut out, body);
    out.into()
}

/// A frame that asks for what the state vector lacks.
#[must_use]
pub(crate) fn step_1(state_vector: &[u8]) -> Bytes {
    sync_frame(STEP_1, state_vector)
}

/// A frame that answers step 1; the provider then counts itself synced.
#[must_use]
pub(crate) fn step_2(update: &[u8]) -> Bytes {
    sync_frame(STEP_2, update)
}

/// A frame with a new update.
#[must_use]
pub(crate) fn update(update: &[u8]) -> Bytes {
    sync_frame(UPDATE, update)
}

/// A frame with presence.
#[must_use]
pub(crate) fn awareness<'a>(entries: impl ExactSizeIterator<Item = (u64, u32, &'a [u8])>) -> Bytes {
    let mut body = Vec::new();
    put_varint(&mut body, entries.len() as u64);
    for (client, clock, state) in entries {
        put_varint(&mut body, client);
        put_varint(&mut body, u64::from(clock));
        put_bytes(&mut body, if state.is_empty() { b"null" } else { state });
    }
    let mut out = Vec::with_capacity(body.len() + 6);
    put_varint(&mut out, AWARENESS);
    put_bytes(&mut out, &body);
    out.into()
}

/// A frame that tells why access was denied; the provider logs the reason.
#[must_use]
pub(crate) fn denied(reason: &str) -> Bytes {
    let mut out = Vec::with_capacity(reason.len() + 6);
    put_varint(&mut out, AUTH);
    put_varint(&mut out, 0);
    put_bytes(&mut out, reason.as_bytes());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(frame: &Bytes) -> Result<Message, Malformed> {
        let mut messages = Messages::new(frame);
        let message = messages.next_message()?.expect("a frame holds a message");
        assert_eq!(messages.next_message()?, None);
        Ok(message)
    }

    fn entry(client: u64, clock: u32, state: &'static str) -> Entry {
        Entry { client, clock, state: Bytes::from_static(state.as_bytes()) }
    }

    #[test]
    fn a_frame_changes_on_its_way() {
        let long = vec![7; 300];
        assert_eq!(one(&step_1(&[0])), Ok(Message::Step1(Bytes::from_static(&[0]))));
        assert_eq!(one(&step_2(UPDATE_EMPTY)), Ok(Message::Step2(Bytes::from_static(UPDATE_EMPTY))));
        assert_eq!(one(&update(&long)), Ok(Message::Update(long.into())));
        let entries = vec![entry(INTEGER_MAX, 3, "{\"user\":\"ü\"}"), entry(1, 0, "")];
        let frame = awareness(entries.iter().map(|entry| (entry.client, entry.clock, &entry.state[..])));
        assert_eq!(one(&frame), Ok(Message::Awareness(entries)));
        assert_eq!(one(&Bytes::from_static(&[3])), Ok(Message::QueryAwareness));
    }

    /// The bytes that yjs 13.6 with y-protocols 1.0 writes.
    #[test]
    fn we_speak_another_dialect_than_the_provider() {
        let typed = [0, 2, 11, 1, 1, 5, 0, 4, 1, 1, 116, 1, 104, 0];
        assert_eq!(one(&Bytes::copy_from_slice(&typed)), Ok(Message::Update(typed[3..].to_vec().into())));
        assert_eq!(&update(&typed[3..])[..], &typed[..]);
        assert_eq!(&step_1(&[1, 5, 1])[..], &[0, 0, 3, 1, 5, 1]);
        let here = [1, 11, 1, 5, 1, 7, 123, 34, 97, 34, 58, 49, 125];
        assert_eq!(
            one(&Bytes::copy_from_slice(&here)),
            Ok(Message::Awareness(vec![entry(5, 1, "{\"a\":1}")]))
        );
        assert_eq!(&awareness([(5_u64, 1_u32, &b"{\"a\":1}"[..])].into_iter())[..], &here[..]);
        assert_eq!(&awareness(std::iter::empty())[..], AWARENESS_EMPTY);
        assert_eq!(&denied("no")[..], &[2, 0, 2, b'n', b'o']);
    }

    #[test]
    fn a_second_message_in_a_frame_is_lost() {
        let frame = Bytes::from([&step_1(&[0])[..], &[3]].concat());
        let mut messages = Messages::new(&frame);
        assert!(matches!(messages.next_message(), Ok(Some(Message::Step1(_)))));
        assert_eq!(messages.next_message(), Ok(Some(Message::QueryAwareness)));
        assert_eq!(messages.next_message(), Ok(None));
    }

    #[test]
    fn a_cut_or_changed_frame_panics_or_is_taken_whole() {
        let state = awareness([(7_u64, 1_u32, &b"{}"[..])].into_iter());
        for frame in [step_1(&[0]), step_2(&[1, 2, 3]), update(&[9; 200]), state] {
            for at in 0..frame.len() {
                let cut = frame.slice(..at);
                assert!(Messages::new(&cut).next_message().is_err(), "{cut:?}");
                for value in 0..=255 {
                    let mut changed = frame.to_vec();
                    changed[at] = value;
                    let changed = changed.into();
                    let mut messages = Messages::new(&changed);
                    while let Ok(Some(_)) = messages.next_message() {}
                }
            }
        }
    }

    #[test]
    fn an_unknown_type_is_passed_over() {
        for frame in [
            &[4][..],
            &[2, 0, 0],
            &[0, 3, 0],
            &[102, 1, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            let frame = Bytes::copy_from_slice(frame);
            assert!(Messages::new(&frame).next_message().is_err(), "{frame:?}");
        }
    }

    #[test]
    fn an_awareness_count_takes_memory_before_it_is_true() {
        let frame = Bytes::from_static(&[1, 2, 0x8f, 0x4e]);
        assert_eq!(Messages::new(&frame).next_message().unwrap_err().what, "awareness count");
        let long = vec![b'x'; PRESENCE_STATE_BYTES_MAX + 1];
        let frame = awareness([(1_u64, 1_u32, &long[..])].into_iter());
        assert_eq!(Messages::new(&frame).next_message().unwrap_err().what, "awareness state");
    }
}
