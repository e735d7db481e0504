//! Startup, and its end.

use wire::Span;

use crate::lab::{App, Lab, bdp_bytes, path, percent};

const RTT: Span = Span::from_ms(30);
const MESSAGES: App = App::Messages { bytes: 200, every: Span::from_ms(1) };

/// What the link carries of our bytes, a second: IP and UDP take 28 of each packet.
pub(crate) fn link_bytes_per_s(mbit_per_s: f64) -> f64 {
    mbit_per_s * 1e6 / 8.0 * 1_200.0 / 1_228.0
}

#[test]
fn exiting_startup_on_bandwidth_plateau() {
    let mut lab = Lab::bulk(path(50.0, RTT, 3.0));
    lab.run_to("drain");
    let (found, link) = (lab.flow().max_bw() as f64, link_bytes_per_s(50.0));
    assert!((found / link - 1.0).abs() < 0.02, "{found} B/s on a link of {link}");
    assert_eq!(lab.flow().connection.stats().packets_lost, 0);
    assert!(lab.flow().model().inflight_longterm_bytes.is_none(), "it was loss that ended it");
    assert!(
        lab.flow().model().rounds.is_some_and(|rounds| (5..15).contains(&rounds)),
        "{:?}",
        lab.flow().model()
    );
}

#[test]
fn exiting_startup_on_loss_when_application_limited() {
    let mut lab = Lab::bulk(path(50.0, RTT, 3.0));
    lab.set_app(0, MESSAGES);
    lab.run(Span::from_ms(1_000));
    assert_eq!(lab.flow().phase(), "startup");
    lab.change(|spec| spec.loss = percent(45.0));
    assert!(
        lab.run_until(Span::from_ms(5_000), |lab| lab.flow().phase() != "startup"),
        "loss did not end Startup"
    );
    let longterm = lab.flow().model().inflight_longterm_bytes;
    assert!(longterm.is_some(), "the volume that was lost is not remembered");
}

#[test]
fn never_exiting_startup_when_application_limited_with_no_loss() {
    let mut lab = Lab::bulk(path(50.0, RTT, 3.0));
    lab.set_app(0, MESSAGES);
    lab.run(Span::from_ms(12_000));
    assert!(lab.flow().phases.iter().all(|(_, phase)| *phase == "startup"), "{:?}", lab.flow().phases);
}

#[test]
fn achieving_expected_startup_bandwidth_on_a_link_with_aggregation() {
    let mut lab = Lab::bulk(path(50.0, RTT, 3.0));
    lab.batch = Span::from_ms(10);
    lab.run_to("drain");
    let (found, link) = (lab.flow().max_bw() as f64, link_bytes_per_s(50.0));
    assert!((0.8..1.3).contains(&(found / link)), "{found} B/s on a link of {link}");
    lab.run_to("probe-bw-cruise");
    let window = lab.flow().connection.congestion_window_bytes();
    assert!(window > 2 * bdp_bytes(50.0, RTT), "{window}");
    assert!(
        lab.flow().model().extra_acked_bytes.is_some_and(|extra| extra > 10_000),
        "{:?}",
        lab.flow().model()
    );
}
