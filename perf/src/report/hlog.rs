//! HdrHistogram interval logs, one for each run, for the tools that read them. Tags name what was timed; intervals
//! are seconds since the measured time began; histograms hold nanoseconds, and the maxima beside them microseconds.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::{hdr, html, json, scene};
use crate::error::{Error, Result};
use crate::result::{Report, Run};

/// Longest name of a log, without its ending.
const NAME_BYTES_MAX: usize = 120;

/// Writes one log for every run that passed and timed something, and says which.
///
/// # Errors
/// A file cannot be written, or a histogram in the report is damaged.
pub fn write(report: &Report, directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for run in report.runs.iter().filter(|run| scene::passed(run) && !run.latencies.is_empty()) {
        let name = name(run);
        let mut path = directory.join(format!("{name}.hlog"));
        let mut next = 2;
        while paths.contains(&path) {
            path = directory.join(format!("{name}-{next}.hlog"));
            next += 1;
        }
        json::put(&path, &log(report, run)?)?;
        paths.push(path);
    }
    Ok(paths)
}

/// What a log is called: everything that tells a run from its neighbours, as far as file systems allow.
fn name(run: &Run) -> String {
    let mut parts = vec![run.workload.clone(), run.subject.clone()];
    parts.push(super::format::waiting(run.waiting).to_owned());
    parts.push(match run.pace {
        crate::result::Pace::Closed => "closed".to_owned(),
        crate::result::Pace::Open { rate_per_s } => format!("{rate_per_s}-per-s"),
        crate::result::Pace::Saturating => "saturating".to_owned(),
    });
    for (key, value) in &run.parameters {
        parts.push(match value {
            serde_json::Value::String(text) => format!("{key}-{text}"),
            value => format!("{key}-{value}"),
        });
    }
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '-' };
    let name: String = parts.join("-").chars().map(safe).take(NAME_BYTES_MAX).collect();
    name.trim_start_matches('.').to_owned()
}

fn log(report: &Report, run: &Run) -> Result<Vec<u8>> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::doing(format!("the interval log of {} {}", run.workload, run.subject), error)
    };
    let start = UNIX_EPOCH + Duration::from_millis(report.started_unix_ms);
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!("{}; {}", report.command, html::machine(report)))
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(1_000.0)
        .begin_log_with(&mut out, &mut serializer)
        .map_err(|error| failed(error.into()))?;
    writer
        .write_comment(
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"",
        )
        .map_err(|error| failed(error.into()))?;
    let mut intervals: Vec<_> = run
        .latencies
        .iter()
        .flat_map(|(timed, latency)| latency.intervals.iter().map(move |i| (timed, i)))
        .collect();
    intervals.sort_by_key(|(_, interval)| interval.at_ms);
    for (timed, interval) in intervals {
        let tag: String =
            timed.chars().map(|c| if matches!(c, ',' | '\r' | '\n' | ' ') { '_' } else { c }).collect();
        let histogram = hdr::decode(&interval.histogram)
            .ok_or_else(|| failed(format!("the histogram at {} ms is damaged", interval.at_ms).into()))?;
        let (at, length) = (Duration::from_millis(interval.at_ms), Duration::from_millis(interval.length_ms));
        writer
            .write_histogram(&histogram, at, length, Tag::new(&tag))
            .map_err(|error| failed(error.to_string().into()))?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::report::sample;

    #[test]
    fn a_log_reads_back_as_it_was_measured() {
        let report = sample::report();
        let run = report.runs.iter().find(|run| run.latencies.len() > 1).unwrap();
        let text = log(&report, run).unwrap();
        let entries: Vec<LogEntry<'_>> = IntervalLogIterator::new(&text).map(Result::unwrap).collect();
        assert!(
            matches!(entries[0], LogEntry::StartTime(at) if at.as_millis() as u64 == report.started_unix_ms)
        );
        for (timed, latency) in &run.latencies {
            let read: Vec<_> = entries
                .iter()
                .filter_map(|entry| match entry {
                    LogEntry::Interval(i) if i.tag().is_some_and(|tag| tag.as_str() == timed) => Some(i),
                    _ => None,
                })
                .collect();
            assert_eq!(read.len(), latency.intervals.len());
            for (read, interval) in read.iter().zip(&latency.intervals) {
                assert_eq!(read.start_timestamp(), Duration::from_millis(interval.at_ms));
                assert_eq!(read.duration(), Duration::from_millis(interval.length_ms));
                let histogram = hdr::decode(read.encoded_histogram()).unwrap();
                assert_eq!(histogram.len(), interval.count);
                assert_eq!(histogram, hdr::decode(&interval.histogram).unwrap());
            }
        }
    }

    #[test]
    fn runs_that_are_called_alike_do_not_overwrite_each_other() {
        let mut report = sample::report();
        let run = report.runs.iter().find(|run| !run.latencies.is_empty()).unwrap().clone();
        report.runs = vec![run.clone(), run];
        let directory = tempfile::tempdir().unwrap();
        let paths = write(&report, directory.path()).unwrap();
        assert_eq!(paths.len(), 2);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_parameter_cannot_lead_out_of_the_directory() {
        let mut report = sample::report();
        let run = report.runs.iter_mut().find(|run| !run.latencies.is_empty()).unwrap();
        run.workload = "../../etc".to_owned();
        assert!(!name(run).contains('/') && !name(run).starts_with('.'));
    }
}
