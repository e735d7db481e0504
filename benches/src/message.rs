//! A message through the whole transport, both ends in one thread: send, seal, open, deliver, acknowledge.

use bytes::Bytes;

use crate::pair::Pair;
use crate::{Visitor, Workload};

const MESSAGE_BYTES: [usize; 3] = [64, 200, 1_000];

pub(crate) fn visit(visitor: &mut impl Visitor) {
    for bytes in MESSAGE_BYTES {
        visitor.visit(&format!("message/{bytes}_bytes"), || OneWay::new(bytes));
    }
    visitor.visit("message/echo_64_bytes", || Echo::new(64));
    visitor.visit("message/handshake", || Handshake);
}

/// A message to the node; every second is acknowledged at once, as in `PROTOCOL.md`.
struct OneWay {
    pair: Pair,
    message: Bytes,
}

impl OneWay {
    fn new(bytes: usize) -> Self {
        Self { pair: Pair::connect(), message: vec![7; bytes].into() }
    }
}

impl Workload for OneWay {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.pair.send(&self.message);
        self.pair.exchange();
    }
}

/// A message to the node and one back, which carries the acknowledgement.
struct Echo {
    pair: Pair,
    message: Bytes,
}

impl Echo {
    fn new(bytes: usize) -> Self {
        Self { pair: Pair::connect(), message: vec![7; bytes].into() }
    }
}

impl Workload for Echo {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.pair.send(&self.message);
        self.pair.deliver_to_node();
        self.pair.send_back(&self.message);
        self.pair.exchange();
    }
}

/// Ticket, Noise and first acknowledgements, both sides, with an endpoint of its own.
struct Handshake;

impl Workload for Handshake {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        Pair::connect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_leaves_its_message_behind() {
        let mut one_way = OneWay::new(1_000);
        let mut echo = Echo::new(64);
        for _ in 0..10_000 {
            one_way.step();
            echo.step();
        }
        for pair in [&one_way.pair, &echo.pair] {
            assert_eq!(pair.at_node.messages, 10_000);
            assert_eq!((pair.client.stats().packets_lost, pair.client.stats().probe_timeouts), (0, 0));
        }
    }
}
