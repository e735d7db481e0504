//! The picture for a README: one file that stands alone, with the ground that it was drawn for.

use super::bars;
use super::format;
use super::frame::{open_picture, write};
use super::markup::{Markup, Px};
use super::percentiles::{self, Curve, Drawn};
use super::scale::{Domain, Scale};
use super::scene::{self, Scene};
use super::subject::{self, Palette};
use super::{Source, html};
use crate::result::{Pace, Run, Waiting};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
const ROW: f64 = 27.0;
const LEFT: f64 = 130.0;
/// Room for the figures behind the marks.
const RIGHT: f64 = 140.0;

/// The picture of the first of these reports; `None` where it holds nothing to draw.
pub(crate) fn plot(source: Source<'_>) -> Option<String> {
    let palette = Palette::of(&[source]);
    let scenes = scene::scenes(&[source]);
    let mut parts = Vec::new();
    if let Some(scene) = echo(&scenes) {
        parts.push(round_trips(scene, &palette));
    }
    parts.extend(bulk(&scenes, &palette));
    if parts.is_empty() {
        parts.extend(curves(&scenes, &palette));
    }
    if parts.is_empty() { None } else { Some(stack(&parts, source)) }
}

/// Smallest message, closed loop, polling: the floor and who comes near it.
fn echo<'a, 'b>(scenes: &'b [Scene<'a>]) -> Option<&'b Scene<'a>> {
    let fit = |scene: &&Scene<'_>| {
        scene.workload == "rtt"
            && scene.runs.iter().any(|placed| scene::passed(placed.run))
            && scene.runs.iter().all(|p| p.run.pace == Pace::Closed && p.run.waiting == Waiting::Polling)
    };
    scenes.iter().filter(fit).max_by_key(|scene| {
        let size = scene.runs.first().and_then(|p| p.run.parameters.get("message_bytes")?.as_u64());
        (scene.runs.len(), std::cmp::Reverse(size))
    })
}

/// A part of the picture: its height and what is drawn.
struct Part {
    width: f64,
    height: f64,
    svg: String,
}

/// p50 and p99 of every subject on one line each.
fn round_trips(scene: &Scene<'_>, palette: &Palette) -> Part {
    let timed = "round_trip";
    let at = |run: &Run, key| scene::percentile(run, timed, key).map(|spread| spread.median);
    let mut runs: Vec<&Run> = scene.of(0).filter(|run| at(run, "p50").is_some()).collect();
    runs.sort_by(|a, b| at(a, "p50").unwrap_or(0.0).total_cmp(&at(b, "p50").unwrap_or(0.0)));
    let domain = Domain::log(runs.iter().flat_map(|run| [at(run, "p50"), at(run, "p99")]).flatten());
    let width = WIDTH - 2.0 * MARGIN;
    let x = Scale { domain, from: LEFT, to: width - RIGHT };
    let height = 62.0 + ROW * runs.len() as f64 + 26.0;
    let title = format!("Echo round trip: {}", scene.load);
    let told = runs.iter().map(|run| {
        let told = |key| at(run, key).map_or_else(|| "-".to_owned(), format::number);
        format!("{}: p50 {}, p99 {} us", run.subject, told("p50"), told("p99"))
    });
    let mut markup = Markup::default();
    open_picture(&mut markup, width, height, &title, &told.collect::<Vec<_>>().join("; "));
    write(&mut markup, "mute", "start", 0.0, 34.0, "filled: p50; open: p99; log scale; less is better");
    write(&mut markup, "mute", "end", width, 34.0, "p50 / p99 us (x floor)");
    let bottom = height - 24.0;
    for tick in domain.ticks() {
        let at = x.at(tick.value);
        let class = if tick.labelled { "grid" } else { "grid minor" };
        markup
            .tag("line")
            .at("class", class)
            .px(&[("x1", at), ("x2", at), ("y1", 48.0), ("y2", bottom)])
            .leaf();
        if tick.labelled {
            write(&mut markup, "tick", "middle", at, bottom + 16.0, &format::duration(tick.value));
        }
    }
    let floor = scene.floor(0).and_then(|run| at(run, "p50"));
    for (i, run) in runs.iter().enumerate() {
        let y = 48.0 + ROW * (i as f64 + 0.6);
        let (Some(p50), Some(p99)) = (at(run, "p50"), at(run, "p99")) else { continue };
        let class = palette.slot(&run.subject).class();
        write(&mut markup, "label", "end", LEFT - 12.0, y + 4.5, &run.subject);
        let span = [("x1", x.at(p50)), ("x2", x.at(p99)), ("y1", y), ("y2", y)];
        markup.tag("line").at("class", format!("span {class}")).px(&span).leaf();
        for (class, value) in [(format!("dot {class}"), p50), (format!("dot open {class}"), p99)] {
            markup.tag("circle").at("class", class).px(&[("cx", x.at(value)), ("cy", y), ("r", 5.5)]).leaf();
        }
        let ratio = floor.filter(|f| *f > 0.0).map_or_else(String::new, |f| format!(" ({:.2})", p50 / f));
        let text = format!("{} / {}{ratio}", format::number(p50), format::number(p99));
        write(&mut markup, "value", "end", width, y + 4.5, &text);
    }
    markup.close();
    Part { width, height, svg: markup.finish() }
}

/// Goodput and what it costs, side by side.
fn bulk(scenes: &[Scene<'_>], palette: &Palette) -> Vec<Part> {
    let Some(scene) =
        scenes.iter().find(|s| s.workload == "bulk" && s.runs.iter().any(|p| scene::passed(p.run)))
    else {
        return Vec::new();
    };
    let runs: Vec<&Run> = scene.of(0).filter(|run| scene::passed(run)).collect();
    let mut figures: Vec<&str> = runs.iter().flat_map(|run| run.figures.keys()).map(String::as_str).collect();
    figures.sort_unstable();
    figures.dedup();
    let goodput = figures.iter().find(|figure| figure.contains("goodput"));
    let cost = ["sender_cpu_s_per_gb", "cpu_s_per_gb"].iter().find(|figure| figures.contains(figure));
    let mut parts = Vec::new();
    for figure in goodput.into_iter().chain(cost) {
        let domain = bars::domain(runs.iter().copied(), figure);
        let title = format!("Bulk: {}, {}", format::name(figure).what, scene.load);
        let svg = bars::picture(&title, figure, domain, &runs, palette);
        parts.push(Part { width: super::frame::WIDTH, height: bars::height(runs.len()), svg });
    }
    parts
}

/// Percentile curves of the first load that was timed, where nothing else is there.
fn curves(scenes: &[Scene<'_>], palette: &Palette) -> Option<Part> {
    for scene in scenes {
        for timed in scene.timed() {
            let curves: Vec<(&Run, Curve)> =
                scene.of(0).filter_map(|run| Some((run, Curve::of(scene::latency(run, timed)?)?))).collect();
            if curves.is_empty() {
                continue;
            }
            let domains = percentiles::domains(&curves.iter().map(|(_, curve)| curve).collect::<Vec<_>>());
            let drawn: Vec<Drawn<'_>> =
                curves.iter().map(|(run, curve)| Drawn { run, curve, ghost: false }).collect();
            let svg = percentiles::picture(&scene.title(), timed, domains, &drawn, palette);
            return Some(Part { width: super::frame::WIDTH, height: super::frame::HEIGHT, svg });
        }
    }
    None
}

/// Parts into one picture: a wide one alone on its line, narrow ones in pairs, and below where it was measured.
fn stack(parts: &[Part], source: Source<'_>) -> String {
    let inner = WIDTH - 2.0 * MARGIN;
    let mut placed = Markup::default();
    let (mut x, mut y, mut line) = (0.0, MARGIN, 0.0_f64);
    let narrow = (inner - MARGIN) / 2.0;
    for part in parts {
        let width = if part.width > super::frame::WIDTH { inner } else { narrow };
        let height = part.height * width / part.width;
        if x > 0.0 && x + width > inner + 1.0 {
            (x, y, line) = (0.0, y + line + MARGIN, 0.0);
        }
        placed.tag("svg").px(&[("x", MARGIN + x), ("y", y), ("width", width), ("height", height)]).open();
        placed.trusted(&part.svg);
        placed.close();
        x += width + MARGIN;
        line = line.max(height);
    }
    let height = y + line + MARGIN + 18.0;
    let mut markup = Markup::default();
    let title = "AetherFlow: measured side by side";
    let facts = html::machine(source.report);
    let svg = markup.tag("svg").at("xmlns", "http://www.w3.org/2000/svg").at("role", "img");
    svg.at("viewBox", format!("0 0 {WIDTH} {}", Px(height)))
        .px(&[("width", WIDTH), ("height", height)])
        .open();
    markup.tag("title").text(title);
    markup.tag("desc").text(&facts);
    markup.tag("style").open();
    markup.trusted(include_str!("chart.css"));
    markup.trusted(include_str!("plot.css"));
    markup.trusted(&subject::rules(false));
    markup.close();
    markup.tag("rect").at("class", "ground").px(&[("width", WIDTH), ("height", height)]).leaf();
    markup.trusted(&placed.finish());
    write(&mut markup, "tick", "start", MARGIN, height - 14.0, &facts);
    markup.close();
    let mut out = markup.finish();
    out.push('\n');
    out
}
