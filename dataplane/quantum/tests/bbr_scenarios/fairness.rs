//! Two flows on one bottleneck: neither starves the other.

use quantum::ControllerKind::{self, Bbr, Cubic};
use wire::Span;

use crate::lab::{App, Lab, path};

/// What each of two flows gets of the bottleneck, the second two seconds later than the first, over 20 s; and Jain's index.
fn shares(kinds: [ControllerKind; 2], queue_bdp: f64) -> ([f64; 2], f64) {
    let mut lab = Lab::new(path(30.0, Span::from_ms(30), queue_bdp), &kinds);
    lab.set_app(0, App::Bulk);
    lab.run(Span::from_ms(2_000));
    lab.set_app(1, App::Bulk);
    lab.run(Span::from_ms(5_000));
    let bytes = lab.goodput(Span::from_ms(20_000));
    let (first, second) = (bytes[0] as f64, bytes[1] as f64);
    let sum = first + second;
    let jain = sum * sum / 2.0 / (first * first + second * second);
    println!("{kinds:?}, queue {queue_bdp} BDP: {:.2} and {:.2}, Jain {jain:.3}", first / sum, second / sum);
    assert!(sum * 8.0 / 20.0 / 30e6 > 0.85, "{kinds:?}: the link is left idle");
    ([first / sum, second / sum], jain)
}

#[test]
fn a_bbr_flow_starves_another() {
    for queue_bdp in [0.5, 1.0, 2.0, 4.0] {
        let (shares, jain) = shares([Bbr, Bbr], queue_bdp);
        assert!(jain > 0.85, "{shares:?} at {queue_bdp} BDP");
    }
}

#[test]
fn bbr_and_cubic_starve_each_other() {
    for queue_bdp in [0.5, 1.0, 2.0, 4.0] {
        for kinds in [[Bbr, Cubic], [Cubic, Bbr]] {
            let (shares, _) = shares(kinds, queue_bdp);
            assert!(shares.iter().all(|share| *share > 0.2), "{kinds:?} {shares:?} at {queue_bdp} BDP");
        }
    }
}
