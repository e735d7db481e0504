//! Cores against throughput, with the line of a machine that loses nothing by sharing work.

use super::format::{self, Name};
use super::frame::{Axis, Frame, Line};
use super::scale::Domain;
use super::scene::{self, Scene};
use super::subject::Palette;
use crate::result::Spread;

/// Parameters that count cores.
pub(crate) const CORE_PARAMETERS: [&str; 2] = ["cores", "shards"];

/// One subject on more and more cores.
pub(crate) struct Curve<'a> {
    subject: &'a str,
    /// Cores and throughput, rising.
    points: Vec<(f64, Spread)>,
}

/// The figure that stands for throughput: the first that counts something a second.
pub(crate) fn throughput<'a>(scene: &Scene<'a>) -> Option<&'a str> {
    let runs = scene.runs.iter().filter(|placed| scene::passed(placed.run));
    runs.flat_map(|placed| placed.run.figures.keys()).map(String::as_str).find(|key| key.ends_with("_per_s"))
}

/// The curves of one report; empty where no subject ran on two numbers of cores.
pub(crate) fn curves<'a>(scene: &Scene<'a>, source: usize, figure: &str) -> Vec<Curve<'a>> {
    let mut curves = Vec::new();
    for subject in scene.subjects() {
        let mut points: Vec<(f64, Spread)> = Vec::new();
        for run in scene.of(source).filter(|run| run.subject == subject) {
            let cores = CORE_PARAMETERS.iter().find_map(|key| run.parameters.get(*key)?.as_f64());
            points.extend(cores.zip(scene::figure(run, figure)));
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if points.first().zip(points.last()).is_some_and(|(first, last)| first.0 < last.0) {
            curves.push(Curve { subject, points });
        }
    }
    curves
}

impl Curve<'_> {
    /// What each core did where there were fewest, times as many cores.
    fn ideal(&self, cores: f64) -> f64 {
        self.points.first().map_or(0.0, |(fewest, spread)| spread.median / fewest * cores)
    }
}

/// Both axes for all curves that are to be compared.
pub(crate) fn domains(curves: &[Vec<Curve<'_>>]) -> (Domain, Domain) {
    let most = curves.iter().flatten().flat_map(|c| &c.points).map(|(cores, _)| *cores).fold(1.0, f64::max);
    let measured = curves.iter().flatten().flat_map(|c| &c.points).map(|(_, spread)| spread.max);
    let ideal = curves.iter().flatten().map(|curve| curve.ideal(most));
    (Domain::from_zero([most]), Domain::from_zero(measured.chain(ideal)))
}

/// One picture.
pub(crate) fn picture(
    title: &str,
    figure: &str,
    (x, y): (Domain, Domain),
    curves: &[Curve<'_>],
    palette: &Palette,
) -> String {
    let mut x_axis = Axis::of(x, "cores", "plain", format::count);
    x_axis.marks.retain(|(value, _)| value.fract() == 0.0);
    let Name { what, unit } = format::name(figure);
    let y_title = format!("{what} {unit}; dashed: ideal");
    let y_axis = Axis::of(y, &y_title, "plain", format::count);
    let told = curves.iter().map(|curve| match curve.points.last() {
        Some((cores, spread)) => {
            let share = spread.median / curve.ideal(*cores) * 100.0;
            format!("{}: {} % of ideal on {cores} cores", curve.subject, format::number(share))
        }
        None => String::new(),
    });
    let description = told.collect::<Vec<_>>().join("; ");
    let mut frame = Frame::new(title, &description, (x, &x_axis), (y, &y_axis));
    for curve in curves {
        let Curve { subject, points } = curve;
        let slot = palette.slot(subject);
        let most = points.last().map_or(1.0, |(cores, _)| *cores);
        let name = format!("{subject} ideal");
        let ideal = Line { slot, subject, name: &name, weight: "ghost", dashes: "4 4" };
        frame.line(&ideal, &[(0.0, 0.0), (most, curve.ideal(most))]);
        let measured: Vec<(f64, f64)> = points.iter().map(|(cores, s)| (*cores, s.median)).collect();
        frame.line(&Line { slot, subject, name: subject, weight: "strong", dashes: "none" }, &measured);
        for (cores, spread) in points {
            let word = format!("{subject} on {cores} cores: {} {unit}", format::number(spread.median));
            frame.mark(slot, subject, (*cores, spread.median), &word);
        }
        if let Some((cores, spread)) = points.last() {
            let share = spread.median / curve.ideal(*cores) * 100.0;
            frame.label(
                Some((slot, subject)),
                (*cores, spread.median),
                &format!("{subject} {} %", format::number(share)),
            );
        }
    }
    frame.finish()
}
