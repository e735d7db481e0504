//! One step of a congestion controller: two packets sent, one acknowledgement of both.

use std::hint::black_box;

use quantum::congestion::{AckSample, CongestionController, controller};
use quantum::{Config, ControllerKind};
use wire::{Span, Time};

use crate::{Visitor, Workload};

/// Every controller that there is.
const CONTROLLERS: [(&str, ControllerKind); 1] = [("cubic", ControllerKind::Cubic)];
const DATAGRAM_BYTES: u64 = 1_200;
const RTT: Span = Span::from_ms(20);
/// Time between two acknowledgements: 200 Mbit/s.
const ACK_INTERVAL: Span = Span::from_us(96);
/// One packet is lost in so many steps: the window goes up and down, as on a real path.
const STEPS_PER_LOSS: u64 = 10_000;

pub(crate) fn visit(visitor: &mut impl Visitor) {
    for (name, kind) in CONTROLLERS {
        visitor.visit(&format!("congestion/{name}"), || Step::new(kind));
    }
}

struct Step {
    controller: Box<dyn CongestionController>,
    now: Time,
    steps: u64,
}

impl Step {
    fn new(kind: ControllerKind) -> Self {
        let config = Config { controller: kind, ..Config::default() };
        Self { controller: controller(&config), now: Time::from_us(1_000_000), steps: 0 }
    }
}

impl Workload for Step {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.now += ACK_INTERVAL;
        self.steps += 1;
        let sent = Time::from_us(self.now.as_us() - RTT.as_us());
        if self.steps.is_multiple_of(STEPS_PER_LOSS) {
            self.controller.on_congestion_event(self.now, sent, false);
        }
        let window_bytes = self.controller.window_bytes();
        self.controller.on_sent(self.now, DATAGRAM_BYTES, window_bytes);
        self.controller.on_sent(self.now, DATAGRAM_BYTES, window_bytes);
        let sample = AckSample { bytes: 2 * DATAGRAM_BYTES, sent, smoothed_rtt: RTT, window_limited: true };
        self.controller.on_ack(self.now, black_box(&sample));
    }
}
