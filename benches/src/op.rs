//! What a node does with the update of one keystroke: look at it, decode it, apply it to a large text.

use std::hint::black_box;
use std::vec::IntoIter;

use wire::yjs_scan::scan_update;
use yrs::updates::decoder::Decode;
use yrs::{Doc, Transact, Update};

use crate::document::{large_text, replica, typed};
use crate::{Visitor, Workload};

/// Keystrokes that are applied before the document is made anew.
const KEYSTROKES: u32 = 2_048;

pub(crate) fn visit(visitor: &mut impl Visitor) {
    visitor.visit("op/scan", || Scan(keystroke()));
    visitor.visit("op/decode", || DecodeUpdate(keystroke()));
    visitor.visit("op/apply_to_100k_text", Apply::new);
}

fn keystroke() -> Vec<u8> {
    typed(&Doc::with_client_id(1), 2).swap_remove(1)
}

struct Scan(Vec<u8>);

impl Workload for Scan {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        black_box(scan_update(black_box(&self.0)).expect("an update that was encoded"));
    }
}

struct DecodeUpdate(Vec<u8>);

impl Workload for DecodeUpdate {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        black_box(Update::decode_v1(black_box(&self.0)).expect("an update that was encoded"));
    }
}

/// Each keystroke in a transaction of its own.
struct Apply {
    doc: Doc,
    updates: IntoIter<Update>,
}

impl Apply {
    fn new() -> Self {
        let state = large_text();
        let updates = typed(&replica(2, &state), KEYSTROKES);
        let decoded: Vec<Update> = updates
            .iter()
            .map(|update| Update::decode_v1(update).expect("an update that was encoded"))
            .collect();
        Self { doc: replica(3, &state), updates: decoded.into_iter() }
    }
}

impl Workload for Apply {
    const STEPS: u64 = KEYSTROKES as u64;

    fn step(&mut self) {
        let update = self.updates.next().expect("a keystroke for each step");
        self.doc.transact_mut().apply_update(update).expect("an update that applies");
    }
}
