//! Logs of other versions of the format.

use zerocopy::IntoBytes;

use super::*;
use crate::SECTOR_BYTES;
use crate::header::{FLAG_LAST, HEADER_BYTES, MAGIC, RecordHeader, Seed, kind};

/// Lays down records as version 1 did, all in one batch.
fn version_1(records: &[(u8, u64, Vec<u8>)]) -> Vec<u8> {
    let mut segment = Vec::new();
    let mut previous = 0;
    for (lsn, (kind, sequence, body)) in (1..).zip(records) {
        let mut body = body.clone();
        let body_bytes = body.len() as u32;
        body.resize(body.len().next_multiple_of(8), 0);
        let mut header = RecordHeader {
            magic: MAGIC.into(),
            version: 1,
            kind: *kind,
            flags: if lsn == records.len() as u64 { FLAG_LAST } else { 0 },
            body_bytes: body_bytes.into(),
            partition: 5.into(),
            lsn: lsn.into(),
            sequence: (*sequence).into(),
            batch: 1.into(),
            epoch: 1.into(),
            offset: (segment.len() as u32).into(),
            previous: previous.into(),
            body_crc: crc32c::crc32c(&body).into(),
            ..RecordHeader::default()
        };
        previous = header.seal(Seed::of(log_id()));
        segment.extend_from_slice(header.as_bytes());
        segment.extend_from_slice(&body);
    }
    segment
}

fn start_and_open() -> Vec<(u8, u64, Vec<u8>)> {
    let start = [log_id().as_bytes().as_slice(), &SEGMENT_BYTES.to_le_bytes()].concat();
    let open = [1_u64.to_le_bytes(), 7_u64.to_le_bytes()].concat();
    vec![(kind::SEGMENT, 0, start), (kind::OPEN, 0, open)]
}

fn on_disk(bytes: &[u8]) -> Disk {
    let mut disk = Disk::new();
    disk.prepare(0, SEGMENT_BYTES).expect("no fault");
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
    disk.write(0, 0, &padded).expect("no fault");
    crate::Storage::sync(&mut disk, 0).expect("no fault");
    disk
}

#[test]
fn a_log_of_the_version_before_is_refused_or_misread() {
    let id = log_id().writer().with_counter(1);
    let op = [&[1], id.as_bytes().as_slice(), &[11], b"notes/today", &payload(1, 40)].concat();
    let mut records = start_and_open();
    records.push((kind::OP, 1, op));
    let bytes = version_1(&records);
    assert_eq!(bytes.len(), 3 * HEADER_BYTES + 24 + 16 + 72, "as version 1 laid it down");
    let mut disk = on_disk(&bytes);
    let (recovered, ops) = read_back(&mut disk).unwrap();
    assert_eq!((ops, recovered.position.incarnation), (vec![(1, payload(1, 40))], 1));
    // The log goes on in the same segment, as it is written now.
    let mut log = Log::at(disk, recovered.position, 1);
    log.op(20);
    log.flush();
    assert_eq!(read_back(&mut log.disk).unwrap().1, log.ops(&[40, 20]));
}

#[test]
fn a_record_of_a_kind_that_its_version_does_not_have_is_taken() {
    for kind in [kind::TRIM, kind::DELETE] {
        let mut records = start_and_open();
        records.push((kind, 0, vec![0; 16]));
        let error = read_back(&mut on_disk(&version_1(&records))).unwrap_err();
        let damage = crate::Damage::Content("record kind");
        assert_eq!(error, RecoveryError::Corrupt { segment: 0, offset: 168, damage });
    }
}
