//! Two ways to make a log write durable: a file opened with O_DSYNC, and a write with a linked fdatasync behind it; first
//! while the other cores have nothing to do, then while each is kept busy by somebody.
//! `cargo run --release -p rt --example log_sync -- [DIR]`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};
use rt::{LogBuffer, LogDir};
use wal::AlignedBuffer;

/// Rounds of each way and size, in turns, so that both meet the same moods of the disk.
const ROUNDS: usize = 1_000;
const SEGMENT_BYTES: u64 = 256 << 20;
const SIZES: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];

#[derive(Clone, Copy)]
enum Way {
    Dsync,
    LinkedFdatasync,
}

fn main() -> io::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "log_sync.tmp".to_owned());
    let log = LogDir::open(&dir).map_err(io::Error::other)?;
    log.prepare_segment(0, SEGMENT_BYTES).map_err(io::Error::other)?;
    let path = log.path().join(wal::segment_file_name(0));
    let open = |flags| OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | flags).open(&path);
    let (dsync, plain) = (open(libc::O_DSYNC)?, open(0)?);
    let mut cores = core_affinity::get_core_ids().unwrap_or_default().into_iter();
    let own = cores.next().ok_or_else(|| io::Error::other("no core to run on"))?;
    core_affinity::set_for_current(own);
    compare("the others idle", &dsync, &plain)?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for core in cores {
            let is_over = &is_over;
            scope.spawn(move || {
                core_affinity::set_for_current(core);
                while !is_over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let compared = compare("the others busy", &dsync, &plain);
        is_over.store(true, Relaxed);
        compared
    })?;
    std::fs::remove_dir_all(&dir)
}

fn compare(others: &str, dsync: &File, plain: &File) -> io::Result<()> {
    let mut ring = IoUring::new(8)?;
    for bytes in SIZES {
        let buffer = LogBuffer::new(bytes);
        let mut took = [Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)];
        for round in 0..ROUNDS {
            let offset = (round * bytes) as u64;
            took[0].push(write(&mut ring, dsync, Way::Dsync, &buffer, offset)?);
            took[1].push(write(&mut ring, plain, Way::LinkedFdatasync, &buffer, offset)?);
        }
        for (name, mut took) in ["O_DSYNC", "write + fdatasync"].into_iter().zip(took) {
            took.sort_unstable();
            let at = |share: f64| took[(share * (ROUNDS - 1) as f64) as usize];
            println!("{others}  {bytes:>6} B  {name:<18} p50 {:?}  p99 {:?}", at(0.5), at(0.99));
        }
    }
    Ok(())
}

/// Writes the buffer and waits until it is durable.
fn write(ring: &mut IoUring, file: &File, way: Way, buffer: &LogBuffer, offset: u64) -> io::Result<Duration> {
    let begun = Instant::now();
    let fd = types::Fd(file.as_raw_fd());
    let bytes = buffer.as_slice();
    let write = opcode::Write::new(fd, bytes.as_ptr(), bytes.len() as u32).offset(offset).build();
    let wanted = match way {
        Way::Dsync => {
            push(ring, &write)?;
            1
        }
        Way::LinkedFdatasync => {
            push(ring, &write.flags(squeue::Flags::IO_LINK))?;
            push(ring, &opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build())?;
            2
        }
    };
    ring.submit_and_wait(wanted)?;
    for answer in ring.completion() {
        if answer.result() < 0 {
            return Err(io::Error::from_raw_os_error(-answer.result()));
        }
    }
    Ok(begun.elapsed())
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: file and buffer outlive the call that pushes: it waits for the answers to all that it pushed.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)
}
