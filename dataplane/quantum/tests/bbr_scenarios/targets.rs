//! What it must reach with a backlog: the link filled, and its queue not.

use wire::Span;

use crate::lab::{App, Lab, path, percent};
use crate::startup::link_bytes_per_s;

const RTT: Span = Span::from_ms(40);

/// The part of the link's rate, headers not counted, and of the round trip that 95 of 100 packets spend in the queue at
/// most, over 12 s behind the first second.
fn bulk(loss_percent: f64) -> (f64, f64) {
    let mut spec = path(100.0, RTT, 1.0);
    spec.loss = percent(loss_percent);
    let mut lab = Lab::bulk(spec);
    lab.run(Span::from_ms(1_000));
    lab.queue_delays.clear();
    let bytes = lab.goodput(Span::from_ms(12_000))[0];
    let queue = lab.queue_delay(0.95).as_us() as f64 / RTT.as_us() as f64;
    let carried = bytes as f64 / 12.0 / (1.0 - loss_percent / 100.0);
    assert!(lab.flow().app == App::Bulk);
    (carried / link_bytes_per_s(100.0), queue)
}

#[test]
fn a_link_is_left_idle_or_its_queue_is_filled() {
    for loss_percent in [0.0, 1.0] {
        let (used, queue) = bulk(loss_percent);
        println!("{loss_percent} % loss: {used:.3} of the link, queue p95 {queue:.2} RTT");
        assert!(used > 0.9, "{used:.3} of the link at {loss_percent} % loss");
        assert!(queue < 0.5, "queue p95 {queue:.2} RTT at {loss_percent} % loss");
    }
}
