//! The workloads of the product from outside, each for a moment, against a node in a process of its own.

mod alone;

use std::path::Path;
use std::process::{Command, Output};

use alone::alone;
use perf::result::{MarkKind, Report, Run, Verdict};

/// Long enough for a machine that is busy with something else: what is tested is not the machine. Rates are low for
/// the same reason: the last edit may be late by the time between two of them, and a little.
const PATIENT: [&str; 6] = ["--output", "json", "--repeats", "1", "--stall-us-max", "60000000"];

fn perf(arguments: &[&str], directory: &Path) -> Output {
    let _alone = alone();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aether-perf"));
    command.args(arguments).args(PATIENT).arg("--directory").arg(directory.join("out"));
    command.current_dir(directory).output().expect("it starts")
}

/// The runs of a command that has to succeed.
fn runs(arguments: &[&str]) -> Vec<Run> {
    let directory = tempfile::tempdir().expect("a directory");
    let output = perf(arguments, directory.path());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}\n{}", String::from_utf8_lossy(&output.stdout));
    let report: Report = serde_json::from_slice(&output.stdout).expect("JSON alone");
    for run in &report.runs {
        assert_eq!(run.verdict, Verdict::Passed);
    }
    report.runs
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let output = perf(arguments, directory.path());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn count(run: &Run, latency: &str) -> u64 {
    run.latencies.get(latency).map_or(0, |latency| latency.count)
}

#[test]
fn an_edit_is_not_counted_or_counted_twice() {
    let arguments = "ops --rate 50,saturating --documents 10 --clients 4 --writers 2 --readers 2 --seconds 1 \
                     --warmup-seconds 0.1";
    let runs = runs(&arguments.split_whitespace().collect::<Vec<_>>());
    assert_eq!(runs.len(), 2);
    assert_eq!(count(&runs[0], "edit_to_durable"), 50);
    assert_eq!(count(&runs[0], "edit_to_reader"), 100);
    assert_eq!(count(&runs[0], "edit_to_last_reader"), 50);
    assert!(runs[1].figures["durable_ops_per_s"].median > 50.0, "{:?}", runs[1].figures);
}

#[test]
fn a_killed_node_loses_an_edit_or_leaves_no_mark() {
    let arguments =
        "ops --rate 40 --documents 4 --clients 3 --readers 2 --seconds 2 --warmup-seconds 0.1 --kill-at 0.7";
    let runs = runs(&arguments.split_whitespace().collect::<Vec<_>>());
    assert_eq!(count(&runs[0], "edit_to_durable"), 80);
    assert_eq!(count(&runs[0], "edit_to_reader"), 160);
    assert_eq!(runs[0].marks.iter().filter(|mark| mark.kind == MarkKind::Failover).count(), 1);
    assert!(runs[0].figures["reconnects"].median >= 3.0, "{:?}", runs[0].figures);
}

#[test]
fn a_reader_of_many_is_left_out() {
    let runs =
        runs(&["fanout", "--readers", "20", "--rate", "20", "--seconds", "1", "--warmup-seconds", "0"]);
    assert_eq!(count(&runs[0], "edit_to_reader"), 20 * 20);
}

#[test]
fn a_cursor_is_lost_on_its_way() {
    let runs =
        runs(&["presence", "--clients", "5", "--rate", "20", "--seconds", "1", "--warmup-seconds", "0"]);
    // 20 moves that four others see, less what is overtaken; at the least the last move of each.
    assert!((4 * 5..=4 * 20).contains(&count(&runs[0], "move_to_others")), "{:?}", runs[0].figures);
    assert_eq!(runs[0].figures["moves_per_s"].median, 20.0);
}

#[test]
fn somebody_in_a_storm_does_not_get_the_document() {
    let runs = runs(&["join-storm", "--clients", "30", "--edits", "3000"]);
    assert_eq!(count(&runs[0], "joined"), 30);
    let (state, received) = (&runs[0].figures["state_bytes"], &runs[0].figures["received_bytes_per_client"]);
    let ops = &runs[0].figures["ops_behind_state"];
    // One byte an edit at the least, merged or not.
    assert!(state.median + ops.median > 3_000.0, "{:?}", runs[0].figures);
    assert!(received.median > state.median.max(3_000.0), "{:?}", runs[0].figures);
}

#[test]
fn memory_over_time_is_not_looked_at() {
    let runs = runs(&[
        "soak",
        "--rate",
        "50",
        "--documents",
        "4",
        "--clients",
        "2",
        "--seconds",
        "2.2",
        "--warmup-seconds",
        "0.2",
    ]);
    assert!(runs[0].figures["rss_mb_end"].median > 1.0, "{:?}", runs[0].figures);
}

#[test]
fn a_recording_is_played_at_another_pace_or_not_to_its_end() {
    let traces = tempfile::tempdir().expect("a directory");
    let trace = |name: &str, times: [&str; 3]| {
        let path = traces.path().join(name);
        let transactions: Vec<_> = times
            .iter()
            .enumerate()
            .map(|(at, time)| serde_json::json!({ "time": time, "patches": [[at, 0, "x"]] }))
            .collect();
        let trace = serde_json::json!({ "startContent": "", "endContent": "xxx", "txns": transactions });
        std::fs::write(&path, trace.to_string()).expect("written");
        path.display().to_string()
    };
    let timed = trace("timed.json", ["2020-01-01T00:00:00Z", "2020-01-01T00:00:01Z", "2020-01-01T00:00:10Z"]);
    let played = runs(&["replay", &timed, "--speed", "4", "--documents", "2", "--readers", "2"]);
    assert_eq!((count(&played[0], "edit_to_durable"), count(&played[0], "edit_to_reader")), (6, 12));
    let seconds = played[0].figures["seconds"].median;
    assert!((2.5..10.0).contains(&seconds), "{seconds}");

    let timeless = trace("timeless.json", ["1970-01-01T00:00:00Z"; 3]);
    let (code, error) = refused(&["replay", &timeless]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("timeless.json") && error.contains("--rate"), "{error}");
    let played = runs(&["replay", &timeless, "--rate", "saturating"]);
    assert_eq!(count(&played[0], "edit_to_durable"), 3);
}

#[test]
fn what_cannot_be_is_begun() {
    let (code, error) = refused(&["ops", "--clients", "2", "--writers", "2", "--readers", "1"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("at least 3 --clients"), "{error}");
    let (code, error) = refused(&["replay", "/nowhere/trace.json"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("/nowhere/trace.json"), "{error}");
    let (code, error) = refused(&["soak", "--target", "http://127.0.0.1:9"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("ops --target"), "{error}");
}

#[test]
fn a_cluster_that_is_not_there_passes() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = perf(
        &["ops", "--target", "http://127.0.0.1:9", "--rate", "10", "--seconds", "0.1"],
        directory.path(),
    );
    assert_eq!(output.status.code(), Some(1));
    let report: Report = serde_json::from_slice(&output.stdout).expect("the run is told all the same");
    let Verdict::Failed { reasons } = &report.runs[0].verdict else { panic!("{:?}", report.runs[0].verdict) };
    assert!(reasons[0].contains("http://127.0.0.1:9"), "{reasons:?}");
}
