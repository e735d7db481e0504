//! The whole report on a terminal.

use super::scene::passed;
use super::{Source, grid, html, summary};

/// Tables of one report, or of several side by side, at most `width` columns wide.
pub(crate) fn text(sources: &[Source<'_>], width: usize) -> String {
    let mut out = String::new();
    for Source { name, report } in sources {
        if sources.len() > 1 {
            out.push_str(&format!("{name}: "));
        }
        out.push_str(&format!("{}\n{}\n", report.command, html::machine(report)));
    }
    out.push('\n');
    out.push_str(&grid::text(&summary::grids(sources), width));
    for run in sources.iter().flat_map(|source| &source.report.runs).filter(|run| passed(run)) {
        if let Some(stages) = &run.stages {
            out.push_str(&format!("\nwhere the time goes: {}, {}\n", run.workload, run.subject));
            out.push_str(&stages.waterfall());
        }
    }
    out.push('\n');
    for line in grid::wrap(summary::how_to_read(sources), width.clamp(*grid::TEXT_WIDTH.start(), 100)) {
        out.push_str(&line);
        out.push('\n');
    }
    // A file from elsewhere must not steer the terminal.
    out.retain(|c| c == '\n' || !c.is_control());
    out
}
