//! The sync messages that clients and nodes exchange over Quantum channels.
//!
//! A client opens a document with [`Join`] under a handle of its own choosing. The node answers with
//! [`Joined`], which names the number under which it will speak of the document: the same for all
//! subscribers, so that one encoding of an op serves them all. Described in `PROTOCOL.md`, section "Sync
//! messages".

mod history;
mod passing;

pub use history::{At, Past, VersionEntry};
pub use passing::{HandleChange, Renumbered, client_handle, handle_change, is_join, is_leave, renumber};

pub use crate::channel::Channel;
use crate::code::Code;
use crate::limits::{
    DOCUMENT_ID_BYTES_MAX, PRESENCE_ENTRIES_MAX, PRESENCE_STATE_BYTES_MAX, STATE_VECTOR_BYTES_MAX,
};
use crate::varint::{Malformed, Reader, put_bytes, put_varint};

/// What a document is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum DocumentKind {
    /// Yjs updates (v1).
    Yjs = 1,
    /// An ordered log of byte strings that the node does not look into.
    Opaque = 2,
}

impl DocumentKind {
    /// From its number on the wire and in the log.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Yjs),
            2 => Some(Self::Opaque),
            _ => None,
        }
    }
}

/// Where a client stood when it lost its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResumePoint {
    /// The run of the node's log that `sequence` was counted in.
    pub incarnation: u64,
    /// The last op that the client has.
    pub sequence: u64,
}

/// Opens a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join<'a> {
    /// The client's name for the document on this connection.
    pub handle: u32,
    /// What the document must be; it is created as this when new.
    pub kind: DocumentKind,
    /// Whether content is wanted, or presence alone.
    pub content: bool,
    /// The document's id.
    pub document: &'a str,
    /// Where an earlier connection stopped.
    pub resume: Option<ResumePoint>,
    /// The Yjs state vector (v1) of what the client has; empty for none.
    pub state_vector: &'a [u8],
}

/// A document was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined<'a> {
    /// The handle of the join.
    pub handle: u32,
    /// The node's number for the document.
    pub document: u32,
    /// The run of the node's log.
    pub incarnation: u64,
    /// The last op of what is sent now, in the state or behind it: with it, the joiner has caught up.
    pub sequence: u64,
    /// The last op that is not sent as one: the state contains it, or the joiner has it.
    pub state_sequence: u64,
    /// The highest op counter of this client's writer that the document holds.
    pub writer_counter: u64,
    /// Bytes of state that follow in [`Server::State`] messages; zero when ops follow instead.
    pub state_bytes: u64,
    /// The node's Yjs state vector (v1), by which the client finds what the node lacks; empty for opaque.
    pub state_vector: &'a [u8],
}

/// One client's presence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PresenceEntry<'a> {
    /// The Yjs client id, or any number that the client keeps for itself.
    pub client: u64,
    /// Grows with each change.
    pub clock: u32,
    /// The state, opaque to the node; empty: gone.
    pub state: &'a [u8],
}

/// From a client to its node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Client<'a> {
    /// Opens a document.
    Join(Join<'a>),
    /// Closes it.
    Leave {
        /// The handle of the join.
        handle: u32,
    },
    /// One op.
    Op {
        /// The handle of the join.
        handle: u32,
        /// Greater than that of any earlier op of this writer.
        counter: u64,
        /// The update or opaque bytes.
        payload: &'a [u8],
    },
    /// Presence of the clients behind this connection.
    Presence {
        /// The handle of the join.
        handle: u32,
        /// What changed.
        entries: Vec<PresenceEntry<'a>>,
    },
    /// Deletes the document for everybody, with all its history: needs [`Access::Admin`](crate::Access::Admin).
    Delete {
        /// The handle of the join.
        handle: u32,
        /// Named in the answer: the client's choice.
        request: u32,
    },
    /// Names the document as it is now; a name that is there already is moved. Needs the right to write.
    CreateVersion {
        /// The handle of the join.
        handle: u32,
        /// Named in the answer.
        request: u32,
        /// The name, of 1 to [`crate::limits::VERSION_NAME_BYTES_MAX`] bytes.
        name: &'a str,
    },
    /// Asks for all named versions. Needs the right to write, as [`Self::ReadAt`] does: what was taken out of a document
    /// is no longer for those who may only read it.
    ListVersions {
        /// The handle of the join.
        handle: u32,
        /// Named in the answer.
        request: u32,
    },
    /// Asks for the document as it was.
    ReadAt {
        /// The handle of the join.
        handle: u32,
        /// Named in the answer.
        request: u32,
        /// When.
        at: At<'a>,
    },
}

/// From a node to its client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Server<'a> {
    /// A document was opened, or is being brought up to date after its subscriber fell behind.
    Joined(Joined<'a>),
    /// A piece of the state that [`Joined`] announced.
    State {
        /// The node's number for the document.
        document: u32,
        /// The next piece, at most [`crate::limits::STATE_CHUNK_BYTES`].
        bytes: &'a [u8],
    },
    /// Somebody's op.
    Op {
        /// The node's number for the document.
        document: u32,
        /// Its place in the document: one more than the last, less the client's own in between.
        sequence: u64,
        /// What the writer sent.
        payload: &'a [u8],
    },
    /// This client's ops up to `counter` are durable.
    Ack {
        /// The handle of the join.
        handle: u32,
        /// The highest counter covered.
        counter: u64,
        /// The document's sequence of that op.
        sequence: u64,
    },
    /// One of this client's ops was refused.
    Reject {
        /// The handle of the join.
        handle: u32,
        /// The op's counter.
        counter: u64,
        /// Why.
        code: Code,
        /// When to try again; zero: not at all.
        retry_after_ms: u32,
        /// What was wrong and with what.
        text: &'a str,
    },
    /// Presence of others.
    Presence {
        /// The node's number for the document.
        document: u32,
        /// What changed.
        entries: Vec<PresenceEntry<'a>>,
    },
    /// The document lives elsewhere: join there.
    Moved {
        /// The handle of the join.
        handle: u32,
        /// The partition's epoch.
        epoch: u64,
        /// The shard that owns it.
        shard: u32,
        /// HOST:PORT of its node; empty: this node.
        address: &'a str,
    },
    /// The document lives on another shard of this node, which serves it through this one for now: better join there,
    /// then leave here. Said once for a join.
    Advice {
        /// The handle of the join, which stays open.
        handle: u32,
        /// The partition's epoch.
        epoch: u64,
        /// The shard that owns it.
        shard: u32,
    },
    /// A join was refused, or an open document was closed.
    Error {
        /// The handle of the join.
        handle: u32,
        /// Why.
        code: Code,
        /// When to try again; zero: never. With [`Code::RateLimited`] it speaks of presence where the document is open,
        /// which stays so.
        retry_after_ms: u32,
        /// What was wrong and with what.
        text: &'a str,
    },
    /// The document is deleted, or the version made, and that is durable.
    Done {
        /// The handle of the join.
        handle: u32,
        /// The request.
        request: u32,
        /// The document's sequence that the deletion took, or that the version names.
        sequence: u64,
    },
    /// The named versions.
    Versions {
        /// The handle of the join.
        handle: u32,
        /// The request.
        request: u32,
        /// By sequence.
        versions: Vec<VersionEntry<'a>>,
    },
    /// What the document was; its state follows.
    Past(Past<'a>),
    /// A piece of the state that [`Past`] announced.
    PastState {
        /// The handle of the join.
        handle: u32,
        /// The request.
        request: u32,
        /// The next piece, at most [`crate::limits::STATE_CHUNK_BYTES`].
        bytes: &'a [u8],
    },
    /// A request was refused; the document stays open.
    Refused {
        /// The handle of the join.
        handle: u32,
        /// The request.
        request: u32,
        /// Why.
        code: Code,
        /// When to try again; zero: never.
        retry_after_ms: u32,
        /// What was wrong and with what.
        text: &'a str,
    },
}

mod tag {
    pub(super) const JOIN: u8 = 1;
    pub(super) const LEAVE: u8 = 2;
    pub(super) const OP: u8 = 3;
    pub(super) const PRESENCE: u8 = 4;
    pub(super) const DELETE: u8 = 5;
    pub(super) const CREATE_VERSION: u8 = 6;
    pub(super) const LIST_VERSIONS: u8 = 7;
    pub(super) const READ_AT: u8 = 8;
    pub(super) const JOINED: u8 = 16;
    pub(super) const STATE: u8 = 17;
    pub(super) const ACK: u8 = 18;
    pub(super) const REJECT: u8 = 19;
    pub(super) const MOVED: u8 = 20;
    pub(super) const ERROR: u8 = 21;
    pub(super) const DONE: u8 = 22;
    pub(super) const VERSIONS: u8 = 23;
    pub(super) const PAST: u8 = 24;
    pub(super) const PAST_STATE: u8 = 25;
    pub(super) const REFUSED: u8 = 26;
    pub(super) const ADVICE: u8 = 30;
}

const JOIN_CONTENT: u8 = 1;
const JOIN_RESUME: u8 = 2;

impl<'a> Client<'a> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Join(join) => join.encode(out),
            Self::Leave { handle } => {
                out.push(tag::LEAVE);
                put_varint(out, u64::from(*handle));
            }
            Self::Op { handle, counter, payload } => {
                out.push(tag::OP);
                put_varint(out, u64::from(*handle));
                put_varint(out, *counter);
                out.extend_from_slice(payload);
            }
            Self::Presence { handle, entries } => put_presence(out, *handle, entries),
            Self::Delete { handle, request } => history::put_head(out, tag::DELETE, *handle, *request),
            Self::CreateVersion { handle, request, name } => {
                history::put_head(out, tag::CREATE_VERSION, *handle, *request);
                out.extend_from_slice(name.as_bytes());
            }
            Self::ListVersions { handle, request } => {
                history::put_head(out, tag::LIST_VERSIONS, *handle, *request);
            }
            Self::ReadAt { handle, request, at } => {
                history::put_head(out, tag::READ_AT, *handle, *request);
                at.encode(out);
            }
        }
    }

    /// The message as bytes of its own.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads a whole message.
    pub fn decode(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        let kind = reader.malformed("message type");
        let decoded = match reader.u8("message type")? {
            tag::JOIN => Self::Join(Join::decode(&mut reader)?),
            tag::LEAVE => Self::Leave { handle: reader.varint32("handle")? },
            tag::OP => Self::Op {
                handle: reader.varint32("handle")?,
                counter: reader.varint("op counter")?,
                payload: reader.rest(),
            },
            tag::PRESENCE => {
                Self::Presence { handle: reader.varint32("handle")?, entries: presence_entries(&mut reader)? }
            }
            kind @ tag::DELETE..=tag::READ_AT => history::decode_request(kind, &mut reader)?,
            _ => return Err(kind),
        };
        whole(&reader, decoded)
    }
}

impl<'a> Join<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(tag::JOIN);
        put_varint(out, u64::from(self.handle));
        out.push(self.kind as u8);
        let content = if self.content { JOIN_CONTENT } else { 0 };
        out.push(content | if self.resume.is_some() { JOIN_RESUME } else { 0 });
        put_bytes(out, self.document.as_bytes());
        if let Some(resume) = self.resume {
            put_varint(out, resume.incarnation);
            put_varint(out, resume.sequence);
        }
        put_bytes(out, self.state_vector);
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let handle = reader.varint32("handle")?;
        let bad = reader.malformed("document kind");
        let kind = DocumentKind::from_u8(reader.u8("document kind")?).ok_or(bad)?;
        let bad = reader.malformed("join flags");
        let flags = reader.u8("join flags")?;
        if flags & !(JOIN_CONTENT | JOIN_RESUME) != 0 {
            return Err(bad);
        }
        let document = bounded_string(reader, "document id", DOCUMENT_ID_BYTES_MAX)?;
        let resume = if flags & JOIN_RESUME != 0 {
            let incarnation = reader.varint("resume incarnation")?;
            Some(ResumePoint { incarnation, sequence: reader.varint("resume sequence")? })
        } else {
            None
        };
        let bad = reader.malformed("state vector");
        let state_vector = reader.bytes("state vector")?;
        if state_vector.len() > STATE_VECTOR_BYTES_MAX {
            return Err(bad);
        }
        Ok(Self { handle, kind, content: flags & JOIN_CONTENT != 0, document, resume, state_vector })
    }
}

impl<'a> Server<'a> {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Joined(joined) => joined.encode(out),
            Self::State { document, bytes } => {
                out.push(tag::STATE);
                put_varint(out, u64::from(*document));
                out.extend_from_slice(bytes);
            }
            Self::Op { document, sequence, payload } => {
                out.push(tag::OP);
                put_varint(out, u64::from(*document));
                put_varint(out, *sequence);
                out.extend_from_slice(payload);
            }
            Self::Ack { handle, counter, sequence } => {
                out.push(tag::ACK);
                put_varint(out, u64::from(*handle));
                put_varint(out, *counter);
                put_varint(out, *sequence);
            }
            Self::Reject { handle, counter, code, retry_after_ms, text } => {
                out.push(tag::REJECT);
                put_varint(out, u64::from(*handle));
                put_varint(out, *counter);
                put_varint(out, u64::from(*code as u16));
                put_varint(out, u64::from(*retry_after_ms));
                out.extend_from_slice(text.as_bytes());
            }
            Self::Presence { document, entries } => put_presence(out, *document, entries),
            Self::Moved { handle, epoch, shard, address } => {
                out.push(tag::MOVED);
                put_varint(out, u64::from(*handle));
                put_varint(out, *epoch);
                put_varint(out, u64::from(*shard));
                out.extend_from_slice(address.as_bytes());
            }
            Self::Advice { handle, epoch, shard } => {
                out.push(tag::ADVICE);
                put_varint(out, u64::from(*handle));
                put_varint(out, *epoch);
                put_varint(out, u64::from(*shard));
            }
            Self::Error { handle, code, retry_after_ms, text } => {
                out.push(tag::ERROR);
                put_varint(out, u64::from(*handle));
                put_varint(out, u64::from(*code as u16));
                put_varint(out, u64::from(*retry_after_ms));
                out.extend_from_slice(text.as_bytes());
            }
            Self::Done { .. }
            | Self::Versions { .. }
            | Self::Past(_)
            | Self::PastState { .. }
            | Self::Refused { .. } => history::put_answer(out, self),
        }
    }

    /// The message as bytes of its own.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads a whole message.
    pub fn decode(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        let kind = reader.malformed("message type");
        let decoded = match reader.u8("message type")? {
            tag::JOINED => Self::Joined(Joined::decode(&mut reader)?),
            tag::STATE => Self::State { document: reader.varint32("document")?, bytes: reader.rest() },
            tag::OP => Self::Op {
                document: reader.varint32("document")?,
                sequence: reader.varint("sequence")?,
                payload: reader.rest(),
            },
            tag::ACK => Self::Ack {
                handle: reader.varint32("handle")?,
                counter: reader.varint("op counter")?,
                sequence: reader.varint("sequence")?,
            },
            tag::REJECT => Self::Reject {
                handle: reader.varint32("handle")?,
                counter: reader.varint("op counter")?,
                code: code(&mut reader)?,
                retry_after_ms: reader.varint32("retry-after")?,
                text: text(&mut reader)?,
            },
            tag::PRESENCE => Self::Presence {
                document: reader.varint32("document")?,
                entries: presence_entries(&mut reader)?,
            },
            tag::MOVED => Self::Moved {
                handle: reader.varint32("handle")?,
                epoch: reader.varint("epoch")?,
                shard: reader.varint32("shard")?,
                address: text(&mut reader)?,
            },
            tag::ADVICE => Self::Advice {
                handle: reader.varint32("handle")?,
                epoch: reader.varint("epoch")?,
                shard: reader.varint32("shard")?,
            },
            tag::ERROR => Self::Error {
                handle: reader.varint32("handle")?,
                code: code(&mut reader)?,
                retry_after_ms: reader.varint32("retry-after")?,
                text: text(&mut reader)?,
            },
            kind @ tag::DONE..=tag::REFUSED => history::decode_answer(kind, &mut reader)?,
            _ => return Err(kind),
        };
        whole(&reader, decoded)
    }
}

impl<'a> Joined<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(tag::JOINED);
        put_varint(out, u64::from(self.handle));
        put_varint(out, u64::from(self.document));
        put_varint(out, self.incarnation);
        put_varint(out, self.sequence);
        put_varint(out, self.state_sequence);
        put_varint(out, self.writer_counter);
        put_varint(out, self.state_bytes);
        put_bytes(out, self.state_vector);
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            handle: reader.varint32("handle")?,
            document: reader.varint32("document")?,
            incarnation: reader.varint("incarnation")?,
            sequence: reader.varint("sequence")?,
            state_sequence: reader.varint("sequence of the state")?,
            writer_counter: reader.varint("writer counter")?,
            state_bytes: reader.varint("state bytes")?,
            state_vector: reader.bytes("state vector")?,
        })
    }
}

fn put_presence(out: &mut Vec<u8>, place: u32, entries: &[PresenceEntry<'_>]) {
    out.push(tag::PRESENCE);
    put_varint(out, u64::from(place));
    put_varint(out, entries.len() as u64);
    for entry in entries {
        put_varint(out, entry.client);
        put_varint(out, u64::from(entry.clock));
        put_bytes(out, entry.state);
    }
}

fn presence_entries<'a>(reader: &mut Reader<'a>) -> Result<Vec<PresenceEntry<'a>>, Malformed> {
    let bad = reader.malformed("presence entries");
    let count = reader.varint("presence entries")?;
    // An entry takes three bytes at least: a count beyond that is refused before memory is taken for it.
    if count > PRESENCE_ENTRIES_MAX as u64 || count > reader.remaining() as u64 / 3 {
        return Err(bad);
    }
    (0..count)
        .map(|_| {
            let client = reader.varint("presence client")?;
            let clock = reader.varint32("presence clock")?;
            let bad = reader.malformed("presence state");
            let state = reader.bytes("presence state")?;
            if state.len() > PRESENCE_STATE_BYTES_MAX {
                return Err(bad);
            }
            Ok(PresenceEntry { client, clock, state })
        })
        .collect()
}

fn bounded_string<'a>(
    reader: &mut Reader<'a>,
    what: &'static str,
    bytes_max: usize,
) -> Result<&'a str, Malformed> {
    let bad = reader.malformed(what);
    let string = reader.string(what)?;
    if string.len() > bytes_max { Err(bad) } else { Ok(string) }
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let bad = reader.malformed("text");
    std::str::from_utf8(reader.rest()).map_err(|_| bad)
}

fn code(reader: &mut Reader<'_>) -> Result<Code, Malformed> {
    let bad = reader.malformed("code");
    let value = u16::try_from(reader.varint("code")?).map_err(|_| bad)?;
    Code::from_u16(value).ok_or(bad)
}

fn whole<T>(reader: &Reader<'_>, message: T) -> Result<T, Malformed> {
    if reader.is_empty() { Ok(message) } else { Err(reader.malformed("end of message")) }
}

#[cfg(test)]
mod tests;
