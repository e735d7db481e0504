//! Servers under test in processes of their own, and how a parent starts and asks them.
//!
//! A child is this program again (`aether-perf serve peer NAME …`). It prints one line of JSON when it is ready,
//! answers each line `usage` on its standard input with one line of JSON, and ends when its standard input closes, so
//! that none outlives its parent.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use clap::Args;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::impair::{Relay, RelayHandle, Summary};
use crate::peer::Ready;
use crate::peers::{self, ClientContext, PACKET_BYTES, Peer, ServerContext};
use crate::result::Waiting;
use crate::stall::StallMeter;
use crate::workloads::Repeat;

/// The line that asks a child for its [`Usage`].
const ASK_USAGE: &str = "usage";
/// Of what a child said before it died so much is shown, bytes.
const LAST_WORDS_BYTES: u64 = 2_000;

/// Every repeat and every peer meets the same fates of packets.
const RELAY_SEED: u64 = 1;

/// The command line of `serve peer`.
#[derive(Args, Clone, Debug)]
pub struct PeerArgs {
    /// Which.
    pub peer: String,
    /// How it waits.
    #[arg(long, value_enum)]
    pub waiting: Waiting,
    /// The core that it runs on.
    #[arg(long)]
    pub core: usize,
    /// UDP payload of a full packet.
    #[arg(long, default_value_t = PACKET_BYTES)]
    pub packet_bytes: u16,
}

/// What a child has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor seconds of all its threads.
    pub cpu_s: f64,
    /// Resident memory now, bytes.
    pub rss_bytes: u64,
    /// The longest that its loop was away between two turns since the last time it was asked, microseconds; 0 for
    /// one that sleeps.
    pub stall_us_max: f64,
    /// How often a thread of it lost its core to somebody else without having asked for it.
    pub preemptions: u64,
}

impl Usage {
    /// Of this process.
    pub fn now(stalls: &StallMeter) -> Self {
        Self {
            cpu_s: cpu_seconds(),
            rss_bytes: rss_bytes(),
            stall_us_max: stalls.take_longest_us(),
            preemptions: preemptions(),
        }
    }
}

/// Processor seconds of all threads of this process.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// How often a thread of this process was made to give way; 0 where there is no procfs.
pub fn preemptions() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_task = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    tasks.filter_map(of_task).sum()
}

/// Resident memory of this process, bytes; 0 where there is no procfs.
fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Runs the server of a peer in this process until standard input closes.
///
/// # Errors
/// The peer is not known, its core cannot be had, or it broke.
pub fn run_peer(args: &PeerArgs) -> Result<()> {
    let peer = peers::find(&args.peer)?;
    // First of all, so that whatever threads there will be stay off the generator's core.
    move_to(args.core)?;
    sharpen_timers();
    let stalls = Arc::new(StallMeter::default());
    let answering = Arc::clone(&stalls);
    std::thread::Builder::new()
        .name("parent".to_owned())
        .spawn(move || answer_parent(&answering))
        .map_err(|error| Error::doing("no thread can be made", error))?;
    let ready = |ready: Ready| print_line(&ready);
    let packet_bytes = args.packet_bytes;
    let context = ServerContext { waiting: args.waiting, ready: &ready, stalls: &stalls, packet_bytes };
    (peer.serve)(&context).map_err(|source| Error::Transport {
        subject: peer.name.to_owned(),
        doing: "serving",
        source,
    })
}

/// Moves the calling thread, and those that it will make, to a core. A child begins on its parent's.
fn move_to(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)
        .map_err(|error| Error::doing(format!("the server cannot run on core {core}"), error))
}

/// Lets a sleep of this thread end when it should: by default the kernel may add 50 us.
pub fn sharpen_timers() {
    // Without it timers are late by that much, which is seen in the figures and is no error.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

fn answer_parent(stalls: &StallMeter) {
    for line in std::io::stdin().lock().lines() {
        match line.as_deref() {
            Ok(ASK_USAGE) => print_line(&Usage::now(stalls)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    std::process::exit(0);
}

fn print_line(value: &impl Serialize) {
    let mut line = serde_json::json!(value).to_string();
    line.push('\n');
    let mut output = std::io::stdout().lock();
    if output.write_all(line.as_bytes()).and_then(|()| output.flush()).is_err() {
        // Nobody is there to serve.
        std::process::exit(1);
    }
}

/// A child process that speaks lines of JSON. Dropped, it is ended.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    /// Where its standard error goes, if not to this process.
    log: Option<PathBuf>,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    command: String,
}

impl ServerProcess {
    /// Starts this program with these arguments and waits for the line that says that it is ready.
    ///
    /// # Errors
    /// It did not start, or ended before; with what it said.
    pub fn spawn<R: serde::de::DeserializeOwned>(arguments: &[impl AsRef<OsStr>]) -> Result<(Self, R)> {
        Self::start(arguments, Stdio::piped(), None)
    }

    /// The same, with what it says on standard error appended to a file.
    ///
    /// # Errors
    /// It did not start, or ended before; with what it said. The file cannot be written.
    pub fn spawn_with_log<R>(arguments: &[impl AsRef<OsStr>], log: &Path) -> Result<(Self, R)>
    where
        R: serde::de::DeserializeOwned,
    {
        let file = File::options().create(true).append(true).open(log);
        let file = file.map_err(|error| Error::doing(format!("writing {}", log.display()), error))?;
        Self::start(arguments, file.into(), Some(log.to_owned()))
    }

    fn start<R: serde::de::DeserializeOwned>(
        arguments: &[impl AsRef<OsStr>],
        errors: Stdio,
        log: Option<PathBuf>,
    ) -> Result<(Self, R)> {
        let words = arguments.iter().map(|argument| argument.as_ref().to_string_lossy());
        let command = words.fold("aether-perf".to_owned(), |line, word| line + " " + &word);
        let program =
            std::env::current_exe().map_err(|error| Error::doing("this program is not found", error))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            // Ctrl-C is for the parent, which ends its children in its own time.
            .process_group(0)
            .spawn()
            .map_err(|error| Error::Child {
                command: command.clone(),
                what: format!("did not start: {error}"),
            })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were piped");
        };
        let mut process = Self { child, log, input: Some(input), output: BufReader::new(output), command };
        let ready = process.read()?;
        Ok((process, ready))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, without a chance to do anything more.
    pub fn kill(&mut self) {
        // One that has ended and was waited for is left alone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Closes its standard input, reads the line that it says then, and waits until it has ended.
    ///
    /// # Errors
    /// It failed, with what it said.
    pub fn stop<R: serde::de::DeserializeOwned>(mut self) -> Result<R> {
        self.input = None;
        let last = self.read()?;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(last),
            _ => Err(self.ended()),
        }
    }

    /// What it has used by now.
    ///
    /// # Errors
    /// It has ended.
    pub fn usage(&mut self) -> Result<Usage> {
        self.ask(ASK_USAGE)
    }

    /// Sends a line and reads the answer.
    ///
    /// # Errors
    /// It has ended.
    pub fn ask<R: serde::de::DeserializeOwned>(&mut self, line: &str) -> Result<R> {
        let sent = self.input.as_mut().map(|input| writeln!(input, "{line}").and_then(|()| input.flush()));
        match sent {
            Some(Ok(())) => self.read(),
            _ => Err(self.ended()),
        }
    }

    fn read<R: serde::de::DeserializeOwned>(&mut self) -> Result<R> {
        let mut line = String::new();
        if !matches!(self.output.read_line(&mut line), Ok(1..)) {
            return Err(self.ended());
        }
        serde_json::from_str(&line).map_err(|error| Error::Child {
            command: self.command.clone(),
            what: format!("said {:?}, which makes no sense: {error}", line.trim_end()),
        })
    }

    /// Tells how it ended.
    fn ended(&mut self) -> Error {
        self.input = None;
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let mut words = Vec::new();
        // What cannot be read is not shown.
        let _ = match (self.child.stderr.as_mut(), &self.log) {
            (Some(errors), _) => errors.take(LAST_WORDS_BYTES).read_to_end(&mut words),
            (None, Some(log)) => read_end(log, &mut words),
            (None, None) => Ok(0),
        };
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        Error::Child { command: self.command.clone(), what: format!("ended ({status}): {words}") }
    }
}

/// The end of a file.
fn read_end(path: &Path, words: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(LAST_WORDS_BYTES);
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(words)
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.input = None;
        // It may be on a core that somebody spins on: it is not asked twice.
        self.kill();
    }
}

/// The server of a peer in a process of its own, behind the relay where there is one.
pub struct PeerServer {
    process: ServerProcess,
    ready: Ready,
    waiting: Waiting,
    packet_bytes: u16,
    /// Preemptions of both sides when it was last asked.
    preempted: [u64; 2],
    /// What the relay may be late by, where somebody allows more than usual, microseconds.
    late_us_max: u64,
    relay: Option<RelayHandle>,
}

impl PeerServer {
    /// Starts it on the server's core.
    ///
    /// # Errors
    /// It, or the relay, did not start.
    pub fn start(peer: &Peer, waiting: Waiting, context: &Context) -> Result<Self> {
        let waiting_text = match waiting {
            Waiting::Polling => "polling",
            Waiting::Blocking => "blocking",
        };
        let packet_bytes = context.packets.bytes();
        let core = context.cores.server.to_string();
        let packet = packet_bytes.to_string();
        let arguments = [
            "serve",
            "peer",
            peer.name,
            "--waiting",
            waiting_text,
            "--core",
            &core,
            "--packet-bytes",
            &packet,
        ];
        let (process, mut ready) = ServerProcess::spawn::<Ready>(&arguments)?;
        let late_us_max = context.effort.stall_us_max.unwrap_or_default();
        let mut relay = None;
        if let Some(network) = &context.network {
            move_to(context.cores.relay())?;
            let spawned = Relay::spawn(network.clone(), ready.address, RELAY_SEED);
            move_to(context.cores.client)?;
            let spawned = spawned?;
            ready.address = spawned.address();
            relay = Some(spawned);
        }
        Ok(Self { process, ready, waiting, packet_bytes, preempted: [0; 2], late_us_max, relay })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut ServerProcess {
        &mut self.process
    }

    /// What its clients need.
    pub fn client_context(&self) -> ClientContext<'_> {
        ClientContext { ready: &self.ready, waiting: self.waiting, packet_bytes: self.packet_bytes }
    }

    /// What the relay has counted by now, where there is one.
    ///
    /// # Errors
    /// It has ended.
    pub fn relayed(&mut self) -> Result<Option<Summary>> {
        self.relay.as_mut().map(RelayHandle::summary).transpose()
    }

    /// What it has used by now. What held up either side counts from here.
    ///
    /// # Errors
    /// It has ended.
    pub fn begin(&mut self) -> Result<Usage> {
        let usage = self.process.usage()?;
        self.preempted = [preemptions(), usage.preemptions];
        Ok(usage)
    }

    /// What it has used by now; what held up either side since [`Self::begin`], and the relay between them, goes into
    /// the repeat.
    ///
    /// # Errors
    /// It, or the relay, has ended.
    pub fn end(&mut self, repeat: &mut Repeat) -> Result<Usage> {
        let usage = self.process.usage()?;
        let mut figure = |name: &str, value: f64| repeat.figures.insert(name.to_owned(), value);
        match self.waiting {
            Waiting::Polling => {
                figure("server_stall_us_max", usage.stall_us_max);
            }
            // A loop that sleeps cannot tell how long it was kept from running: the scheduler can, how often.
            Waiting::Blocking => {
                let [client, server] = self.preempted;
                let count = preemptions().saturating_sub(client) + usage.preemptions.saturating_sub(server);
                figure("preemptions", count as f64);
            }
        }
        repeat.findings.server_stall_us = usage.stall_us_max;
        if let Some(relay) = &mut self.relay {
            let summary = relay.summary()?;
            figure("relay_late_us_p99", summary.late_us.p99 as f64);
            repeat.findings.held_up.extend(summary.held_up(self.late_us_max));
        }
        Ok(usage)
    }
}
