//! What a cut loses, as far as it can be told.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use serde::Serialize;
use wal::{Body, find_survivors};

use super::LogError;
use super::open::ShardLog;

/// Documents named in the text; JSON names all.
const DOCUMENTS_NAMED_MAX: usize = 20;

/// Ops of one document that are readable behind the cut.
#[derive(Serialize, Clone, Debug)]
pub(super) struct LostOps {
    pub(super) document: String,
    pub(super) ops: u64,
    /// The first and the last of their numbers in the document.
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
}

/// What is readable behind `offset` of a segment and in all segments after it.
pub(super) fn behind(log: &ShardLog, segment: u32, offset: u64) -> Result<Vec<LostOps>, LogError> {
    let mut found: BTreeMap<String, (u64, Range<u64>)> = BTreeMap::new();
    for later in log.dir.segments()?.into_iter().filter(|&later| later >= segment) {
        let path = log.dir.segment_path(later);
        let bytes = fs::read(&path).map_err(|source| LogError::File { what: "reading", path, source })?;
        let from = if later == segment { offset } else { 0 };
        let rest = bytes.get(from as usize..).unwrap_or(&[]);
        find_survivors(log.log_id, later, from, rest, |_, record| {
            let (document, sequence) = match record.body {
                Body::Op(op) => (op.document, op.sequence),
                Body::Delete(delete) => (delete.document, delete.sequence),
                Body::Segment(_) | Body::Open(_) | Body::Trim(_) => return,
            };
            let (ops, range) = found.entry(document.to_owned()).or_insert((0, sequence..sequence));
            *ops += 1;
            *range = range.start.min(sequence)..range.end.max(sequence);
        });
    }
    let lost = |(document, (ops, range)): (String, (u64, Range<u64>))| LostOps {
        document,
        ops,
        first_sequence: range.start,
        last_sequence: range.end,
    };
    Ok(found.into_iter().map(lost).collect())
}

pub(super) fn text(lost: &[LostOps]) -> String {
    if lost.is_empty() {
        return "  no readable op is lost; what the damaged bytes held is not known".to_owned();
    }
    let ops: u64 = lost.iter().map(|lost| lost.ops).sum();
    let mut text =
        format!("  {ops} readable ops of {} documents are lost, and those in the damaged bytes:", lost.len());
    for LostOps { document, ops, first_sequence, last_sequence } in lost.iter().take(DOCUMENTS_NAMED_MAX) {
        text += &format!("\n    {document:?}: {ops} ops, {first_sequence} to {last_sequence}");
    }
    if lost.len() > DOCUMENTS_NAMED_MAX {
        text += &format!(
            "\n    and {} more documents: --output json names all",
            lost.len() - DOCUMENTS_NAMED_MAX
        );
    }
    text
}
