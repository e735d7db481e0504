//! The binary, end to end: real servers in processes of their own, short loads, and every wrong command line.

mod alone;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use alone::alone;
use perf::result::{Report, Run, Verdict};

/// The machine that tests run on is busy: what holds up the generator is not what is tested here. Rates are low for
/// the same reason: the last message may be late by the time between two of them, and a little.
const PATIENT: [&str; 2] = ["--stall-us-max", "60000000"];

fn program(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aether-perf"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let _alone = alone();
    program(directory, arguments).output().expect("the program starts")
}

fn measure(arguments: &[&str]) -> (Report, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [arguments, &PATIENT, &["--output", "json", "--directory", "out"]].concat();
    let output = run(directory.path(), &arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout);
    (report.unwrap_or_else(|error| panic!("{error}: {errors}")), directory)
}

fn passed(run: &Run) -> &Run {
    assert_eq!(run.verdict, Verdict::Passed, "{} {:?}", run.subject, run.waiting);
    run
}

/// Fails, says all of these, and leaves nothing measured.
fn refused(arguments: &[&str], says: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    for words in says {
        assert!(errors.contains(words), "{arguments:?} does not say '{words}': {errors}");
    }
    assert!(output.stdout.is_empty(), "{arguments:?}");
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{arguments:?} left {left:?}");
}

#[test]
fn a_transport_that_is_built_does_not_echo() {
    let waiting = ["--waiting", "polling,blocking", "--rate", "closed,20"];
    let peers = ["--peer", "raw-udp,tcp,quantum"];
    let effort = ["--seconds", "0.3", "--warmup-seconds", "0.05", "--repeats", "1"];
    let (report, _directory) = measure(&[["rtt"].as_slice(), &peers, &waiting, &effort].concat());
    assert_eq!(report.runs.len(), 3 * 2 * 2);
    for run in &report.runs {
        let latency = &passed(run).latencies["round_trip"];
        assert!(latency.count >= 2, "{} timed {}", run.subject, latency.count);
        assert!(latency.percentiles_us["p50"].median > 0.5, "nothing is faster than light");
    }
}

#[test]
fn bytes_that_were_sent_are_not_received() {
    let (report, _directory) = measure(&[
        "bulk",
        "--peer",
        "tcp,quantum",
        "--waiting",
        "polling,blocking",
        "--seconds",
        "0.2",
        "--warmup-seconds",
        "0.05",
        "--repeats",
        "1",
    ]);
    for run in &report.runs {
        let figures = &passed(run).figures;
        assert!(figures["goodput_gbit_per_s"].median > 0.001, "{}", run.subject);
        assert!(figures["sender_cpu_s_per_gb"].median > 0.0, "{}", run.subject);
        assert!((figures["delivered_percent"].median - 100.0).abs() < 1e-9, "{}", run.subject);
    }
}

#[test]
fn connections_are_not_counted() {
    let (report, _directory) = measure(&[
        "connect",
        "--peer",
        "tcp,quantum",
        "--connections",
        "100",
        "--repeats",
        "1",
        "--waiting",
        "blocking",
    ]);
    assert_eq!(report.runs.len(), 4, "first answers of both, early ones and many connections of one");
    assert!(report.runs.iter().all(|run| run.verdict == Verdict::Passed), "{:?}", report.runs);
    let first = &report.runs[0].latencies["first_reply"];
    assert_eq!(first.count, 20);
    assert_eq!(report.runs[2].subject, "quantum (early data)");
    assert_eq!(report.runs[2].latencies["first_reply"].count, 20);
    assert!(report.runs[3].figures["handshakes_per_s"].median > 1.0);
}

#[test]
fn files_of_a_run_are_not_where_they_should_be() {
    let effort = ["--seconds", "0.3", "--warmup-seconds", "0", "--repeats", "1", "--report", "page.html"];
    let (_, directory) = measure(
        &[["rtt", "--peer", "raw-udp", "--waiting", "blocking", "--rate", "20"].as_slice(), &effort].concat(),
    );
    let out = directory.path().join("out");
    let json: Report = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(json.runs.len(), 1);
    let page = std::fs::read_to_string(directory.path().join("page.html")).unwrap();
    assert!(page.contains("raw-udp"));
    let logs = std::fs::read_dir(&out)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "hlog"));
    assert_eq!(logs.count(), 1);
}

#[test]
fn a_rate_that_cannot_be_reached_is_reported_as_if_it_were() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["rtt", "--peer", "tcp", "--rate", "20,50000000", "--seconds", "0.5", "--repeats", "1"];
    let arguments = [&arguments[..], &PATIENT, &["--directory", "out"]].concat();
    let output = run(directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("FAILED") && table.contains("asked for 50000000 messages/s"), "{table}");
    // The other run is kept.
    let report = std::fs::read(directory.path().join("out/report.json")).unwrap();
    let report: Report = serde_json::from_slice(&report).unwrap();
    passed(&report.runs[0]);
    assert!(report.runs[1].latencies.is_empty() && report.runs[1].figures.is_empty());
}

#[test]
fn a_peer_that_is_not_there_is_measured() {
    if let Some(name) = perf::peers::missing().first() {
        refused(&["rtt", "--peer", name], &[name, "--features peers"]);
    }
    refused(&["bulk", "--peer", "carrier-pigeon"], &["carrier-pigeon", "raw-udp", "quinn-stream"]);
    refused(&["connect", "--peer", "tcp,"], &["no peer is called ''"]);
}

#[test]
fn a_place_that_cannot_be_written_costs_a_measurement() {
    refused(&["rtt", "--report", "/proc/nothing/report.html"], &["/proc/nothing/report.html", "--report"]);
    refused(&["compare", "--quick", "--directory", "/proc/nothing"], &["/proc/nothing", "--directory"]);
    // Not even root writes into a directory that is a file.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o444)).unwrap();
    let below: PathBuf = file.join("out");
    refused(&["bulk", "--directory", below.to_str().unwrap()], &["--directory"]);
}

#[test]
fn an_argument_that_makes_no_sense_is_taken() {
    refused(&["rtt", "--rate", "0"], &["more than 0"]);
    refused(&["rtt", "--rate", "fast"], &["closed"]);
    refused(&["rtt", "--message-bytes", "8"], &["--message-bytes 8", "16"]);
    refused(&["rtt", "--peer", "raw-udp", "--message-bytes", "100000"], &["65507"]);
    refused(&["rtt", "--seconds=-1"], &["seconds are possible"]);
    refused(&["rtt", "--repeats", "0"], &["repeats"]);
    refused(&["rtt", "--client-core", "100000"], &["100000"]);
    refused(&["rtt", "--network", "delay=soon"], &["delay"]);
    refused(&["rtt", "--peer", "tcp", "--network", "delay=1ms"], &["--network", "tcp"]);
    refused(&["connect", "--connections", "0"], &["--connections 0"]);
}

#[test]
fn a_lossy_network_is_left_out_of_the_way() {
    let effort = ["--seconds", "0.5", "--warmup-seconds", "0.1", "--repeats", "1"];
    let load =
        ["rtt", "--peer", "quantum", "--waiting", "blocking", "--rate", "20", "--network", "delay=5ms"];
    let (report, _directory) = measure(&[load.as_slice(), &effort].concat());
    let run = passed(&report.runs[0]);
    let p50_us = run.latencies["round_trip"].percentiles_us["p50"].median;
    assert!(p50_us >= 10_000.0, "twice 5 ms take {p50_us} us");
    assert!(run.parameters.contains_key("network"));
}

#[test]
fn ctrl_c_loses_what_was_measured() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let load = [
        "rtt",
        "--peer",
        "raw-udp",
        "--waiting",
        "blocking",
        "--seconds",
        "3600",
        "--warmup-seconds",
        "0",
        "--directory",
        "out",
    ];
    let child = program(directory.path(), &[&load[..], &PATIENT].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // Its server runs once the measurement does.
    let server = loop {
        match children_of(child.id()).into_iter().find(|id| is_server(*id)) {
            Some(server) => break server,
            None => std::thread::yield_now(),
        }
    };
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("interrupted"), "{errors}");
    assert!(directory.path().join("out/report.json").exists(), "{errors}");
    assert!(!Path::new(&format!("/proc/{server}")).exists(), "the server lives on");
}

/// The processes that a process has started.
fn children_of(id: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn is_server(id: u32) -> bool {
    let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|word| word == b"serve")
}

#[test]
fn a_flood_is_not_refused_or_keeps_echoes_from_coming() {
    let effort = ["--seconds", "0.3", "--warmup-seconds", "0.05", "--repeats", "1", "--rate", "100"];
    let (report, _directory) = measure(
        &[["flood", "--flood-rate", "1000", "--kind", "forged-ticket,replayed"].as_slice(), &effort].concat(),
    );
    assert_eq!(report.runs.len(), 4, "none, one that goes elsewhere, and two");
    for run in &report.runs {
        assert!(passed(run).latencies["round_trip"].count > 10, "{}", run.subject);
        assert_eq!(run.figures["connections_made"].median, 0.0, "{}", run.subject);
    }
    let refused = |index: usize| {
        let figures = &report.runs[index].figures;
        let refused = ["ticket_forged", "retries_sent", "retries_suppressed"];
        refused.iter().filter_map(|name| Some(figures.get(*name)?.median)).sum::<f64>()
    };
    assert_eq!((refused(0), refused(1)), (0.0, 0.0));
    assert!(refused(2) > 200.0, "{}", refused(2));
}
