//! An op through state sync: message in, record in the log, broadcast out; durable, acknowledged and integrated
//! in batches, the cost of which is shared by their ops.

use std::vec::IntoIter;

use statesync::SubscriberKey;
use yrs::Doc;

use crate::document::typed;
use crate::log::BATCH_APPENDS;
use crate::machine::{Machine, join_message, op_message};
use crate::{Visitor, Workload};

/// Keystrokes before the document is made anew.
const KEYSTROKES: u32 = 8_192;
/// Who is shown each op.
const READERS: [u8; 2] = [1, 50];

pub(crate) fn visit(visitor: &mut impl Visitor) {
    for readers in READERS {
        visitor.visit(&format!("sync/op_to_{readers}_readers"), || Op::new(readers));
    }
}

struct Op {
    machine: Machine,
    writer: SubscriberKey,
    messages: IntoIter<Vec<u8>>,
    steps: u64,
    sent: usize,
}

impl Op {
    fn new(readers: u8) -> Self {
        let mut machine = Machine::new();
        let writer = machine.open(1);
        machine.handle(writer, &join_message(&[]));
        for number in 0..readers {
            let reader = machine.open(2 + number);
            machine.handle(reader, &join_message(&[]));
        }
        let updates = typed(&Doc::with_client_id(1), KEYSTROKES);
        let messages: Vec<_> =
            (1..).zip(&updates).map(|(counter, update)| op_message(counter, update)).collect();
        Self { machine, writer, messages: messages.into_iter(), steps: 0, sent: 0 }
    }
}

impl Workload for Op {
    const STEPS: u64 = KEYSTROKES as u64;

    fn step(&mut self) {
        let message = self.messages.next().expect("a keystroke for each step");
        self.sent += self.machine.handle(self.writer, &message);
        self.steps += 1;
        if self.steps.is_multiple_of(BATCH_APPENDS) {
            self.sent += self.machine.commit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_reaches_nobody() {
        let mut op = Op::new(50);
        for _ in 0..BATCH_APPENDS {
            op.step();
        }
        assert_eq!(
            op.sent,
            50 * BATCH_APPENDS as usize + 1,
            "a message per op and reader, one acknowledgement"
        );
    }
}
