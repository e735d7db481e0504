//! Policers, reordering, pauses, and paths of microseconds.

use netem::{Policer, Reorder};
use quantum::ControllerKind;
use wire::Span;

use crate::lab::{App, Lab, path, percent};

const RTT: Span = Span::from_ms(30);

fn used(lab: &mut Lab, span: Span, mbit_per_s: f64) -> f64 {
    let bytes = lab.goodput(span)[0] as f64;
    bytes * 8.0 / (span.as_us() as f64 / 1e6) / (mbit_per_s * 1e6)
}

#[test]
fn handling_token_bucket_policers() {
    let mut spec = path(100.0, RTT, 1.0);
    spec.policer = Some(Policer { bits_per_s: 10_000_000, burst_bytes: 60_000 });
    let mut lab = Lab::bulk(spec);
    lab.run(Span::from_ms(6_000));
    let (sent, dropped) = (lab.up.stats().taken, lab.up.stats().dropped_policer);
    let used = used(&mut lab, Span::from_ms(10_000), 10.0);
    let (sent, dropped) = (lab.up.stats().taken - sent, lab.up.stats().dropped_policer - dropped);
    let lost = dropped as f64 / sent as f64;
    assert!(used > 0.75, "{used} of the tokens");
    assert!(lost < 0.05, "{lost} lost, {:?}", lab.flow().model());
}

#[test]
fn handling_spurious_fast_recovery() {
    let mut lab = Lab::bulk(path(50.0, RTT, 4.0));
    lab.run_to("probe-bw-cruise");
    lab.change(|spec| spec.reorder = Some(Reorder { probability: percent(0.5), delay: Span::from_ms(4) }));
    lab.run_to("probe-bw-up");
    let used = used(&mut lab, Span::from_ms(3_000), 50.0);
    let stats = *lab.flow().connection.stats();
    assert!(stats.spurious_episodes > 5, "{stats:?}");
    assert!(used > 0.85, "{used}");
    assert!(
        lab.flow().model().inflight_longterm_bytes.is_none_or(|volume| volume > 180_000),
        "{:?}",
        lab.flow().model()
    );
}

#[test]
fn handling_spurious_rto_recovery() {
    for pause_ms in [120, 250, 500] {
        let mut lab = Lab::bulk(path(50.0, RTT, 4.0));
        lab.run_to("probe-bw-cruise");
        lab.run(Span::from_ms(300));
        let (before, timeouts) = (lab.flow().max_bw(), lab.flow().connection.stats().probe_timeouts);
        lab.suspend(Span::from_ms(pause_ms));
        lab.run(Span::from_ms(pause_ms + 100));
        assert!(lab.flow().connection.stats().probe_timeouts > timeouts, "the pause was not noticed");
        let used = used(&mut lab, Span::from_ms(2_000), 50.0);
        assert!(used > 0.85, "{used} after {pause_ms} ms");
        assert!(lab.flow().max_bw() > before * 9 / 10);
        assert_eq!(lab.flow().connection.stats().persistent_congestions, 0);
    }
}

#[test]
fn scans_of_a_radio_take_more_than_their_time() {
    let mut lab = Lab::bulk(path(50.0, RTT, 4.0));
    lab.run(Span::from_ms(2_000));
    let before = lab.flow().arrived_bytes;
    for _ in 0..6 {
        lab.suspend(Span::from_ms(250));
        lab.run(Span::from_ms(1_500));
    }
    let used = (lab.flow().arrived_bytes - before) as f64 * 8.0 / 9.0 / 50e6;
    assert!(used > 0.75, "{used} of the time, a sixth of which nothing passed");
}

#[test]
fn the_window_freezes_on_a_path_of_microseconds() {
    // Links count in microseconds: beyond this a packet takes more of them than it should.
    for (rtt_us, mbit_per_s) in [(20, 5_000.0), (100, 5_000.0), (20, 1_000.0)] {
        let mut spec = path(mbit_per_s, Span::from_us(rtt_us), 1.0);
        spec.queue = Some(netem::QueueLimit::Bytes(400_000));
        let mut lab = Lab::new(spec, &[ControllerKind::Bbr]);
        // It begins with a message now and then, as everybody does.
        lab.set_app(0, App::Messages { bytes: 100, every: Span::from_us(700) });
        lab.run(Span::from_ms(50));
        lab.set_app(0, App::Bulk);
        lab.run(Span::from_ms(10));
        let used = used(&mut lab, Span::from_ms(15), mbit_per_s);
        let connection = &lab.flow().connection;
        let (window, pace) = (connection.congestion_window_bytes(), connection.pacing_rate_bytes_per_s());
        let model = lab.flow().model();
        assert!(used > 0.7, "{used} of {mbit_per_s} Mbit/s, {rtt_us} us: {window}, {pace:?}, {model:?}");
    }
}
