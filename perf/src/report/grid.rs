//! Rows and columns, before it is decided whether a terminal or a page shows them.

/// One table.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    /// Above it.
    pub(crate) title: String,
    /// The first holds names and stands left, the others hold figures and stand right.
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// One line of a table.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Whose colour it has.
    pub(crate) subject: Option<String>,
    pub(crate) cells: Vec<Cell>,
    /// In place of the cells that are not there.
    pub(crate) note: Option<String>,
}

/// What is in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

/// Whether it is good news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Quiet,
}

impl Cell {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl Row {
    /// A row of a subject.
    pub(crate) fn of(subject: &str, cells: Vec<Cell>) -> Self {
        Self { subject: Some(subject.to_owned()), cells, note: None }
    }

    /// A row of a subject that has no figures, and why.
    pub(crate) fn noted(subject: &str, note: String) -> Self {
        Self { subject: Some(subject.to_owned()), cells: vec![subject.into()], note: Some(note) }
    }
}

/// Columns of a terminal that a table may take.
pub(crate) const TEXT_WIDTH: std::ops::RangeInclusive<usize> = 80..=140;

/// Between two columns.
const GAP: usize = 2;

/// Tables for a terminal. Tables with the same columns are aligned with each other.
pub(crate) fn text(grids: &[Grid], width: usize) -> String {
    let width = width.clamp(*TEXT_WIDTH.start(), *TEXT_WIDTH.end());
    let mut out = String::new();
    for grid in grids {
        if !out.is_empty() {
            out.push('\n');
        }
        let widths = widths(grids.iter().filter(|other| other.columns == grid.columns));
        out.push_str(&grid.title);
        out.push('\n');
        for columns in blocks(&widths, width) {
            block(&mut out, grid, &widths, &columns, width);
        }
    }
    out
}

fn widths<'a>(grids: impl Iterator<Item = &'a Grid>) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for grid in grids {
        widths.resize(grid.columns.len(), 0);
        for (i, column) in grid.columns.iter().enumerate() {
            widths[i] = widths[i].max(chars(column));
        }
        for row in &grid.rows {
            for (i, cell) in row.cells.iter().enumerate().take(grid.columns.len()) {
                widths[i] = widths[i].max(chars(&cell.text));
            }
        }
    }
    widths
}

/// Columns that fit side by side, each block with the first column in front.
fn blocks(widths: &[usize], width: usize) -> Vec<Vec<usize>> {
    let first = 2 + widths.first().copied().unwrap_or(0);
    let mut blocks = vec![vec![0]];
    let mut used = first;
    for (i, column) in widths.iter().enumerate().skip(1) {
        if used + GAP + column > width && blocks.last().is_some_and(|b| b.len() > 1) {
            blocks.push(vec![0]);
            used = first;
        }
        used += GAP + column;
        if let Some(block) = blocks.last_mut() {
            block.push(i);
        }
    }
    blocks
}

fn block(out: &mut String, grid: &Grid, widths: &[usize], columns: &[usize], width: usize) {
    let line = |cells: &mut dyn FnMut(usize) -> String| {
        let mut line = String::from("  ");
        for (place, &i) in columns.iter().enumerate() {
            let text = cells(i);
            let pad = " ".repeat(widths[i].saturating_sub(chars(&text)));
            match place {
                0 => line.extend([text, pad]),
                _ => line.extend([" ".repeat(GAP), pad, text]),
            }
        }
        line.trim_end().to_owned() + "\n"
    };
    if grid.columns.iter().skip(1).any(|column| !column.is_empty()) {
        out.push_str(&line(&mut |i| grid.columns[i].clone()));
    }
    for row in &grid.rows {
        let Some(note) = &row.note else {
            out.push_str(&line(&mut |i| row.cells.get(i).map_or_else(String::new, |cell| cell.text.clone())));
            continue;
        };
        let name = row.cells.first().map_or("", |cell| cell.text.as_str());
        let indent = 2 + widths[0] + GAP;
        for (i, part) in wrap(note, width.saturating_sub(indent).max(20)).into_iter().enumerate() {
            let lead = if i == 0 { format!("  {name}") } else { String::new() };
            let pad = " ".repeat(indent.saturating_sub(chars(&lead)));
            out.extend([lead, pad, part, "\n".to_owned()]);
        }
    }
}

/// Lines of at most `width`, broken between words.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let used = lines.last().map_or(0, |line| chars(line));
        if used > 0 && used + 1 + chars(word) > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid {
            title: "rtt".to_owned(),
            columns: ["", "p50 us", "p99 us"].map(String::from).to_vec(),
            rows: vec![
                Row::of("raw-udp", vec!["raw-udp".into(), "4.03".into(), "5.51".into()]),
                Row::of("quinn-datagram", vec!["quinn-datagram".into(), "14.2".into(), "1,230".into()]),
                Row::noted("kcp", "FAILED: ".to_owned() + &"a reply was lost; ".repeat(8)),
            ],
        }
    }

    #[test]
    fn figures_stand_under_their_unit() {
        let text = text(&[grid()], 80);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "                  p50 us  p99 us");
        assert_eq!(lines[2], "  raw-udp           4.03    5.51");
        assert_eq!(lines[3], "  quinn-datagram    14.2   1,230");
        assert_eq!(lines[4].find("FAILED"), Some(18));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut wide = grid();
        for i in 0..12 {
            wide.columns.push(format!("a figure number {i}"));
            wide.rows[0].cells.push("1".into());
        }
        for width in [10, 80, 100, 140, 1_000] {
            let text = text(&[grid(), Grid { columns: wide.columns.clone(), ..grid() }], width);
            assert!(text.lines().all(|line| chars(line) <= width.clamp(80, 140)), "{text}");
        }
    }
}
