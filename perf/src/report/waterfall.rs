//! Where the time of a data core goes for one op: stages one after the other, each beginning where the last ended.

use super::format;
use super::frame::{WIDTH, open_picture, write};
use super::markup::Markup;
use super::scale::{Domain, Kind, Scale};
use crate::stages::{StageTime, Stages};

const ROW: f64 = 24.0;
const TOP: f64 = 66.0;
const LEFT: f64 = 82.0;
/// Where the bars end and the figures begin.
const BARS_TO: f64 = 268.0;
/// Right edges of the columns.
const COLUMNS: [(&str, f64); 5] =
    [("us/op", 320.0), ("share %", 366.0), ("mean us", 420.0), ("p50 us", 469.0), ("p99 us", WIDTH)];
/// A stage that takes next to nothing is still seen.
const BAR_PX_MIN: f64 = 1.5;

/// One picture.
pub(crate) fn picture(title: &str, stages: &Stages) -> String {
    let total: f64 = stages.stages.iter().map(|stage| stage.us_per_op).filter(|us| us.is_finite()).sum();
    let counted = counted(stages);
    let bottom = TOP + ROW * stages.stages.len() as f64;
    let height = bottom + ROW + 14.0 + 17.0 * counted.len() as f64;
    let told = stages.stages.iter().map(|stage| {
        format!("{}: {} us of the core for an op", stage.stage, format::number(stage.us_per_op))
    });
    let mut markup = Markup::default();
    open_picture(&mut markup, WIDTH, height, title, &told.collect::<Vec<_>>().join("; "));
    write(
        &mut markup,
        "mute",
        "start",
        0.0,
        33.0,
        "bars: the core's time for one op; mean to p99: of one passage",
    );
    for (name, right) in COLUMNS {
        write(&mut markup, "mute", "end", right, TOP - 10.0, name);
    }
    let domain = Domain { kind: Kind::Linear, min: 0.0, max: if total > 0.0 { total } else { 1.0 } };
    let x = Scale { domain, from: LEFT, to: BARS_TO };
    let mut begin = 0.0;
    for (i, stage) in stages.stages.iter().enumerate() {
        row(&mut markup, stage, (x.at(begin), x.at(begin + stage.us_per_op)), TOP + ROW * i as f64);
        begin += if stage.us_per_op.is_finite() { stage.us_per_op } else { 0.0 };
    }
    let rule = [("x1", 0.0), ("x2", WIDTH), ("y1", bottom), ("y2", bottom)];
    markup.tag("line").at("class", "grid").px(&rule).leaf();
    write(&mut markup, "label", "end", LEFT - 8.0, bottom + 17.0, "sum");
    write(&mut markup, "value", "end", COLUMNS[0].1, bottom + 17.0, &format::number(total));
    for (i, line) in counted.iter().enumerate() {
        write(&mut markup, "mute", "start", 0.0, bottom + ROW + 20.0 + 17.0 * i as f64, line);
    }
    markup.close();
    markup.finish()
}

fn row(markup: &mut Markup, stage: &StageTime, (from, to): (f64, f64), top: f64) {
    let base = top + ROW / 2.0 + 4.5;
    write(markup, "label", "end", LEFT - 8.0, base, &stage.stage.replace('_', "-"));
    if stage.us_per_op > 0.0 {
        let place =
            [("x", from), ("y", top + 4.0), ("width", (to - from).max(BAR_PX_MIN)), ("height", ROW - 8.0)];
        markup.tag("rect").at("class", "bar c1").px(&place).open();
        let (samples, most) = (format::number(stage.count as f64), format::duration(stage.max_us));
        markup.tag("title").text(&format!("{}: {samples} samples, at most {most}", stage.stage));
        markup.close();
    } else if stage.count > 0 {
        write(markup, "mute", "start", LEFT, base, "passes beside the core's work");
    }
    let measured = |us: f64| if us > 0.0 { format::number(us) } else { "-".to_owned() };
    let figures = [
        measured(stage.us_per_op),
        if stage.share > 0.0 { format::number(stage.share * 100.0) } else { "-".to_owned() },
        measured(stage.mean_us),
        measured(stage.p50_us),
        measured(stage.p99_us),
    ];
    for ((_, right), figure) in COLUMNS.into_iter().zip(figures) {
        write(markup, "value", "end", right, base, &figure);
    }
}

/// What was counted besides, in lines.
fn counted(stages: &Stages) -> Vec<String> {
    let allocations = stages
        .allocations_per_op
        .map_or_else(String::new, |allocations| format!("{} allocations/op, ", format::number(allocations)));
    let mut lines = vec![
        format!("{allocations}{} system calls/op", format::number(stages.syscalls_per_op)),
        format!(
            "{} ops/log batch, {} bytes written/byte of a record",
            format::number(stages.ops_per_batch),
            format::number(stages.log_write_amplification)
        ),
    ];
    if !stages.hiccup_max_us.is_empty() {
        let worst: Vec<String> = stages.hiccup_max_us.iter().copied().map(format::number).collect();
        lines.push(format!("longest hiccup of each shard: {} us", worst.join(", ")));
    }
    lines
}
