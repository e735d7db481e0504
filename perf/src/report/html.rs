//! The page: one file, no network, readable without a script, by day, by night and on paper.

use super::grid::{Cell, Grid, Row, Tone};
use super::markup::Markup;
use super::pictures;
use super::subject::{self, Palette};
use super::{Source, format, summary};
use crate::result::Report;

/// Facts of the machine that everybody asks for first, in this order.
const FIRST_FACTS: [&str; 5] = ["kernel", "cpu_model", "cores_allowed", "virtualization", "commit"];

/// A table with so few columns does not take the whole width.
const NARROW_COLUMNS: usize = 6;

/// The page of one report, or of several side by side.
pub(crate) fn page(sources: &[Source<'_>]) -> String {
    let palette = Palette::of(sources);
    let mut markup = Markup::default();
    markup.trusted("<!DOCTYPE html>\n");
    markup.tag("html").at("lang", "en").open();
    head(&mut markup);
    markup.tag("body").open();
    header(&mut markup, sources);
    let sections = pictures::sections(sources, &palette);
    let grids = summary::grids(sources);
    let (targets, tables): (Vec<&Grid>, Vec<&Grid>) =
        grids.iter().partition(|grid| grid.title == summary::TARGETS);
    markup.tag("nav").at("aria-label", "Sections").open();
    if !targets.is_empty() {
        markup.tag("a").at("href", "#targets").text("Targets");
    }
    markup.tag("a").at("href", "#figures").text("Figures");
    for section in &sections {
        markup.tag("a").at("href", format!("#{}", section.id)).text(section.title);
    }
    markup.close();
    chips(&mut markup, sources, &palette);
    if !targets.is_empty() {
        open_section(&mut markup, "targets", "Targets", "What had to be reached, and whether it was.");
        tables_of(&mut markup, &targets, &palette);
        markup.close();
    }
    open_section(&mut markup, "figures", "Figures", summary::how_to_read(sources));
    tables_of(&mut markup, &tables, &palette);
    markup.close();
    for section in &sections {
        open_section(&mut markup, section.id, section.title, section.how);
        markup.trusted(&section.body);
        markup.close();
    }
    markup.tag("script").open();
    markup.trusted(include_str!("page.js"));
    markup.close();
    markup.close();
    markup.close();
    markup.finish()
}

fn head(markup: &mut Markup) {
    markup.tag("head").open();
    markup.tag("meta").at("charset", "utf-8").leaf();
    markup.tag("meta").at("name", "viewport").at("content", "width=device-width, initial-scale=1").leaf();
    markup.tag("title").text("AetherFlow: measured");
    markup.tag("style").open();
    markup.trusted(include_str!("chart.css"));
    markup.trusted(include_str!("page.css"));
    markup.trusted(&subject::rules(true));
    markup.close();
    markup.close();
}

fn header(markup: &mut Markup, sources: &[Source<'_>]) {
    markup.tag("header").open();
    markup.tag("button").at("class", "theme").at("type", "button").text("Light / dark");
    markup.tag("h1").text("AetherFlow: measured");
    for Source { name, report } in sources {
        if sources.len() > 1 {
            markup.tag("h3").text(name);
        }
        markup.tag("p").at("class", "lead").text(&machine(report));
        markup.tag("p").open();
        markup.tag("code").text(&report.command);
        markup.close();
        markup.tag("details").open();
        markup.tag("summary").text("All facts of the machine");
        markup.tag("div").at("class", "scroll").open();
        markup.tag("table").at("class", "facts").open();
        for (fact, value) in &report.environment.facts {
            markup.tag("tr").open();
            markup.tag("td").text(fact);
            markup.tag("td").text(value);
            markup.close();
        }
        for _ in 0..3 {
            markup.close();
        }
    }
    markup.close();
}

/// Where and when, in one line.
pub(crate) fn machine(report: &Report) -> String {
    let facts = &report.environment.facts;
    let mut parts = vec![format::utc(report.started_unix_ms)];
    for fact in FIRST_FACTS {
        let Some(value) = facts.get(fact).filter(|value| !value.is_empty()) else { continue };
        parts.push(match fact {
            "kernel" if !value.starts_with("Linux") => format!("Linux {value}"),
            "cores_allowed" => format!("cores {value}"),
            "commit" => format!("commit {value}"),
            _ => value.clone(),
        });
    }
    parts.join(" \u{b7} ")
}

/// All subjects with their colours; with a script, each can be hidden.
fn chips(markup: &mut Markup, sources: &[Source<'_>], palette: &Palette) {
    let mut subjects: Vec<&str> = Vec::new();
    for run in sources.iter().flat_map(|source| &source.report.runs) {
        if !subjects.contains(&run.subject.as_str()) {
            subjects.push(&run.subject);
        }
    }
    markup.tag("div").at("class", "chips").at("role", "group").at("aria-label", "Subjects").open();
    for subject in subjects {
        let class = format!("chip {}", palette.slot(subject).class());
        let chip = markup.tag("button").at("type", "button").at("class", class).at("disabled", "");
        chip.at("data-subject", subject).open();
        swatch(markup, subject, palette);
        markup.tag("span").text(subject);
        markup.close();
    }
    markup.close();
}

fn swatch(markup: &mut Markup, subject: &str, palette: &Palette) {
    let slot = palette.slot(subject);
    markup.tag("svg").at("class", slot.class()).at("viewBox", "0 0 13 13").at("aria-hidden", "true").open();
    markup.tag("path").at("class", "mark").at("d", slot.mark(6.5, 6.5)).leaf();
    markup.close();
}

fn open_section(markup: &mut Markup, id: &str, title: &str, how: &str) {
    markup.tag("section").at("id", id).open();
    markup.tag("h2").text(title);
    markup.tag("p").at("class", "how").text(how);
}

fn tables_of(markup: &mut Markup, grids: &[&Grid], palette: &Palette) {
    for grid in grids {
        markup.tag("div").at("class", "scroll").open();
        let class = match grid.columns.len() {
            _ if grid.title == summary::TARGETS => "wrap",
            ..=NARROW_COLUMNS => "narrow",
            _ => "",
        };
        markup.tag("table").at("class", class).open();
        if grid.title != summary::TARGETS {
            markup.tag("caption").text(&grid.title);
        }
        markup.tag("thead").open();
        markup.tag("tr").open();
        for column in &grid.columns {
            markup.tag("th").at("scope", "col").text(column);
        }
        markup.close();
        markup.close();
        markup.tag("tbody").open();
        for row in &grid.rows {
            table_row(markup, row, grid.columns.len(), palette);
        }
        for _ in 0..3 {
            markup.close();
        }
    }
}

fn table_row(markup: &mut Markup, row: &Row, columns: usize, palette: &Palette) {
    let tag = markup.tag("tr");
    match &row.subject {
        Some(subject) => tag.at("data-subject", subject).open(),
        None => tag.open(),
    }
    for (i, Cell { text, tone }) in row.cells.iter().enumerate() {
        let class = match tone {
            Tone::Plain => "",
            Tone::Good => "good",
            Tone::Bad => "bad",
            Tone::Quiet => "quiet",
        };
        match class {
            "" => markup.tag("td").open(),
            class => markup.tag("td").at("class", class).open(),
        }
        if let Some(subject) = row.subject.as_ref().filter(|_| i == 0) {
            swatch(markup, subject, palette);
        }
        markup.text(text);
        markup.close();
    }
    if let Some(note) = &row.note {
        markup
            .tag("td")
            .at("class", "note")
            .at("colspan", columns.saturating_sub(row.cells.len()).max(1))
            .text(note);
    }
    markup.close();
}
