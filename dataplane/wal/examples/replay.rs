//! Measures the format by itself, without a disk: appends small ops, then reads them back.
//!
//! `cargo run --release -p wal --example replay -- 10000000`

use std::time::Instant;

use wal::{AlignedBuffer, LogConfig, LogPosition, LogWriter, Op, Recovery};
use wire::Guuid;

struct Buffer(Vec<u8>);

impl AlignedBuffer for Buffer {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }
    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ops: u64 = std::env::args().nth(1).map_or(Ok(10_000_000), |count| count.parse())?;
    let config = LogConfig::new(Guuid::new(1_700_000_000_000, [1; 10]));
    let mut writer = LogWriter::new(config.clone(), LogPosition::START, |bytes| Buffer(vec![0; bytes]))?;
    let mut recovery = Recovery::new(config.log_id);
    let mut segment = None;
    let (mut reading, mut appended, mut read, mut bytes) = (0.0, 0, 0_u64, 0_u64);
    let started = Instant::now();
    while appended < ops {
        for _ in 0..(ops - appended).min(4_000) {
            appended += 1;
            writer.append_op(&Op {
                partition: 3,
                epoch: 1,
                document: "documents/replay",
                kind: 1,
                sequence: appended,
                id: Guuid::NIL.with_counter(appended),
                unix_ms: 1_700_000_000_000,
                payload: &[7; 33],
            })?;
        }
        while let Some(write) = writer.poll_write() {
            let begun = Instant::now();
            if segment.replace(write.at.segment) != Some(write.at.segment) {
                if write.at.segment > 0 {
                    recovery.handle_segment_end(|_| read += 1)?;
                }
                recovery.handle_segment_start(write.at.segment)?;
            }
            recovery.handle_bytes(&write.buffer.as_slice()[..write.at.bytes], |_| read += 1)?;
            reading += begun.elapsed().as_secs_f64();
            bytes += write.at.bytes as u64;
            writer.handle_durable(write.at, Some(write.buffer));
        }
    }
    let begun = Instant::now();
    recovery.handle_segment_end(|_| read += 1)?;
    reading += begun.elapsed().as_secs_f64();
    assert_eq!(read, ops + writer.stats().log_segments, "every op, and the start of each segment");
    let writing = started.elapsed().as_secs_f64() - reading;
    let per_op = |seconds: f64| seconds * 1e9 / ops as f64;
    println!(
        "{ops} ops, {bytes} bytes in the log, {read} records read back; append {:.0} ns/op, recover {:.0} ns/op \
         ({:.2} s)",
        per_op(writing),
        per_op(reading),
        reading
    );
    Ok(())
}
