//! The figures, and those of the last run.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::args::Output;
use crate::callgrind::Counted;
use crate::valgrind::Missing;

const HISTORY: &str = "last.json";
/// Changes below this are the allocator's and the loader's.
const NOISE_PERCENT: f64 = 0.2;

/// Instructions per step of each workload, as counted last.
pub(crate) struct History(BTreeMap<String, f64>);

impl History {
    /// A history that is missing or unreadable is empty: then there is nothing to compare with.
    pub(crate) fn read(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(HISTORY)).unwrap_or_default();
        Self(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Returns the figure of the last run.
    pub(crate) fn replace(&mut self, name: &str, instructions_per_step: f64) -> Option<f64> {
        self.0.insert(name.to_owned(), instructions_per_step)
    }

    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(HISTORY), serde_json::to_string_pretty(&self.0)?)
    }
}

#[derive(Serialize)]
struct Row {
    name: String,
    steps: u64,
    instructions_per_step: f64,
    last_instructions_per_step: Option<f64>,
    change_percent: Option<f64>,
}

#[derive(Serialize)]
struct Document<'a> {
    valgrind: Option<&'a str>,
    skipped: Option<String>,
    workloads: &'a [Row],
}

/// Prints rows as they come, or all at the end as one document.
pub(crate) struct Report<'a> {
    output: Output,
    valgrind: &'a str,
    rows: Vec<Row>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(output: Output, valgrind: &'a str) -> Self {
        if output == Output::Text {
            println!("\n{:<28} {:>16}   since the last run ({valgrind})", "workload", "instructions");
        }
        Self { output, valgrind, rows: Vec::new() }
    }

    /// Says that nothing was counted, and why.
    pub(crate) fn skipped(output: Output, missing: Missing) -> serde_json::Result<()> {
        if output == Output::Json {
            let skipped = Some(missing.to_string());
            return print_json(&Document { valgrind: None, skipped, workloads: &[] });
        }
        println!("SKIPPED: {missing}");
        Ok(())
    }

    pub(crate) fn add(&mut self, name: &str, counted: &Counted, last: Option<f64>) {
        let now = counted.instructions_per_step();
        let change_percent = last.map(|last| (now / last - 1.0) * 100.0);
        if self.output == Output::Text {
            let change = match change_percent {
                None => String::new(),
                Some(change) if change.abs() < NOISE_PERCENT => "same".to_owned(),
                Some(change) => format!("{change:+.1} %"),
            };
            println!("{name:<28} {now:>16.1}   {change}");
        }
        self.rows.push(Row {
            name: name.to_owned(),
            steps: counted.steps,
            instructions_per_step: now,
            last_instructions_per_step: last,
            change_percent,
        });
    }

    pub(crate) fn finish(&self) -> serde_json::Result<()> {
        if self.output == Output::Text {
            return Ok(());
        }
        print_json(&Document { valgrind: Some(self.valgrind), skipped: None, workloads: &self.rows })
    }
}

fn print_json(document: &Document<'_>) -> serde_json::Result<()> {
    println!("{}", serde_json::to_string_pretty(document)?);
    Ok(())
}
