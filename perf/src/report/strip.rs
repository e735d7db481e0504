//! The heat strip: the load of every shard over time, one row a shard. An even machine has even rows.

use super::format;
use super::frame::{open_picture, write};
use super::markup::Markup;
use super::scale::{Domain, Scale};
use crate::result::{Run, ShardStrip};

/// Wider than the other pictures: time needs room. It scrolls where there is none.
const WIDTH: f64 = 1_080.0;
const ROW: f64 = 22.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 46.0;
const RIGHT: f64 = 110.0;
const BOTTOM: f64 = 38.0;

/// Cells that a row has room for; more are averaged.
const CELLS_MAX: usize = 300;

/// The faintest that a cell with any load is.
const FAINTEST: f64 = 0.06;

/// The greatest load in any cell of these runs: the full colour of all their strips.
pub(crate) fn most<'a>(runs: impl Iterator<Item = &'a Run>) -> f64 {
    runs.flat_map(|run| &run.shards)
        .flat_map(|strip| &strip.cells)
        .copied()
        .filter(|v| v.is_finite())
        .fold(0.0, f64::max)
}

/// One picture: one run.
pub(crate) fn picture(title: &str, run: &Run, most: f64) -> String {
    let height = TOP + ROW * run.shards.len() as f64 + BOTTOM;
    let unit = run.shards.first().map_or("", |strip| strip.unit.as_str());
    let named = format::name(unit);
    let unit = format!("{} {}", named.what, named.unit);
    let told = run
        .shards
        .iter()
        .map(|strip| format!("shard {}: mean {}", strip.shard, format::number(mean(&strip.cells))));
    let description = format!("{unit} over time; {}", told.collect::<Vec<_>>().join(", "));
    let mut markup = Markup::default();
    open_picture(&mut markup, WIDTH, height, title, &description);
    legend(&mut markup, &unit, most);
    let seconds =
        run.shards.iter().map(|s| s.cells.len() as f64 * s.cell_ms as f64 / 1e3).fold(0.0, f64::max);
    let domain = Domain { max: seconds.max(0.001), ..Domain::from_zero([seconds]) };
    let x = Scale { domain, from: LEFT, to: WIDTH - RIGHT };
    for (i, strip) in run.shards.iter().enumerate() {
        row(&mut markup, strip, x, TOP + ROW * i as f64, most);
    }
    let bottom = height - BOTTOM;
    for tick in domain.ticks() {
        write(&mut markup, "tick", "middle", x.at(tick.value), bottom + 15.0, &format::count(tick.value));
    }
    write(&mut markup, "mute", "end", x.to, bottom + 32.0, "seconds");
    markup.close();
    markup.finish()
}

/// What full and faint mean.
fn legend(markup: &mut Markup, unit: &str, most: f64) {
    write(markup, "mute", "start", 0.0, 33.0, unit);
    const STEPS: u32 = 10;
    let (left, cell) = (WIDTH - RIGHT - 12.0 * f64::from(STEPS), 12.0);
    for step in 0..STEPS {
        let place = [("x", left + cell * f64::from(step)), ("y", 22.0), ("width", cell), ("height", 12.0)];
        let heat = f64::from(step + 1) / f64::from(STEPS);
        markup.tag("rect").at("class", "heat").at("fill-opacity", format!("{heat:.2}")).px(&place).leaf();
    }
    write(markup, "tick", "end", left - 6.0, 32.0, "0");
    write(markup, "tick", "start", WIDTH - RIGHT + 6.0, 32.0, &format::number(most));
}

fn row(markup: &mut Markup, strip: &ShardStrip, x: Scale, top: f64, most: f64) {
    write(markup, "label", "end", LEFT - 8.0, top + ROW / 2.0 + 4.0, &format!("shard {}", strip.shard));
    let ground = [("x", x.from), ("y", top), ("width", x.to - x.from), ("height", ROW - 3.0)];
    markup.tag("rect").at("class", "cold").px(&ground).leaf();
    let group = strip.cells.len().div_ceil(CELLS_MAX).max(1);
    let cell_s = strip.cell_ms as f64 / 1e3;
    for (i, cells) in strip.cells.chunks(group).enumerate() {
        let load = mean(cells);
        let part = if most > 0.0 { load / most } else { 0.0 };
        if part <= 0.0 {
            continue;
        }
        let begin = (i * group) as f64 * cell_s;
        let (from, to) = (x.at(begin), x.at(begin + cells.len() as f64 * cell_s));
        let place = [("x", from), ("y", top), ("width", to - from + 0.3), ("height", ROW - 3.0)];
        let heat = format!("{:.2}", part.clamp(FAINTEST, 1.0));
        markup.tag("rect").at("class", "heat").at("fill-opacity", heat).px(&place).open();
        markup.tag("title").text(&format!(
            "shard {}, {} s: {}",
            strip.shard,
            format::number(begin),
            format::number(load)
        ));
        markup.close();
    }
    let told = format!("mean {}", format::number(mean(&strip.cells)));
    write(markup, "tick", "start", x.to + 8.0, top + ROW / 2.0 + 4.0, &told);
}

fn mean(cells: &[f64]) -> f64 {
    let finite: Vec<f64> = cells.iter().copied().filter(|cell| cell.is_finite()).collect();
    if finite.is_empty() { 0.0 } else { finite.iter().sum::<f64>() / finite.len() as f64 }
}
