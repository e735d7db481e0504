//! Throughput against latency: how far a subject can be driven before its queue grows.

use super::format;
use super::frame::{Axis, Frame, Line};
use super::scale::{Domain, Kind};
use super::scene::{self, Scene};
use super::subject::Palette;
use crate::result::{Pace, Run};

/// The knee: the highest rate whose p99 is within this factor of the least p99 of the curve.
const KNEE_FACTOR: f64 = 2.0;

/// Rates that reach farther than this factor are drawn on a logarithmic axis.
const LINEAR_SPAN_MAX: f64 = 20.0;

/// One subject at its rates.
pub(crate) struct Curve<'a> {
    subject: &'a str,
    /// Rate and percentiles, rising.
    points: Vec<Point>,
    /// Rates that it failed at.
    failed: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    rate: f64,
    p50: f64,
    p99: f64,
}

fn rate(run: &Run) -> Option<f64> {
    match run.pace {
        Pace::Open { rate_per_s } => Some(rate_per_s),
        Pace::Closed | Pace::Saturating => None,
    }
}

/// The curves of one report under one load; empty where no subject was driven at two rates.
pub(crate) fn curves<'a>(scene: &Scene<'a>, source: usize, timed: &str) -> Vec<Curve<'a>> {
    let mut curves = Vec::new();
    for subject in scene.subjects() {
        let mut curve = Curve { subject, points: Vec::new(), failed: Vec::new() };
        for run in scene.of(source).filter(|run| run.subject == subject) {
            let Some(rate) = rate(run) else { continue };
            let at = |key| scene::percentile(run, timed, key).map(|spread| spread.median);
            match at("p50").zip(at("p99")) {
                Some((p50, p99)) => curve.points.push(Point { rate, p50, p99 }),
                None => curve.failed.push(rate),
            }
        }
        curve.points.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        if !curve.points.is_empty() && curve.points.len() + curve.failed.len() > 1 {
            curves.push(curve);
        }
    }
    curves
}

impl Curve<'_> {
    fn knee(&self) -> Option<Point> {
        let least = self.points.iter().map(|p| p.p99).fold(f64::INFINITY, f64::min);
        let knee = self.points.iter().rev().find(|p| p.p99 <= least * KNEE_FACTOR).copied()?;
        // Without a rate beyond it that is worse, the knee was not reached.
        let beyond =
            self.points.iter().map(|p| p.rate).chain(self.failed.iter().copied()).any(|r| r > knee.rate);
        beyond.then_some(knee)
    }
}

/// Both axes for all curves that are to be compared.
pub(crate) fn domains(curves: &[Vec<Curve<'_>>]) -> (Domain, Domain) {
    let points = || curves.iter().flatten().flat_map(|curve| &curve.points);
    let rates =
        || points().map(|p| p.rate).chain(curves.iter().flatten().flat_map(|c| c.failed.iter().copied()));
    let (least, most) = rates().fold((f64::INFINITY, 0.0_f64), |(a, b), r| (a.min(r), b.max(r)));
    let x = if most / least > LINEAR_SPAN_MAX { Domain::log(rates()) } else { Domain::from_zero(rates()) };
    (x, Domain::log(points().flat_map(|p| [p.p50, p.p99])))
}

/// One picture.
pub(crate) fn picture(
    title: &str,
    timed: &str,
    (x, y): (Domain, Domain),
    curves: &[Curve<'_>],
    palette: &Palette,
) -> String {
    let scale = if x.kind == Kind::Log { "messages/s, log scale" } else { "messages/s" };
    let x_axis = Axis::of(x, scale, "per_s", format::count);
    let y_title = format!("{}: p99, and p50 fainter; ring: knee; cross: failed", timed.replace('_', " "));
    let y_axis = Axis::of(y, &y_title, "us", format::duration);
    let mut frame = Frame::new(title, &description(curves), (x, &x_axis), (y, &y_axis));
    for (i, curve) in curves.iter().enumerate() {
        draw(&mut frame, curve, i, palette);
    }
    frame.finish()
}

/// Draws the curve with this index: crosses of several curves stand below each other.
fn draw(frame: &mut Frame, curve: &Curve<'_>, index: usize, palette: &Palette) {
    let Curve { subject, points, failed } = curve;
    let slot = palette.slot(subject);
    let names = [format!("{subject} p50"), format!("{subject} p99")];
    let of =
        |part: fn(&Point) -> f64| -> Vec<(f64, f64)> { points.iter().map(|p| (p.rate, part(p))).collect() };
    for (name, weight, values) in [(&names[0], "ghost", of(|p| p.p50)), (&names[1], "strong", of(|p| p.p99))]
    {
        frame.line(&Line { slot, subject, name, weight, dashes: slot.dashes() }, &values);
    }
    for Point { rate, p99, .. } in points {
        let word = format!("{subject} at {}/s: p99 {}", format::number(*rate), format::duration(*p99));
        frame.mark(slot, subject, (*rate, *p99), &word);
    }
    let knee = curve.knee();
    if let Some(Point { rate, p99, .. }) = knee {
        let place = [("cx", frame.x.at(rate)), ("cy", frame.y.at(p99)), ("r", 9.0)];
        frame.markup.tag("circle").at("class", format!("ring {}", slot.class())).px(&place).leaf();
    }
    for rate in failed {
        let (x, y) = (frame.x.at(*rate), frame.y.to + 6.0 + 11.0 * index as f64);
        let cross = format!("M{x:.1} {y:.1}m-4 -4l8 8m0 -8l-8 8");
        frame.markup.tag("path").at("class", format!("cross {}", slot.class())).at("d", cross).open();
        frame.markup.tag("title").text(&format!("{subject} failed at {}/s", format::number(*rate)));
        frame.markup.close();
    }
    if let Some(last) = points.last() {
        frame.label(Some((slot, subject)), (last.rate, last.p99), subject);
    }
}

fn description(curves: &[Curve<'_>]) -> String {
    let told = curves.iter().map(|curve| match curve.knee() {
        Some(knee) => format!(
            "{}: knee at {}/s, p99 {}",
            curve.subject,
            format::number(knee.rate),
            format::duration(knee.p99)
        ),
        None => format!("{}: no knee within the rates tried", curve.subject),
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64)], failed: &[f64]) -> Curve<'static> {
        let points = points.iter().map(|&(rate, p99)| Point { rate, p50: p99 / 2.0, p99 }).collect();
        Curve { subject: "quantum", points, failed: failed.to_vec() }
    }

    #[test]
    fn the_knee_is_the_last_good_rate() {
        let bent = curve(&[(1e4, 10.0), (2e4, 11.0), (4e4, 19.0), (8e4, 400.0)], &[]);
        assert_eq!(bent.knee().map(|p| p.rate), Some(4e4));
    }

    #[test]
    fn a_rate_that_failed_bends_the_curve() {
        assert_eq!(curve(&[(1e4, 10.0)], &[2e4]).knee().map(|p| p.rate), Some(1e4));
    }

    #[test]
    fn a_flat_curve_has_no_knee_yet() {
        assert!(curve(&[(1e4, 10.0), (2e4, 11.0)], &[]).knee().is_none());
    }
}
