//! A join to a text of 100,000 keystrokes: the state vector in, what the joiner lacks out.

use statesync::SubscriberKey;
use yrs::updates::encoder::Encode;
use yrs::{Doc, ReadTxn, Transact};

use crate::document::{large_text, replica, typed};
use crate::machine::{Machine, join_message, op_message};
use crate::{Visitor, Workload};

/// Keystrokes that the joiner missed.
const MISSED: u32 = 100;

pub(crate) fn visit(visitor: &mut impl Visitor) {
    visitor.visit("join/lacks_100_ops", || JoinLarge::new(state_vector));
    visitor.visit("join/lacks_all_diff", || JoinLarge::new(|_| state_vector(&scribbled())));
    visitor.visit("join/lacks_all_shared", || JoinLarge::new(|_| Vec::new()));
}

fn state_vector(doc: &Doc) -> Vec<u8> {
    doc.transact().state_vector().encode_v1()
}

/// A joiner's document that has only what it wrote itself: its vector is not empty, so a difference is made
/// for it, which is all there is. An empty vector is answered with a state that joiners share.
fn scribbled() -> Doc {
    let doc = Doc::with_client_id(9);
    typed(&doc, 1);
    doc
}

/// Joins again and again under the same handle, which starts anew each time.
struct JoinLarge {
    machine: Machine,
    joiner: SubscriberKey,
    message: Vec<u8>,
}

impl JoinLarge {
    /// `held` makes the joiner's state vector; it is given the document before its last 100 keystrokes.
    fn new(held: impl Fn(&Doc) -> Vec<u8>) -> Self {
        let state = large_text();
        let author = replica(2, &state);
        let message = join_message(&held(&author));
        let mut machine = Machine::new();
        let writer = machine.open(1);
        // Not with an empty vector: the state that joiners share would be that of the empty document.
        machine.handle(writer, &join_message(&state_vector(&author)));
        machine.handle(writer, &op_message(1, &state));
        for (counter, update) in (2..).zip(typed(&author, MISSED)) {
            machine.handle(writer, &op_message(counter, &update));
        }
        machine.commit();
        machine.store();
        let joiner = machine.open(2);
        Self { machine, joiner, message }
    }
}

impl Workload for JoinLarge {
    const STEPS: u64 = u64::MAX;
    const IS_COUNTED: bool = false;

    fn step(&mut self) {
        let sent = self.machine.handle(self.joiner, &self.message);
        assert!(sent >= 2, "an announcement and a state");
    }
}

#[cfg(test)]
mod tests {
    use wire::limits::STATE_CHUNK_BYTES;

    use super::*;

    #[test]
    fn a_joiner_is_sent_what_it_has() {
        let chunks = large_text().len().div_ceil(STATE_CHUNK_BYTES);
        assert!(chunks > 1);
        for (mut join, messages) in [
            (JoinLarge::new(state_vector), 1 + 1),
            (JoinLarge::new(|_| state_vector(&scribbled())), 1 + chunks),
            (JoinLarge::new(|_| Vec::new()), 1 + chunks),
        ] {
            for _ in 0..2 {
                assert_eq!(join.machine.handle(join.joiner, &join.message), messages);
            }
        }
    }
}
