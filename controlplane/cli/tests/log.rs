//! `aetherflow log` over logs that are really damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rt::{DataDir, Layout};
use serde_json::Value;
use wal::{AlignedBuffer, LogConfig, LogPosition, LogWriter, Op, Open, segment_file_name};
use wire::Guuid;

const SEGMENT_BYTES: u64 = 256 << 10;
const OPS: u64 = 3_000;

struct Buffer(Vec<u8>);

impl AlignedBuffer for Buffer {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }
    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A data directory with one shard, whose log holds `OPS` ops of three documents in some segments.
struct Node {
    temp: tempfile::TempDir,
    log: PathBuf,
}

impl Node {
    /// `trim_below`: the segments whose records are all below it are removed.
    fn new(trim_below: u64) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(temp.path(), ([127, 0, 0, 1], 1).into()).unwrap();
        let layout = Layout { shards: 1, log_id: Guuid::new(1_700_000_000_000, [7; 10]), incarnation_min: 0 };
        data_dir.write_layout(&layout).unwrap();
        let log = data_dir.log_path(0);
        fs::create_dir_all(&log).unwrap();
        let config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            batch_bytes_max: 16 << 10,
            record_body_bytes_max: 64 << 10,
            ..LogConfig::new(layout.log_id.with_shard(0))
        };
        let mut writer = LogWriter::new(config, LogPosition::START, |bytes| Buffer(vec![0; bytes])).unwrap();
        writer.append_open(Open { incarnation: 1, unix_ms: 1 }).unwrap();
        for index in 0..OPS {
            let (sequence, document) = (index / 3 + 1, ["a", "b", "c"][(index % 3) as usize]);
            let op = Op {
                partition: 1,
                epoch: 1,
                document,
                kind: 1,
                sequence,
                id: Guuid::NIL.with_counter(sequence),
                unix_ms: 5,
                payload: &[index as u8 | 1; 200],
            };
            writer.append_op(&op).unwrap();
            if index % 10 == 9 {
                flush(&mut writer, &log);
            }
        }
        writer.handle_trim_below(trim_below);
        flush(&mut writer, &log);
        while let Some(segment) = writer.poll_segment_removed() {
            fs::remove_file(log.join(segment_file_name(segment))).unwrap();
        }
        Self { temp, log }
    }

    fn segment(&self, segment: u32) -> PathBuf {
        self.log.join(segment_file_name(segment))
    }

    fn flip(&self, segment: u32, at: usize) {
        let path = self.segment(segment);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        let mut log = Command::new(env!("CARGO_BIN_EXE_aetherflow"));
        log.args(["log", command, "--data-dir"]).arg(self.temp.path()).args(more).output().unwrap()
    }

    fn json(&self, command: &str, status: i32, more: &[&str]) -> Value {
        let output = self.run(command, &[&["--output", "json"], more].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{text} {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(text.lines().next().unwrap()).unwrap()
    }

    /// What is in the directory, to the byte.
    fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(&self.log).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

fn flush(writer: &mut LogWriter<Buffer>, log: &Path) {
    use std::os::unix::fs::FileExt;

    while let Some(segment) = writer.poll_segment_wanted() {
        fs::File::create(log.join(segment_file_name(segment))).unwrap().set_len(SEGMENT_BYTES).unwrap();
    }
    while let Some(write) = writer.poll_write() {
        let path = log.join(segment_file_name(write.at.segment));
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&write.buffer.as_slice()[..write.at.bytes], write.at.offset).unwrap();
        writer.handle_durable(write.at, Some(write.buffer));
        while let Some(segment) = writer.poll_segment_wanted() {
            fs::File::create(log.join(segment_file_name(segment))).unwrap().set_len(SEGMENT_BYTES).unwrap();
        }
    }
}

#[test]
fn a_sound_log_is_called_damaged_or_counted_wrongly() {
    let node = Node::new(0);
    let verdict = node.json("verify", 0, &[]);
    assert_eq!((verdict["status"].as_str(), verdict["ops"].as_u64()), (Some("sound"), Some(OPS)));
    assert_eq!((verdict["documents"].as_u64(), verdict["first_lsn"].as_u64()), (Some(3), Some(1)));
    let before = node.content();
    assert_eq!(node.json("repair", 0, &["--yes"])["status"], "sound");
    assert!(node.content() == before, "a sound log was touched");
}

#[test]
fn a_trimmed_log_is_called_incomplete() {
    let node = Node::new(2_000);
    let verdict = node.json("verify", 0, &[]);
    assert!(verdict["first_segment"].as_u64() > Some(0), "{verdict}");
    let first = verdict["first_segment"].as_u64().unwrap() as u32;
    fs::remove_file(node.segment(first)).unwrap();
    let verdict = node.json("verify", 1, &[]);
    assert!(
        verdict["problem"].as_str().unwrap().contains(&format!("segment {first} is missing")),
        "{verdict}"
    );
    assert_eq!(node.json("repair", 1, &["--yes"])["status"], "beyond-repair");
}

#[test]
fn a_torn_end_is_called_damage_or_cut_twice() {
    let node = Node::new(0);
    let records = node.json("verify", 0, &[])["records"].as_u64().unwrap();
    let dumped = String::from_utf8(node.run("dump", &[]).stdout).unwrap();
    assert_eq!(dumped.lines().count() as u64, records);
    // The last batch loses a sector, as in a power failure.
    let last = node.json("verify", 0, &[])["segments"].as_u64().unwrap() as u32 - 2;
    let mut bytes = fs::read(node.segment(last)).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() / 512 * 512;
    bytes[end..].fill(0);
    fs::write(node.segment(last), bytes).unwrap();
    let verdict = node.json("verify", 0, &[]);
    assert!(verdict["torn_bytes"].as_u64() > Some(0), "{verdict}");
    let before = node.content();
    assert_eq!(node.json("repair", 0, &["--yes"])["status"], "sound", "the start does that");
    assert!(node.content() == before);
}

#[test]
fn a_flipped_bit_is_repaired_without_a_word_of_what_is_lost() {
    let node = Node::new(0);
    node.flip(1, 100_000);
    let verdict = node.json("verify", 1, &[]);
    assert!(verdict["problem"].as_str().unwrap().starts_with("log segment 1 at offset 9"), "{verdict}");
    let before = node.content();
    let plan = node.json("repair", 1, &[]);
    assert!(node.content() == before, "changed without --yes");
    assert_eq!((plan["status"].as_str(), plan["cut"]["segment"].as_u64()), (Some("repairable"), Some(1)));
    let text = String::from_utf8(node.run("repair", &[]).stdout).unwrap();
    assert!(text.contains("--yes would end the log") && text.contains("\"b\": "), "{text}");
    let lost = plan["lost"].as_array().unwrap();
    assert_eq!(lost.len(), 3);
    let readable: u64 = lost.iter().map(|lost| lost["ops"].as_u64().unwrap()).sum();
    let kept = verdict["ops"].as_u64().unwrap();
    // One batch at the most is neither kept nor readable as a whole; its damaged record is the only one unknown.
    assert_eq!(kept + readable, OPS - 1, "{plan}");
    assert!(lost.iter().all(|lost| lost["last_sequence"] == OPS / 3), "{plan}");

    assert_eq!(node.json("repair", 0, &["--yes"])["status"], "repaired");
    let verdict = node.json("verify", 0, &[]);
    assert_eq!((verdict["ops"].as_u64(), verdict["torn_bytes"].as_u64()), (Some(kept), Some(0)));
    // All that was cut is still there.
    for (path, bytes) in before.iter().skip(1) {
        let aside = PathBuf::from(format!("{}.damaged", path.display()));
        assert!(&fs::read(&aside).unwrap() == bytes, "{}", aside.display());
    }
    assert_eq!(node.json("repair", 0, &[])["status"], "sound");
}

#[test]
fn a_missing_segment_cannot_be_cut_at() {
    let node = Node::new(0);
    fs::remove_file(node.segment(1)).unwrap();
    let plan = node.json("repair", 1, &[]);
    assert!(plan["problem"].as_str().unwrap().contains("segment 1 is missing"), "{plan}");
    assert_eq!(node.json("repair", 0, &["--yes"])["status"], "repaired");
    assert_eq!(node.json("verify", 0, &[])["status"], "sound");
}

#[test]
fn a_log_of_a_newer_version_is_cut() {
    let node = Node::new(0);
    let path = node.segment(0);
    let mut bytes = fs::read(&path).unwrap();
    // A segment start's checksum is not seeded: CRC-32C over its first sixty bytes.
    bytes[4] = 9;
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    fs::write(path, bytes).unwrap();
    let verdict = node.json("verify", 1, &[]);
    assert!(verdict["problem"].as_str().unwrap().contains("format version 9"), "{verdict}");
    let before = node.content();
    assert_eq!(node.json("repair", 1, &["--yes"])["status"], "beyond-repair");
    assert!(node.content() == before);
}

#[test]
fn records_of_another_document_or_range_are_dumped() {
    let node = Node::new(0);
    let more = ["--document", "b", "--from", "7", "--to", "9", "--payload", "hex", "--output", "json"];
    let output = node.run("dump", &more);
    assert!(output.status.success());
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let sequences: Vec<_> = lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [7, 8, 9]);
    for line in &lines {
        assert_eq!((line["document"].as_str(), line["record"].as_str()), (Some("b"), Some("op")));
        assert_eq!(line["payload"].as_str().unwrap().len(), 400);
    }
    node.flip(0, 100_000);
    let output = node.run("dump", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("is damaged"));
}

#[test]
fn a_log_in_use_or_no_log_at_all_is_looked_into() {
    let node = Node::new(0);
    let held = DataDir::lock(node.temp.path(), ([127, 0, 0, 1], 7400).into()).unwrap();
    let output = node.run("verify", &[]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("in use by pid") && error.contains("127.0.0.1:7400"), "{error}");
    drop(held);
    assert_eq!(node.run("verify", &["--shard", "1"]).status.code(), Some(2));
    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_aetherflow"))
        .args(["log", "verify", "--data-dir"])
        .arg(empty.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no data directory"));
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "something was left behind");
}
