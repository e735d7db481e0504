//! One step of a congestion controller: two packets sent, one acknowledgement of both.

use std::hint::black_box;

use quantum::congestion::{AckSample, CongestionController, LossEvent, RateSample, SentSample, controller};
use quantum::{Config, ControllerKind};
use wire::{Span, Time};

use crate::{Visitor, Workload};

/// Every controller that there is.
const CONTROLLERS: [(&str, ControllerKind); 2] =
    [("bbr", ControllerKind::Bbr), ("cubic", ControllerKind::Cubic)];
const DATAGRAM_BYTES: u64 = 1_200;
const RTT: Span = Span::from_ms(20);
/// What is in flight at 200 Mbit/s.
const IN_FLIGHT_BYTES: u64 = 500_000;
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
    delivered_bytes: u64,
    steps: u64,
}

impl Step {
    fn new(kind: ControllerKind) -> Self {
        let config = Config { controller: kind, ..Config::default() };
        Self {
            controller: controller(&config, 1),
            now: Time::from_us(1_000_000),
            delivered_bytes: 0,
            steps: 0,
        }
    }
}

impl Workload for Step {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.now += ACK_INTERVAL;
        self.steps += 1;
        let sent = Time::from_us(self.now.as_us() - RTT.as_us());
        if self.steps.is_multiple_of(STEPS_PER_LOSS) {
            let event = LossEvent { sent, is_persistent: false, in_flight_bytes: IN_FLIGHT_BYTES };
            self.controller.on_congestion_event(self.now, &event);
        }
        let in_flight_bytes = self.controller.window_bytes().min(IN_FLIGHT_BYTES);
        let packet = SentSample { bytes: DATAGRAM_BYTES, in_flight_bytes, is_app_limited: false };
        self.controller.on_sent(self.now, &packet);
        self.controller.on_sent(self.now, &packet);
        self.delivered_bytes += 2 * DATAGRAM_BYTES;
        let rate = RateSample {
            bytes_per_s: 2 * DATAGRAM_BYTES * 1_000_000 / ACK_INTERVAL.as_us(),
            delivered_bytes: in_flight_bytes,
            lost_bytes: 0,
            prior_delivered_bytes: self.delivered_bytes.saturating_sub(in_flight_bytes),
            total_delivered_bytes: self.delivered_bytes,
            in_flight_at_sending_bytes: in_flight_bytes,
            is_app_limited: false,
        };
        let sample = AckSample {
            bytes: 2 * DATAGRAM_BYTES,
            sent,
            rtt: Some(RTT),
            smoothed_rtt: RTT,
            window_limited: true,
            in_flight_bytes,
            rate,
        };
        self.controller.on_ack(self.now, black_box(&sample));
    }
}
