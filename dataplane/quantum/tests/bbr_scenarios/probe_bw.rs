//! The cycle of ProbeBW.

use netem::Capacity;
use wire::Span;

use crate::lab::{App, Lab, bdp_bytes, path, percent};

const RTT: Span = Span::from_ms(30);
const MESSAGES: App = App::Messages { bytes: 200, every: Span::from_ms(5) };

fn pacing_gain(lab: &Lab) -> f64 {
    let flow = lab.flow();
    let bandwidth = flow.max_bw().min(flow.model().bandwidth_shortterm_bytes_per_s.unwrap_or(u64::MAX));
    flow.connection.pacing_rate_bytes_per_s().unwrap() as f64 / bandwidth as f64 / 0.99
}

#[test]
fn exiting_probe_up_on_bandwidth_plateau() {
    let mut lab = Lab::bulk(path(50.0, RTT, 4.0));
    lab.run_to("probe-bw-up");
    assert!((pacing_gain(&lab) - 1.25).abs() < 0.01);
    let rounds = lab.flow().model().rounds.unwrap();
    assert!(lab.run_until(Span::from_ms(1_000), |lab| lab.flow().phase() != "probe-bw-up"));
    assert_eq!(lab.flow().phase(), "probe-bw-down");
    let taken = lab.flow().model().rounds.unwrap() - rounds;
    assert!((2..=4).contains(&taken), "{taken} rounds");
    assert_eq!(lab.flow().connection.stats().packets_lost, 0);
}

#[test]
fn exiting_probe_up_on_loss_when_application_limited() {
    let mut lab = Lab::short_bulk(path(50.0, RTT, 4.0));
    lab.run_to("probe-bw-up");
    lab.set_app(0, MESSAGES);
    lab.run(Span::from_ms(100));
    assert_eq!(lab.flow().phase(), "probe-bw-up");
    let longterm = lab.flow().model().inflight_longterm_bytes;
    lab.change(|spec| spec.loss = percent(20.0));
    assert!(
        lab.run_until(Span::from_ms(1_000), |lab| lab.flow().phase() != "probe-bw-up"),
        "loss did not end it"
    );
    assert_eq!(lab.flow().phase(), "probe-bw-down");
    assert_eq!(
        lab.flow().model().inflight_longterm_bytes,
        longterm,
        "a few messages say nothing about the volume"
    );
}

#[test]
fn never_exiting_probe_up_when_application_limited_with_no_loss() {
    let mut lab = Lab::short_bulk(path(50.0, RTT, 4.0));
    lab.run_to("probe-bw-up");
    lab.set_app(0, MESSAGES);
    let since = lab.now;
    lab.run(Span::from_ms(8_000));
    assert_eq!(lab.flow().phase(), "probe-bw-up");
    assert_eq!(lab.flow().entered("probe-bw-down", since), 0);
}

#[test]
fn exiting_probe_down_on_inflight() {
    let mut lab = Lab::bulk(path(50.0, RTT, 4.0));
    lab.run_to("probe-bw-up");
    lab.run_to("probe-bw-down");
    assert!((pacing_gain(&lab) - 0.9).abs() < 0.01);
    assert!(lab.flow().connection.in_flight_bytes() > bdp_bytes(50.0, RTT) * 11 / 10);
    assert!(lab.run_until(Span::from_ms(1_000), |lab| lab.flow().phase() != "probe-bw-down"));
    assert_eq!(lab.flow().phase(), "probe-bw-cruise");
    let in_flight = lab.flow().connection.in_flight_bytes();
    assert!(in_flight < bdp_bytes(50.0, RTT) * 11 / 10, "{in_flight}");
}

#[test]
fn exiting_probe_down_after_max_time() {
    let mut lab = Lab::bulk(path(50.0, RTT, 8.0));
    lab.run_to("probe-bw-up");
    lab.run_to("probe-bw-down");
    lab.change(|spec| spec.capacity = Capacity::BitsPerS(40_000_000));
    let since = lab.now;
    assert!(lab.run_until(Span::from_ms(3_500), |lab| lab.flow().phase() == "probe-bw-refill"));
    assert_eq!(lab.flow().entered("probe-bw-cruise", since), 0);
    assert!(lab.now.since(since) > Span::from_ms(1_000), "{:?}", lab.now.since(since));
}

#[test]
fn achieving_expected_cruise_bandwidth_on_a_link_with_aggregation() {
    let mut lab = Lab::bulk(path(50.0, RTT, 4.0));
    lab.run_to("probe-bw-cruise");
    lab.batch = Span::from_ms(10);
    lab.run(Span::from_ms(500));
    let used = lab.goodput(Span::from_ms(3_000))[0] as f64 * 8.0 / 3.0 / 50e6;
    assert!(used > 0.85, "{used}");
    // Half of what passes in a slot, at the least.
    assert!(
        lab.flow().model().extra_acked_bytes.is_some_and(|extra| extra > 30_000),
        "{:?}",
        lab.flow().model()
    );
}

#[test]
fn handling_loss_during_probe_up_after_inflight_longterm_is_set() {
    let mut lab = Lab::bulk(path(50.0, RTT, 0.2));
    let is_known = |lab: &Lab| lab.flow().model().inflight_longterm_bytes.is_some();
    assert!(lab.run_until(Span::from_ms(15_000), is_known), "a queue so short must show itself");
    lab.run_to("probe-bw-cruise");
    lab.run_to("probe-bw-up");
    let before = lab.flow().model().inflight_longterm_bytes.unwrap();
    lab.change(|spec| spec.loss = percent(8.0));
    let rounds = lab.flow().model().rounds.unwrap();
    assert!(lab.run_until(Span::from_ms(500), |lab| lab.flow().phase() != "probe-bw-up"));
    assert_eq!(lab.flow().phase(), "probe-bw-down");
    assert!(lab.flow().model().rounds.unwrap() - rounds <= 2);
    let after = lab.flow().model().inflight_longterm_bytes.unwrap();
    assert!(
        after <= before + 2 * 1_200 && after as f64 >= 0.6 * bdp_bytes(50.0, RTT) as f64,
        "{before} to {after}"
    );
}

#[test]
fn handling_application_limited_sending_during_probe_refill() {
    let mut lab = Lab::short_bulk(path(50.0, RTT, 4.0));
    lab.run_to("probe-bw-refill");
    let before = lab.flow().max_bw();
    lab.set_app(0, MESSAGES);
    lab.run_to("probe-bw-up");
    lab.run(Span::from_ms(300));
    let after = lab.flow().max_bw();
    assert!(after >= before && after < before * 11 / 10, "{before} to {after}");
    lab.set_app(0, App::Bulk);
    let used = lab.goodput(Span::from_ms(2_000))[0] as f64 * 8.0 / 2.0 / 50e6;
    assert!(used > 0.85, "{used}");
}
