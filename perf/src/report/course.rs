//! Latency over time, with what happened meanwhile.

use hdrhistogram::Histogram;

use super::format;
use super::frame::{Axis, Frame, Line, WIDTH, text_width, write};
use super::hdr;
use super::scale::Domain;
use super::subject::Palette;
use crate::result::{Interval, Latency, Mark, MarkKind, Run};

/// Slices that a picture has room for; more are merged.
const SLICES_MAX: usize = 240;

/// One slice: its middle in seconds, and microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slice {
    at_s: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// The course of a latency, merged to what a picture has room for.
pub(crate) fn slices(latency: &Latency) -> Vec<Slice> {
    let filled: Vec<&Interval> = latency.intervals.iter().filter(|interval| interval.count > 0).collect();
    let group = filled.len().div_ceil(SLICES_MAX).max(1);
    filled.chunks(group).filter_map(merge).collect()
}

fn merge(intervals: &[&Interval]) -> Option<Slice> {
    let (first, last) = (intervals.first()?, intervals.last()?);
    let at_s = (first.at_ms + last.at_ms + last.length_ms) as f64 / 2_000.0;
    if intervals.len() == 1 {
        let Interval { p50_us, p99_us, p999_us, max_us, .. } = **first;
        return Some(Slice { at_s, p50: p50_us, p99: p99_us, p999: p999_us, max: max_us });
    }
    // Percentiles cannot be averaged: the histograms are added.
    let mut sum: Histogram<u64> = hdr::empty();
    sum.auto(true);
    for interval in intervals {
        sum.add(hdr::decode(&interval.histogram)?).ok()?;
    }
    let us = |quantile| sum.value_at_quantile(quantile) as f64 / 1_000.0;
    Some(Slice { at_s, p50: us(0.5), p99: us(0.99), p999: us(0.999), max: sum.max() as f64 / 1_000.0 })
}

/// Both axes for all courses that are to be compared.
pub(crate) fn domains(courses: &[&[Slice]]) -> (Domain, Domain) {
    let slices = || courses.iter().copied().flatten();
    (Domain::from_zero(slices().map(|s| s.at_s)), Domain::log(slices().flat_map(|s| [s.p50, s.max])))
}

/// One picture: one run.
pub(crate) fn picture(
    title: &str,
    timed: &str,
    (x, y): (Domain, Domain),
    run: &Run,
    slices: &[Slice],
    palette: &Palette,
) -> String {
    let x_axis = Axis::of(x, "seconds", "s", format::count);
    let y_title = format!("{}, log scale", timed.replace('_', " "));
    let y_axis = Axis::of(y, &y_title, "us", format::duration);
    let description = description(run, slices);
    let mut frame = Frame::new(title, &description, (x, &x_axis), (y, &y_axis));
    happenings(&mut frame, &run.marks);
    let slot = palette.slot(&run.subject);
    type Part = fn(&Slice) -> f64;
    let parts: [(&str, &str, &str, Part); 4] = [
        ("max", "thin", "1 2.5", |s| s.max),
        ("p99.9", "thin", "5 2", |s| s.p999),
        ("p99", "plain", "none", |s| s.p99),
        ("p50", "strong", "none", |s| s.p50),
    ];
    for (name, weight, dashes, part) in parts {
        let points: Vec<(f64, f64)> = slices.iter().map(|slice| (slice.at_s, part(slice))).collect();
        frame.line(&Line { slot, subject: &run.subject, name, weight, dashes }, &points);
        if let Some(last) = slices.last() {
            frame.label(None, (last.at_s, part(last)), name);
        }
    }
    frame.finish()
}

fn description(run: &Run, slices: &[Slice]) -> String {
    let worst = slices.iter().map(|s| s.max).fold(0.0, f64::max);
    let mut text =
        format!("{}: {} slices of time, the greatest {}", run.subject, slices.len(), format::duration(worst));
    for mark in &run.marks {
        text.push_str(&format!("; {} at {} s: {}", word(mark.kind), mark.at_ms as f64 / 1e3, mark.text));
    }
    text
}

/// What happened: a line over the height of the picture and a sign on top of it, with its name where all names fit.
fn happenings(frame: &mut Frame, marks: &[Mark]) {
    let x = frame.x;
    let mut marks: Vec<&Mark> = marks.iter().collect();
    marks.sort_by_key(|mark| mark.at_ms);
    let ends = |mark: &Mark| x.at(mark.at_ms as f64 / 1e3) + 12.0 + text_width(word(mark.kind));
    let is_named = marks.windows(2).all(|pair| ends(pair[0]) <= x.at(pair[1].at_ms as f64 / 1e3))
        && marks.last().is_none_or(|last| ends(last) <= WIDTH);
    for mark in &marks {
        let x = x.at(mark.at_ms as f64 / 1e3);
        let (top, bottom) = (frame.y.to, frame.y.from);
        let class = format!("happened {}", word(mark.kind));
        let markup = &mut frame.markup;
        markup.tag("g").at("class", class).open();
        markup.tag("title").text(&format!("{}: {}", word(mark.kind), mark.text));
        markup.tag("line").px(&[("x1", x), ("x2", x), ("y1", top), ("y2", bottom)]).leaf();
        markup.tag("path").at("d", sign(mark.kind, x, top - 5.0)).leaf();
        if is_named {
            write(markup, "note", "start", x + 6.0, top - 1.0, word(mark.kind));
        }
        markup.close();
    }
    if !is_named {
        legend(frame, &marks);
    }
}

/// Which sign is what, beside the title of the axis.
fn legend(frame: &mut Frame, marks: &[&Mark]) {
    let mut x = WIDTH;
    for kind in [MarkKind::Stall, MarkKind::Failover, MarkKind::Rebalance, MarkKind::Snapshot] {
        let count = marks.iter().filter(|mark| mark.kind == kind).count();
        if count == 0 {
            continue;
        }
        let text = format!("{} x {count}", word(kind));
        write(&mut frame.markup, "note", "end", x, 33.0, &text);
        x -= text_width(&text) + 8.0;
        frame.markup.tag("g").at("class", format!("happened {}", word(kind))).open();
        frame.markup.tag("path").at("d", sign(kind, x, 29.0)).leaf();
        frame.markup.close();
        x -= 12.0;
    }
}

fn word(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::Snapshot => "snapshot",
        MarkKind::Rebalance => "rebalance",
        MarkKind::Failover => "failover",
        MarkKind::Stall => "stall",
    }
}

fn sign(kind: MarkKind, x: f64, y: f64) -> String {
    let relative = match kind {
        MarkKind::Snapshot => "m-3.5 -3.5h7v7h-7z",
        MarkKind::Rebalance => "m0 -4.5l4.5 4.5l-4.5 4.5l-4.5 -4.5z",
        MarkKind::Failover => "m-4.5 -4h9l-4.5 8z",
        MarkKind::Stall => "m-1.2 -4h2.4v8h-2.4z",
    };
    format!("M{x:.1} {y:.1}{relative}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(at_ms: u64, ns: u64, count: u64) -> Interval {
        let mut histogram = hdr::empty();
        histogram.record_n(ns, count).unwrap();
        let us = ns as f64 / 1e3;
        let histogram = hdr::encode(&histogram);
        Interval { at_ms, length_ms: 100, histogram, p50_us: us, p99_us: us, p999_us: us, max_us: us, count }
    }

    #[test]
    fn a_stall_is_not_averaged_away_when_slices_are_merged() {
        let intervals: Vec<Interval> =
            (0..1_000).map(|i| interval(i * 100, if i == 501 { 50_000_000 } else { 5_000 }, 10)).collect();
        let latency =
            Latency { percentiles_us: [].into(), histogram: String::new(), intervals, count: 10_000 };
        let slices = slices(&latency);
        assert!(slices.len() <= SLICES_MAX);
        let worst = slices.iter().map(|s| s.max).fold(0.0, f64::max);
        assert!((49_000.0..51_000.0).contains(&worst), "{worst}");
        assert!(slices.iter().all(|s| s.p50 < 6.0));
    }

    #[test]
    fn an_empty_slice_is_no_zero() {
        let latency = Latency {
            percentiles_us: [].into(),
            histogram: String::new(),
            intervals: vec![interval(0, 5_000, 1), interval(100, 1, 0)],
            count: 1,
        };
        assert_eq!(slices(&latency).len(), 1);
    }
}
