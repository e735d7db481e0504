//! `recover`: how long a node takes to start over a long log.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use model::config::Config;
use node::{Node, NodeConfig};
use rt::{DataDir, Layout};
use rustix::fs::{Advice, fadvise};
use serde::Serialize;
use wal::{AlignedBuffer, LogConfig, LogPosition, LogWriter, Op, Open, segment_file_name};
use wire::Guuid;

use crate::args::Output;
use crate::error::{Error, Result};

/// Who wrote the log, and when; the same for all runs.
const LOG_ID: Guuid = Guuid::from_bytes([3; 16]);
const UNIX_MS: u64 = 1_700_000_000_000;
/// Ops between two batches: what gathers at 100,000 ops a second in half a millisecond.
const OPS_PER_BATCH: u64 = 50;
/// The least payload that an edit of the longest clock fits in.
const PAYLOAD_BYTES_MIN: i64 = 32;
/// How long the node may take to say how many ops it found.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The command line of `recover`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Writes a log with the writer that nodes write theirs with, drops it from the page cache, and times the start of \
                  a node over it.\n\nExample:\n  aether-perf recover --ops 10000000 --shards 2"
)]
pub struct RecoverArgs {
    /// Ops in the logs of all shards
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub ops: u64,
    /// Shards, each with a log of its own
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: u16,
    /// Documents in the logs of all shards, edited in turn
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub documents: u64,
    /// Bytes of each edit
    #[arg(long, value_name = "BYTES", default_value_t = 40, value_parser = clap::value_parser!(u16).range(PAYLOAD_BYTES_MIN..=100))]
    pub payload_bytes: u16,
    /// Where to write the log: a directory that is on the disk to be measured [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// What came of it.
#[derive(Serialize, Clone, Copy, Debug)]
struct Outcome {
    ops: u64,
    shards: u16,
    documents: u64,
    log_bytes: u64,
    write_s: f64,
    start_s: f64,
    ops_per_s: f64,
    log_bytes_per_s: f64,
}

/// Runs it.
///
/// # Errors
/// When the log cannot be written or the node does not start.
pub fn run(args: &RecoverArgs) -> Result<ExitCode> {
    let parent = args.directory.clone().unwrap_or_else(std::env::temp_dir);
    let doing = || format!("making a directory in {}", parent.display());
    let temp = tempfile::tempdir_in(&parent).map_err(|error| Error::doing(doing(), error))?;
    let begun = Instant::now();
    let log_bytes = write_logs(args, temp.path())?;
    let write_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let node = start(args, temp.path())?;
    let start_s = begun.elapsed().as_secs_f64();
    let recovered = wait_for_report(&node, args.ops);
    if recovered != args.ops {
        let found = std::io::Error::other(format!("{recovered} of {} ops were recovered", args.ops));
        return Err(Error::doing("starting over the log", found));
    }
    let (ops, per_s) = (args.ops, |amount: u64| amount as f64 / start_s);
    let outcome = Outcome {
        ops,
        shards: args.shards,
        documents: args.documents,
        log_bytes,
        write_s,
        start_s,
        ops_per_s: per_s(ops),
        log_bytes_per_s: per_s(log_bytes),
    };
    print(args.output, &outcome);
    // Dropped as if it were killed: there is nothing to drain.
    drop(node);
    Ok(ExitCode::SUCCESS)
}

fn print(output: Output, outcome: &Outcome) {
    match output {
        Output::Json => println!("{}", serde_json::json!(outcome)),
        Output::Table => println!(
            "{} ops of {} documents on {} shards, {:.0} MB of log: started in {:.2} s ({:.2} M ops/s, {:.0} MB/s); written in \
             {:.1} s",
            outcome.ops,
            outcome.documents,
            outcome.shards,
            outcome.log_bytes as f64 / 1e6,
            outcome.start_s,
            outcome.ops_per_s / 1e6,
            outcome.log_bytes_per_s / 1e6,
            outcome.write_s
        ),
    }
}

fn start(args: &RecoverArgs, data_dir: &Path) -> Result<Node> {
    let defaults = Config::default().node;
    let config = NodeConfig {
        node_id: defaults.id,
        data_dir: data_dir.to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        // Nobody: it never comes to serving.
        control: "http://127.0.0.1:9".to_owned(),
        api_key: String::new(),
        shards: Some(usize::from(args.shards)),
        idle_policy: node::IdlePolicy::Saver,
        transport: node::TransportConfig::default(),
        receive_buffer_bytes_max: defaults.receive_buffer_bytes_max,
        send_buffer_bytes_max: defaults.send_buffer_bytes_max,
        log_segment_bytes: defaults.log_segment_bytes,
        commit_delay_us_max: defaults.log_commit_delay_us_max,
        stage_sample_turns: 0,
        core: node::CoreConfig::default(),
        log: node::NodeLogConfig::default(),
        admin: None,
        store: node::NodeStoreConfig::default(),
    };
    Node::start(config).map_err(|error| Error::doing("starting the node", std::io::Error::other(error)))
}

/// The ops that the node says it found.
fn wait_for_report(node: &Node, ops: u64) -> u64 {
    let begun = Instant::now();
    while node.recovered_ops() != ops && begun.elapsed() < REPORT_TIMEOUT {
        std::thread::sleep(Duration::from_millis(1));
    }
    node.recovered_ops()
}

struct Buffer(Vec<u8>);

impl AlignedBuffer for Buffer {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }
    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The logs of a node, as it would have written them; their bytes.
fn write_logs(args: &RecoverArgs, data_dir: &Path) -> Result<u64> {
    let machine =
        |error: rt::RtError| Error::doing("making the data directory", std::io::Error::other(error));
    let lock = DataDir::lock(data_dir, ([127, 0, 0, 1], 0).into()).map_err(machine)?;
    let layout = Layout { shards: usize::from(args.shards), log_id: LOG_ID, incarnation_min: 1 };
    lock.write_layout(&layout).map_err(machine)?;
    let shards = u64::from(args.shards);
    let mut bytes = 0;
    for shard in 0..shards {
        let part = |whole: u64| whole / shards + u64::from(shard < whole % shards);
        let dir = lock.log_dir(shard as usize).map_err(machine)?;
        let log = Log::new(dir.path(), &LogConfig::new(LOG_ID.with_shard(shard as u8)))?;
        bytes +=
            log.write(shard, part(args.ops), part(args.documents).max(1), usize::from(args.payload_bytes))?;
    }
    Ok(bytes)
}

/// One log on its way to the disk.
struct Log<'a> {
    dir: &'a Path,
    writer: LogWriter<Buffer>,
    file: Option<(u32, File)>,
}

impl<'a> Log<'a> {
    fn new(dir: &'a Path, config: &LogConfig) -> Result<Self> {
        let config = LogConfig { segment_bytes: Config::default().node.log_segment_bytes, ..*config };
        let writer = LogWriter::new(config, LogPosition::START, |bytes| Buffer(vec![0; bytes]));
        let writer = writer.map_err(|error| Error::doing("making a log", std::io::Error::other(error)))?;
        Ok(Self { dir, writer, file: None })
    }

    fn write(mut self, shard: u64, ops: u64, documents: u64, payload_bytes: usize) -> Result<u64> {
        let full = |error: wal::AppendError| Error::doing("appending", std::io::Error::other(error));
        let names: Vec<String> = (0..documents).map(|index| format!("recover/{shard}/{index}")).collect();
        let mut edits: Vec<Edits> = vec![Edits::default(); names.len()];
        self.writer.append_open(Open { incarnation: 1, unix_ms: UNIX_MS }).map_err(full)?;
        let mut payload = Vec::with_capacity(payload_bytes);
        for index in 0..ops {
            let document = (index % documents) as usize;
            edits[document].next(payload_bytes, &mut payload);
            let sequence = index / documents + 1;
            let op = Op {
                partition: 0,
                epoch: 1,
                document: &names[document],
                kind: wire::sync::DocumentKind::Yjs as u8,
                sequence,
                id: LOG_ID.writer().with_counter(sequence),
                unix_ms: UNIX_MS + index / 100,
                payload: &payload,
            };
            self.writer.append_op(&op).map_err(full)?;
            if index % OPS_PER_BATCH == OPS_PER_BATCH - 1 {
                self.flush()?;
            }
        }
        self.flush()?;
        self.close()?;
        Ok(self.writer.stats().log_batch_bytes)
    }

    fn flush(&mut self) -> Result<()> {
        while let Some(write) = self.writer.poll_write() {
            let bytes = &write.buffer.as_slice()[..write.at.bytes];
            let written = self.segment(write.at.segment)?.write_all_at(bytes, write.at.offset);
            written.map_err(|error| Error::doing("writing the log", error))?;
            self.writer.handle_durable(write.at, Some(write.buffer));
        }
        Ok(())
    }

    fn segment(&mut self, segment: u32) -> Result<&File> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != segment) {
            self.close()?;
            let path = self.dir.join(segment_file_name(segment));
            let file = File::create(&path)
                .map_err(|error| Error::doing(format!("making {}", path.display()), error))?;
            self.file = Some((segment, file));
        }
        match &self.file {
            Some((_, file)) => Ok(file),
            None => Err(Error::doing("writing the log", std::io::Error::other("no segment is open"))),
        }
    }

    /// On the disk, and no longer in memory.
    fn close(&mut self) -> Result<()> {
        let Some((_, file)) = self.file.take() else { return Ok(()) };
        let synced = file.sync_all().and_then(|()| Ok(fadvise(&file, 0, None, Advice::DontNeed)?));
        synced.map_err(|error| Error::doing("syncing the log", error))
    }
}

/// One writer who types at the end of a text.
#[derive(Clone, Copy, Default)]
struct Edits {
    clock: u64,
}

impl Edits {
    /// The next edit as a Yjs update (version 1) of so many bytes: one item with a string, behind the last one.
    fn next(&mut self, bytes: usize, update: &mut Vec<u8>) {
        const CLIENT: u8 = 1;
        const STRING: u8 = 4;
        const HAS_LEFT_ORIGIN: u8 = 0x80;
        update.clear();
        // One client with one item.
        update.extend([1, 1, CLIENT]);
        put_varint(update, self.clock);
        if self.clock == 0 {
            // In the shared type "t".
            update.extend([STRING, 1, 1, b't']);
        } else {
            update.extend([STRING | HAS_LEFT_ORIGIN, CLIENT]);
            put_varint(update, self.clock - 1);
        }
        // Its length takes a byte, and the empty set of deletions behind it another.
        let characters = bytes - update.len() - 2;
        update.push(characters as u8);
        update.resize(update.len() + characters, b'x');
        update.push(0);
        self.clock += characters as u64;
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_another_length_are_written() {
        let (mut edits, mut update) = (Edits::default(), Vec::new());
        for _ in 0..20_000 {
            edits.next(40, &mut update);
            assert_eq!(update.len(), 40);
        }
        assert!(edits.clock > 500_000);
    }

    #[test]
    fn a_node_refuses_the_log_or_finds_other_ops() {
        let args = RecoverArgs {
            ops: 5_001,
            shards: 2,
            documents: 7,
            payload_bytes: 40,
            directory: None,
            output: Output::Json,
        };
        assert!(run(&args).is_ok());
    }
}
