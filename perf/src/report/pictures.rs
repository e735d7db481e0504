//! All pictures of a page, by what they show. Pictures that can be compared have the same axes.

use super::markup::Markup;
use super::percentiles::{Curve, Drawn};
use super::scene::{self, Scene};
use super::subject::Palette;
use super::{Source, bars, cores, course, format, knee, percentiles, strip, waterfall};
use crate::result::{Pace, Run};

/// Courses of so many loads are shown at once; those of others unfold.
const COURSES_OPEN: usize = 2;

/// Pictures of one kind.
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// How to read them.
    pub(crate) how: &'static str,
    pub(crate) body: String,
}

/// All kinds of which there is at least one.
pub(crate) fn sections(sources: &[Source<'_>], palette: &Palette) -> Vec<Section> {
    let scenes = scene::scenes(sources);
    let all = [
        Section {
            id: "percentiles",
            title: "Percentile curves",
            how: "How slow the slowest are: every further nine has the same room. Lower is better. All pictures of \
                  one workload have the same axes; where reports are compared, dotted lines repeat the first.",
            body: percentile_curves(sources, &scenes, palette),
        },
        Section {
            id: "bars",
            title: "Throughput and cost",
            how: "Medians of the repeats; the line across the end of a bar is their range.",
            body: bar_charts(sources, &scenes, palette),
        },
        Section {
            id: "knee",
            title: "Throughput against latency",
            how: "The knee is the highest rate whose p99 is within twice the least of the curve. A cross is a rate \
                  that failed: it has no figures.",
            body: knees(sources, palette),
        },
        Section {
            id: "cores",
            title: "Cores against throughput",
            how: "The dashed line is what the fewest cores did, times as many: nothing lost by sharing work.",
            body: core_curves(sources, palette),
        },
        Section {
            id: "course",
            title: "Latency over time",
            how: "All repeats one after another, with what happened meanwhile.",
            body: courses(sources, &scenes, palette),
        },
        Section {
            id: "shards",
            title: "Load of the shards",
            how: "One row a shard; the stronger the colour, the more. An even load has even rows.",
            body: strips(sources),
        },
        Section {
            id: "stages",
            title: "Where the time goes",
            how: "What a data core does for one op, each stage beginning where the last ended.",
            body: waterfalls(sources),
        },
    ];
    all.into_iter().filter(|section| !section.body.is_empty()).collect()
}

/// The title of a picture: whose report it is, where there are several.
fn titled(sources: &[Source<'_>], source: usize, title: &str) -> String {
    if sources.len() > 1 { format!("{}: {title}", sources[source].name) } else { title.to_owned() }
}

/// Pictures side by side, under a heading if there is one.
fn panels(markup: &mut Markup, heading: Option<&str>, pictures: &[String]) {
    if pictures.is_empty() {
        return;
    }
    if let Some(heading) = heading {
        markup.tag("h3").text(heading);
    }
    markup.tag("div").at("class", "panels").open();
    figures(markup, pictures);
    markup.close();
}

fn figures(markup: &mut Markup, pictures: &[String]) {
    for picture in pictures {
        markup.tag("figure").open();
        markup.trusted(picture);
        markup.close();
    }
}

fn percentile_curves(sources: &[Source<'_>], scenes: &[Scene<'_>], palette: &Palette) -> String {
    struct Panel<'a> {
        workload: &'a str,
        timed: &'a str,
        load: &'a str,
        source: usize,
        curves: Vec<(&'a Run, Curve)>,
    }
    let mut all = Vec::new();
    for scene in scenes {
        for timed in scene.timed() {
            for source in 0..sources.len() {
                let curve = |run| Some((run, Curve::of(scene::latency(run, timed)?)?));
                let curves: Vec<(&Run, Curve)> = scene.of(source).filter_map(curve).collect();
                if !curves.is_empty() {
                    all.push(Panel { workload: scene.workload, timed, load: &scene.load, source, curves });
                }
            }
        }
    }
    let mut markup = Markup::default();
    let mut workloads: Vec<&str> = all.iter().map(|panel| panel.workload).collect();
    workloads.dedup();
    for workload in workloads {
        let of_it = || all.iter().filter(|panel| panel.workload == workload);
        let every: Vec<&Curve> = of_it().flat_map(|p| &p.curves).map(|(_, curve)| curve).collect();
        let domains = percentiles::domains(&every);
        let mut pictures = Vec::new();
        for panel in of_it() {
            let mut drawn: Vec<Drawn<'_>> = Vec::new();
            if panel.source > 0
                && let Some(first) =
                    of_it().find(|p| p.source == 0 && p.load == panel.load && p.timed == panel.timed)
            {
                drawn.extend(first.curves.iter().map(|(run, curve)| Drawn { run, curve, ghost: true }));
            }
            drawn.extend(panel.curves.iter().map(|(run, curve)| Drawn { run, curve, ghost: false }));
            let title = titled(sources, panel.source, panel.load);
            pictures.push(percentiles::picture(&title, panel.timed, domains, &drawn, palette));
        }
        panels(&mut markup, Some(workload), &pictures);
    }
    markup.finish()
}

/// Every figure that several subjects have under one load.
fn bar_charts(sources: &[Source<'_>], scenes: &[Scene<'_>], palette: &Palette) -> String {
    let mut markup = Markup::default();
    for scene in scenes.iter().filter(|scene| scene.subjects().len() > 1 && scene.workload != "rtt") {
        let mut keys: Vec<&String> = scene.runs.iter().flat_map(|placed| placed.run.figures.keys()).collect();
        keys.sort();
        keys.dedup();
        // What is bought comes before what it costs.
        keys.sort_by_key(|key| !key.ends_with("_per_s"));
        let mut pictures = Vec::new();
        for key in keys {
            let domain = bars::domain(scene.runs.iter().map(|placed| placed.run), key);
            for source in 0..sources.len() {
                let runs: Vec<&Run> = scene.of(source).collect();
                let title = titled(sources, source, &format::name(key).what);
                if runs.iter().any(|run| scene::figure(run, key).is_some()) {
                    pictures.push(bars::picture(&title, key, domain, &runs, palette));
                }
            }
        }
        panels(&mut markup, Some(&scene.title()), &pictures);
    }
    markup.finish()
}

fn knees(sources: &[Source<'_>], palette: &Palette) -> String {
    let mut markup = Markup::default();
    for scene in scene::series(sources, &[], false) {
        for timed in scene.timed() {
            let curves: Vec<Vec<knee::Curve<'_>>> =
                (0..sources.len()).map(|source| knee::curves(&scene, source, timed)).collect();
            let domains = knee::domains(&curves);
            let mut pictures = Vec::new();
            for (source, curves) in curves.iter().enumerate().filter(|(_, curves)| !curves.is_empty()) {
                let title = titled(sources, source, &scene.load);
                pictures.push(knee::picture(&title, timed, domains, curves, palette));
            }
            panels(&mut markup, Some(scene.workload), &pictures);
        }
    }
    markup.finish()
}

fn core_curves(sources: &[Source<'_>], palette: &Palette) -> String {
    let mut markup = Markup::default();
    for scene in scene::series(sources, &cores::CORE_PARAMETERS, true) {
        let Some(figure) = cores::throughput(&scene) else { continue };
        let curves: Vec<Vec<cores::Curve<'_>>> =
            (0..sources.len()).map(|source| cores::curves(&scene, source, figure)).collect();
        let domains = cores::domains(&curves);
        let mut pictures = Vec::new();
        for (source, curves) in curves.iter().enumerate().filter(|(_, curves)| !curves.is_empty()) {
            let title = titled(sources, source, &scene.load);
            pictures.push(cores::picture(&title, figure, domains, curves, palette));
        }
        panels(&mut markup, Some(scene.workload), &pictures);
    }
    markup.finish()
}

fn courses(sources: &[Source<'_>], scenes: &[Scene<'_>], palette: &Palette) -> String {
    let mut markup = Markup::default();
    let mut shown = 0;
    for scene in scenes {
        for timed in scene.timed() {
            let runs: Vec<_> = scene
                .runs
                .iter()
                .filter_map(|placed| Some((placed, course::slices(scene::latency(placed.run, timed)?))))
                .filter(|(_, slices)| slices.len() > 1)
                .collect();
            if runs.is_empty() {
                continue;
            }
            let domains =
                course::domains(&runs.iter().map(|(_, slices)| slices.as_slice()).collect::<Vec<_>>());
            let picture = |(placed, slices): &(&scene::Placed<'_>, Vec<course::Slice>)| {
                let title = titled(sources, placed.source, &placed.run.subject);
                course::picture(&title, timed, domains, placed.run, slices, palette)
            };
            let pictures: Vec<String> = runs.iter().map(picture).collect();
            // The closed loop is the floor, not a load: its course is seldom asked for.
            let is_load = runs.iter().any(|(p, _)| p.run.pace != Pace::Closed);
            let happened = runs.iter().any(|(p, _)| !p.run.marks.is_empty());
            let open = happened || (is_load && shown < COURSES_OPEN);
            shown += usize::from(open);
            match open {
                true => markup.tag("details").at("open", "").open(),
                false => markup.tag("details").open(),
            }
            markup.tag("summary").open();
            let what = if scene.timed().len() > 1 {
                format!(" ({})", timed.replace('_', " "))
            } else {
                String::new()
            };
            markup.tag("h3").text(&(scene.title() + &what));
            markup.close();
            panels(&mut markup, None, &pictures);
            markup.close();
        }
    }
    markup.finish()
}

fn strips(sources: &[Source<'_>]) -> String {
    let runs = || sources.iter().flat_map(|source| &source.report.runs).filter(|run| scene::passed(run));
    let mut workloads: Vec<&str> =
        runs().filter(|r| !r.shards.is_empty()).map(|r| r.workload.as_str()).collect();
    workloads.sort_unstable();
    workloads.dedup();
    let mut markup = Markup::default();
    for workload in workloads {
        let most = strip::most(runs().filter(|run| run.workload == workload));
        for scene in scene::scenes(sources).iter().filter(|scene| scene.workload == workload) {
            for placed in scene.runs.iter().filter(|p| scene::passed(p.run) && !p.run.shards.is_empty()) {
                let title =
                    titled(sources, placed.source, &format!("{} ({})", scene.title(), placed.run.subject));
                markup.tag("div").at("class", "scroll wide").open();
                figures(&mut markup, &[strip::picture(&title, placed.run, most)]);
                markup.close();
            }
        }
    }
    markup.finish()
}

fn waterfalls(sources: &[Source<'_>]) -> String {
    let mut pictures = Vec::new();
    for scene in scene::scenes(sources) {
        for placed in scene.runs.iter().filter(|placed| scene::passed(placed.run)) {
            if let Some(stages) = &placed.run.stages {
                let title = titled(sources, placed.source, &scene.title());
                pictures.push(waterfall::picture(&title, stages));
            }
        }
    }
    let mut markup = Markup::default();
    panels(&mut markup, None, &pictures);
    markup.finish()
}
