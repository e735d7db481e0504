//! What a record says.

use std::fmt;

use wire::Guuid;
use wire::varint::{Malformed, Reader, Writer, varint_len};

use crate::config::round_up;
use crate::header::{HEADER_BYTES, RecordHeader, VERSION_MIN, kind};

const GUUID_BYTES: usize = 16;
const TIME_BYTES: usize = 8;
const SEGMENT_BODY_BYTES: usize = GUUID_BYTES + 8;
const OPEN_BODY_BYTES: usize = 16;
const TRIM_BODY_BYTES: usize = 24;

/// A segment start with its header, as it lies in the log.
pub(crate) const SEGMENT_RECORD_BYTES: usize = record_bytes(SEGMENT_BODY_BYTES);

/// The room that a record with such a body takes.
pub(crate) const fn record_bytes(body_bytes: usize) -> usize {
    HEADER_BYTES + round_up(body_bytes, 8)
}

/// A record read back from the log; borrows from the bytes that were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its number in the log.
    pub lsn: u64,
    /// What it says.
    pub body: Body<'a>,
}

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// A segment begins here.
    Segment(SegmentStart),
    /// The log was opened.
    Open(Open),
    /// An op.
    Op(Op<'a>),
    /// The segments before one are not needed any more.
    Trim(Trim),
    /// A document was deleted.
    Delete(Delete<'a>),
}

/// The first record of each segment. Its body: log id (16 bytes), size of the segment (8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentStart {
    /// The log that the segment belongs to.
    pub log_id: Guuid,
    /// The size of the segment file in bytes, for information.
    pub segment_bytes: u64,
}

/// Written at each opening of the log. Its body: incarnation (8 bytes), time (8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// Counts the openings of this log.
    pub incarnation: u64,
    /// When, in Unix milliseconds, for people.
    pub unix_ms: u64,
}

/// Says that the segments before one are not needed any more: only when it is durable are they taken away, the oldest
/// first, and only with it is a log believed that does not begin with segment 0. Its body: segment (4 bytes), header
/// checksum (4), log sequence number (8), incarnation (8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    /// The first segment that is kept, and what it begins with: proves that what is found there is what was kept.
    pub kept: SegmentMark,
    /// The incarnation that wrote this: the [`Open`] records that named it and those before may be among what goes.
    pub incarnation: u64,
}

/// Where a segment begins in the chain of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentMark {
    /// The segment.
    pub segment: u32,
    /// The header checksum of the record before its first.
    pub previous: u32,
    /// The number of its first record.
    pub first_lsn: u64,
}

/// One op of a document. Its body: kind (1 byte), id (16), time (8, not in version 1), length of the document id
/// (varint), document id, payload (the rest); the other fields are in the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op<'a> {
    /// The partition that the document is in.
    pub partition: u16,
    /// The epoch of the partition at which the op was taken.
    pub epoch: u32,
    /// The document's id.
    pub document: &'a str,
    /// The document's kind, as on the wire: 1 is `yjs`, 2 is `opaque`. The log does not look at it.
    pub kind: u8,
    /// The number of the op in its document.
    pub sequence: u64,
    /// The op's own id: its writer and the writer's counter.
    pub id: Guuid,
    /// When it was taken, in Unix milliseconds; 0 when nobody knows.
    pub unix_ms: u64,
    /// The bytes that the client sent.
    pub payload: &'a [u8],
}

/// A document was deleted: what it held up to here is gone. Its body is that of an op without payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delete<'a> {
    /// The partition that the document is in.
    pub partition: u16,
    /// The epoch of the partition at which it was deleted.
    pub epoch: u32,
    /// The document's id.
    pub document: &'a str,
    /// The document's kind, as on the wire.
    pub kind: u8,
    /// The number that an op would have had in its place.
    pub sequence: u64,
    /// Who deleted it.
    pub id: Guuid,
    /// When, in Unix milliseconds; 0 when nobody knows.
    pub unix_ms: u64,
}

impl SegmentStart {
    pub(crate) const BODY_BYTES: usize = SEGMENT_BODY_BYTES;

    pub(crate) fn encode(&self, body: &mut Writer<'_>) {
        body.put(self.log_id.as_bytes());
        body.put(&self.segment_bytes.to_le_bytes());
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, Malformed> {
        let log_id = Guuid::from_bytes(body.array("log id")?);
        Ok(Self { log_id, segment_bytes: u64::from_le_bytes(body.array("segment size")?) })
    }
}

impl Open {
    pub(crate) const BODY_BYTES: usize = OPEN_BODY_BYTES;

    pub(crate) fn encode(&self, body: &mut Writer<'_>) {
        body.put(&self.incarnation.to_le_bytes());
        body.put(&self.unix_ms.to_le_bytes());
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, Malformed> {
        let incarnation = u64::from_le_bytes(body.array("incarnation")?);
        Ok(Self { incarnation, unix_ms: u64::from_le_bytes(body.array("time")?) })
    }
}

impl Trim {
    pub(crate) const BODY_BYTES: usize = TRIM_BODY_BYTES;

    pub(crate) fn encode(&self, body: &mut Writer<'_>) {
        body.put(&self.kept.segment.to_le_bytes());
        body.put(&self.kept.previous.to_le_bytes());
        body.put(&self.kept.first_lsn.to_le_bytes());
        body.put(&self.incarnation.to_le_bytes());
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, Malformed> {
        let segment = u32::from_le_bytes(body.array("first segment kept")?);
        let previous = u32::from_le_bytes(body.array("its place in the chain")?);
        let first_lsn = u64::from_le_bytes(body.array("its first record")?);
        let incarnation = u64::from_le_bytes(body.array("incarnation")?);
        Ok(Self { kept: SegmentMark { segment, previous, first_lsn }, incarnation })
    }
}

impl<'a> Delete<'a> {
    /// The same as an op with nothing in it.
    #[must_use]
    pub const fn as_op(&self) -> Op<'a> {
        let Self { partition, epoch, document, kind, sequence, id, unix_ms } = *self;
        Op { partition, epoch, document, kind, sequence, id, unix_ms, payload: &[] }
    }

    fn decode(header: &RecordHeader, body: &mut Reader<'a>) -> Result<Self, Malformed> {
        let Op { partition, epoch, document, kind, sequence, id, unix_ms, payload } =
            Op::decode(header, body)?;
        if !payload.is_empty() {
            return Err(body.malformed("end of the deletion"));
        }
        Ok(Self { partition, epoch, document, kind, sequence, id, unix_ms })
    }
}

impl<'a> Op<'a> {
    /// The length of the body that this op will have.
    pub(crate) const fn body_bytes(&self) -> usize {
        let id_bytes = self.document.len();
        1 + GUUID_BYTES + TIME_BYTES + varint_len(id_bytes as u64) + id_bytes + self.payload.len()
    }

    pub(crate) fn encode(&self, body: &mut Writer<'_>) {
        body.put_u8(self.kind);
        body.put(self.id.as_bytes());
        body.put(&self.unix_ms.to_le_bytes());
        body.put_varint(self.document.len() as u64);
        body.put(self.document.as_bytes());
        body.put(self.payload);
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, epoch, document, kind, sequence, id, unix_ms, .. } = self;
        write!(
            f,
            "document={document:?} kind={kind} sequence={sequence} partition={partition} epoch={epoch} id={id} \
             unix_ms={unix_ms}"
        )
    }

    fn decode(header: &RecordHeader, body: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            partition: header.partition.get(),
            epoch: header.epoch.get(),
            sequence: header.sequence.get(),
            kind: body.u8("document kind")?,
            id: Guuid::from_bytes(body.array("op id")?),
            unix_ms: if header.version == VERSION_MIN {
                0
            } else {
                u64::from_le_bytes(body.array("op time")?)
            },
            document: body.string("document id")?,
            payload: body.rest(),
        })
    }
}

impl<'a> Record<'a> {
    /// Reads the body that follows a proven header.
    pub(crate) fn decode(header: &RecordHeader, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let body = match header.kind {
            kind::SEGMENT => Body::Segment(SegmentStart::decode(&mut reader)?),
            kind::OPEN => Body::Open(Open::decode(&mut reader)?),
            kind::OP => Body::Op(Op::decode(header, &mut reader)?),
            kind::TRIM if header.version > VERSION_MIN => Body::Trim(Trim::decode(&mut reader)?),
            kind::DELETE if header.version > VERSION_MIN => {
                Body::Delete(Delete::decode(header, &mut reader)?)
            }
            _ => return Err(reader.malformed("record kind")),
        };
        if !reader.is_empty() {
            return Err(reader.malformed("end of the record"));
        }
        Ok(Self { lsn: header.lsn.get(), body })
    }
}

impl fmt::Display for Record<'_> {
    /// One line for people who look into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.lsn, self.body)
    }
}

impl fmt::Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(start) => {
                write!(f, "segment log={} segment_bytes={}", start.log_id, start.segment_bytes)
            }
            Self::Open(open) => write!(f, "open incarnation={} unix_ms={}", open.incarnation, open.unix_ms),
            Self::Trim(trim) => {
                let (kept, incarnation) = (trim.kept, trim.incarnation);
                let (segment, lsn) = (kept.segment, kept.first_lsn);
                write!(f, "trim first_segment={segment} first_lsn={lsn} incarnation={incarnation}")
            }
            Self::Delete(delete) => {
                f.write_str("delete ")?;
                delete.as_op().describe(f)
            }
            Self::Op(op) => {
                f.write_str("op ")?;
                op.describe(f)?;
                write!(f, " payload_bytes={}", op.payload.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumped_record_hides_what_it_is_about() {
        let op = Op {
            partition: 7,
            epoch: 2,
            document: "a b",
            kind: 1,
            sequence: 9,
            id: Guuid::NIL,
            unix_ms: 4,
            payload: &[1, 2],
        };
        assert_eq!(
            Record { lsn: 4, body: Body::Op(op) }.to_string(),
            "4 op document=\"a b\" kind=1 sequence=9 partition=7 epoch=2 \
             id=00000000-0000-0000-0000-000000000000 unix_ms=4 payload_bytes=2"
        );
        let open = Body::Open(Open { incarnation: 3, unix_ms: 5 });
        assert_eq!(open.to_string(), "open incarnation=3 unix_ms=5");
    }

    #[test]
    fn bytes_behind_a_body_are_taken() {
        let mut bytes = [0; 40];
        let mut writer = Writer::new(&mut bytes);
        Open { incarnation: 1, unix_ms: 2 }.encode(&mut writer);
        let header = RecordHeader { kind: kind::OPEN, ..RecordHeader::default() };
        assert!(Record::decode(&header, &bytes[..Open::BODY_BYTES]).is_ok());
        assert!(Record::decode(&header, &bytes[..Open::BODY_BYTES + 1]).is_err());
        assert!(Record::decode(&header, &bytes[..Open::BODY_BYTES - 1]).is_err());
        assert!(Record::decode(&RecordHeader::default(), &bytes).is_err());
    }
}
