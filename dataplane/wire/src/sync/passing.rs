//! What a shard must know of a message that it passes on for a sibling: whom it is about, and nothing more.

use super::tag;
use crate::varint::{Reader, Writer};

/// The bytes before what is passed on as it is: a type, a handle and a document's number at the most.
const HEAD_BYTES_MAX: usize = 11;

/// The handle that a client's message is about: every one begins with its type and its handle. `None`: malformed.
#[must_use]
pub fn client_handle(message: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(message);
    reader.u8("message type").ok()?;
    reader.varint32("handle").ok()
}

/// Whether a client's message is a join.
#[must_use]
pub fn is_join(message: &[u8]) -> bool {
    message.first() == Some(&tag::JOIN)
}

/// Whether a client's message closes its handle.
#[must_use]
pub fn is_leave(message: &[u8]) -> bool {
    message.first() == Some(&tag::LEAVE)
}

/// What a node's message does to a handle, for whoever keeps track of where the handle's document lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandleChange {
    /// The document is open.
    Opened,
    /// The join was refused for now, or something about an open document was.
    Refused,
    /// The document lives elsewhere, or was closed: the handle is not open any more.
    Closed,
}

/// What a node's message does to a handle. `None`: nothing.
#[must_use]
pub fn handle_change(message: &[u8]) -> Option<(u32, HandleChange)> {
    let change = match *message.first()? {
        tag::JOINED => HandleChange::Opened,
        tag::ERROR if has_retry_after(message)? => HandleChange::Refused,
        tag::ERROR | tag::MOVED => HandleChange::Closed,
        _ => return None,
    };
    Some((client_handle(message)?, change))
}

/// Whether an error is for now only.
fn has_retry_after(message: &[u8]) -> Option<bool> {
    let mut reader = Reader::new(message);
    reader.u8("message type").ok()?;
    reader.varint32("handle").ok()?;
    reader.varint("code").ok()?;
    Some(reader.varint32("retry-after").ok()? > 0)
}

/// A message with another document number: what is new, then the rest as it was.
#[derive(Clone, Copy, Debug)]
pub struct Renumbered<'a> {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    /// What follows the head.
    pub rest: &'a [u8],
}

impl Renumbered<'_> {
    /// What goes before the rest.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_bytes]
    }
}

/// A node's message with the number of its document exchanged, if it names one by number. `None`: malformed.
#[must_use]
pub fn renumber(message: &[u8], number: impl FnOnce(u32) -> u32) -> Option<Renumbered<'_>> {
    let mut reader = Reader::new(message);
    let kind = reader.u8("message type").ok()?;
    let mut head = [0; HEAD_BYTES_MAX];
    let mut writer = Writer::new(&mut head);
    if matches!(kind, tag::STATE | tag::OP | tag::PRESENCE | tag::JOINED) {
        writer.put_u8(kind);
        if kind == tag::JOINED {
            writer.put_varint(u64::from(reader.varint32("handle").ok()?));
        }
        writer.put_varint(u64::from(number(reader.varint32("document").ok()?)));
    } else {
        reader = Reader::new(message);
    }
    let head_bytes = writer.len();
    Some(Renumbered { head, head_bytes, rest: reader.rest() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::sync::{Client, Joined, Server};

    fn joined(document: u32) -> Server<'static> {
        Server::Joined(Joined {
            handle: 700,
            document,
            incarnation: 2,
            sequence: 5,
            state_sequence: 5,
            writer_counter: 4,
            state_bytes: 0,
            state_vector: &[1, 2, 3],
        })
    }

    #[test]
    fn a_message_names_the_document_of_another_shard() {
        let numbered = |document| {
            [
                joined(document),
                Server::State { document, bytes: b"state" },
                Server::Op { document, sequence: 6, payload: b"op" },
                Server::Presence { document, entries: Vec::new() },
            ]
        };
        for (message, expected) in numbered(3).iter().zip(numbered(u32::MAX)) {
            let message = message.to_vec();
            let changed = renumber(&message, |number| number + (u32::MAX - 3)).unwrap();
            let changed = [changed.head(), changed.rest].concat();
            assert_eq!(Server::decode(&changed), Ok(expected));
        }
        let ack = Server::Ack { handle: 3, counter: 300, sequence: 6 }.to_vec();
        let same = renumber(&ack, |_| unreachable!("it names none")).unwrap();
        assert_eq!((same.head(), same.rest), (&[][..], &ack[..]));
        assert!(renumber(&[], |number| number).is_none());
        assert!(renumber(&[tag::OP, 0x80], |number| number).is_none());
    }

    #[test]
    fn a_message_is_about_another_handle() {
        let op = Client::Op { handle: 70_000, counter: 1, payload: b"x" }.to_vec();
        assert_eq!((client_handle(&op), is_join(&op)), (Some(70_000), false));
        assert_eq!(client_handle(&[tag::OP]), None);
        assert_eq!(handle_change(&joined(1).to_vec()), Some((700, HandleChange::Opened)));
        for (retry_after_ms, change) in [(0, HandleChange::Closed), (300, HandleChange::Refused)] {
            let error = Server::Error { handle: 9, code: Code::Forbidden, retry_after_ms, text: "" }.to_vec();
            assert_eq!(handle_change(&error), Some((9, change)));
        }
        assert_eq!(handle_change(&Server::Ack { handle: 3, counter: 3, sequence: 6 }.to_vec()), None);
    }
}
