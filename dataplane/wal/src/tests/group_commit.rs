//! The writer by itself, and what it writes read back.

use super::*;
use crate::AppendError;

#[test]
fn a_record_is_read_back_changed() {
    let mut log = Log::new();
    let sizes = [0, 1, 7, 8, 9, 500, 4_096, 20_000, 3];
    for bytes in sizes {
        log.op(bytes);
    }
    log.flush();
    let (recovered, ops) = read_back(&mut log.disk).unwrap();
    assert_eq!(ops, log.ops(&sizes));
    assert_eq!((recovered.repair, recovered.position.incarnation), (None, 1));
    assert_eq!(recovered.position.lsn, log.writer.durable_lsn());
    assert!(log.writer.is_idle());
}

#[test]
fn an_empty_or_unused_log_is_refused() {
    let mut disk = Disk::new();
    assert_eq!(read_back(&mut disk).unwrap().0.position, LogPosition::START);
    disk.prepare(0, SEGMENT_BYTES).unwrap();
    disk.prepare(1, SEGMENT_BYTES).unwrap();
    let (recovered, ops) = read_back(&mut disk).unwrap();
    assert_eq!((recovered.position, recovered.repair, ops.len()), (LogPosition::START, None, 0));
}

#[test]
fn a_second_batch_leaves_before_the_first_is_durable() {
    let mut log = Log::new();
    log.op(10);
    let first = log.write().expect("a batch");
    assert_eq!((first.at.first_lsn, first.at.last_lsn, first.at.bytes), (1, 3, BLOCK_BYTES));
    let lsn = log.op(10);
    assert!(log.write().is_none(), "one write in flight");
    assert_eq!(log.writer.durable_lsn(), 0);
    assert_eq!(log.sync(first), 3);
    let second = log.write().expect("the batch that gathered meanwhile");
    assert_eq!((second.at.offset, second.at.first_lsn, second.at.last_lsn), (BLOCK_BYTES as u64, lsn, lsn));
    assert_eq!(log.sync(second), lsn);
    assert!(log.write().is_none(), "nothing left");
}

#[test]
#[should_panic(expected = "not in flight")]
fn a_batch_is_reported_durable_twice() {
    let mut log = Log::new();
    let write = log.write().expect("the open record");
    let at = write.at;
    log.sync(write);
    log.writer.handle_durable(at, None);
}

#[test]
fn a_queue_grows_without_bound() {
    let mut log = Log::new();
    let refused = loop {
        if let Err(error) = log.try_op(4_000) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    assert!(log.writer.queue_bytes() <= config().queue_bytes_max);
    assert_eq!(log.writer.stats().log_refused, 1);
    let write = log.write().expect("a batch");
    assert!(matches!(log.try_op(4_000), Err(AppendError::Full { .. })), "bytes in flight still count");
    log.sync(write);
    log.op(4_000);
    log.flush();
    assert_eq!(log.writer.queue_bytes(), 0);
    assert_eq!(read_back(&mut log.disk).unwrap().1.len() as u64, log.sequence);
}

#[test]
fn a_record_above_the_limit_is_taken() {
    let mut log = Log::new();
    let error = log.try_op(8 * BLOCK_BYTES).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { .. }), "{error}");
    let lsn = log.op(8 * BLOCK_BYTES - 37);
    log.flush();
    assert_eq!(log.writer.durable_lsn(), lsn);
    assert_eq!(read_back(&mut log.disk).unwrap().1.len(), 1);
}

#[test]
fn a_record_is_split_between_two_segments() {
    let mut log = Log::new();
    let sizes: Vec<usize> = (0..200).map(|index| index * 37 % 5_000).collect();
    for &bytes in &sizes {
        while log.try_op(bytes).is_err() {
            let write = log.write().expect("a full queue has a batch");
            assert!(write.at.offset + write.at.bytes as u64 <= SEGMENT_BYTES);
            log.sync(write);
        }
    }
    log.flush();
    assert!(log.writer.stats().log_segments > 3);
    let (recovered, ops) = read_back(&mut log.disk).unwrap();
    assert_eq!(ops, log.ops(&sizes));
    let mut again = Log::at(log.disk, recovered.position, log.sequence);
    again.op(9);
    again.flush();
    let (recovered, ops) = read_back(&mut again.disk).unwrap();
    assert_eq!((ops.len(), recovered.position.incarnation), (201, 2));
}

#[test]
fn a_warm_writer_allocates_buffers() {
    let allocated = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = allocated.clone();
    let allocate = move |bytes| {
        count.set(count.get() + 1);
        HeapBuffer::new(bytes)
    };
    let mut writer = LogWriter::new(config(), LogPosition::START, allocate).unwrap();
    for round in 0..100 {
        for _ in 0..3 {
            writer.append_open(Open { incarnation: 1, unix_ms: round }).unwrap();
        }
        let write = writer.poll_write().expect("a batch");
        writer.append_open(Open { incarnation: 1, unix_ms: round }).unwrap();
        writer.handle_durable(write.at, Some(write.buffer));
    }
    assert_eq!(allocated.get(), 2, "one gathers while the other is in flight");
}

#[test]
fn a_wanted_segment_is_named_late_or_twice() {
    let mut log = Log::new();
    assert_eq!((log.writer.poll_segment_wanted(), log.writer.poll_segment_wanted()), (Some(0), Some(1)));
    assert_eq!(log.writer.poll_segment_wanted(), None);
    while log.writer.stats().log_segments < 2 {
        if log.try_op(4_000).is_err() {
            let write = log.writer.poll_write().expect("a batch");
            log.writer.handle_durable(write.at, None);
        }
    }
    assert_eq!((log.writer.poll_segment_wanted(), log.writer.poll_segment_wanted()), (Some(2), None));
}

#[test]
fn a_failed_call_is_taken_for_success() {
    let mut log = Log::new();
    log.flush();
    for calls in 0..4 {
        let mut disk = log.disk.clone();
        disk.fail_after(calls);
        assert!(matches!(recover(&mut disk, &config(), |_| ()), Err(RecoverError::Storage(_))), "{calls}");
        disk.crash(|_| true);
        assert!(read_back(&mut disk).is_ok());
    }
}

#[test]
fn a_batch_grows_with_all_that_waits() {
    let mut log = Log::new();
    while log.try_op(1_000).is_ok() {}
    let waiting = log.writer.queue_bytes();
    assert!(waiting > 2 * config().batch_bytes_max, "{waiting}");
    let mut batches = 0;
    while let Some(write) = log.write() {
        assert!(write.at.bytes <= config().batch_bytes_max, "{:?}", write.at);
        log.sync(write);
        batches += 1;
    }
    assert!(batches > 2);
}
