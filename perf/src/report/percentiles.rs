//! The percentile curve: how slow the slowest are. The axis of quantiles is logarithmic in 1 / (1 - q), so that every
//! further nine has the same room.

use super::format;
use super::frame::{Axis, Frame, Line};
use super::hdr;
use super::scale::{Domain, Kind};
use super::scene;
use super::subject::{Palette, is_floor};
use crate::result::{Latency, Run};

/// Points for each nine.
const POINTS_PER_DECADE: i32 = 16;

/// The most nines that are drawn.
const NINES_MAX: i32 = 6;

/// The distribution of one run.
pub(crate) struct Curve {
    /// Of 1 / (1 - q) and microseconds.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Curve {
    /// Of a latency; `None` where its histogram cannot be read or is empty.
    pub(crate) fn of(latency: &Latency) -> Option<Self> {
        let histogram = hdr::decode(&latency.histogram).filter(|h| !h.is_empty())?;
        let count = histogram.len() as f64;
        let mut points = Vec::new();
        for i in 0..=POINTS_PER_DECADE * NINES_MAX {
            let x = 10f64.powf(f64::from(i) / f64::from(POINTS_PER_DECADE));
            if x >= count {
                break;
            }
            // Binary fractions cannot hold a quantile such as 0.999: round what is not exact.
            let quantile = ((1.0 - 1.0 / x) * 1e12).round() / 1e12;
            points.push((x, histogram.value_at_quantile(quantile) as f64 / 1_000.0));
        }
        if count <= 10f64.powi(NINES_MAX) {
            points.push((count, histogram.max() as f64 / 1_000.0));
        }
        Some(Self { points })
    }
}

/// A run on a picture; a ghost is there to be compared with.
pub(crate) struct Drawn<'a> {
    pub(crate) run: &'a Run,
    pub(crate) curve: &'a Curve,
    pub(crate) ghost: bool,
}

/// Both axes for all curves that are to be compared.
pub(crate) fn domains(curves: &[&Curve]) -> (Domain, Domain) {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = points().map(|(x, _)| *x).fold(100.0, f64::max);
    let x = Domain { kind: Kind::Log, min: 1.0, max: most.min(10f64.powi(NINES_MAX)) };
    (x, Domain::log(points().map(|(_, y)| *y)))
}

/// One picture.
pub(crate) fn picture(
    title: &str,
    timed: &str,
    (x, y): (Domain, Domain),
    drawn: &[Drawn<'_>],
    palette: &Palette,
) -> String {
    let mut marks = vec![(1.0, Some("0".to_owned())), (2.0, Some("50".to_owned()))];
    let mut label = String::from("90");
    for nines in 1..=(x.max * 1.001).log10().floor() as i32 {
        marks.push((10f64.powi(nines), Some(label.clone())));
        label = match nines {
            1 => "99".to_owned(),
            2 => "99.9".to_owned(),
            _ => label + "9",
        };
    }
    let x_axis = Axis { title: "percentile (log of 1 / (1 - q))", marks, unit: "tail" };
    let y_title = format!("{}, log scale", timed.replace('_', " "));
    let y_axis = Axis::of(y, &y_title, "us", format::duration);
    let description = description(timed, drawn);
    let mut frame = Frame::new(title, &description, (x, &x_axis), (y, &y_axis));
    for Drawn { run, curve, ghost } in drawn {
        let slot = palette.slot(&run.subject);
        let weight = match (*ghost, is_floor(&run.subject)) {
            (true, _) => "ghost",
            (false, true) => "plain",
            (false, false) => "strong",
        };
        let dashes = if *ghost { "1 3" } else { slot.dashes() };
        let name = if *ghost { format!("{} (first)", run.subject) } else { run.subject.clone() };
        frame.line(&Line { slot, subject: &run.subject, name: &name, weight, dashes }, &curve.points);
        if let Some(last) = curve.points.last().filter(|_| !ghost) {
            frame.label(Some((slot, &run.subject)), *last, &run.subject);
        }
    }
    frame.finish()
}

fn description(timed: &str, drawn: &[Drawn<'_>]) -> String {
    let mut parts = Vec::new();
    for Drawn { run, .. } in drawn.iter().filter(|d| !d.ghost) {
        let at = |key| {
            scene::percentile(run, timed, key).map_or_else(|| "-".to_owned(), |s| format::number(s.median))
        };
        parts.push(format!(
            "{}: p50 {}, p99 {}, p99.9 {} us",
            run.subject,
            at("p50"),
            at("p99"),
            at("p99.9")
        ));
    }
    parts.join("; ")
}
