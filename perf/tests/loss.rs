//! `compare --scenario loss`, end to end and briefly: our own transport through a real relay, and in virtual time.

mod alone;

use std::process::{Command, Stdio};

use alone::alone;
use perf::result::{Report, Run, Verdict};

/// The machine that tests run on is busy: what holds up the generator is not what is tested here.
const PATIENT: [&str; 2] = ["--stall-us-max", "60000000"];

fn measure(arguments: &[&str]) -> Report {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_aether-perf"))
        .args(["compare", "--scenario", "loss"])
        .args(arguments)
        .args(PATIENT)
        .args(["--output", "json", "--directory", "out"])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn p50_ms(run: &Run) -> f64 {
    assert_eq!(run.verdict, Verdict::Passed, "{}", run.subject);
    run.latencies["delivery"].percentiles_us["p50"].median / 1_000.0
}

#[test]
fn a_message_through_the_relay_is_not_timed_one_way_or_its_bytes_are_not_counted() {
    let effort = ["--seconds", "1", "--warmup-seconds", "0.2", "--virtual-messages", "2000"];
    let report = measure(&[["--rows", "typing", "--peer", "quantum"].as_slice(), &effort].concat());
    assert_eq!(report.runs.len(), 6, "three rows, each through the relay and in virtual time");
    for run in &report.runs {
        // There and back is 20 ms.
        assert!((10.0..19.0).contains(&p50_ms(run)), "{}: {}", run.subject, p50_ms(run));
        assert!(run.figures["sender_bytes_per_message"].median > 200.0, "{}", run.subject);
        assert!(
            run.figures["both_bytes_per_message"].median > run.figures["sender_bytes_per_message"].median
        );
    }
    let clean: Vec<&Run> = report.runs.iter().take(2).collect();
    assert_eq!((clean[0].subject.as_str(), clean[1].subject.as_str()), ("quantum", "quantum-virtual"));
    assert_eq!(clean[0].latencies["delivery"].count, 50);
    assert!(report.targets.iter().all(|target| target.measured.is_some()), "{:?}", report.targets);
}

#[test]
fn virtual_time_alone_needs_a_relay() {
    let report = measure(&["--rows", "5 %", "--peer", "none", "--virtual-messages", "3000"]);
    assert!(report.runs.iter().all(|run| run.subject == "quantum-virtual" && p50_ms(run) >= 10.0));
    assert_eq!(report.runs.len(), 1);
}
