//! One figure of every subject: bars from zero, with the range of the repeats.

use super::format::{self, Name};
use super::frame::{self, WIDTH, write};
use super::markup::Markup;
use super::scale::{Domain, Scale};
use super::scene;
use super::subject::Palette;
use super::summary;
use crate::result::{Bound, Run};

const ROW: f64 = 26.0;
const TOP: f64 = 48.0;
const LEFT: f64 = 118.0;
/// Room for the figure behind the longest bar.
const RIGHT: f64 = 76.0;

/// The axis for all bars that are to be compared.
pub(crate) fn domain<'a>(runs: impl Iterator<Item = &'a Run>, figure: &str) -> Domain {
    Domain::from_zero(runs.filter_map(|run| scene::figure(run, figure)).map(|spread| spread.max))
}

/// Of a picture with so many bars.
pub(crate) fn height(bars: usize) -> f64 {
    TOP + ROW * bars as f64 + 22.0
}

/// One picture; a run that failed keeps its row.
pub(crate) fn picture(title: &str, figure: &str, domain: Domain, runs: &[&Run], palette: &Palette) -> String {
    let Name { what, unit } = format::name(figure);
    let (unit, factor) = format::scaled(&unit, domain.max);
    let told_values = runs.iter().map(|run| {
        let value = scene::figure(run, figure)
            .map_or_else(|| "failed".to_owned(), |s| format::number(s.median * factor));
        format!("{}: {value}", run.subject)
    });
    let description = format!("{what} {unit}: {}", told_values.collect::<Vec<_>>().join("; "));
    let height = height(runs.len());
    let mut markup = Markup::default();
    frame::open_picture(&mut markup, WIDTH, height, title, &description);
    let better = match summary::better(figure) {
        Some(Bound::AtLeast) => ": more is better",
        Some(Bound::AtMost) => ": less is better",
        None => "",
    };
    write(&mut markup, "mute", "start", 0.0, 33.0, &format!("{unit}{better}"));
    let x = Scale { domain, from: LEFT, to: WIDTH - RIGHT };
    let bottom = height - 22.0;
    for tick in domain.ticks() {
        let at = x.at(tick.value);
        markup
            .tag("line")
            .at("class", "grid")
            .px(&[("x1", at), ("x2", at), ("y1", TOP), ("y2", bottom)])
            .leaf();
        write(&mut markup, "tick", "middle", at, bottom + 15.0, &format::count(tick.value * factor));
    }
    for (i, run) in runs.iter().enumerate() {
        bar(&mut markup, run, figure, factor, x, TOP + ROW * i as f64, palette);
    }
    markup.close();
    markup.finish()
}

fn bar(markup: &mut Markup, run: &Run, figure: &str, factor: f64, x: Scale, top: f64, palette: &Palette) {
    let slot = palette.slot(&run.subject);
    let class = slot.class();
    let middle = top + ROW / 2.0;
    markup.tag("g").at("data-subject", &run.subject).open();
    write(markup, "label", "end", x.from - 8.0, middle + 4.5, &run.subject);
    match scene::figure(run, figure) {
        Some(spread) => {
            let word = format!(
                "{}: {} ({} to {})",
                run.subject,
                format::number(spread.median * factor),
                format::number(spread.min * factor),
                format::number(spread.max * factor)
            );
            let place = [
                ("x", x.from),
                ("y", top + 5.0),
                ("width", x.at(spread.median) - x.from),
                ("height", ROW - 10.0),
            ];
            markup.tag("rect").at("class", format!("bar {class}")).px(&place).open();
            markup.tag("title").text(&word);
            markup.close();
            let (low, high) = (x.at(spread.min), x.at(spread.max));
            if high - low > 1.0 {
                let whisker = [("x1", low), ("x2", high), ("y1", middle), ("y2", middle)];
                markup.tag("line").at("class", "whisker").px(&whisker).leaf();
            }
            let end = high.max(x.at(spread.median)) + 6.0;
            write(markup, "value", "start", end, middle + 4.5, &format::number(spread.median * factor));
        }
        None => {
            let word = if scene::passed(run) { "not measured" } else { "FAILED" };
            write(markup, "mute", "start", x.from + 6.0, middle + 4.5, word);
        }
    }
    markup.close();
}
