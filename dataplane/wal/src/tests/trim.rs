//! Logs whose oldest segments are gone.

use super::*;
use crate::{Damage, Delete};

/// The numbers of the first op of each segment, and a durable log over at least five of them.
fn long_log() -> (Log, Vec<u64>) {
    let mut log = Log::new();
    let mut first_lsns = vec![1];
    while log.writer.stats().log_segments < 6 {
        let segments = log.writer.stats().log_segments;
        let lsn = log.op(3_000);
        if log.writer.stats().log_segments > segments {
            first_lsns.push(lsn - 1);
        }
        log.flush();
    }
    (log, first_lsns)
}

/// What is left of the ops when the log begins later.
fn assert_ends_with(ops: &Ops, all: u64, what: &str) {
    assert!(!ops.is_empty(), "{what}");
    let first = ops[0].0;
    assert_eq!(ops.len() as u64, all - first + 1, "{what}");
    for (sequence, bytes) in ops {
        assert_eq!(bytes, &payload(*sequence, bytes.len()), "{what}: op {sequence}");
    }
}

fn recovered_at(mut disk: Disk, sequence: u64) -> Log {
    let (recovered, _) = read_back(&mut disk).expect("a sound log");
    let writer = LogWriter::recovered(config(), &recovered, HeapBuffer::new).expect("the settings are valid");
    Log { disk, writer, sequence }
}

#[test]
fn a_segment_goes_that_is_still_needed_or_being_written() {
    let (mut log, first_lsns) = long_log();
    log.writer.handle_trim_below(first_lsns[3] - 1);
    log.flush();
    let removed: Vec<u32> = std::iter::from_fn(|| log.writer.poll_segment_removed()).collect();
    assert_eq!(removed, [0, 1], "the third holds the last record before the fourth");
    log.writer.handle_trim_below(first_lsns[3]);
    log.flush();
    assert_eq!(log.writer.poll_segment_removed(), Some(2));
    log.writer.handle_trim_below(1);
    log.writer.handle_trim_below(u64::MAX);
    log.flush();
    let removed: Vec<u32> = std::iter::from_fn(|| log.writer.poll_segment_removed()).collect();
    assert_eq!(removed, [3, 4], "the last is being written");
    assert!(log.writer.log_bytes() <= SEGMENT_BYTES);
}

#[test]
fn a_segment_goes_before_the_disk_knows_that_it_may() {
    let (mut log, first_lsns) = long_log();
    log.writer.handle_trim_below(first_lsns[2]);
    assert_eq!(log.writer.poll_segment_removed(), None, "only appended");
    let write = log.write().expect("the trim record");
    assert_eq!(log.writer.poll_segment_removed(), None, "not yet synced");
    log.sync(write);
    assert_eq!(log.writer.poll_segment_removed(), Some(0));
}

#[test]
fn a_log_that_was_trimmed_counts_its_runs_anew() {
    let (log, _) = long_log();
    let mut log = recovered_at(log.disk, log.sequence);
    log.writer.append_open(Open { incarnation: 2, unix_ms: 1 }).expect("room");
    log.flush();
    for run in 3..6 {
        let segments = log.writer.stats().log_segments;
        while log.writer.stats().log_segments < segments + 2 {
            log.op(3_000);
            log.flush();
        }
        log.writer.handle_trim_below(u64::MAX);
        log.flush();
        while let Some(segment) = log.writer.poll_segment_removed() {
            log.disk.remove(segment).expect("it is there");
        }
        let (recovered, _) = read_back(&mut log.disk).unwrap();
        assert!(recovered.segments[0].segment > 0);
        assert_eq!(recovered.position.incarnation, run - 1);
        log = recovered_at(log.disk, log.sequence);
        log.writer.append_open(Open { incarnation: run, unix_ms: 1 }).expect("room");
        log.flush();
    }
}

#[test]
fn a_record_that_is_not_durable_is_trimmed() {
    let (mut log, _) = long_log();
    let durable = log.writer.durable_lsn();
    let segments = log.writer.stats().log_segments;
    while log.writer.stats().log_segments < segments + 2 {
        log.op(3_000);
    }
    log.writer.handle_trim_below(u64::MAX);
    let mut last = None;
    while let Some(write) = log.write() {
        log.sync(write);
        last = std::iter::from_fn(|| log.writer.poll_segment_removed()).last().or(last);
    }
    assert!(log.writer.durable_lsn() > durable);
    assert!(last.is_some_and(|last| u64::from(last) < log.writer.stats().log_segments - 1), "{last:?}");
    assert!(read_back(&mut log.disk).is_ok());
}

#[test]
fn a_crash_at_some_step_of_a_trim_loses_ops_or_the_log() {
    let (log, first_lsns) = long_log();
    let all = log.sequence;
    for (below, &first_lsn) in first_lsns.iter().enumerate().skip(1) {
        // The trim record never leaves, or not all of its sectors arrive.
        for kept in 0..8 {
            let mut log = Log { disk: log.disk.clone(), ..recovered_at(log.disk.clone(), all) };
            log.writer.handle_trim_below(first_lsn);
            log.write().expect("the trim record");
            log.disk.crash(|index| index < kept);
            let (recovered, ops) = read_back(&mut log.disk).unwrap();
            assert_eq!(ops.len() as u64, all, "{below} {kept}: no segment has gone");
            assert_eq!(recovered.first_kept, if kept == 0 { 0 } else { below as u32 });
        }
        // The record is durable, and only some of the segments are gone.
        for gone in 0..=below as u32 {
            let mut log = recovered_at(log.disk.clone(), all);
            log.writer.handle_trim_below(first_lsn);
            log.flush();
            for _ in 0..gone {
                let segment = log.writer.poll_segment_removed().expect("a segment");
                log.disk.remove(segment).expect("it is there");
            }
            let what = format!("{gone} of {below} are gone");
            let (recovered, ops) = read_back(&mut log.disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_ends_with(&ops, all, &what);
            assert_eq!((recovered.first_kept, recovered.segments[0].segment), (below as u32, gone));
            // The next start takes the rest away, writes on, trims further, and can be read back.
            let mut log = recovered_at(log.disk, all);
            let left: Vec<u32> = std::iter::from_fn(|| log.writer.poll_segment_removed()).collect();
            assert_eq!(left, (gone..below as u32).collect::<Vec<_>>(), "{what}");
            for segment in left {
                log.disk.remove(segment).expect("it is there");
            }
            log.op(3_000);
            log.writer.handle_trim_below(u64::MAX);
            log.flush();
            while let Some(segment) = log.writer.poll_segment_removed() {
                log.disk.remove(segment).expect("it is there");
            }
            let (_, ops) = read_back(&mut log.disk).unwrap_or_else(|error| panic!("{what}, later: {error}"));
            assert_ends_with(&ops, all + 1, &what);
        }
    }
}

#[test]
fn a_segment_that_nobody_trimmed_is_missed_by_nobody() {
    let (mut log, first_lsns) = long_log();
    log.writer.handle_trim_below(first_lsns[2]);
    log.flush();
    for segment in 0..=2 {
        log.disk.remove(segment);
    }
    assert_eq!(read_back(&mut log.disk).unwrap_err(), RecoveryError::Hole { missing: 2, found: 3 });
    // One in the middle of what may go: they go from the front.
    let (mut log, _) = long_log();
    log.writer.handle_trim_below(u64::MAX);
    log.flush();
    log.disk.remove(1);
    assert_eq!(read_back(&mut log.disk).unwrap_err(), RecoveryError::Hole { missing: 1, found: 2 });
}

#[test]
fn another_history_is_taken_for_the_rest_of_a_trimmed_log() {
    // The same segment of a log that went another way: its start is sound in itself.
    let (mut log, first_lsns) = long_log();
    let mut other = Log::new();
    while other.writer.stats().log_segments < 6 {
        other.op(2_900);
        other.flush();
    }
    log.writer.handle_trim_below(first_lsns[2]);
    log.flush();
    for segment in 0..2 {
        log.disk.remove(segment);
    }
    assert!(read_back(&mut log.disk).is_ok());
    let foreign = other.disk.segment_mut(2).expect("a segment").clone();
    *log.disk.segment_mut(2).expect("a segment") = foreign;
    assert!(matches!(read_back(&mut log.disk), Err(RecoveryError::Corrupt { segment: 3, offset: 0, .. })));
    // And with the trim record of the one over the whole rest of the other.
    for segment in 0..2 {
        other.disk.remove(segment);
    }
    assert_eq!(read_back(&mut other.disk).unwrap_err(), RecoveryError::Hole { missing: 0, found: 2 });
}

#[test]
fn a_damaged_start_of_a_trimmed_log_is_taken() {
    let (mut log, first_lsns) = long_log();
    log.writer.handle_trim_below(first_lsns[2]);
    log.flush();
    for segment in 0..2 {
        log.disk.remove(segment);
    }
    for at in 0..200 {
        let mut disk = log.disk.clone();
        disk.segment_mut(2).expect("a segment")[at] ^= 0x10;
        assert!(read_back(&mut disk).is_err(), "byte {at}");
    }
    log.disk.segment_mut(2).expect("a segment").fill(0);
    assert!(matches!(
        read_back(&mut log.disk),
        Err(RecoveryError::Corrupt { damage: Damage::Followed { .. } | Damage::OutOfPlace(_), .. })
    ));
}

#[test]
fn a_log_of_which_only_the_end_is_known_is_trimmed() {
    let (log, _) = long_log();
    let mut disk = log.disk;
    let (recovered, _) = read_back(&mut disk).unwrap();
    let mut log = Log::at(disk, recovered.position, 0);
    while log.writer.stats().log_segments < 3 {
        log.op(3_000);
        log.flush();
    }
    log.writer.handle_trim_below(u64::MAX);
    log.flush();
    assert_eq!(log.writer.poll_segment_removed(), None);
}

#[test]
fn a_deletion_is_read_back_as_an_op() {
    let mut log = Log::new();
    log.op(10);
    let deleted = Delete {
        partition: 5,
        epoch: 1,
        document: "notes/today",
        kind: 1,
        sequence: 2,
        id: log_id(),
        unix_ms: 77,
    };
    let lsn = log.writer.append_delete(&deleted).expect("room");
    log.flush();
    let mut found = None;
    recover(&mut log.disk, &config(), |record| {
        if let Body::Delete(delete) = record.body {
            assert_eq!(delete, deleted);
            found = Some(record.lsn);
        }
    })
    .expect("a sound log");
    assert_eq!(found, Some(lsn));
}

/// Appends until the disk that has no room for the second segment makes the log refuse.
fn full_log() -> Log {
    let mut log = Log::new();
    log.writer.handle_disk_full(1);
    let error = loop {
        match log.try_op(700) {
            Ok(_) => log.flush(),
            Err(error) => break error,
        }
    };
    assert_eq!(error, crate::AppendError::DiskFull { segment: 1 });
    assert!(error.to_string().contains("no room for segment 1"), "{error}");
    log
}

#[test]
fn a_full_disk_is_written_beyond_its_end_or_never_written_again() {
    let mut log = full_log();
    assert!(log.writer.is_idle() && log.sequence > 8, "what went before is durable");
    assert_eq!((log.writer.stats().log_refused_disk_full, log.writer.stats().log_segments), (1, 1));
    assert!(log.try_op(0).is_err());
    log.writer.handle_segment_ready(1);
    log.op(700);
    log.flush();
    assert_eq!(log.writer.stats().log_segments, 1, "what was kept for trims is used first");
    let ops = log.sequence as usize;
    assert_eq!(read_back(&mut log.disk).unwrap().1.len(), ops);
}

#[test]
fn a_full_disk_keeps_what_would_make_room() {
    let (mut log, first_lsns) = long_log();
    let last = log.writer.stats().log_segments as u32;
    log.writer.handle_disk_full(last);
    while log.try_op(3_000).is_ok() {
        log.flush();
    }
    log.writer.handle_trim_below(first_lsns[1]);
    log.flush();
    assert_eq!(log.writer.poll_segment_removed(), Some(0));
}
