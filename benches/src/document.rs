//! Documents to measure on: a text as people leave it behind, and edits of it.

use yrs::updates::decoder::Decode;
use yrs::{Doc, ReadTxn, StateVector, Text, Transact, Update, WriteTxn};

/// The text's name in its document.
const TEXT: &str = "text";
/// Keystrokes in one place before the cursor goes elsewhere.
const BURST_KEYSTROKES: u32 = 20;
/// Bursts of the large document: 100,000 keystrokes.
const BURSTS: u32 = 5_000;

/// The state (update v1) of a text of 100,000 keystrokes, typed in bursts all over the place. Keystrokes in a
/// row are one block, whether they came in one op or in many.
pub(crate) fn large_text() -> Vec<u8> {
    let doc = Doc::with_client_id(1);
    let mut txn = doc.transact_mut();
    let text = txn.get_or_insert_text(TEXT);
    let mut random = 1_u64;
    for burst in 0..BURSTS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = burst * BURST_KEYSTROKES;
        let at = (random >> 33) as u32 % (length + 1);
        text.insert(&mut txn, at, "the quick brown fox "[..BURST_KEYSTROKES as usize].as_ref());
    }
    txn.encode_state_as_update_v1(&StateVector::default())
}

/// A replica that holds `state`.
pub(crate) fn replica(client_id: u64, state: &[u8]) -> Doc {
    let doc = Doc::with_client_id(client_id);
    let update = Update::decode_v1(state).expect("a state that was encoded");
    doc.transact_mut().apply_update(update).expect("a state that applies");
    doc
}

/// Types `count` characters in the middle of `doc`; the update (v1) of each.
pub(crate) fn typed(doc: &Doc, count: u32) -> Vec<Vec<u8>> {
    let start = {
        let mut txn = doc.transact_mut();
        txn.get_or_insert_text(TEXT).len(&txn) / 2
    };
    let keystroke = |number| {
        let mut txn = doc.transact_mut();
        let text = txn.get_or_insert_text(TEXT);
        text.insert(&mut txn, start + number, "x");
        txn.encode_update_v1()
    };
    (0..count).map(keystroke).collect()
}
