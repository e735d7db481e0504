//! Small messages, for which all of this is made: they do not wait for a controller.

use netem::LinkSpec;
use quantum::ControllerKind;
use wire::Span;

use crate::lab::{App, Lab, path, percent};

const ONE_WAY: Span = Span::from_ms(15);

fn messages(every_us: u64) -> App {
    App::Messages { bytes: 200, every: Span::from_us(every_us) }
}

fn lab(spec: LinkSpec, app: App) -> Lab {
    let mut lab = Lab::new(spec, &[ControllerKind::Bbr]);
    lab.run(Span::from_ms(200));
    lab.set_app(0, app);
    lab
}

#[test]
fn a_message_waits_for_the_pacer_or_the_window() {
    for every_us in [200, 1_000, 20_000, 400_000] {
        let mut lab = lab(path(20.0, ONE_WAY.times(2), 2.0), messages(every_us));
        lab.run(Span::from_ms(15_000));
        let worst = lab.flow().message_delays.iter().max().copied().unwrap();
        assert!(worst < ONE_WAY + Span::from_ms(1), "{worst:?} at one in {every_us} us");
    }
}

#[test]
fn a_handful_of_messages_after_a_rest_is_spread_out() {
    let mut lab =
        lab(path(20.0, ONE_WAY.times(2), 2.0), App::Messages { bytes: 1_000, every: Span::from_ms(700) });
    for _ in 0..6 {
        lab.run(Span::from_ms(2_100));
        // Ten at once.
        lab.set_app(0, App::Messages { bytes: 1_000, every: Span::from_us(1) });
        lab.run(Span::from_us(9));
        lab.set_app(0, App::Messages { bytes: 1_000, every: Span::from_ms(700) });
    }
    lab.run(Span::from_ms(100));
    let worst = lab.flow().message_delays.iter().max().copied().unwrap();
    // Ten packets of 1,100 bytes and their headers take 4.8 ms at 20 Mbit/s.
    assert!(worst < ONE_WAY + Span::from_ms(6), "{worst:?}");
}

#[test]
fn losses_take_the_window_away_from_messages() {
    for loss in [1.0, 5.0, 20.0] {
        let mut spec = path(20.0, ONE_WAY.times(2), 2.0);
        spec.loss = percent(loss);
        let mut lab = lab(spec, messages(1_000));
        for _ in 0..200 {
            lab.run(Span::from_ms(50));
            let window = lab.flow().connection.congestion_window_bytes();
            assert!(window >= 32 * 1_200, "{window} at {loss} %: {:?}", lab.flow().model());
        }
        let in_flight = lab.flow().connection.in_flight_bytes();
        let window = lab.flow().connection.congestion_window_bytes();
        assert!(in_flight < window * 9 / 10, "{in_flight} of {window} at {loss} %");
    }
}
