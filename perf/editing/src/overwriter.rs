//! Somebody who sets the same key of a shared map again and again: what a load is made of under which documents must
//! not grow.
//!
//! Each edit deletes the one before. Deleted items lose their content and are merged with their neighbours, so that
//! the state of a document is as long after a million edits as after a thousand.

use bytes::Bytes;
use yrs::encoding::write::Write;
use yrs::updates::encoder::{Encoder, EncoderV1};

use crate::outline::HAS_LEFT;

/// The name of the root type that holds the map.
pub const MAP_ROOT: &str = "cells";

/// The content type "any" of a Yjs item.
const CONTENT_ANY: u8 = 8;
/// The item stands at a key of a map.
const HAS_KEY: u8 = 0x20;
/// An "any" that is a sequence of bytes.
const ANY_BYTES: u8 = 116;
/// Bytes of a value: about what is sent for a letter that is typed.
const VALUE_BYTES: usize = 8;

/// One author with a key to themselves.
#[derive(Debug)]
pub(crate) struct Overwriter {
    client: u64,
    /// The Yjs clock of the next edit.
    clock: u32,
}

impl Overwriter {
    pub(crate) fn new(client: u64) -> Self {
        Self { client, clock: 0 }
    }

    /// Sets the key to the number of the edit. The update (v1) is what the CRDT library makes of that, to the byte.
    pub(crate) fn edit(&mut self) -> Bytes {
        let clock = self.clock;
        self.clock += 1;
        let mut encoder = EncoderV1::new();
        // One client with one item.
        encoder.write_var(1_u32);
        encoder.write_var(1_u32);
        encoder.write_var(self.client);
        encoder.write_var(clock);
        let before = clock.checked_sub(1);
        match before {
            // Where it stands, it has from the item that it is put after.
            Some(before) => {
                encoder.write_u8(CONTENT_ANY | HAS_KEY | HAS_LEFT);
                encoder.write_var(self.client);
                encoder.write_var(before);
            }
            None => {
                encoder.write_u8(CONTENT_ANY | HAS_KEY);
                encoder.write_var(1_u32);
                encoder.write_string(MAP_ROOT);
                encoder.write_string(&key(self.client));
            }
        }
        encoder.write_var(1_u32);
        encoder.write_u8(ANY_BYTES);
        encoder.write_buf(value(clock));
        match before {
            Some(before) => {
                encoder.write_var(1_u32);
                encoder.write_var(self.client);
                encoder.write_var(1_u32);
                encoder.write_var(before);
                encoder.write_var(1_u32);
            }
            None => encoder.write_var(0_u32),
        }
        encoder.to_vec().into()
    }
}

/// The key of a Yjs client.
fn key(client: u64) -> String {
    client.to_string()
}

fn value(clock: u32) -> [u8; VALUE_BYTES] {
    u64::from(clock).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use yrs::updates::decoder::Decode;
    use yrs::{Any, Doc, Map, MapRef, Out, ReadTxn, StateVector, Transact, Update};

    use super::*;
    use crate::author::author_of;

    fn map_doc(client: u64) -> (Doc, MapRef) {
        let doc = Doc::with_client_id(client);
        let map = doc.get_or_insert_map(MAP_ROOT);
        (doc, map)
    }

    #[test]
    fn an_overwrite_is_not_what_the_library_makes_of_it() {
        let (doc, map) = map_doc(70_000);
        let mut overwriter = Overwriter::new(70_000);
        for clock in 0..300 {
            let mut transaction = doc.transact_mut();
            let bytes: &[u8] = &value(clock);
            map.insert(&mut transaction, key(70_000), Any::from(bytes));
            assert_eq!(transaction.encode_update_v1(), overwriter.edit(), "edit {clock}");
        }
    }

    #[test]
    fn a_document_grows_under_overwrites() {
        const EDITS: usize = 100_000;
        /// Clocks take more bytes as they grow.
        const GROWTH_BYTES_MAX: usize = 32;
        let (doc, map) = map_doc((1 << 53) - 1);
        let mut writers = [Overwriter::new(1), Overwriter::new(2)];
        let state = || doc.transact().encode_state_as_update_v1(&StateVector::default());
        let mut early_bytes = 0;
        for edit in 1..=EDITS {
            let update = writers[edit % 2].edit();
            assert_eq!(author_of(&update), Some((edit % 2) as u64 + 1));
            doc.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
            if edit == 1_000 {
                early_bytes = state().len();
            }
        }
        let late_bytes = state().len();
        assert!(late_bytes <= early_bytes + GROWTH_BYTES_MAX, "{early_bytes} B became {late_bytes} B");
        let last = value(EDITS as u32 / 2 - 1);
        for client in [1, 2] {
            let Some(Out::Any(Any::Buffer(bytes))) = map.get(&doc.transact(), &key(client)) else {
                panic!("client {client} set nothing")
            };
            assert_eq!(*bytes, last);
        }
    }
}
