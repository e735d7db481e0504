//! Presence that comes before its document is known.
//!
//! Presence has a channel of its own, and may overtake the answer to the join, which names the document's number.
//! Whoever is announced but once would never be seen if it were dropped.

use std::collections::VecDeque;

/// Messages kept of one connection; the oldest go first, as those of documents that were left never find an owner.
const MESSAGES_MAX: usize = 256;
/// Bytes of the same.
const BYTES_MAX: usize = 256 << 10;

/// The messages of one connection, by the node's number of their document.
#[derive(Debug, Default)]
pub(super) struct EarlyPresence {
    messages: VecDeque<(u32, Box<[u8]>)>,
    bytes: usize,
}

impl EarlyPresence {
    /// Keeps a message.
    pub(super) fn keep(&mut self, document: u32, message: &[u8]) {
        self.messages.push_back((document, message.into()));
        self.bytes += message.len();
        while self.messages.len() > MESSAGES_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.messages.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// The messages of a document that is known now, in the order in which they came.
    pub(super) fn take(&mut self, document: u32) -> Vec<Box<[u8]>> {
        let messages = std::mem::take(&mut self.messages);
        let (mine, others): (VecDeque<_>, _) =
            messages.into_iter().partition(|(known, _)| *known == document);
        self.messages = others;
        self.bytes -= mine.iter().map(|(_, message)| message.len()).sum::<usize>();
        mine.into_iter().map(|(_, message)| message).collect()
    }

    /// The connection is gone.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_gets_the_presence_of_another_or_in_another_order() {
        let mut early = EarlyPresence::default();
        for (document, message) in [(1, b"a"), (2, b"b"), (1, b"c")] {
            early.keep(document, message);
        }
        assert_eq!(early.take(1), [Box::from(*b"a"), Box::from(*b"c")]);
        assert!(early.take(1).is_empty());
        assert_eq!((early.take(2).len(), early.bytes), (1, 0));
    }

    #[test]
    fn a_node_that_speaks_of_unknown_documents_takes_the_memory() {
        let mut early = EarlyPresence::default();
        for document in 0..10_000 {
            early.keep(document, &[7; 2_000]);
        }
        assert!(early.bytes <= BYTES_MAX && early.messages.len() <= MESSAGES_MAX);
        assert_eq!(early.take(9_999).len(), 1, "the newest is kept");
    }
}
