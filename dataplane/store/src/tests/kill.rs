//! A process that writes is killed: what it was told is durable is there, and nothing by halves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use statesync::DocumentStore;
use tempfile::tempdir;

use super::{head, op, open};

const CHILD_DIR: &str = "AETHERFLOW_STORE_TEST_DIR";
const ROUNDS: u64 = 6;

/// Not a test of its own: the process that is killed. It says what is durable, line by line, until the pipe breaks.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let mut store = open(dir.as_ref());
    let mut sequence = store.head("doc").expect("a head").map_or(0, |head| head.sequence);
    loop {
        let ops: Vec<_> = (sequence + 1..=sequence + 5).map(|sequence| op(sequence, sequence, 200)).collect();
        sequence += 5;
        store.write(&super::snapshot("doc", &head(sequence, sequence, 20_000), &ops)).expect("a write");
        println!("durable {sequence}");
    }
}

#[test]
fn a_kill_loses_what_was_durable_or_keeps_half_a_batch() {
    let dir = tempdir().expect("a directory");
    let mut durable = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "tests::kill::child", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let told = lines.filter_map(|line| line.ok()?.strip_prefix("durable ")?.parse().ok());
        for sequence in told.take(3 + 7 * round as usize) {
            durable = sequence;
        }
        child.kill().expect("a kill");
        child.wait().expect("its end");

        let mut store = open(dir.path());
        let found = store.head("doc").expect("a sound head").expect("a head");
        assert!(found.sequence >= durable, "durable was {durable}, found is {}", found.sequence);
        assert_eq!(found, head(found.sequence, found.sequence, 20_000));
        let ops = store.history("doc", 1, usize::MAX).expect("a sound history");
        assert_eq!(ops, (1..=found.sequence).map(|sequence| op(sequence, sequence, 200)).collect::<Vec<_>>());
    }
}

#[test]
fn a_store_that_a_kill_left_half_made_keeps_the_node_from_starting() {
    let dir = tempdir().expect("a directory");
    let half = dir.path().join("store.new");
    fs::create_dir_all(half.join("keyspaces")).expect("half a store");
    fs::write(half.join("lock"), b"").expect("half a store");
    fs::write(half.join("0.jnl"), b"").expect("half a store");
    let mut store = open(dir.path());
    store.write(&super::snapshot("doc", &head(1, 1, 1), &[op(1, 1, 1)])).expect("a write");
    assert!(!half.exists());
}
