//! One table of what loss does to messages: every network, every subject, beside ours.

use netem::{PathSpec, Probability};

use super::Source;
use super::format;
use super::grid::{Cell, Grid, Row};
use super::scene::{self, Placed, Scene};
use crate::result::{Run, Spread};
use crate::workloads::delivery::{BOTH_BYTES, DELIVERY};

/// Whom the others are held against.
const OURS: &str = "quantum";
/// Percentiles of the table.
const PERCENTILES: [&str; 4] = ["p50", "p99", "p99.9", "max"];

/// The table; `None` where nothing of the kind was measured.
pub(crate) fn grid(source: Source<'_>) -> Option<Grid> {
    let scenes: Vec<Scene<'_>> =
        scene::scenes(&[source]).into_iter().filter(|scene| scene.workload == DELIVERY).collect();
    if scenes.len() < 2 {
        return None;
    }
    let mut columns = vec![String::new()];
    columns.extend(PERCENTILES.iter().map(|key| format!("{key} ms")));
    columns.extend(["p99 / quantum".to_owned(), "bytes / without loss".to_owned()]);
    let mut grid =
        Grid { title: "under loss: from sending to delivery in order".to_owned(), columns, rows: Vec::new() };
    for scene in &scenes {
        grid.rows.push(Row { subject: None, cells: vec![Cell::default()], note: Some(scene.load.clone()) });
        let ours = scene.runs.iter().find(|placed| placed.run.subject == OURS).map(|placed| placed.run);
        for Placed { run, .. } in &scene.runs {
            grid.rows.push(row(run, ours, &scenes));
        }
    }
    Some(grid)
}

fn row(run: &Run, ours: Option<&Run>, scenes: &[Scene<'_>]) -> Row {
    if !scene::passed(run) {
        return Row::noted(&run.subject, "FAILED".to_owned());
    }
    let at = |run, key| scene::percentile(run, DELIVERY, key);
    let mut cells = vec![Cell::from(run.subject.as_str())];
    cells.extend(PERCENTILES.iter().map(|key| Cell::from(ms(at(run, key)))));
    cells.push(ratio(at(run, "p99"), ours.and_then(|ours| at(ours, "p99"))).into());
    let clean = clean(run, scenes).and_then(|clean| scene::figure(clean, BOTH_BYTES));
    cells.push(ratio(scene::figure(run, BOTH_BYTES), clean).into());
    Row::of(&run.subject, cells)
}

/// The run of the same subject at the same rate that lost nothing.
fn clean<'a>(run: &Run, scenes: &[Scene<'a>]) -> Option<&'a Run> {
    let runs = scenes.iter().flat_map(|scene| &scene.runs).map(|placed| placed.run);
    runs.into_iter().find(|other| other.subject == run.subject && other.pace == run.pace && !loses(other))
}

/// Whether its network loses packets.
fn loses(run: &Run) -> bool {
    let text = run.parameters.get("network").and_then(|value| value.as_str()).unwrap_or_default();
    let Ok(PathSpec { up, down }) = text.parse::<PathSpec>() else { return true };
    [up, down].iter().any(|link| link.loss != Probability::ZERO || link.gilbert_elliott.is_some())
}

fn ms(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.2}", spread.median / 1_000.0))
}

fn ratio(of: Option<Spread>, to: Option<Spread>) -> String {
    match of.zip(to).filter(|(_, to)| to.median > 0.0) {
        Some((of, to)) => format::number(of.median / to.median),
        None => "-".to_owned(),
    }
}
