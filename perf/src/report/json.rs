//! Reports as files for machines.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::result::{Report, SCHEMA};

/// Writes a report where it will be found whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write(report: &Report, path: &Path) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(report)
        .map_err(|error| Error::doing("a report cannot be turned into JSON", error))?;
    text.push(b'\n');
    put(path, &text)
}

/// Writes a file whole or not at all.
pub(super) fn put(path: &Path, content: &[u8]) -> Result<()> {
    let failed =
        |error| Error::doing(format!("{} cannot be written; name another place", path.display()), error);
    // What is no plain file, such as a terminal or a pipe, cannot be replaced.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return fs::write(path, content).map_err(failed);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let written = fs::File::create(&beside)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(failed)
}

/// Reads a report.
///
/// # Errors
/// The file cannot be read, is no report, or was written by a newer program.
pub fn read(path: &Path) -> Result<Report> {
    let shown = path.display();
    let text = fs::read(path).map_err(|error| Error::doing(format!("{shown} cannot be read"), error))?;
    parse(&text).map_err(|what| Error::Usage(format!("{shown} {what}")))
}

#[derive(serde::Deserialize)]
struct Schema {
    schema: u32,
}

/// Reads a report from text, or says what is wrong with it.
fn parse(text: &[u8]) -> std::result::Result<Report, String> {
    // Alone first: a newer report may have a shape that this program does not know.
    let Schema { schema } = serde_json::from_slice(text)
        .map_err(|error| format!("is no report of aether-perf: {error}; give a report.json that it wrote"))?;
    if schema > SCHEMA {
        return Err(format!(
            "has schema {schema}, and this aether-perf knows up to {SCHEMA}: build aether-perf from the commit that \
             the file names, or newer"
        ));
    }
    serde_json::from_slice(text).map_err(|error| format!("is a damaged report: {error}; measure again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn nothing_is_lost_between_writing_and_reading() {
        let report = sample::report();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        write(&report, &path).unwrap();
        let read = read(&path).unwrap();
        assert!(serde_json::json!(read) == serde_json::json!(report));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "something was left beside it");
    }

    #[test]
    fn a_newer_report_is_refused_with_the_remedy() {
        let error = parse(format!("{{\"schema\":{},\"runs\":7}}", SCHEMA + 1).as_bytes()).unwrap_err();
        assert!(error.contains("build aether-perf"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_report_is_told_from_a_damaged_one() {
        assert!(parse(b"[1,2]").unwrap_err().contains("is no report"));
        assert!(parse(b"{\"schema\":1}").unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = put(Path::new("/proc/nothing/report.json"), b"").unwrap_err().to_string();
        assert!(error.contains("/proc/nothing/report.json"), "{error}");
    }
}
