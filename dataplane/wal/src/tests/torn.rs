//! Power failures in the middle of a batch.

use super::*;
use crate::{BATCH_BYTES_LIMIT, Damage, SECTOR_BYTES};

/// Three durable ops, then a batch of several blocks in the disk's cache.
fn log_with_a_batch_in_flight(sizes: &[usize]) -> Log {
    let mut log = Log::new();
    for bytes in [100, 600, 5_000] {
        log.op(bytes);
    }
    log.flush();
    for &bytes in sizes {
        log.op(bytes);
    }
    log.write().expect("a batch");
    log
}

/// After any crash: what was durable is there, the last batch wholly or not at all, and the log goes on.
fn assert_survives(mut disk: Disk, whole: usize, what: &str) {
    let (recovered, ops) = read_back(&mut disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(ops.len() == 3 || ops.len() == whole, "{what}: {} ops", ops.len());
    assert!(recovered.repair.is_none() || ops.len() < whole, "{what}: nothing to repair");
    let mut log = Log::at(disk, recovered.position, ops.len() as u64);
    log.op(50);
    log.flush();
    let (_, after) = read_back(&mut log.disk).unwrap_or_else(|error| panic!("{what}, later: {error}"));
    assert_eq!(after[..ops.len()], ops[..], "{what}");
    assert_eq!(after.len(), ops.len() + 1, "{what}");
}

#[test]
fn a_torn_tail_is_replayed() {
    let sizes = [300, 2_000, 0, 3_000, 1, 900];
    let log = log_with_a_batch_in_flight(&sizes);
    let sectors = log.disk.unsynced_sectors();
    assert!(sectors >= 16);
    for kept in 0..=sectors {
        let mut disk = log.disk.clone();
        disk.crash(|index| index < kept);
        assert_survives(disk, 9, &format!("the first {kept} sectors arrived"));
        let mut disk = log.disk.clone();
        disk.crash(|index| index >= kept);
        assert_survives(disk, 9, &format!("the first {kept} sectors are missing"));
        let mut disk = log.disk.clone();
        disk.crash(|index| index != kept);
        assert_survives(disk, 9, &format!("only sector {kept} is missing"));
        let mut disk = log.disk.clone();
        disk.crash(|index| index == kept);
        assert_survives(disk, 9, &format!("only sector {kept} arrived"));
    }
}

#[test]
fn remains_of_a_torn_batch_pass_for_records_later() {
    // The repaired batch is followed by one of the same shape, torn in its turn: old remains must not fill in.
    let sizes = [4_000, 4_000, 4_000];
    let mut log = log_with_a_batch_in_flight(&sizes);
    log.disk.crash(|index| index > 2);
    let (recovered, ops) = read_back(&mut log.disk).unwrap();
    assert_eq!(ops.len(), 3);
    let repair = recovered.repair.expect("sectors behind the tear");
    assert_eq!(repair.range.start, recovered.position.offset);
    assert!(repair.range.end.is_multiple_of(BLOCK_BYTES as u64));
    let rest = &log.disk.segment_mut(0).unwrap()[repair.range.start as usize..];
    assert!(rest.iter().all(|&byte| byte == 0), "the remains are on the disk");
    assert_eq!(log.disk.unsynced_sectors(), 0, "the repair is synced");
}

#[test]
fn a_crash_during_the_repair_makes_the_log_unreadable() {
    let log = log_with_a_batch_in_flight(&[4_000, 4_000, 4_000]);
    let mut torn = log.disk;
    torn.crash(|index| index != 3);
    for kept in 0..24 {
        for early in [false, true] {
            let mut disk = torn.clone();
            let range = 2 * BLOCK_BYTES..5 * BLOCK_BYTES;
            disk.write(0, range.start as u64, &vec![0; range.len()]).unwrap();
            disk.crash(|index| (index < kept) == early);
            assert_survives(disk, 6, &format!("{kept} {early}"));
        }
    }
}

#[test]
fn a_torn_first_batch_of_a_segment_is_refused() {
    let mut log = Log::new();
    while log.writer.stats().log_segments < 2 {
        log.op(3_000);
        if log.writer.stats().log_segments < 2 {
            log.flush();
        }
    }
    log.op(3_000);
    while let Some(write) = log.write() {
        if write.at.segment == 1 {
            break;
        }
        log.sync(write);
    }
    let durable = log.writer.durable_lsn();
    // Two ops of 3,000 bytes fill twelve sectors; the ones behind are padding, which nobody would miss.
    for missing in 0..12 {
        let mut disk = log.disk.clone();
        disk.crash(|index| index != missing);
        let (recovered, _) = read_back(&mut disk).unwrap();
        assert_eq!((recovered.position.segment, recovered.position.lsn), (0, durable), "{missing}");
        assert_eq!(recovered.repair.map(|repair| (repair.segment, repair.range.start)), Some((1, 0)));
        let (again, _) = read_back(&mut disk).unwrap();
        assert_eq!((again.repair, again.position), (None, recovered.position));
    }
}

#[test]
fn a_batch_lost_under_a_later_one_is_cut() {
    let mut log = Log::new();
    log.flush();
    for bytes in [700, 800] {
        log.op(bytes);
        let write = log.write().unwrap();
        // Reported durable without a sync: a disk that lies.
        log.writer.handle_durable(write.at, Some(write.buffer));
    }
    log.disk.crash(|index| index >= BLOCK_BYTES / SECTOR_BYTES);
    let error = read_back(&mut log.disk).unwrap_err();
    let followed = Damage::Followed { segment: 0, at: 2 * BLOCK_BYTES as u64 };
    assert_eq!(error, RecoveryError::Corrupt { segment: 0, offset: BLOCK_BYTES as u64, damage: followed });
}

#[test]
fn garbage_far_behind_the_end_is_ignored() {
    let mut log = Log::new();
    log.flush();
    let far = BLOCK_BYTES + BATCH_BYTES_LIMIT;
    log.disk.prepare(0, (far + BLOCK_BYTES) as u64).unwrap();
    log.disk.segment_mut(0).unwrap()[far] = 1;
    assert!(matches!(read_back(&mut log.disk), Err(RecoveryError::Corrupt { .. })));
    log.disk.segment_mut(0).unwrap()[far] = 0;
    log.disk.segment_mut(1).unwrap()[40] = 1;
    assert!(matches!(read_back(&mut log.disk), Err(RecoveryError::Corrupt { .. })));
    log.disk.segment_mut(0).unwrap()[2 * BLOCK_BYTES] = 1;
    log.disk.segment_mut(1).unwrap()[40] = 0;
    log.disk.segment_mut(1).unwrap()[2 * BLOCK_BYTES] = 1;
    let error = read_back(&mut log.disk).unwrap_err();
    let damage = Damage::Followed { segment: 1, at: 2 * BLOCK_BYTES as u64 };
    assert_eq!(error, RecoveryError::Corrupt { segment: 0, offset: BLOCK_BYTES as u64, damage });
    log.disk.segment_mut(1).unwrap()[2 * BLOCK_BYTES] = 0;
    assert!(read_back(&mut log.disk).is_ok());
}
