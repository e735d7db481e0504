//! Measures durable 4 KiB and 64 KiB log writes through the packet ring, spinning and sleeping:
//! `cargo run --release -p rt --example log_write -- [DIR]`.

use std::net::UdpSocket;
use std::rc::Rc;
use std::time::Instant;

use rt::{LogBuffer, LogDir, PacketRing, PacketRingConfig};

const WRITES: usize = 2_000;
const SEGMENT_BYTES: u64 = 256 << 20;

fn main() -> Result<(), rt::RtError> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "log_write.tmp".to_owned());
    let log = LogDir::open(&dir)?;
    let start = Instant::now();
    log.prepare_segment(0, SEGMENT_BYTES)?;
    println!("preparing {} MiB: {:?}", SEGMENT_BYTES >> 20, start.elapsed());
    let shard = rt::spawn_shard(rt::allowed_cores().last().copied(), "log", move || async move {
        for spin in [true, false] {
            for bytes in [4 << 10, 64 << 10] {
                measure(&log, spin, bytes).await?;
            }
        }
        Ok::<(), rt::RtError>(())
    })?;
    shard.join()??;
    std::fs::remove_dir_all(&dir).map_err(|source| rt::RtError::Socket { what: "cleaning up", source })
}

async fn measure(log: &LogDir, spin: bool, bytes: usize) -> Result<(), rt::RtError> {
    let file = Rc::new(log.open_segment(0)?);
    let socket =
        UdpSocket::bind("127.0.0.1:0").map_err(|source| rt::RtError::Socket { what: "bind", source })?;
    let mut ring = PacketRing::new(socket, PacketRingConfig::default())?;
    let mut buffer = LogBuffer::new(bytes);
    let mut took = Vec::with_capacity(WRITES);
    for index in 0..WRITES {
        let start = Instant::now();
        ring.begin_log_write(&file, buffer, bytes, (index * bytes) as u64)?;
        buffer = loop {
            if let Some((buffer, ended)) = ring.poll_log_write() {
                ended?;
                break buffer;
            }
            if spin {
                ring.poll(|_, _| ())?;
                rt::yield_now().await;
            } else {
                ring.wait(None, || true)?;
            }
        };
        took.push(start.elapsed());
    }
    took.sort_unstable();
    let at = |share: f64| took[(share * (WRITES - 1) as f64) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    println!("spinning {spin}, {bytes} B: p50 {p50:?}, p99 {p99:?}");
    Ok(())
}
