//! Segments on a real filesystem.

use std::rc::Rc;
use std::time::Duration;

use wal::{AlignedBuffer, BLOCK_BYTES, Storage, segment_file_name};

use super::*;
use crate::{PacketRing, PacketRingConfig, Wake, run_local};

const SEGMENT_BYTES: u64 = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

fn filled(byte: u8) -> LogBuffer {
    let mut buffer = LogBuffer::new(4 * BLOCK_BYTES);
    buffer.as_mut_slice().fill(byte);
    buffer
}

fn ring() -> PacketRing {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    PacketRing::new(socket, PacketRingConfig::default()).expect("ring")
}

/// Writes in a shard's way and sleeps until it is durable.
fn write(dir: &LogDir, segment: u32, buffer: LogBuffer, bytes: usize, offset: usize) -> Result<()> {
    run_local(async {
        let mut ring = ring();
        let file = Rc::new(dir.open_segment(segment)?);
        ring.begin_log_write(&file, buffer, bytes, offset as u64)?;
        loop {
            if let Some((_, ended)) = ring.poll_log_write() {
                return ended;
            }
            assert!(ring.log_write_in_flight());
            assert_eq!(ring.wait(Some(PATIENCE), || true)?, Wake::Log);
        }
    })
    .expect("executor")
}

/// Begins a write into something that is no segment, and waits for its end.
fn write_into(ring: &mut PacketRing, file: LogFile) -> Result<()> {
    ring.begin_log_write(&Rc::new(file), filled(1), BLOCK_BYTES, 0)?;
    while ring.log_write_in_flight() {
        assert_eq!(ring.wait(Some(PATIENCE), || true)?, Wake::Log);
    }
    ring.poll_log_write().expect("it has ended").1
}

fn log_dir() -> (tempfile::TempDir, LogDir) {
    let temp = tempfile::tempdir().expect("temporary directory");
    let dir = LogDir::open(temp.path().join("shard-000")).expect("log directory");
    (temp, dir)
}

#[test]
fn a_write_or_a_sync_that_fails_counts_as_durable_or_ends_the_next_write() {
    let (temp, dir) = log_dir();
    dir.prepare_segment(0, SEGMENT_BYTES).expect("segment");
    let path = dir.path().join(segment_file_name(0));
    let not_for_writing = std::fs::File::open(&path).expect("open");
    // A pipe takes the bytes, and cannot sync them.
    let (_reader, pipe) = std::io::pipe().expect("pipe");
    let pipe = std::fs::File::from(std::os::fd::OwnedFd::from(pipe));
    run_local(async {
        let mut ring = ring();
        let failed = |ring: &mut PacketRing, file, path: &std::path::Path| {
            write_into(ring, LogFile::over(file, path.to_owned())).expect_err("no durable write").to_string()
        };
        let unwritable = failed(&mut ring, not_for_writing, &path);
        assert!(unwritable.contains("write") && unwritable.contains("segment"), "{unwritable}");
        let unsynced = failed(&mut ring, pipe, temp.path());
        assert!(unsynced.contains("sync"), "{unsynced}");
        for _ in 0..3 {
            write_into(&mut ring, dir.open_segment(0).expect("open")).expect("a sound write after those");
        }
    })
    .expect("executor");
    let mut read = vec![0; BLOCK_BYTES];
    dir.storage().read(0, 0, &mut read).expect("read");
    assert!(read.iter().all(|byte| *byte == 1));
}

#[test]
fn what_was_written_durably_is_what_recovery_reads() {
    let (_temp, dir) = log_dir();
    dir.prepare_segment(3, SEGMENT_BYTES).expect("segment");
    for offset in [0, 4 * BLOCK_BYTES] {
        write(&dir, 3, filled(7), 2 * BLOCK_BYTES, offset).expect("write");
        let mut storage = dir.storage();
        let mut read = vec![1; 8 * BLOCK_BYTES];
        assert_eq!(storage.segments().expect("segments"), [3]);
        assert_eq!(storage.read(3, offset as u64, &mut read).expect("read"), read.len());
        let (ours, rest) = read.split_at(2 * BLOCK_BYTES);
        assert!(ours.iter().all(|byte| *byte == 7) && rest.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_torn_tail_is_zeroed_and_nothing_else() {
    let (_temp, dir) = log_dir();
    dir.prepare_segment(0, SEGMENT_BYTES).expect("segment");
    write(&dir, 0, filled(9), 4 * BLOCK_BYTES, 0).expect("write");
    let mut storage = dir.storage();
    let block = BLOCK_BYTES as u64;
    storage.zero(0, block..3 * block).expect("zero");
    storage.sync(0).expect("sync");
    let mut read = vec![0; 4 * BLOCK_BYTES];
    dir.storage().read(0, 0, &mut read).expect("read");
    let bytes: Vec<u8> = read.chunks(BLOCK_BYTES).map(|block| block[0]).collect();
    assert_eq!(bytes, [9, 0, 0, 9]);
    assert_eq!(storage.read(0, SEGMENT_BYTES, &mut read).expect("the end"), 0);
}

#[test]
fn an_unfinished_segment_is_not_taken_for_one() {
    let (_temp, dir) = log_dir();
    dir.prepare_segment(1, SEGMENT_BYTES).expect("segment");
    let unfinished = dir.path().join(format!("{}{UNFINISHED}", segment_file_name(2)));
    fs::write(&unfinished, b"half").expect("unfinished");
    let dir = LogDir::open(dir.path()).expect("reopen");
    assert_eq!(dir.segments().expect("segments"), [1]);
    assert!(!unfinished.exists());
}

#[test]
fn a_short_segment_is_extended_and_keeps_its_content() {
    let (_temp, dir) = log_dir();
    let path = dir.segment_path(5);
    fs::write(&path, [3; 100]).expect("short segment");
    dir.prepare_segment(5, SEGMENT_BYTES).expect("extend");
    let content = fs::read(&path).expect("read");
    assert_eq!(content.len() as u64, SEGMENT_BYTES);
    assert!(content[..100].iter().all(|byte| *byte == 3) && content[100..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_misaligned_write_reaches_no_disk() {
    let (_temp, dir) = log_dir();
    dir.prepare_segment(0, SEGMENT_BYTES).expect("segment");
    let block = BLOCK_BYTES;
    for (bytes, offset) in [(block - 1, 0), (block, 512), (0, 0), (5 * block, 0)] {
        let error = write(&dir, 0, filled(1), bytes, offset).expect_err("misaligned");
        assert!(matches!(error, RtError::Misaligned { .. }), "{error}");
    }
}

#[test]
fn a_missing_segment_is_named() {
    let (_temp, dir) = log_dir();
    let error = dir.open_segment(8).expect_err("a missing segment").to_string();
    assert!(error.contains("segment-0000000008.log"), "{error}");
}

#[test]
fn a_full_device_stops_the_write_with_its_errno() {
    let (_temp, dir) = log_dir();
    std::os::unix::fs::symlink("/dev/full", dir.segment_path(0)).expect("link");
    let error = write(&dir, 0, filled(1), BLOCK_BYTES, 0).expect_err("a full device");
    assert!(matches!(&error, RtError::File { source, .. } if source.raw_os_error().is_some()), "{error}");
}

#[test]
fn a_filesystem_without_direct_io_is_still_durable_storage() {
    let Ok(temp) = tempfile::tempdir_in("/dev/shm") else { return };
    let dir = LogDir::open(temp.path()).expect("log directory");
    dir.prepare_segment(0, SEGMENT_BYTES).expect("segment");
    write(&dir, 0, filled(4), BLOCK_BYTES, 0).expect("write");
    let mut read = vec![0; BLOCK_BYTES];
    dir.storage().read(0, 0, &mut read).expect("read");
    assert!(read.iter().all(|byte| *byte == 4));
}

const CONFIG: SegmentFilesConfig = SegmentFilesConfig { segment_bytes: SEGMENT_BYTES, spares_max: 1 };

/// Sleeps in the shard's way until there is something.
fn next_event(ring: &mut PacketRing, files: &mut SegmentFiles) -> Result<SegmentEvent> {
    loop {
        if let Some(event) = files.poll() {
            return event;
        }
        ring.wait(Some(PATIENCE), || !files.has_event()).expect("wait");
    }
}

fn ready(ring: &mut PacketRing, files: &mut SegmentFiles) -> u32 {
    match next_event(ring, files).expect("no error") {
        SegmentEvent::Ready { segment, file } => {
            assert!(file.path().exists());
            segment
        }
        event => panic!("{event:?}"),
    }
}

#[test]
fn a_segment_prepared_in_the_background_does_not_wake_the_sleeping_shard() {
    let (_temp, dir) = log_dir();
    let mut ring = ring();
    let mut files = dir.segment_files(CONFIG, ring.doorbell()).expect("thread");
    for segment in [0, 1] {
        files.prepare(segment);
    }
    for segment in [0, 1] {
        let begun = std::time::Instant::now();
        assert_eq!(ready(&mut ring, &mut files), segment);
        assert!(begun.elapsed() < PATIENCE, "it slept on");
    }
    assert_eq!(dir.segments().expect("segments"), [0, 1]);
}

#[test]
fn a_recycled_segment_still_holds_its_former_records() {
    let (_temp, dir) = log_dir();
    let mut ring = ring();
    let mut files = dir.segment_files(CONFIG, ring.doorbell()).expect("thread");
    for segment in 0..3 {
        files.prepare(segment);
        assert_eq!(ready(&mut ring, &mut files), segment);
        fs::write(dir.segment_path(segment), vec![9; SEGMENT_BYTES as usize + 512]).expect("records");
    }
    for (segment, spare) in [(0, true), (1, false)] {
        files.remove(segment);
        let event = next_event(&mut ring, &mut files).expect("no error");
        assert!(matches!(event, SegmentEvent::Removed { is_spare, .. } if is_spare == spare), "{event:?}");
    }
    assert_eq!(dir.segments().expect("segments"), [2]);
    files.prepare(3);
    assert_eq!(ready(&mut ring, &mut files), 3);
    let content = fs::read(dir.segment_path(3)).expect("the segment");
    assert_eq!(content.len() as u64, SEGMENT_BYTES);
    assert!(content.iter().all(|&byte| byte == 0));
    let names = names(dir.path()).expect("names");
    assert_eq!(names.len(), 2, "the spare file became the segment: {names:?}");
}

#[test]
fn a_crash_while_recycling_leaves_a_segment_that_is_not_zero() {
    // The spare file is half zeroed: it is no segment, and the next start begins with it anew.
    let (_temp, dir) = log_dir();
    let spare = dir.path().join(format!("{}{SPARE}", segment_file_name(4)));
    let mut half = vec![9; SEGMENT_BYTES as usize];
    half[..100_000].fill(0);
    fs::write(&spare, half).expect("spare");
    fs::write(dir.path().join(format!("{}{SPARE}", segment_file_name(5))), [1]).expect("one too many");
    let dir = LogDir::open(dir.path()).expect("reopen");
    assert!(dir.segments().expect("segments").is_empty());
    let mut ring = ring();
    let mut files = dir.segment_files(CONFIG, ring.doorbell()).expect("thread");
    files.prepare(9);
    assert_eq!(ready(&mut ring, &mut files), 9);
    assert!(fs::read(dir.segment_path(9)).expect("the segment").iter().all(|&byte| byte == 0));
    assert_eq!(
        names(dir.path()).expect("names"),
        [segment_file_name(9)],
        "spare files beyond the limit stay"
    );
}

#[test]
fn a_read_only_directory_is_not_told_of() {
    use std::os::unix::fs::PermissionsExt;

    let (_temp, dir) = log_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).expect("permissions");
    let is_root = fs::write(dir.path().join("probe"), []).is_ok();
    let mut ring = ring();
    let mut files = dir.segment_files(CONFIG, ring.doorbell()).expect("thread");
    files.prepare(0);
    let outcome = next_event(&mut ring, &mut files);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("permissions");
    if is_root {
        return;
    }
    let error = outcome.expect_err("a read-only directory").to_string();
    assert!(error.contains("segment-0000000000.log.new") && error.contains("ermission"), "{error}");
}

#[test]
fn a_shard_that_ends_leaves_somebody_at_work_on_its_files() {
    let (_temp, dir) = log_dir();
    let ring = ring();
    let config = SegmentFilesConfig { segment_bytes: 1 << 30, ..CONFIG };
    let mut files = dir.segment_files(config, ring.doorbell()).expect("thread");
    files.prepare(0);
    drop(files);
    let left = names(dir.path()).expect("names");
    assert!(left.is_empty(), "{left:?}");
}
