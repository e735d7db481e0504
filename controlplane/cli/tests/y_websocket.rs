//! Unmodified y-websocket clients from npm against a running appliance; see `tests/y-websocket`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// Kills the appliance however the test ends.
struct Appliance(Child);

impl Drop for Appliance {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(data_dir: &Path) -> (Appliance, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aetherflow"));
    command.args([
        "dev",
        "--control",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--shards",
        "1",
    ]);
    command.args(["--idle-policy", "saver", "--output", "json", "--data-dir"]).arg(data_dir);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("aetherflow starts");
    let stdout = child.stdout.take().expect("stdout is piped");
    let appliance = Appliance(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("aetherflow says where it is");
    let ready: Value = serde_json::from_str(&line).expect("a line of JSON");
    let http = ready["http"].as_str().expect("its HTTP address").to_owned();
    (appliance, http)
}

/// Runs a script of `tests/y-websocket`.
fn run(script: &str, arguments: &[&str]) {
    let output = Command::new("node").arg(script).args(arguments).current_dir(clients()).output();
    let output = output.expect("node starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/y-websocket")
}

fn are_installed() -> bool {
    let installed =
        clients().join("node_modules").is_dir() && Command::new("node").arg("--version").output().is_ok();
    if !installed {
        println!("skipped: needs Node.js, and `npm ci` run in tests/y-websocket (tests/run does both)");
    }
    installed
}

#[test]
fn unmodified_y_websocket_clients_diverge_or_are_disturbed() {
    if are_installed() {
        let data_dir = tempfile::tempdir().expect("a folder for the data");
        let (_appliance, http) = start(data_dir.path());
        run("test.js", &[&http]);
    }
}

#[test]
fn editors_lose_edits_or_sight_of_each_other_when_the_appliance_is_restarted() {
    if are_installed() {
        let data_dir = tempfile::tempdir().expect("a folder for the data");
        let path = data_dir.path().to_str().expect("a path in UTF-8");
        run("restart.js", &[env!("CARGO_BIN_EXE_aetherflow"), path]);
    }
}
