//! What one small packet costs each end of a warm connection: message queued, framed, sealed and remembered at the
//! sender; opened, checked, delivered and noted for acknowledgement at the receiver.
//!
//! Both should stay under 400 ns for a message of 200 bytes. What acknowledgements cost is not part of it: they come for
//! several packets at once, and outside of the measured steps.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use crate::pair::Pair;
use crate::{Visitor, Workload};

const MESSAGE_BYTES: usize = 200;
/// Packets between two acknowledgements: fewer than any window holds.
const PACKETS: usize = 16;
/// Steps that leave a connection with all the memory that it will need.
const WARM_UP_PACKETS: usize = 20_000;

pub(crate) fn visit(visitor: &mut impl Visitor) {
    let make = maker();
    visitor.visit("packet/send_200_bytes", || Send(make(), 0));
    let make = maker();
    visitor.visit("packet/receive_200_bytes", || {
        let state = make();
        for number in 0..PACKETS {
            state.borrow_mut().send(number);
        }
        Receive(state, 0)
    });
}

/// One connection for all states: each begins with everything acknowledged.
fn maker() -> impl Fn() -> Rc<RefCell<State>> {
    let state: RefCell<Option<Rc<RefCell<State>>>> = RefCell::new(None);
    move || {
        let mut state = state.borrow_mut();
        let state = state.get_or_insert_with(|| Rc::new(RefCell::new(State::warm())));
        state.borrow_mut().rest();
        Rc::clone(state)
    }
}

struct State {
    pair: Pair,
    message: Bytes,
    /// Sealed, and not yet received.
    datagrams: Vec<Vec<u8>>,
    lengths: [usize; PACKETS],
}

impl State {
    fn warm() -> Self {
        let mut state = Self {
            pair: Pair::connect(),
            message: vec![7; MESSAGE_BYTES].into(),
            datagrams: vec![vec![0; 1_500]; PACKETS],
            lengths: [0; PACKETS],
        };
        for _ in 0..WARM_UP_PACKETS / PACKETS {
            for number in 0..PACKETS {
                state.send(number);
            }
            state.rest();
        }
        state
    }

    fn send(&mut self, number: usize) {
        self.pair.send(&self.message);
        self.lengths[number] = self.pair.transmit_into(&mut self.datagrams[number]);
    }

    fn receive(&mut self, number: usize) {
        let length = std::mem::take(&mut self.lengths[number]);
        self.pair.receive(&mut self.datagrams[number][..length]);
        self.pair.consume(MESSAGE_BYTES);
    }

    /// Receives what is under way, and acknowledges all.
    fn rest(&mut self) {
        for number in 0..PACKETS {
            if self.lengths[number] > 0 {
                self.receive(number);
            }
        }
        self.pair.settle();
    }
}

struct Send(Rc<RefCell<State>>, usize);

impl Workload for Send {
    const STEPS: u64 = PACKETS as u64;

    fn step(&mut self) {
        self.0.borrow_mut().send(self.1);
        self.1 += 1;
    }
}

struct Receive(Rc<RefCell<State>>, usize);

impl Workload for Receive {
    const STEPS: u64 = PACKETS as u64;

    fn step(&mut self) {
        self.0.borrow_mut().receive(self.1);
        self.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stepper;

    #[test]
    fn a_step_sends_nothing_or_delivers_nothing() {
        let make = maker();
        let mut stepper = Stepper::new(|| Send(make(), 0));
        stepper.run(3 * PACKETS as u64);
        let state = make();
        let delivered = WARM_UP_PACKETS as u64 + 3 * PACKETS as u64;
        assert_eq!(state.borrow().pair.at_node.messages, delivered);
        state.borrow_mut().send(0);
        Receive(state.clone(), 0).step();
        assert_eq!(state.borrow().pair.at_node.messages, delivered + 1);
        assert_eq!(state.borrow().pair.client.stats().packets_lost, 0);
    }
}
