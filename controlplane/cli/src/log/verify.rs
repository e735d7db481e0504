//! `aetherflow log verify`: proves a log as a start would, and counts what is in it.

use std::collections::HashSet;

use serde::Serialize;
use wal::{Body, Record, RecoveryError};

use super::open::{Logs, ShardLog};
use super::{LogError, Source};
use crate::output;

/// What is said of one log.
#[derive(Serialize, Debug)]
pub(super) struct Verdict {
    shard: usize,
    /// `sound` or `damaged`.
    status: &'static str,
    records: u64,
    ops: u64,
    deletions: u64,
    documents: usize,
    first_lsn: u64,
    last_lsn: u64,
    segments: u32,
    /// Not 0 when older segments were removed.
    first_segment: u32,
    /// Segments that nobody needs any more, and that the next start removes.
    segments_unneeded: u32,
    /// Bytes of an unfinished write, never acknowledged, that the next start cuts off.
    torn_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// True when all logs can be trusted.
pub(super) fn run(source: &Source) -> Result<bool, LogError> {
    let logs = Logs::open(source)?;
    let mut is_sound = true;
    for &shard in &logs.shards {
        let verdict = verify(&mut logs.shard(shard))?;
        is_sound &= verdict.problem.is_none();
        output::print(source.output, &verdict, || verdict.text());
    }
    Ok(is_sound)
}

fn verify(log: &mut ShardLog) -> Result<Verdict, LogError> {
    let mut count = Count::default();
    let (recovery, damage) = log.read(|record| count.add(record))?;
    let (first_segment, first_kept) = recovery.first_segments();
    let progress = recovery.progress();
    let recovered = damage.map_or_else(|| recovery.finish(), Err);
    let torn_bytes = recovered.as_ref().ok().and_then(|recovered| recovered.repair.as_ref());
    Ok(Verdict {
        shard: log.shard,
        status: if recovered.is_ok() { "sound" } else { "damaged" },
        records: progress.records,
        ops: count.ops,
        deletions: count.deletions,
        documents: count.documents.len(),
        first_lsn: count.first_lsn,
        last_lsn: count.last_lsn,
        segments: progress.segments,
        first_segment,
        segments_unneeded: first_kept.saturating_sub(first_segment),
        torn_bytes: torn_bytes.map_or(0, |repair| repair.range.end - repair.range.start),
        problem: recovered.err().map(|error: RecoveryError| error.to_string()),
    })
}

/// What was read.
#[derive(Default)]
struct Count {
    ops: u64,
    deletions: u64,
    documents: HashSet<String>,
    first_lsn: u64,
    last_lsn: u64,
}

impl Count {
    fn add(&mut self, record: &Record<'_>) {
        if self.first_lsn == 0 {
            self.first_lsn = record.lsn;
        }
        self.last_lsn = record.lsn;
        let document = match record.body {
            Body::Op(op) => {
                self.ops += 1;
                op.document
            }
            Body::Delete(delete) => {
                self.deletions += 1;
                delete.document
            }
            Body::Segment(_) | Body::Open(_) | Body::Trim(_) => return,
        };
        if !self.documents.contains(document) {
            self.documents.insert(document.to_owned());
        }
    }
}

impl Verdict {
    fn text(&self) -> String {
        let Self { shard, status, records, ops, documents, first_lsn, last_lsn, segments, .. } = self;
        let mut text = format!(
            "shard {shard}: {status}; {records} records ({first_lsn} to {last_lsn}) in {segments} segments, {ops} ops of \
             {documents} documents"
        );
        if self.deletions > 0 {
            text += &format!(", {} deletions", self.deletions);
        }
        if self.first_segment > 0 {
            text += &format!("\n  it begins with segment {}: older ones were removed", self.first_segment);
        }
        if self.segments_unneeded > 0 {
            text += &format!(
                "\n  the next start removes {} segments that are not needed",
                self.segments_unneeded
            );
        }
        if self.torn_bytes > 0 {
            text += &format!(
                "\n  the next start cuts off {} bytes of a write that a crash left unfinished; nobody was told that it \
                 was safe",
                self.torn_bytes
            );
        }
        if let Some(problem) = &self.problem {
            text += &format!("\n  {problem}\n  `aetherflow log repair` says what could be saved.");
        }
        text
    }
}
