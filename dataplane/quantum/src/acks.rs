//! Which packets to acknowledge, and when (`PROTOCOL.md`, section "Acknowledgements").

use wire::frame::{EcnCounts, put_ack_ecn};
use wire::varint::Writer;
use wire::{Ecn, Span, Time};

use crate::ranges::RangeSet;

/// The most ranges remembered; older ones are given up, and their packets count as lost.
const RANGES_MAX: usize = 64;
/// An acknowledgement is due at once when this many packets that ask for one have come: as many as the least congestion
/// window lets out. Where both ends send, most acknowledgements ride on data then; by twos they were a third of all
/// datagrams at 50,000 edits a second.
const ELICITING_MAX: u32 = 4;
/// Packets of acknowledgements alone ask for one themselves once the ranges are this many.
const RANGES_SHEDDING: usize = 8;

/// The receiver's side of acknowledgements.
#[derive(Debug)]
pub(crate) struct Acknowledger {
    received: RangeSet,
    largest_received_at: Time,
    eliciting: u32,
    deadline: Option<Time>,
    ecn: EcnCounts,
}

impl Acknowledger {
    pub(crate) fn new() -> Self {
        Self {
            received: RangeSet::default(),
            largest_received_at: Time::ZERO,
            eliciting: 0,
            deadline: None,
            ecn: EcnCounts::default(),
        }
    }

    /// Has the caches fetch the newest range.
    pub(crate) fn prefetch(&self) {
        self.received.prefetch();
    }

    pub(crate) fn largest(&self) -> Option<u64> {
        self.received.largest()
    }

    /// Notes a packet that was not received before.
    pub(crate) fn on_packet(&mut self, now: Time, number: u64, is_eliciting: bool, max_delay: Span) {
        let in_order = number == self.received.largest().map_or(0, |largest| largest + 1);
        self.received.insert(number, number + 1);
        self.received.truncate_lowest(RANGES_MAX);
        if self.received.largest() == Some(number) {
            self.largest_received_at = now;
        }
        if !is_eliciting {
            return;
        }
        self.eliciting += 1;
        if !in_order || self.eliciting >= ELICITING_MAX {
            self.deadline = Some(now);
        } else {
            self.deadline.get_or_insert(now + max_delay);
        }
    }

    /// Counts the mark of a packet that was not received before; returns whether a queue was congested.
    pub(crate) const fn on_mark(&mut self, ecn: Ecn) -> bool {
        match ecn {
            Ecn::NotEct => {}
            Ecn::Ect0 => self.ecn.ect0 += 1,
            Ecn::Ect1 => self.ecn.ect1 += 1,
            Ecn::Ce => self.ecn.ce += 1,
        }
        matches!(ecn, Ecn::Ce)
    }

    /// An acknowledgement up to `largest` has been received by the peer: it need not be told again.
    pub(crate) fn on_ack_of_ack(&mut self, largest: u64) {
        self.received.remove_below(largest);
    }

    /// Acknowledges at once, whatever has come.
    pub(crate) const fn hurry(&mut self, now: Time) {
        self.deadline = Some(now);
    }

    /// What has come is acknowledged otherwise.
    pub(crate) const fn settle(&mut self) {
        self.eliciting = 0;
        self.deadline = None;
    }

    pub(crate) const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether there is something to acknowledge, due or not.
    pub(crate) const fn is_pending(&self) -> bool {
        self.deadline.is_some()
    }

    pub(crate) fn ranges_count(&self) -> usize {
        self.received.len()
    }

    pub(crate) fn has_many_ranges(&self) -> bool {
        self.received.len() > RANGES_SHEDDING
    }

    /// Writes ACK; returns the largest number acknowledged, or nothing when there is no room.
    pub(crate) fn write(&mut self, now: Time, out: &mut Writer<'_>) -> Option<u64> {
        let delay = now.since(self.largest_received_at);
        let counts = (self.ecn != EcnCounts::default()).then_some(self.ecn);
        if !put_ack_ecn(out, delay.as_us(), self.received.descending(), counts) {
            return None;
        }
        self.settle();
        self.received.largest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Span = Span::from_ms(2);

    #[test]
    fn an_acknowledgement_waits_where_it_must_not() {
        let at = Time::from_us;
        let mut acks = Acknowledger::new();
        acks.on_packet(at(10), 0, true, DELAY);
        assert_eq!(acks.deadline(), Some(at(2_010)));
        acks.on_packet(at(20), 1, true, DELAY);
        acks.on_packet(at(20), 2, true, DELAY);
        assert!(!acks.is_due(at(20)), "three packets");
        acks.on_packet(at(20), 3, true, DELAY);
        assert!(acks.is_due(at(20)), "the fourth packet");
        let mut buffer = [0; 100];
        assert_eq!(acks.write(at(20), &mut Writer::new(&mut buffer)), Some(3));
        acks.on_packet(at(30), 5, true, DELAY);
        assert!(acks.is_due(at(30)), "a gap");
        acks.write(at(30), &mut Writer::new(&mut buffer));
        acks.on_packet(at(40), 4, true, DELAY);
        assert!(acks.is_due(at(40)), "out of order");
        acks.write(at(40), &mut Writer::new(&mut buffer));
        acks.on_packet(at(50), 6, false, DELAY);
        assert!(!acks.is_pending(), "acknowledgements would answer each other for ever");
    }
}
