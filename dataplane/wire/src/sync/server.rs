//! What a node says to its client.

use super::presence::{presence_entries, put_presence};
use super::{Past, PresenceEntry, VersionEntry, code, history, tag, text, whole};
use crate::code::Code;
use crate::varint::{Malformed, Reader, put_bytes, put_varint};

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
