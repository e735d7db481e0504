//! When the path is emptied to measure it, and when it is not.

use wire::Span;

use crate::lab::{App, Lab, bdp_bytes, path};

const RTT: Span = Span::from_ms(30);

/// A flow whose path has become longer: its least round trip is not met any more.
fn on_a_longer_path() -> Lab {
    let mut lab = Lab::short_bulk(path(20.0, RTT, 4.0));
    lab.run_to("probe-bw-cruise");
    lab.change(|spec| spec.delay = spec.delay + Span::from_ms(6));
    lab
}

#[test]
fn entering_and_exiting_probe_rtt() {
    let mut lab = on_a_longer_path();
    lab.run(Span::from_ms(4_000));
    assert_eq!(lab.flow().entered("probe-rtt", wire::Time::ZERO), 0, "too early");
    lab.run_to("probe-rtt");
    let begun = lab.now;
    lab.run(Span::from_ms(100));
    let window = lab.flow().connection.congestion_window_bytes();
    assert!(window <= bdp_bytes(20.0, RTT) * 6 / 10, "{window}");
    assert!(lab.run_until(Span::from_ms(1_000), |lab| lab.flow().phase() != "probe-rtt"));
    assert!(lab.flow().phase().starts_with("probe-bw"), "{}", lab.flow().phase());
    let took = lab.now.since(begun);
    assert!(took >= Span::from_ms(200) && took < Span::from_ms(400), "{took:?}");
    let used = lab.goodput(Span::from_ms(2_000))[0] as f64 * 8.0 / 2.0 / 20e6;
    assert!(used > 0.85, "{used}");
}

#[test]
fn a_longer_path_is_never_believed() {
    let mut lab = on_a_longer_path();
    lab.run(Span::from_ms(13_000));
    let rtt = lab.flow().model().rtt_min.unwrap();
    assert!(rtt > Span::from_ms(35) && rtt < Span::from_ms(39), "{rtt:?}");
}

#[test]
fn skipping_probe_rtt_due_to_application_limited_sending() {
    let mut lab = on_a_longer_path();
    lab.set_app(0, App::Silent);
    lab.run(Span::from_ms(6_000));
    assert_eq!(lab.flow().connection.in_flight_bytes(), 0);
    let since = lab.now;
    lab.set_app(0, App::Bulk);
    lab.run(Span::from_ms(2_000));
    assert_eq!(lab.flow().entered("probe-rtt", since), 0);
}

#[test]
fn a_trickle_of_messages_is_held_up_to_measure_the_path() {
    let mut lab = on_a_longer_path();
    lab.set_app(0, App::Messages { bytes: 300, every: Span::from_ms(7) });
    lab.run(Span::from_ms(200));
    let since = lab.now;
    lab.run(Span::from_ms(20_000));
    assert_eq!(lab.flow().entered("probe-rtt", since), 0);
}

#[test]
fn a_path_that_shows_itself_to_be_empty_is_emptied() {
    let mut lab = Lab::bulk(path(20.0, RTT, 4.0));
    lab.run(Span::from_ms(20_000));
    assert_eq!(lab.flow().entered("probe-rtt", wire::Time::ZERO), 0, "{:?}", lab.flow().phases);
}
