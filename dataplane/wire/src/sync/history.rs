//! Requests about a document's past, and its end, with their answers.

use super::{Client, Server, code, tag, text};
use crate::limits::{VERSION_NAME_BYTES_MAX, VERSIONS_PER_DOCUMENT_MAX};
use crate::varint::{Malformed, Reader, put_bytes, put_varint};

/// The least bytes of a version in a list: its name's length, one byte of name, sequence, time.
const VERSION_BYTES_MIN: u64 = 4;

/// A moment in a document's past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At<'a> {
    /// After this op.
    Sequence(u64),
    /// After the last op that was taken no later than this, Unix milliseconds.
    UnixMs(u64),
    /// As a version names it.
    Version(&'a str),
}

/// A name for a document as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VersionEntry<'a> {
    /// The name, unique in the document.
    pub name: &'a str,
    /// The last op in it.
    pub sequence: u64,
    /// When it was made, Unix milliseconds.
    pub unix_ms: u64,
}

/// What a document was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Past<'a> {
    /// The handle of the join.
    pub handle: u32,
    /// The request.
    pub request: u32,
    /// The last op in it.
    pub sequence: u64,
    /// Bytes of state that follow in [`Server::PastState`] messages: an update (v1), or the ops of an opaque document,
    /// each after its length as a varint.
    pub state_bytes: u64,
    /// Its Yjs state vector (v1); empty for opaque.
    pub state_vector: &'a [u8],
}

mod at {
    pub(super) const SEQUENCE: u8 = 1;
    pub(super) const UNIX_MS: u8 = 2;
    pub(super) const VERSION: u8 = 3;
}

impl<'a> At<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sequence(sequence) => {
                out.push(at::SEQUENCE);
                put_varint(out, *sequence);
            }
            Self::UnixMs(unix_ms) => {
                out.push(at::UNIX_MS);
                put_varint(out, *unix_ms);
            }
            Self::Version(name) => {
                out.push(at::VERSION);
                out.extend_from_slice(name.as_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let bad = reader.malformed("moment");
        match reader.u8("moment")? {
            at::SEQUENCE => Ok(Self::Sequence(reader.varint("sequence")?)),
            at::UNIX_MS => Ok(Self::UnixMs(reader.varint("time")?)),
            at::VERSION => Ok(Self::Version(last_name(reader)?)),
            _ => Err(bad),
        }
    }
}

/// A version's name, up to the end of the message.
fn last_name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let bad = reader.malformed("version name");
    let name = text(reader)?;
    if name.is_empty() || name.len() > VERSION_NAME_BYTES_MAX { Err(bad) } else { Ok(name) }
}

pub(super) fn put_head(out: &mut Vec<u8>, kind: u8, handle: u32, request: u32) {
    out.push(kind);
    put_varint(out, u64::from(handle));
    put_varint(out, u64::from(request));
}

/// Reads what follows the type of a client's request.
pub(super) fn decode_request<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Client<'a>, Malformed> {
    let bad = reader.malformed("message type");
    let (handle, request) = (reader.varint32("handle")?, reader.varint32("request")?);
    match kind {
        tag::DELETE => Ok(Client::Delete { handle, request }),
        tag::CREATE_VERSION => Ok(Client::CreateVersion { handle, request, name: last_name(reader)? }),
        tag::LIST_VERSIONS => Ok(Client::ListVersions { handle, request }),
        tag::READ_AT => Ok(Client::ReadAt { handle, request, at: At::decode(reader)? }),
        _ => Err(bad),
    }
}

/// Appends the answer to a request; nothing for any other message.
pub(super) fn put_answer(out: &mut Vec<u8>, answer: &Server<'_>) {
    match answer {
        Server::Done { handle, request, sequence } => {
            put_head(out, tag::DONE, *handle, *request);
            put_varint(out, *sequence);
        }
        Server::Versions { handle, request, versions } => {
            put_head(out, tag::VERSIONS, *handle, *request);
            put_varint(out, versions.len() as u64);
            for version in versions {
                put_bytes(out, version.name.as_bytes());
                put_varint(out, version.sequence);
                put_varint(out, version.unix_ms);
            }
        }
        Server::Past(past) => {
            put_head(out, tag::PAST, past.handle, past.request);
            put_varint(out, past.sequence);
            put_varint(out, past.state_bytes);
            out.extend_from_slice(past.state_vector);
        }
        Server::PastState { handle, request, bytes } => {
            put_head(out, tag::PAST_STATE, *handle, *request);
            out.extend_from_slice(bytes);
        }
        Server::Refused { handle, request, code, retry_after_ms, text } => {
            put_head(out, tag::REFUSED, *handle, *request);
            put_varint(out, u64::from(*code as u16));
            put_varint(out, u64::from(*retry_after_ms));
            out.extend_from_slice(text.as_bytes());
        }
        _ => {}
    }
}

/// Reads what follows the type of an answer.
pub(super) fn decode_answer<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Server<'a>, Malformed> {
    let bad = reader.malformed("message type");
    let (handle, request) = (reader.varint32("handle")?, reader.varint32("request")?);
    match kind {
        tag::DONE => Ok(Server::Done { handle, request, sequence: reader.varint("sequence")? }),
        tag::VERSIONS => Ok(Server::Versions { handle, request, versions: versions(reader)? }),
        tag::PAST => Ok(Server::Past(Past {
            handle,
            request,
            sequence: reader.varint("sequence")?,
            state_bytes: reader.varint("state bytes")?,
            state_vector: reader.rest(),
        })),
        tag::PAST_STATE => Ok(Server::PastState { handle, request, bytes: reader.rest() }),
        tag::REFUSED => Ok(Server::Refused {
            handle,
            request,
            code: code(reader)?,
            retry_after_ms: reader.varint32("retry-after")?,
            text: text(reader)?,
        }),
        _ => Err(bad),
    }
}

fn versions<'a>(reader: &mut Reader<'a>) -> Result<Vec<VersionEntry<'a>>, Malformed> {
    let bad = reader.malformed("version count");
    let count = reader.varint("version count")?;
    // A count that the message cannot hold is refused before memory is taken for it.
    let fits = count <= reader.remaining() as u64 / VERSION_BYTES_MIN;
    if !fits || count > VERSIONS_PER_DOCUMENT_MAX as u64 {
        return Err(bad);
    }
    (0..count)
        .map(|_| {
            let bad = reader.malformed("version name");
            let name = reader.string("version name")?;
            if name.is_empty() || name.len() > VERSION_NAME_BYTES_MAX {
                return Err(bad);
            }
            let (sequence, unix_ms) = (reader.varint("sequence")?, reader.varint("time")?);
            Ok(VersionEntry { name, sequence, unix_ms })
        })
        .collect()
}
