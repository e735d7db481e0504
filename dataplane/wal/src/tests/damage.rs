//! Logs that must not be trusted.

use super::*;
use crate::{Damage, SECTOR_BYTES};

/// A log over several segments with several batches, all durable.
fn durable_log() -> Log {
    let mut log = Log::new();
    for index in 0..60 {
        log.op(index * 97 % 3_000);
        if index % 4 == 0 {
            log.flush();
        }
    }
    log.flush();
    assert!(log.writer.stats().log_segments >= 2);
    log
}

#[test]
fn a_flipped_bit_loses_acknowledged_ops() {
    let mut log = durable_log();
    let (sound, ops) = read_back(&mut log.disk).unwrap();
    for segment in 0..=sound.position.segment {
        let used = if segment == sound.position.segment { sound.position.offset } else { SEGMENT_BYTES };
        for at in (0..used as usize).step_by(13) {
            let mut disk = log.disk.clone();
            disk.segment_mut(segment).unwrap()[at] ^= 1 << (at % 8);
            match read_back(&mut disk) {
                Ok((_, read)) => panic!("segment {segment} offset {at}: {} of {} ops", read.len(), ops.len()),
                Err(RecoveryError::Corrupt { .. }) => {}
                Err(other) => panic!("segment {segment} offset {at}: {other}"),
            }
        }
    }
}

#[test]
fn the_operator_is_told_of_the_wrong_damage() {
    let mut log = Log::new();
    log.op(100);
    log.op(100);
    log.flush();
    // A segment start of 88 bytes and an open record of 80, then two ops of 64 + 137 bytes with their padding.
    let first = 168;
    let second = first + 208;
    let cases = [
        (first + 20..first + 21, 0x55, first, Damage::Header),
        (first + 80..first + 81, 0x55, first, Damage::Body),
        (second..second + 64, 0, second, Damage::Missing),
        (second + 208..second + 209, 0x55, second, Damage::Padding),
    ];
    for (range, byte, offset, damage) in cases {
        let mut disk = log.disk.clone();
        disk.segment_mut(0).unwrap()[range].fill(byte);
        let error = read_back(&mut disk).unwrap_err();
        assert_eq!(error, RecoveryError::Corrupt { segment: 0, offset: offset as u64, damage });
        let text = error.to_string();
        assert!(text.contains("segment 0 at offset") && text.contains("copy of it"), "{text}");
    }
}

#[test]
fn a_bit_flipped_in_the_free_space_stops_the_node() {
    // It cannot be told from the first sector of a torn batch's remains: it is cleaned away.
    let mut log = durable_log();
    let (sound, ops) = read_back(&mut log.disk).unwrap();
    let free = sound.position.offset as usize + BLOCK_BYTES + 77;
    log.disk.segment_mut(sound.position.segment).unwrap()[free] ^= 4;
    let (recovered, read) = read_back(&mut log.disk).unwrap();
    assert_eq!((recovered.position, read), (sound.position, ops));
    assert!(recovered.repair.is_some());
    assert_eq!(read_back(&mut log.disk).unwrap().0.repair, None);
}

#[test]
fn a_missing_segment_is_skipped() {
    let mut log = durable_log();
    log.disk.remove(0);
    assert_eq!(read_back(&mut log.disk).unwrap_err(), RecoveryError::Hole { missing: 0, found: 1 });
    let mut log = durable_log();
    log.disk.prepare(3, SEGMENT_BYTES).unwrap();
    log.disk.prepare(4, SEGMENT_BYTES).unwrap();
    log.disk.remove(3);
    assert_eq!(read_back(&mut log.disk).unwrap_err(), RecoveryError::Hole { missing: 3, found: 4 });
}

#[test]
fn swapped_segments_are_read_in_the_wrong_order() {
    let mut log = durable_log();
    log.disk.swap(0, 1);
    let error = read_back(&mut log.disk).unwrap_err();
    let damage = Damage::OutOfPlace("place");
    assert_eq!(error, RecoveryError::Corrupt { segment: 0, offset: 0, damage });
}

#[test]
fn a_misdirected_write_is_taken() {
    // A whole sound batch, at another block of the same segment, and over another batch.
    for target in [2, 3] {
        let mut log = Log::new();
        for _ in 0..4 {
            log.op(100);
            log.flush();
        }
        let segment = log.disk.segment_mut(0).unwrap();
        segment.copy_within(BLOCK_BYTES..2 * BLOCK_BYTES, target * BLOCK_BYTES);
        let error = read_back(&mut log.disk).unwrap_err();
        let offset = (target * BLOCK_BYTES) as u64;
        let damage = Damage::OutOfPlace("place");
        assert_eq!(error, RecoveryError::Corrupt { segment: 0, offset, damage });
    }
}

#[test]
fn a_sound_batch_of_another_history_is_taken() {
    /// The segment of a log whose batches hold ops of these sizes.
    fn history(batches: &[&[usize]]) -> Log {
        let mut log = Log::new();
        for sizes in batches {
            for &bytes in *sizes {
                log.op(bytes);
            }
            log.flush();
        }
        log
    }
    // Each differs from the first in what lies in the first two blocks; the third block is exchanged.
    let cases: [(&[&[usize]], &str); 3] = [
        (&[&[10], &[11], &[10]], "checksum of the record before"),
        (&[&[10], &[10, 10], &[10]], "log sequence number"),
        (&[&[5_000], &[10]], "batch"),
    ];
    for (other, place) in cases {
        let mut log = history(&[&[10], &[10], &[10]]);
        let block = 2 * BLOCK_BYTES..3 * BLOCK_BYTES;
        let foreign = history(other).disk.segment_mut(0).unwrap()[block.clone()].to_vec();
        log.disk.segment_mut(0).unwrap()[block.clone()].copy_from_slice(&foreign);
        let damage = Damage::OutOfPlace(place);
        let offset = block.start as u64;
        assert_eq!(
            read_back(&mut log.disk).unwrap_err(),
            RecoveryError::Corrupt { segment: 0, offset, damage }
        );
    }
}

#[test]
fn a_segment_that_lost_all_it_held_is_skipped() {
    let mut log = Log::new();
    log.flush();
    let (recovered, _) = read_back(&mut log.disk).unwrap();
    let mut disk = log.disk;
    disk.prepare(1, SEGMENT_BYTES).unwrap();
    let mut log = Log::at(disk, LogPosition { segment: 2, offset: 0, ..recovered.position }, 0);
    log.flush();
    let damage = Damage::OutOfPlace("segment");
    assert_eq!(
        read_back(&mut log.disk).unwrap_err(),
        RecoveryError::Corrupt { segment: 2, offset: 0, damage }
    );
}

#[test]
fn a_lost_write_of_a_whole_batch_goes_unnoticed() {
    let mut log = Log::new();
    for _ in 0..4 {
        log.op(100);
        log.flush();
    }
    log.disk.segment_mut(0).unwrap()[BLOCK_BYTES..2 * BLOCK_BYTES].fill(0);
    assert!(matches!(
        read_back(&mut log.disk),
        Err(RecoveryError::Corrupt { damage: Damage::Followed { .. }, .. })
    ));
}

#[test]
fn a_last_batch_that_went_elsewhere_is_cut() {
    let mut log = Log::new();
    log.flush();
    log.op(100);
    let write = log.write().unwrap();
    let at = write.at.offset as usize;
    log.sync(write);
    for to in [at + BLOCK_BYTES, at + 3 * SECTOR_BYTES] {
        let mut disk = log.disk.clone();
        let bytes = disk.segment_mut(0).unwrap();
        bytes.copy_within(at..at + BLOCK_BYTES, to);
        bytes[at..to.min(at + BLOCK_BYTES)].fill(0);
        let damage = Damage::Stray { segment: 0, at: to as u64 };
        let error = read_back(&mut disk).unwrap_err();
        assert_eq!(error, RecoveryError::Corrupt { segment: 0, offset: at as u64, damage });
    }
}

#[test]
fn a_segment_of_another_log_is_taken() {
    let mut log = durable_log();
    let other = LogConfig { log_id: Guuid::new(1, [1; 10]), ..config() };
    match recover(&mut log.disk, &other, |_| ()) {
        Err(RecoverError::Log(RecoveryError::Foreign { segment: 0, found, expected })) => {
            assert_eq!((found, expected), (log_id(), other.log_id));
        }
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_newer_version_is_read_as_damage() {
    use crate::header::{RecordHeader, Seed};
    use zerocopy::FromBytes;

    let mut log = durable_log();
    let bytes = log.disk.segment_mut(0).unwrap();
    let (header, _) = RecordHeader::mut_from_prefix(bytes).unwrap();
    header.version = 3;
    header.seal(Seed::of(log_id()));
    let error = read_back(&mut log.disk).unwrap_err();
    assert_eq!(error, RecoveryError::Version { segment: 0, offset: 0, found: 3 });
    let text = error.to_string();
    assert!(text.contains("version 3") && text.contains("versions 1 to 2"), "{text}");
}

#[test]
fn a_payload_that_looks_like_the_log_stops_the_node() {
    // A client that knows the format but not the log's id puts a record of the future into its op, at an
    // offset where it will lie, and the batch is torn.
    use crate::header::{MAGIC, RecordHeader, Seed, VERSION};
    use zerocopy::IntoBytes;

    let mut log = Log::new();
    log.flush();
    let mut forged = Vec::new();
    for offset in (0..3_000_u32).step_by(8) {
        let mut header = RecordHeader {
            magic: MAGIC.into(),
            version: VERSION,
            // A segment start's checksum needs no id.
            kind: if offset % 128 == 0 { 1 } else { 3 },
            batch: 99.into(),
            offset: (BLOCK_BYTES as u32 + offset).into(),
            ..RecordHeader::default()
        };
        header.seal(Seed::of(Guuid::NIL));
        forged.extend_from_slice(header.as_bytes());
    }
    log.writer
        .append_op(&Op {
            partition: 0,
            epoch: 0,
            document: "d",
            kind: 2,
            sequence: 1,
            id: Guuid::NIL,
            unix_ms: 0,
            payload: &forged,
        })
        .unwrap();
    log.write().unwrap();
    log.disk.crash(|index| index != 3);
    assert!(read_back(&mut log.disk).unwrap().0.repair.is_some());
}

#[test]
fn a_shorter_last_file_is_refused() {
    let mut log = Log::new();
    log.op(100);
    log.flush();
    log.disk.remove(1);
    log.disk.segment_mut(0).unwrap().truncate(BLOCK_BYTES);
    let (recovered, ops) = read_back(&mut log.disk).unwrap();
    assert_eq!((recovered.position.offset, ops.len()), (BLOCK_BYTES as u64, 1));
}

#[test]
fn a_record_behind_damage_is_not_found_again() {
    let mut log = Log::new();
    for _ in 0..9 {
        log.op(700);
    }
    log.flush();
    let bytes = log.disk.segment_mut(0).unwrap();
    // In the payload of the third op, in the header of the fifth.
    let (start, op) = (168, 64 + 744);
    bytes[start + 2 * op + 300] ^= 1;
    bytes[start + 4 * op + 20] ^= 1;
    let mut found = Vec::new();
    crate::find_survivors(log_id(), 0, 0, bytes, |_, record| {
        if let Body::Op(op) = record.body {
            found.push(op.sequence);
        }
    });
    assert_eq!(found, [1, 2, 4, 6, 7, 8, 9]);
    // Elsewhere they are somebody else's.
    crate::find_survivors(log_id(), 1, 0, bytes, |_, _| panic!("another segment"));
    crate::find_survivors(log_id(), 0, 8, bytes, |_, _| panic!("another offset"));
}
