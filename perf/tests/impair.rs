//! The command `aether-perf impair` from outside: what it prints, how it ends, what it refuses.

mod alone;

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use alone::alone;
use perf::impair::{Ready, Summary};

fn impair(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aether-perf"));
    command.arg("impair").args(arguments);
    command
}

/// Exit status and standard error of a command line that must be refused.
fn refused(arguments: &[&str]) -> (i32, String) {
    let _alone = alone();
    let output = impair(arguments).stdin(Stdio::null()).output().expect("it starts");
    let code = output.status.code().expect("it was not killed");
    (code, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A relay that prints JSON, and what it says when it is ready.
fn start(arguments: &[&str], to: &UdpSocket) -> (Child, BufReader<ChildStdout>, Ready) {
    let to = to.local_addr().expect("bound").to_string();
    let mut child = impair(&["--to", &to, "--output", "json"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let ready = read(&mut lines);
    (child, lines, ready)
}

fn read<T: serde::de::DeserializeOwned>(lines: &mut BufReader<ChildStdout>) -> T {
    let mut line = String::new();
    lines.read_line(&mut line).expect("it says something");
    serde_json::from_str(&line).expect(&line)
}

fn server() -> UdpSocket {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    server.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    server
}

#[test]
fn a_wrong_command_line_is_taken_or_refused_without_the_reason() {
    for (arguments, reason) in [
        (&["--to", "127.0.0.1:9", "--preset", "wify"][..], "did you mean `wifi`?"),
        (&["--to", "127.0.0.1:9", "--loss", "150%"], "not above 100%"),
        (&["--to", "127.0.0.1:9", "--network", "delay=1ms los=1%"], "did you mean `loss`?"),
        (&["--to", "127.0.0.1:9", "--trace-down", "/nowhere/x"], "/nowhere/x"),
        (&["--to", "127.0.0.1:9", "--trace-up", "/proc/self/status"], "line 1"),
        (&["--to", "nowhere"], "nowhere"),
        (&[], "--to"),
    ] {
        let (code, error) = refused(arguments);
        assert_eq!(code, 2, "{arguments:?}: {error}");
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
}

#[test]
fn a_port_in_use_is_taken_or_refused_without_its_address() {
    let taken = server().local_addr().expect("bound");
    let holder = UdpSocket::bind(taken).expect("just freed");
    let address = holder.local_addr().expect("bound").to_string();
    let (code, error) = refused(&["--to", "127.0.0.1:9", "--listen", &address]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains(&address) && error.contains("--listen"), "{error}");
}

#[test]
fn a_relay_outlives_its_parent_or_keeps_its_counters_to_itself() {
    let _alone = alone();
    let server = server();
    let (mut child, mut lines, ready) = start(&["--until-stdin-closes", "--network", "loss=100%"], &server);
    assert_eq!((ready.network.as_str(), ready.seed), ("loss=100%", 1));
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let mut input = child.stdin.take().expect("piped");
    // Datagrams and questions come by different ways: ask until the datagram has been seen.
    let counted: Summary = loop {
        client.send_to(b"x", ready.address).expect("room");
        writeln!(input, "summary").expect("it listens");
        let summary: Summary = read(&mut lines);
        if summary.up.lost > 0 {
            break summary;
        }
    };
    assert_eq!((counted.clients, counted.up.delivered), (1, 0));
    drop(input);
    let last: Summary = read(&mut lines);
    assert!(last.up.lost >= counted.up.lost);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_signal_ends_the_relay_without_its_summary() {
    let _alone = alone();
    let server = server();
    let (mut child, mut lines, _) = start(&[], &server);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let summary: Summary = read(&mut lines);
    assert_eq!(summary.clients, 0);
    assert!(child.wait().expect("it ends").success());
}
