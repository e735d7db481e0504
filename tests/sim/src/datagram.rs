//! What travels through the network.

use std::cell::RefCell;
use std::rc::Rc;

use netem::{DropReason, Payload};
use wire::{Ecn, Time};

/// A datagram that did not arrive: its number, when, and why.
pub(crate) type Drops = Rc<RefCell<Vec<(u64, Time, DropReason)>>>;

/// A datagram under way.
#[derive(Clone)]
pub(crate) struct Datagram {
    /// Which one of the world, from 0, in the order of sending.
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) sent: Time,
    /// At which of its addresses the client had heard from the node when it sent this: bit per mapping.
    pub(crate) heard: u64,
    pub(crate) is_damaged: bool,
    /// The mark that it arrives with.
    pub(crate) ecn: Ecn,
    /// Where its end is told, if anybody wants to know.
    pub(crate) drops: Option<Drops>,
}

impl Payload for Datagram {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn flip_bit(&mut self, bit: usize) {
        self.bytes.flip_bit(bit);
        self.is_damaged = true;
    }

    fn on_dropped(&mut self, at: Time, why: DropReason) {
        if let Some(drops) = &self.drops {
            drops.borrow_mut().push((self.number, at, why));
        }
    }
}
