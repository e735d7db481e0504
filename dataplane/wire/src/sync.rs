//! The sync messages that clients and nodes exchange over Quantum channels.
//!
//! A client opens a document with [`Join`] under a handle of its own choosing. The node answers with
//! [`Joined`], which names the number under which it will speak of the document: the same for all
//! subscribers, so that one encoding of an op serves them all. Described in `PROTOCOL.md`, section "Sync
//! messages".

mod client;
mod history;
mod passing;
mod presence;
mod server;

pub use client::{Client, Join, ResumePoint};
pub use history::{At, Past, VersionEntry};
pub use passing::{HandleChange, Renumbered, client_handle, handle_change, is_join, is_leave, renumber};
pub use presence::PresenceEntry;
pub use server::{Joined, Server};

pub use crate::channel::Channel;
use crate::code::Code;
use crate::varint::{Malformed, Reader};

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
