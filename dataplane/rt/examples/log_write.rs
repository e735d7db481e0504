//! Measures durable 4 KiB and 64 KiB log writes from a loop that never waits, as a busy shard's does:
//! `cargo run --release -p rt --example log_write -- [DIR]`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rt::{Clock, LogBuffer, LogDir, Sync};

const WRITES: usize = 2_000;
const SEGMENT_BYTES: u64 = 256 << 20;

fn main() -> Result<(), rt::RtError> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "log_write.tmp".to_owned());
    let log = LogDir::open(&dir)?;
    let start = Instant::now();
    log.prepare_segment(0, SEGMENT_BYTES)?;
    println!("preparing {} MiB: {:?}", SEGMENT_BYTES >> 20, start.elapsed());
    let shard = rt::spawn_shard(rt::allowed_cores().last().copied(), "log", move || async move {
        for sync in [Sync::WithWrite, Sync::AfterWrite] {
            for bytes in [4 << 10, 64 << 10] {
                measure(&log, sync, bytes).await?;
            }
        }
        turns().await;
        Ok::<(), rt::RtError>(())
    })?;
    shard.join()??;
    std::fs::remove_dir_all(&dir).map_err(|source| rt::RtError::Socket { what: "cleaning up", source })
}

async fn measure(log: &LogDir, sync: Sync, bytes: usize) -> Result<(), rt::RtError> {
    let file = Rc::new(log.open_segment(0, sync).await?);
    let mut took = Vec::with_capacity(WRITES);
    for index in 0..WRITES {
        let done = Rc::new(Cell::new(None));
        let (told, writer) = (done.clone(), file.clone());
        let start = Instant::now();
        let write = glommio::spawn_local(async move {
            let written = writer.write(LogBuffer::new(bytes), bytes, (index * bytes) as u64).await;
            told.set(Some(written));
        });
        let mut turns = 0u32;
        while !write_ended(&done)? {
            rt::poll_files().await;
            turns += 1;
        }
        took.push((start.elapsed(), turns));
        write.await;
    }
    took.sort_unstable();
    let at = |share: f64| took[(share * (WRITES - 1) as f64) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    println!("{sync:?} {bytes} B: p50 {:?} ({} turns), p99 {:?}", p50.0, p50.1, p99.0);
    Ok(())
}

fn write_ended(done: &Cell<Option<Result<(), rt::RtError>>>) -> Result<bool, rt::RtError> {
    done.take().transpose().map(|ended| ended.is_some())
}

/// What a turn round the executor costs, with and without a look at its rings.
async fn turns() {
    const TURNS: u32 = 100_000;
    let clock = Clock::new();
    let start = clock.now();
    for _ in 0..TURNS {
        rt::yield_now().await;
    }
    let yields = clock.now().since(start).as_duration();
    let start = clock.now();
    for _ in 0..TURNS {
        rt::poll_files().await;
    }
    let polls: Duration = clock.now().since(start).as_duration();
    println!("yield_now {:?}, poll_files {:?} each", yields / TURNS, polls / TURNS);
}
