//! Links that become faster or slower, or are too slow for a packet.

use netem::{Capacity, QueueLimit};
use wire::Span;

use crate::lab::{Lab, path};
use crate::startup::link_bytes_per_s;

const RTT: Span = Span::from_ms(30);

#[test]
fn increasing_bandwidth_10x_and_ensuring_full_bandwidth_is_reached() {
    let mut lab = Lab::bulk(path(10.0, RTT, 4.0));
    lab.run_to("probe-bw-cruise");
    lab.change(|spec| {
        spec.capacity = Capacity::BitsPerS(100_000_000);
        spec.queue = Some(QueueLimit::Bytes(1_500_000));
    });
    lab.run_to("probe-bw-up");
    let rounds = lab.flow().model().rounds.unwrap();
    let link = link_bytes_per_s(100.0);
    let is_full = |lab: &Lab| lab.flow().max_bw() as f64 > 0.9 * link;
    assert!(lab.run_until(Span::from_ms(6_000), is_full), "{:?}", lab.flow().model());
    let taken = lab.flow().model().rounds.unwrap() - rounds;
    assert!(taken < 60, "{taken} rounds");
}

#[test]
fn decreasing_bandwidth_10x_and_ensuring_max_bandwidth_adapts_down() {
    let mut lab = Lab::bulk(path(100.0, RTT, 1.0));
    lab.run_to("probe-bw-cruise");
    lab.change(|spec| {
        spec.capacity = Capacity::BitsPerS(10_000_000);
        spec.queue = Some(QueueLimit::Bytes(40_000));
    });
    let slow = link_bytes_per_s(10.0);
    let has_adapted = |lab: &Lab| {
        lab.flow().model().bandwidth_shortterm_bytes_per_s.is_some_and(|rate| (rate as f64) < 3.0 * slow)
    };
    assert!(lab.run_until(Span::from_ms(2_000), has_adapted), "{:?}", lab.flow().model());
    let is_down = |lab: &Lab| (lab.flow().max_bw() as f64) < 1.1 * slow;
    assert!(lab.run_until(Span::from_ms(12_000), is_down), "{:?}", lab.flow().model());
    let used = lab.goodput(Span::from_ms(3_000))[0] as f64 * 8.0 / 3.0 / 10e6;
    assert!(used > 0.8, "{used}");
}

#[test]
fn correctly_managing_sub_packet_bdps() {
    let mut spec = path(0.5, Span::from_ms(10), 1.0);
    spec.queue = Some(QueueLimit::Packets(16));
    let mut lab = Lab::bulk(spec);
    lab.run_to("probe-bw-cruise");
    let window = lab.flow().connection.congestion_window_bytes();
    assert!(window >= 4 * 1_200, "{window}");
    let used = lab.goodput(Span::from_ms(10_000))[0] as f64 * 8.0 / 10.0 / 0.5e6;
    assert!(used > 0.85, "{used}");
    let window = lab.flow().connection.congestion_window_bytes();
    assert!(window < 16 * 1_452, "{window}: {:?}", lab.flow().model());
}
