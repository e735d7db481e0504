//! The tables of a report: what was measured, held against the floor, against other reports, and against the targets.

use super::Source;
use super::format::{self, Name};
use super::grid::{Cell, Grid, Row, Tone};
use super::loss;
use super::scene::{self, Placed, Scene};
use crate::result::{Bound, Repeats, Run, Spread, Target, Verdict};

/// Percentiles of the tables.
const PERCENTILES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

/// Figures that still fit beside percentiles.
const BESIDE_PERCENTILES_MAX: usize = 3;

/// Figures that fit beside each other; more are listed one below the other.
const COLUMNS_MAX: usize = 6;

/// The title of the table of targets.
pub(crate) const TARGETS: &str = "targets";

/// What the signs of the tables mean.
pub(crate) fn how_to_read(sources: &[Source<'_>]) -> &'static str {
    if sources.len() > 1 {
        return "Medians of the repeats. A change with ~ lies within the range of the repeats and says little. Reports \
                of different machines or hours are not to be compared; ratios within one report are.";
    }
    "Medians of the repeats. Floor: raw UDP under the same load in the same report. Machines and their neighbours \
     change: ratios within one report are what counts. A run that FAILED has no figures."
}

/// All tables of these reports, in the order in which they are read.
pub(crate) fn grids(sources: &[Source<'_>]) -> Vec<Grid> {
    let mut grids = Vec::new();
    if let [source] = sources {
        grids.extend(loss::grid(*source));
    }
    for scene in scene::scenes(sources) {
        if sources.len() > 1 {
            grids.push(differences(&scene, sources));
            continue;
        }
        let keys = figure_keys(&scene);
        // One thing timed and a few figures: one table says it all.
        let beside =
            if scene.timed().len() == 1 && keys.len() <= BESIDE_PERCENTILES_MAX { &keys[..] } else { &[] };
        let latencies = latencies(&scene, beside);
        let failures_told = latencies.is_some();
        grids.extend(latencies);
        if beside.is_empty() {
            grids.extend(figures(&scene, &keys, failures_told));
        }
    }
    grids.extend(targets(sources));
    grids
}

/// Why a run has no figures.
pub(crate) fn failure(run: &Run) -> Option<String> {
    match &run.verdict {
        Verdict::Passed => None,
        Verdict::Failed { reasons } if reasons.is_empty() => Some("FAILED".to_owned()),
        Verdict::Failed { reasons } => Some(format!("FAILED: {}", reasons.join("; "))),
    }
}

/// Percentiles, one row for each subject and thing timed; `None` where nothing was timed.
fn latencies(scene: &Scene<'_>, figures: &[&str]) -> Option<Grid> {
    let timed = scene.timed();
    let failed_alone = scene.runs.iter().all(|placed| !scene::passed(placed.run));
    if timed.is_empty() && !failed_alone {
        return None;
    }
    let floor = scene.floor(0);
    let mut columns = vec![String::new()];
    columns.extend(PERCENTILES.iter().map(|p| format!("{p} us")));
    columns.push("p50 range us".to_owned());
    if floor.is_some() {
        columns.extend(["p50 / floor".to_owned(), "p99 / floor".to_owned()]);
    }
    let (headers, factors): (Vec<String>, Vec<f64>) = figure_columns(scene, figures).into_iter().unzip();
    columns.extend(headers);
    columns.push("repeats".to_owned());
    let mut grid = Grid { title: scene.title(), columns, rows: Vec::new() };
    for Placed { run, .. } in &scene.runs {
        if let Some(note) = failure(run) {
            grid.rows.push(Row::noted(&run.subject, note));
            continue;
        }
        for name in timed.iter().filter(|name| run.latencies.contains_key(**name)) {
            let label = match timed.len() {
                1 => run.subject.clone(),
                _ => format!("{}: {}", run.subject, name.replace('_', " ")),
            };
            let mut cells = latency_cells(run, name, label, floor);
            cells.extend(figures.iter().zip(&factors).map(|(key, factor)| {
                Cell::from(median(scene::figure(run, key).map(|spread| times(spread, *factor))))
            }));
            cells.push(Cell::toned(repeats(run.repeats), Tone::Quiet));
            grid.rows.push(Row::of(&run.subject, cells));
        }
    }
    Some(grid)
}

fn latency_cells(run: &Run, timed: &str, label: String, floor: Option<&Run>) -> Vec<Cell> {
    let at = |key| scene::percentile(run, timed, key);
    let mut cells = vec![Cell::from(label)];
    cells.extend(PERCENTILES.iter().map(|key| median(at(key)).into()));
    cells.push(Cell::toned(range(at("p50")), Tone::Quiet));
    if let Some(floor) = floor {
        for key in ["p50", "p99"] {
            cells.push(ratio(at(key), scene::percentile(floor, timed, key)).into());
        }
    }
    cells
}

/// Figures of the runs that passed, each once.
fn figure_keys<'a>(scene: &Scene<'a>) -> Vec<&'a str> {
    let mut keys: Vec<&str> = Vec::new();
    for key in scene.runs.iter().filter(|p| scene::passed(p.run)).flat_map(|p| p.run.figures.keys()) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys
}

/// Everything that is not a time: side by side where subjects can be compared, else one below the other.
fn figures(scene: &Scene<'_>, keys: &[&str], failures_told: bool) -> Option<Grid> {
    if keys.is_empty() {
        return None;
    }
    let title = if failures_told { format!("{} (figures)", scene.title()) } else { scene.title() };
    let rows = if scene.runs.len() > 1 && keys.len() <= COLUMNS_MAX {
        return Some(side_by_side(scene, keys, title, failures_told));
    } else {
        let mut rows = Vec::new();
        for Placed { run, .. } in scene.runs.iter().filter(|p| scene::passed(p.run)) {
            for key in keys {
                let Some(&spread) = run.figures.get(*key) else { continue };
                let Name { what, unit } = format::name(key);
                let (unit, factor) = format::scaled(&unit, spread.max);
                let spread = Some(times(spread, factor));
                let label = if scene.runs.len() > 1 { format!("{}: {what}", run.subject) } else { what };
                let range = Cell::toned(range(spread), Tone::Quiet);
                rows.push(Row::of(
                    &run.subject,
                    vec![label.into(), median(spread).into(), unit.into(), range],
                ));
            }
        }
        rows
    };
    Some(Grid { title, columns: ["", "median", "unit", "range"].map(String::from).to_vec(), rows })
}

/// The headers of figures, with the units that suit them best, and what their values are multiplied with there.
fn figure_columns(scene: &Scene<'_>, keys: &[&str]) -> Vec<(String, f64)> {
    let column = |key: &&str| {
        let Name { what, unit } = format::name(key);
        let values = scene.runs.iter().filter_map(|placed| scene::figure(placed.run, key));
        let (unit, factor) = format::scaled(&unit, values.map(|spread| spread.max).fold(0.0, f64::max));
        (format!("{what} {unit}").trim().to_owned(), factor)
    };
    keys.iter().map(column).collect()
}

fn side_by_side(scene: &Scene<'_>, keys: &[&str], title: String, failures_told: bool) -> Grid {
    let floor = scene.floor(0);
    let mut columns = vec![String::new()];
    let (headers, factors): (Vec<String>, Vec<f64>) = figure_columns(scene, keys).into_iter().unzip();
    for (i, header) in headers.into_iter().enumerate() {
        columns.push(header);
        if i == 0 && floor.is_some() {
            columns.push("/ floor".to_owned());
        }
    }
    columns.push("repeats".to_owned());
    let mut grid = Grid { title, columns, rows: Vec::new() };
    for Placed { run, .. } in &scene.runs {
        match failure(run) {
            Some(_) if failures_told => continue,
            Some(note) => {
                grid.rows.push(Row::noted(&run.subject, note));
                continue;
            }
            None => {}
        }
        let mut cells = vec![Cell::from(run.subject.as_str())];
        for (i, (key, factor)) in keys.iter().zip(&factors).enumerate() {
            cells.push(median(scene::figure(run, key).map(|spread| times(spread, *factor))).into());
            if let Some(floor) = floor.filter(|_| i == 0) {
                cells.push(ratio(scene::figure(run, key), scene::figure(floor, key)).into());
            }
        }
        cells.push(Cell::toned(repeats(run.repeats), Tone::Quiet));
        grid.rows.push(Row::of(&run.subject, cells));
    }
    grid
}

/// One thing measured under one load, in every report.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The workload and its load.
    pub load: String,
    /// What was measured.
    pub subject: String,
    /// The figure, or the time and its percentile.
    pub measure: String,
    /// Its unit.
    pub unit: String,
    /// In the order of the reports; absent where it failed or was not measured.
    pub values: Vec<Option<Spread>>,
    /// To the first report, percent, for every report after it.
    pub changes_percent: Vec<Option<f64>>,
    /// Whether the ranges of the repeats overlap, for every report after the first: then the change says little.
    pub within_range: Vec<bool>,
    /// Which way is better, where it is known.
    pub better: Option<Bound>,
}

/// What the reports measured alike, held against the first of them.
pub fn compare(sources: &[Source<'_>]) -> Vec<Difference> {
    scene::scenes(sources).iter().flat_map(|scene| compare_scene(scene, sources.len())).collect()
}

fn compare_scene(scene: &Scene<'_>, sources: usize) -> Vec<Difference> {
    let mut differences = Vec::new();
    for subject in scene.subjects() {
        let runs: Vec<Option<&Run>> =
            (0..sources).map(|i| scene.of(i).find(|run| run.subject == subject)).collect();
        let mut add = |measure: String, unit: &str, better, of: &dyn Fn(&Run) -> Option<Spread>| {
            let values: Vec<Option<Spread>> = runs.iter().map(|run| run.and_then(of)).collect();
            if values.iter().any(Option::is_some) {
                let (load, subject) = (scene.title(), subject.to_owned());
                differences.push(difference(load, subject, measure, unit.to_owned(), better, values));
            }
        };
        for timed in scene.timed() {
            for key in ["p50", "p99", "p99.9"] {
                let measure = format!("{} {key}", timed.replace('_', " "));
                add(measure, "us", Some(Bound::AtMost), &|run| scene::percentile(run, timed, key));
            }
        }
        let mut keys: Vec<&String> = runs.iter().flatten().flat_map(|run| run.figures.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let Name { what, unit } = format::name(key);
            add(what, &unit, better(key), &|run| scene::figure(run, key));
        }
    }
    differences
}

fn difference(
    load: String,
    subject: String,
    measure: String,
    unit: String,
    better: Option<Bound>,
    values: Vec<Option<Spread>>,
) -> Difference {
    let first = values.first().copied().flatten();
    let later = || values.iter().skip(1).map(|value| first.zip(*value));
    let changes_percent = later()
        .map(|pair| pair.filter(|(a, _)| a.median != 0.0).map(|(a, b)| (b.median / a.median - 1.0) * 100.0))
        .collect();
    let within_range =
        later().map(|pair| pair.is_some_and(|(a, b)| a.min <= b.max && b.min <= a.max)).collect();
    Difference { load, subject, measure, unit, values, changes_percent, within_range, better }
}

/// Which way a figure is better, by its name.
pub(crate) fn better(figure: &str) -> Option<Bound> {
    let Name { unit, .. } = format::name(figure);
    match unit.as_str() {
        "/s" | "Gbit/s" | "Mbit/s" => Some(Bound::AtLeast),
        "" | "%" => None,
        _ => Some(Bound::AtMost),
    }
}

fn differences(scene: &Scene<'_>, sources: &[Source<'_>]) -> Grid {
    let mut columns = vec![String::new()];
    for (i, source) in sources.iter().enumerate() {
        columns.push(source.name.to_owned());
        if i > 0 {
            columns.push("change".to_owned());
        }
    }
    let mut grid = Grid { title: scene.title(), columns, rows: Vec::new() };
    for difference in compare_scene(scene, sources.len()) {
        let label = format!("{}: {} {}", difference.subject, difference.measure, difference.unit);
        let mut cells = vec![Cell::from(label.trim_end())];
        for (i, value) in difference.values.iter().enumerate() {
            cells.push(median(*value).into());
            if i > 0 {
                cells.push(change_cell(&difference, i));
            }
        }
        grid.rows.push(Row::of(&difference.subject, cells));
    }
    for Placed { source, run } in &scene.runs {
        if let Some(note) = failure(run) {
            grid.rows.push(Row::noted(&run.subject, format!("{}: {note}", sources[*source].name)));
        }
    }
    grid
}

fn change_cell(difference: &Difference, source: usize) -> Cell {
    let (Some(Some(from)), Some(Some(to))) = (difference.values.first(), difference.values.get(source))
    else {
        return Cell::toned("-", Tone::Quiet);
    };
    let text = format::change(from.median, to.median);
    if difference.within_range.get(source - 1).copied().unwrap_or(false) {
        return Cell::toned(format!("~ {text}"), Tone::Quiet);
    }
    let tone = match difference.better {
        Some(Bound::AtMost) if to.median < from.median => Tone::Good,
        Some(Bound::AtLeast) if to.median > from.median => Tone::Good,
        Some(_) if to.median != from.median => Tone::Bad,
        _ => Tone::Plain,
    };
    Cell::toned(text, tone)
}

fn targets(sources: &[Source<'_>]) -> Option<Grid> {
    let mut grid = Grid {
        title: TARGETS.to_owned(),
        columns: ["", "target", "measured", "unit", ""].map(String::from).to_vec(),
        rows: Vec::new(),
    };
    for source in sources {
        for target in &source.report.targets {
            let mut row = target_row(target);
            if sources.len() > 1
                && let Some(first) = row.cells.first_mut()
            {
                first.text = format!("{}: {}", source.name, first.text);
            }
            grid.rows.push(row);
        }
    }
    (!grid.rows.is_empty()).then_some(grid)
}

fn target_row(target: &Target) -> Row {
    let sign = match target.bound {
        Bound::AtMost => "<=",
        Bound::AtLeast => ">=",
    };
    let off = target.measured.map(|measured| (measured - target.limit).abs() / target.limit);
    let verdict = match (target.met(), off) {
        (Some(true), _) => Cell::toned("met", Tone::Good),
        (Some(false), Some(off)) if off.is_finite() => {
            Cell::toned(format!("MISSED by {} %", format::number(off * 100.0)), Tone::Bad)
        }
        (Some(false), _) => Cell::toned("MISSED", Tone::Bad),
        (None, _) => Cell::toned("not measured", Tone::Quiet),
    };
    let limit = format!("{sign} {}", format::number(target.limit));
    let measured = target.measured.map_or_else(|| "-".to_owned(), format::number);
    let cells = [target.name.clone(), limit, measured, target.unit.clone()].map(Cell::from);
    Row { subject: None, cells: cells.into_iter().chain([verdict]).collect(), note: None }
}

/// A spread in another unit.
fn times(spread: Spread, factor: f64) -> Spread {
    Spread { median: spread.median * factor, min: spread.min * factor, max: spread.max * factor }
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| format::number(spread.median))
}

fn range(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "-".to_owned(),
        |Spread { min, max, .. }| {
            let (min, max) = (format::number(min), format::number(max));
            if min == max { min } else { format!("{min} - {max}") }
        },
    )
}

fn ratio(of: Option<Spread>, to: Option<Spread>) -> String {
    match of.zip(to) {
        Some((of, to)) if to.median > 0.0 => format!("{:.2}", of.median / to.median),
        _ => "-".to_owned(),
    }
}

fn repeats(Repeats { passed, stalled, failed }: Repeats) -> String {
    let mut text = passed.to_string();
    for (count, what) in [(stalled, "stalled"), (failed, "failed")] {
        if count > 0 {
            text.push_str(&format!(" +{count} {what}"));
        }
    }
    text
}
