//! What a record says.

use std::fmt;

use wire::Guuid;
use wire::varint::{Malformed, Reader, Writer, varint_len};

use crate::config::round_up;
use crate::header::{HEADER_BYTES, RecordHeader, kind};

const GUUID_BYTES: usize = 16;
const SEGMENT_BODY_BYTES: usize = GUUID_BYTES + 8;
const OPEN_BODY_BYTES: usize = 16;

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

/// One op of a document. Its body: kind (1 byte), id (16), length of the document id (varint), document id,
/// payload (the rest); the other fields are in the header.
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
    /// The bytes that the client sent.
    pub payload: &'a [u8],
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

impl<'a> Op<'a> {
    /// The length of the body that this op will have.
    pub(crate) const fn body_bytes(&self) -> usize {
        1 + GUUID_BYTES + varint_len(self.document.len() as u64) + self.document.len() + self.payload.len()
    }

    pub(crate) fn encode(&self, body: &mut Writer<'_>) {
        body.put_u8(self.kind);
        body.put(self.id.as_bytes());
        body.put_varint(self.document.len() as u64);
        body.put(self.document.as_bytes());
        body.put(self.payload);
    }

    fn decode(header: &RecordHeader, body: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            partition: header.partition.get(),
            epoch: header.epoch.get(),
            sequence: header.sequence.get(),
            kind: body.u8("document kind")?,
            id: Guuid::from_bytes(body.array("op id")?),
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
            Self::Op(op) => write!(
                f,
                "op document={:?} kind={} sequence={} partition={} epoch={} id={} payload_bytes={}",
                op.document,
                op.kind,
                op.sequence,
                op.partition,
                op.epoch,
                op.id,
                op.payload.len()
            ),
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
            payload: &[1, 2],
        };
        assert_eq!(
            Record { lsn: 4, body: Body::Op(op) }.to_string(),
            "4 op document=\"a b\" kind=1 sequence=9 partition=7 epoch=2 \
             id=00000000-0000-0000-0000-000000000000 payload_bytes=2"
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
