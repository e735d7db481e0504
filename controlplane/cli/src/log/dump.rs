//! `aetherflow log dump`: the records as text or JSON lines.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Map, Value, json};
use wal::{Body, Op, Record};

use super::open::Logs;
use super::{DumpArgs, LogError, Payload};
use crate::args::Output;

/// True when no damage was met.
pub(super) fn run(args: &DumpArgs) -> Result<bool, LogError> {
    let logs = Logs::open(&args.source)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut is_sound = true;
    for &shard in &logs.shards {
        let (recovery, damage) = logs.shard(shard).read(|record| {
            if is_wanted(args, record) {
                let line = match args.source.output {
                    Output::Text => text(args, shard, record),
                    Output::Json => json_line(args, shard, record),
                };
                // A reader that has gone away is no failure of the command.
                let _ = writeln!(out, "{line}");
            }
        })?;
        let _ = out.flush();
        if let Err(error) = damage.map_or_else(|| recovery.finish().map(drop), Err) {
            is_sound = false;
            crate::output::fail(args.source.output, &error);
        }
    }
    Ok(is_sound)
}

/// Without a document all records, with one those of the document in the range.
fn is_wanted(args: &DumpArgs, record: &Record<'_>) -> bool {
    let Some(wanted) = &args.document else { return true };
    let (document, sequence) = match record.body {
        Body::Op(op) => (op.document, op.sequence),
        Body::Delete(delete) => (delete.document, delete.sequence),
        Body::Segment(_) | Body::Open(_) | Body::Trim(_) => return false,
    };
    document == wanted
        && args.from.is_none_or(|from| sequence >= from)
        && args.to.is_none_or(|to| sequence <= to)
}

fn text(args: &DumpArgs, shard: usize, record: &Record<'_>) -> String {
    let mut line = format!("shard={shard} {record}");
    if let Some(hex) = payload(args, record) {
        line += " payload=";
        line += &hex;
    }
    line
}

fn json_line(args: &DumpArgs, shard: usize, record: &Record<'_>) -> String {
    let mut fields = Map::new();
    fields.insert("shard".to_owned(), json!(shard));
    fields.insert("lsn".to_owned(), json!(record.lsn));
    let (kind, more) = match record.body {
        Body::Segment(start) => {
            ("segment", json!({ "log_id": start.log_id.to_string(), "segment_bytes": start.segment_bytes }))
        }
        Body::Open(open) => ("open", json!({ "incarnation": open.incarnation, "unix_ms": open.unix_ms })),
        Body::Trim(trim) => {
            let (segment, lsn, incarnation) = (trim.kept.segment, trim.kept.first_lsn, trim.incarnation);
            ("trim", json!({ "first_segment": segment, "first_lsn": lsn, "incarnation": incarnation }))
        }
        Body::Delete(delete) => (
            "delete",
            json!({ "document": delete.document, "document_kind": delete.kind, "sequence": delete.sequence,
                "partition": delete.partition, "epoch": delete.epoch, "id": delete.id.to_string(),
                "unix_ms": delete.unix_ms }),
        ),
        Body::Op(Op { document, kind, sequence, partition, epoch, id, unix_ms, payload }) => (
            "op",
            json!({ "document": document, "document_kind": kind, "sequence": sequence, "partition": partition,
                "epoch": epoch, "id": id.to_string(), "unix_ms": unix_ms, "payload_bytes": payload.len() }),
        ),
    };
    fields.insert("record".to_owned(), json!(kind));
    if let Value::Object(more) = more {
        fields.extend(more);
    }
    if let Some(hex) = payload(args, record) {
        fields.insert("payload".to_owned(), json!(hex));
    }
    Value::Object(fields).to_string()
}

fn payload(args: &DumpArgs, record: &Record<'_>) -> Option<String> {
    let (Payload::Hex, Body::Op(op)) = (args.payload, record.body) else { return None };
    let mut hex = String::with_capacity(2 * op.payload.len());
    for byte in op.payload {
        let _ = write!(hex, "{byte:02x}");
    }
    Some(hex)
}
