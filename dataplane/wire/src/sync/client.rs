//! What a client says to its node.

use super::presence::{presence_entries, put_presence};
use super::{At, DocumentKind, PresenceEntry, history, tag, whole};
use crate::limits::{DOCUMENT_ID_BYTES_MAX, STATE_VECTOR_BYTES_MAX};
use crate::varint::{Malformed, Reader, put_bytes, put_varint};

const JOIN_CONTENT: u8 = 1;
const JOIN_RESUME: u8 = 2;

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

fn bounded_string<'a>(
    reader: &mut Reader<'a>,
    what: &'static str,
    bytes_max: usize,
) -> Result<&'a str, Malformed> {
    let bad = reader.malformed(what);
    let string = reader.string(what)?;
    if string.len() > bytes_max { Err(bad) } else { Ok(string) }
}
