//! How what is known of a document is laid out: heads, tombstones, chunks of history, merged states, versions.

use bytes::Bytes;
use statesync::HistoryBase;
use statesync::jobs::{Base, Figures, HistoryOp, StoredDocument, Tombstone, Version, WriterMark};
use wire::Guuid;
use wire::sync::DocumentKind;

use crate::StoreError;
use crate::value::{Kind, Reader, Writer};

const GUUID_BYTES: usize = size_of::<Guuid>();
/// A writer's mark.
const MARK_BYTES: usize = GUUID_BYTES + 2 * size_of::<u64>();
/// An op without its payload.
const OP_BYTES_MIN: usize = GUUID_BYTES + 2 * size_of::<u64>() + size_of::<u32>();
/// All of a head but its variable parts.
const HEAD_BYTES_MIN: usize = 96;

pub(crate) fn encode_head(key: &[u8], head: &StoredDocument) -> Bytes {
    if let Some(tombstone) = head.tombstone {
        return encode_tombstone(key, head.kind, head.sequence, tombstone);
    }
    let StoredDocument { kind, sequence, base, writers, quarantined, tombstone: _ } = head;
    let variable = base.state.len() + base.vector.len() + writers.len() * MARK_BYTES;
    let mut writer = Writer::new(Kind::Head, HEAD_BYTES_MIN + variable);
    writer.u8(*kind as u8);
    writer.u8(u8::from(*quarantined));
    writer.u64(*sequence);
    writer.u64(base.sequence);
    let Figures { pending_bytes, shared_types, blocks, op_bytes, history_base_op_bytes } = base.figures;
    [pending_bytes, shared_types, blocks, op_bytes, history_base_op_bytes]
        .into_iter()
        .for_each(|figure| writer.u64(figure));
    writer.u32(u32::try_from(writers.len()).expect("writers are limited by document"));
    for mark in writers {
        writer.raw(mark.writer.as_bytes());
        writer.u64(mark.counter);
        writer.u64(mark.sequence);
    }
    writer.bytes(&base.vector);
    writer.bytes(&base.state);
    writer.finish(key)
}

pub(crate) fn encode_tombstone(key: &[u8], kind: DocumentKind, sequence: u64, tombstone: Tombstone) -> Bytes {
    let mut writer = Writer::new(Kind::Tombstone, 1 + 2 * size_of::<u64>());
    writer.u8(kind as u8);
    writer.u64(sequence);
    writer.u64(tombstone.unix_ms);
    writer.finish(key)
}

/// The state in it is a slice of `value`.
pub(crate) fn decode_head(document: &str, key: &[u8], value: &Bytes) -> Result<StoredDocument, StoreError> {
    let (found, mut reader) = Reader::open(document, key, value)?;
    if found == Kind::Tombstone as u8 {
        return decode_tombstone(reader);
    }
    if found != Kind::Head as u8 {
        return Err(reader.damaged("a value is of another kind"));
    }
    let kind = document_kind(&mut reader)?;
    let quarantined = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(reader.damaged("a flag is neither set nor clear")),
    };
    let (sequence, base_sequence) = (reader.u64()?, reader.u64()?);
    if base_sequence > sequence {
        return Err(reader.damaged("its state is ahead of it"));
    }
    let figures = Figures {
        pending_bytes: reader.u64()?,
        shared_types: reader.u64()?,
        blocks: reader.u64()?,
        op_bytes: reader.u64()?,
        history_base_op_bytes: reader.u64()?,
    };
    let mark = |reader: &mut Reader<'_>| -> Result<_, StoreError> {
        let writer = Guuid::from_bytes(reader.array()?);
        Ok(WriterMark { writer, counter: reader.u64()?, sequence: reader.u64()? })
    };
    let writers = (0..reader.count(MARK_BYTES)?).map(|_| mark(&mut reader)).collect::<Result<_, _>>()?;
    let (vector, state) = (reader.bytes()?, reader.bytes()?);
    reader.finish()?;
    let base = Base { sequence: base_sequence, state, vector, figures };
    Ok(StoredDocument { kind, sequence, base, writers, quarantined, tombstone: None })
}

fn decode_tombstone(mut reader: Reader<'_>) -> Result<StoredDocument, StoreError> {
    let kind = document_kind(&mut reader)?;
    let sequence = reader.u64()?;
    let tombstone = Some(Tombstone { unix_ms: reader.u64()? });
    reader.finish()?;
    let (base, writers) = (Base::default(), Vec::new());
    Ok(StoredDocument { kind, sequence, base, writers, quarantined: false, tombstone })
}

fn document_kind(reader: &mut Reader<'_>) -> Result<DocumentKind, StoreError> {
    let kind = reader.u8()?;
    DocumentKind::from_u8(kind).ok_or_else(|| reader.damaged("it is of an unknown kind"))
}

pub(crate) fn encode_ops(key: &[u8], ops: &[HistoryOp]) -> Bytes {
    let payloads: usize = ops.iter().map(|op| op.payload.len()).sum();
    let mut writer = Writer::new(Kind::History, payloads + ops.len() * OP_BYTES_MIN + size_of::<u32>());
    writer.u32(u32::try_from(ops.len()).expect("ops that fit into memory"));
    for op in ops {
        writer.u64(op.sequence);
        writer.raw(op.op_id.as_bytes());
        writer.u64(op.unix_ms);
        writer.bytes(&op.payload);
    }
    writer.finish(key)
}

/// The payloads are slices of `value`.
pub(crate) fn decode_ops(document: &str, key: &[u8], value: &Bytes) -> Result<Vec<HistoryOp>, StoreError> {
    let mut reader = Reader::open_as(Kind::History, document, key, value)?;
    let op = |reader: &mut Reader<'_>| -> Result<_, StoreError> {
        let (sequence, op_id) = (reader.u64()?, Guuid::from_bytes(reader.array()?));
        Ok(HistoryOp { sequence, op_id, unix_ms: reader.u64()?, payload: reader.bytes()? })
    };
    let ops = (0..reader.count(OP_BYTES_MIN)?).map(|_| op(&mut reader)).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(ops)
}

pub(crate) fn encode_base(key: &[u8], unix_ms: u64, base: &Base) -> Bytes {
    let mut writer = Writer::new(Kind::Base, base.state.len() + 3 * size_of::<u64>());
    writer.u64(base.sequence);
    writer.u64(unix_ms);
    writer.bytes(&base.state);
    writer.finish(key)
}

pub(crate) fn decode_base(document: &str, key: &[u8], value: &Bytes) -> Result<HistoryBase, StoreError> {
    let mut reader = Reader::open_as(Kind::Base, document, key, value)?;
    let base = HistoryBase { sequence: reader.u64()?, unix_ms: reader.u64()?, state: reader.bytes()? };
    reader.finish()?;
    Ok(base)
}

pub(crate) fn encode_version(key: &[u8], version: &Version) -> Bytes {
    let mut writer = Writer::new(Kind::Version, 2 * size_of::<u64>());
    writer.u64(version.sequence);
    writer.u64(version.unix_ms);
    writer.finish(key)
}

pub(crate) fn decode_version(document: &str, key: &[u8], value: &Bytes) -> Result<Version, StoreError> {
    let mut reader = Reader::open_as(Kind::Version, document, key, value)?;
    let (_, name) = crate::key::split(key)?;
    let name = std::str::from_utf8(name).map_err(|_| reader.damaged("a version's name is no text"))?.into();
    let version = Version { name, sequence: reader.u64()?, unix_ms: reader.u64()? };
    reader.finish()?;
    Ok(version)
}
