//! `aether-perf report`: draws again what was measured before, one report or several side by side.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::{Source, compare, hlog, html_page, json, plot_svg, table};
use crate::args::Output;
use crate::error::{Error, Result};
use crate::result::Report;

/// Most reports side by side: more do not fit a table.
const REPORTS_MAX: usize = 6;

/// Arguments of `aether-perf report`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  aether-perf report perf-results/compare-20261123T034551Z/report.json\n  \
                        aether-perf report before.json after.json --html change.html\n  \
                        aether-perf report report.json --plot compare.svg --hlog logs"
)]
pub struct Arguments {
    /// Reports to show (report.json); several are held against the first.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to print: for one report with `json` the report itself, for several their differences.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
    /// Write the page with all pictures.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write one picture that stands alone, of the first report.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Write HdrHistogram interval logs of all reports into a directory.
    #[arg(long, value_name = "DIR")]
    pub hlog: Option<PathBuf>,
}

/// Shows reports and writes the files that were asked for.
///
/// # Errors
/// A report that cannot be read, a file that cannot be written, or nothing to plot.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.files.len() > REPORTS_MAX {
        return Err(Error::Usage(format!("at most {REPORTS_MAX} reports fit side by side")));
    }
    let reports: Vec<Report> = arguments.files.iter().map(|path| json::read(path)).collect::<Result<_>>()?;
    let names = names(&arguments.files);
    let sources: Vec<Source<'_>> =
        names.iter().zip(&reports).map(|(name, report)| Source { name, report }).collect();
    let shown = match (arguments.output, sources.as_slice()) {
        (Output::Table, _) => table(&sources),
        (Output::Json, [only]) => format!("{}\n", serde_json::json!(only.report)),
        (Output::Json, _) => {
            format!("{}\n", serde_json::json!({ "reports": names, "differences": compare(&sources) }))
        }
    };
    match std::io::stdout().write_all(shown.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.map_err(|error| Error::doing("the report cannot be printed", error))?,
    }
    if let Some(path) = &arguments.html {
        json::put(path, html_page(&sources).as_bytes())?;
    }
    if let Some(path) = &arguments.plot {
        let Some(svg) = sources.first().and_then(|first| plot_svg(*first)) else {
            let file = arguments.files.first().map(|path| path.display().to_string()).unwrap_or_default();
            return Err(Error::Usage(format!("{file} holds no run that passed: there is nothing to plot")));
        };
        json::put(path, svg.as_bytes())?;
    }
    if let Some(directory) = &arguments.hlog {
        for Source { name, report } in &sources {
            let directory = if sources.len() > 1 { directory.join(name) } else { directory.clone() };
            fs::create_dir_all(&directory)
                .map_err(|error| Error::doing(format!("{} cannot be made", directory.display()), error))?;
            hlog::write(report, &directory)?;
        }
    }
    Ok(())
}

/// What reports are called: their file names, or where these are all the same, their directories.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let stem = |path: &PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let parent = |path: &PathBuf| path.parent()?.file_name().map(|s| s.to_string_lossy().into_owned());
    let distinct = |names: &[Option<String>]| {
        names.iter().enumerate().all(|(i, name)| name.is_some() && !names[..i].contains(name))
    };
    let candidates = [paths.iter().map(stem).collect::<Vec<_>>(), paths.iter().map(parent).collect()];
    match candidates.into_iter().find(|names| distinct(names)) {
        Some(names) => names.into_iter().flatten().collect(),
        None => (1..=paths.len()).map(|i| format!("report {i}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn arguments(files: Vec<PathBuf>) -> Arguments {
        Arguments { files, output: Output::Table, html: None, plot: None, hlog: None }
    }

    #[test]
    fn every_file_that_is_asked_for_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let [before, after] =
            ["before", "after"].map(|name| directory.path().join(name).with_extension("json"));
        json::write(&sample::report(), &before).unwrap();
        json::write(&sample::faster(), &after).unwrap();
        let [html, plot, logs] =
            ["change.html", "compare.svg", "logs"].map(|name| directory.path().join(name));
        let mut wanted = arguments(vec![before, after]);
        (wanted.html, wanted.plot, wanted.hlog) =
            (Some(html.clone()), Some(plot.clone()), Some(logs.clone()));
        run(&wanted).unwrap();
        assert!(fs::read_to_string(html).unwrap().contains("</html>"));
        assert!(fs::read_to_string(plot).unwrap().ends_with("</svg>\n"));
        assert!(fs::read_dir(logs.join("after")).unwrap().count() > 3);
    }

    #[test]
    fn a_report_without_a_passed_run_gives_no_empty_picture() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("empty.json");
        let mut report = sample::report();
        report.runs.clear();
        json::write(&report, &path).unwrap();
        let mut wanted = arguments(vec![path]);
        wanted.plot = Some(directory.path().join("compare.svg"));
        assert!(run(&wanted).unwrap_err().to_string().contains("nothing to plot"));
        assert!(!directory.path().join("compare.svg").exists());
    }

    #[test]
    fn reports_of_one_name_are_told_apart() {
        let paths = |paths: [&str; 2]| paths.map(PathBuf::from).to_vec();
        assert_eq!(names(&paths(["a/before.json", "a/after.json"])), ["before", "after"]);
        assert_eq!(names(&paths(["x/report.json", "y/report.json"])), ["x", "y"]);
        assert_eq!(names(&paths(["report.json", "report.json"])), ["report 1", "report 2"]);
    }
}
