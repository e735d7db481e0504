//! Drain, and its end.

use netem::Capacity;
use wire::Span;

use crate::lab::{Lab, bdp_bytes, path};

const RTT: Span = Span::from_ms(30);

#[test]
fn exiting_drain_based_on_inflight() {
    let mut lab = Lab::bulk(path(50.0, RTT, 3.0));
    lab.run_to("drain");
    let flow = lab.flow();
    let pace = flow.connection.pacing_rate_bytes_per_s().unwrap() as f64;
    assert!((pace / (0.5 * flow.max_bw() as f64) - 0.99).abs() < 0.01, "{pace} of {}", flow.max_bw());
    let rounds = flow.model().rounds.unwrap();
    assert!(flow.connection.in_flight_bytes() > bdp_bytes(50.0, RTT) * 3 / 2);
    assert!(lab.run_until(Span::from_ms(1_000), |lab| lab.flow().phase() != "drain"));
    let in_flight = lab.flow().connection.in_flight_bytes();
    assert!(in_flight < bdp_bytes(50.0, RTT) * 11 / 10, "{in_flight}");
    assert!(lab.flow().model().rounds.unwrap() - rounds <= 3);
}

#[test]
fn exiting_drain_based_on_time() {
    let mut lab = Lab::bulk(path(50.0, RTT, 8.0));
    lab.run_to("drain");
    // So slow that half of the rate that was found does not empty the queue.
    lab.change(|spec| spec.capacity = Capacity::BitsPerS(20_000_000));
    let rounds = lab.flow().model().rounds.unwrap();
    assert!(
        lab.run_until(Span::from_ms(3_000), |lab| lab.flow().phase() != "drain"),
        "{:?}",
        lab.flow().model()
    );
    assert_eq!(lab.flow().phase(), "probe-bw-down");
    let taken = lab.flow().model().rounds.unwrap() - rounds;
    assert!((3..=5).contains(&taken), "{taken} rounds");
    assert!(lab.flow().connection.in_flight_bytes() > bdp_bytes(50.0, RTT));
}
