//! From the first evidence of a loss to the delivery of what was lost.
//!
//! The evidence is the arrival of any packet that was sent after the lost one. Packet numbers are in the clear header
//! (`PROTOCOL.md`, section "Header"), so an onlooker sees what the receiver sees.

use std::collections::{BTreeMap, VecDeque};

use wire::{Header, Span, Time};

/// A header, a tag and a frame's head: a datagram that is shorter than a message and these carries none in full.
const OVERHEAD_BYTES: usize = 48;
/// Missing packets that are remembered; what was lost longer ago was delivered or carried no message.
const MISSING_MAX: usize = 4_096;

/// Watches one flow.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    message_bytes: usize,
    /// Messages that wait for their first packet.
    waiting: usize,
    /// The packets that first carried messages, of those not delivered yet, in order.
    carriers: VecDeque<u64>,
    next_to_arrive: u64,
    /// When each missing packet was known to be missing.
    missing: BTreeMap<u64, Time>,
}

impl Evidence {
    pub(super) fn new(message_bytes: usize) -> Self {
        Self { message_bytes, ..Self::default() }
    }

    pub(super) fn on_queued(&mut self) {
        self.waiting += 1;
    }

    pub(super) fn on_sent(&mut self, datagram: &[u8]) {
        let room = datagram.len().saturating_sub(OVERHEAD_BYTES) / self.message_bytes.max(1);
        let Ok((header, _)) = Header::parse(datagram) else { return };
        let number = header.packet_number();
        for _ in 0..room.min(self.waiting) {
            self.waiting -= 1;
            self.carriers.push_back(number);
        }
    }

    pub(super) fn on_arrived(&mut self, now: Time, datagram: &[u8]) {
        let Ok((header, _)) = Header::parse(datagram) else { return };
        let number = header.packet_number();
        self.missing.remove(&number);
        for missing in self.next_to_arrive..number {
            self.missing.insert(missing, now);
        }
        self.next_to_arrive = self.next_to_arrive.max(number + 1);
        while self.missing.len() > MISSING_MAX {
            self.missing.pop_first();
        }
    }

    /// The next message was delivered: how long after the evidence of its loss, if it was lost.
    pub(super) fn on_delivered(&mut self, now: Time) -> Option<Span> {
        let carrier = self.carriers.pop_front()?;
        self.missing.get(&carrier).map(|&known| now.since(known))
    }
}
