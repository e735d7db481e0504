//! A sender finds the rate of its path, and holds it.

mod common;

use common::{Link, Pair, message};
use wire::Span;

/// Bytes that arrive in ten seconds over a path, as part of what it carries, and the part that was dropped.
fn utilization(link: Link) -> (f64, f64) {
    let mut pair = Pair::new(3, link);
    let end = pair.now + Span::from_ms(10_000);
    let mut number = 0;
    while pair.now < end {
        while pair.client.send_room() > 7 << 20 {
            pair.send(message(number, 1_000));
            number += 1;
        }
        pair.run(Span::from_ms(10));
    }
    let arrived = pair.at_node.messages.len() as f64 * 1_000.0;
    let dropped = pair.bottleneck_drops as f64 / pair.client_sent.len() as f64;
    (arrived / (link.bytes_per_ms as f64 * 10_000.0), dropped)
}

#[test]
fn a_path_is_left_idle_or_flooded() {
    for (bytes_per_ms, delay_us, queue_bytes) in
        [(1_250, 10_000, 30_000), (125, 30_000, 20_000), (12_500, 500, 100_000), (2_500, 50_000, 250_000)]
    {
        let link = Link { delay_us, bytes_per_ms, queue_bytes, ..Link::default() };
        let (used, dropped) = utilization(link);
        let path = format!("{bytes_per_ms} B/ms, {delay_us} us: used {used:.3}, dropped {dropped:.4}");
        assert!(used > 0.85, "{path}");
        assert!(dropped < 0.04, "{path}");
    }
}

#[test]
fn random_loss_stops_the_sender() {
    let link = Link { loss: 1, delay_us: 5_000, bytes_per_ms: 1_250, queue_bytes: 60_000, ..Link::default() };
    let (used, _) = utilization(link);
    assert!(used > 0.7, "used {used:.3} of 10 Mbit/s with 1 % loss and 10 ms");
}
