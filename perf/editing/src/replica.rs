//! A copy of the text, made from updates.

use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, OffsetKind, Options, ReadTxn, StateVector, TextRef, Transact, Update};

/// The name of the root type that holds the text.
pub const ROOT: &str = "content";

/// The Yjs client id of copies that only read.
const READER_CLIENT_ID: u64 = (1 << 53) - 1;
/// So many updates are integrated in one transaction: larger ones keep longer lists of what they changed,
/// smaller ones pay for more commits.
const BATCH_UPDATES_MAX: usize = 256;

/// The Yjs client id of an agent. Agents keep their order: it decides between concurrent inserts at one
/// place.
#[must_use]
pub fn client_id(agent: usize) -> ClientID {
    ClientID::new(agent as u64 + 1)
}

/// A document with the text at its root, in UTF-16 units as Yjs counts.
#[must_use]
pub(crate) fn text_doc(client_id: ClientID) -> (Doc, TextRef) {
    let options = Options { offset_kind: OffsetKind::Utf16, ..Options::with_client_id(client_id) };
    let doc = Doc::with_options(options);
    let text = doc.get_or_insert_text(ROOT);
    (doc, text)
}

/// A copy of the text that only reads.
#[derive(Debug)]
pub struct Replica {
    doc: Doc,
    text: TextRef,
}

impl Default for Replica {
    fn default() -> Self {
        Self::new()
    }
}

impl Replica {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let (doc, text) = text_doc(ClientID::new(READER_CLIENT_ID));
        Self { doc, text }
    }

    /// Integrates updates, in their order. On an error says which of them failed and why.
    pub fn apply<T: AsRef<[u8]>>(&mut self, updates: &[T]) -> Result<(), (usize, String)> {
        for (batch, updates) in updates.chunks(BATCH_UPDATES_MAX).enumerate() {
            let mut transaction = self.doc.transact_mut();
            for (at, update) in updates.iter().enumerate() {
                let failed = |reason: String| (batch * BATCH_UPDATES_MAX + at, reason);
                let update = Update::decode_v1(update.as_ref()).map_err(|error| failed(error.to_string()))?;
                transaction.apply_update(update).map_err(|error| failed(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// All of it as one update.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_since(&StateVector::default())
    }

    /// What is in it.
    #[must_use]
    pub fn state_vector(&self) -> StateVector {
        self.doc.transact().state_vector()
    }

    /// What came after `state_vector`, as one update.
    #[must_use]
    pub fn encode_since(&self, state_vector: &StateVector) -> Vec<u8> {
        self.doc.transact().encode_state_as_update_v1(state_vector)
    }
}
