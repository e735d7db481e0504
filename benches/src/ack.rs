//! Acknowledgements against 1,000 packets in flight, and the loss detection that each of them starts.
//!
//! Measured where the transport does it: a datagram of 60 to 130 bytes is opened, its ACK frame read, the
//! packets that it names are settled, and those that it leaves out are declared lost and queued again.

use bytes::Bytes;

use crate::pair::Pair;
use crate::{Visitor, Workload};

/// Packets in flight.
const IN_FLIGHT: usize = 1_000;
/// Ranges in the ACK frame; the last is the most that a frame carries.
const RANGES: [usize; 4] = [1, 4, 16, 32];
/// So many packets are acknowledged without waiting for more.
const AT_ONCE: usize = 4;
/// Messages of 1,000 bytes that open the window far enough.
const GROWTH_MESSAGES: usize = 200;

const _: () = assert!(RANGES[RANGES.len() - 1] == wire::frame::ACK_RANGES_MAX);

pub(crate) fn visit(visitor: &mut impl Visitor) {
    for ranges in RANGES {
        visitor.visit(&format!("ack/{ranges}_ranges"), || Ack::with_ranges(ranges));
    }
    visitor.visit("loss/none_of_1000", || Ack::of(|number| number < AT_ONCE));
    visitor.visit("loss/997_of_1000", || Ack::of(|number| number == IN_FLIGHT - 1));
}

/// A client with 1,000 packets in flight, and the acknowledgement that is about to come.
struct Ack {
    pair: Pair,
    datagram: Vec<u8>,
}

impl Ack {
    /// All arrive but `ranges - 1` of them, evenly spaced.
    fn with_ranges(ranges: usize) -> Self {
        let spacing = IN_FLIGHT / ranges;
        Self::of(|number| number % spacing != spacing - 1 || number / spacing >= ranges - 1)
    }

    /// Those arrive of which `arrives` says so.
    fn of(arrives: impl Fn(usize) -> bool) -> Self {
        let mut pair = Pair::connect();
        let growth = Bytes::from(vec![7; 1_000]);
        for _ in 0..GROWTH_MESSAGES {
            pair.send(&growth);
        }
        pair.settle();
        let message = Bytes::from_static(b"x");
        for number in 0..IN_FLIGHT {
            pair.send(&message);
            let mut datagram = pair.transmit().expect("the window is open");
            if arrives(number) {
                pair.receive(&mut datagram);
            }
        }
        let datagram = pair.transmit_back().expect("an acknowledgement is due");
        Self { pair, datagram }
    }
}

impl Workload for Ack {
    const STEPS: u64 = 1;

    fn step(&mut self) {
        self.pair.receive_back(&mut self.datagram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes in flight before and after the step, in packets, and the packets lost.
    fn outcome(mut ack: Ack) -> (u64, u64, u64) {
        let before = ack.pair.client.in_flight_bytes();
        let packet_bytes = before / IN_FLIGHT as u64;
        ack.step();
        let after = ack.pair.client.in_flight_bytes();
        (before / packet_bytes, after / packet_bytes, ack.pair.client.stats().packets_lost)
    }

    #[test]
    fn an_acknowledgement_settles_other_packets_than_it_is_named_after() {
        for ranges in RANGES {
            assert_eq!(outcome(Ack::with_ranges(ranges)), (1_000, 0, ranges as u64 - 1), "{ranges} ranges");
        }
        assert_eq!(outcome(Ack::of(|number| number < AT_ONCE)), (1_000, 996, 0));
        assert_eq!(outcome(Ack::of(|number| number == 999)), (1_000, 2, 997));
    }
}
