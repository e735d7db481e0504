//! Measures UDP echo round trips through a packet ring in a shard's executor, spinning and sleeping, against a
//! client on plain blocking-free system calls: `cargo run --release -p rt --example pingpong`.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rt::{PacketRing, PacketRingConfig, Sent, SocketOptions, Wake};

const ROUNDS: usize = 50_000;
const STOP: &[u8] = b"stop";

fn main() -> Result<(), rt::RtError> {
    let cores = rt::allowed_cores();
    let failed = |source| rt::RtError::Socket { what: "client", source };
    for spin in [true, false] {
        let loopback = ([127, 0, 0, 1], 0).into();
        let socket = rt::bind_group(loopback, 1, &SocketOptions::default())?.remove(0);
        let to = socket.local_addr().map_err(failed)?;
        let shard = rt::spawn_shard(cores.last().copied(), "echo", move || echo(socket, spin))?;
        rt::pin_current_thread(cores[0])?;
        let client = UdpSocket::bind("127.0.0.1:0").map_err(failed)?;
        client.set_nonblocking(true).map_err(failed)?;
        let mut took = Vec::with_capacity(ROUNDS);
        let mut answer = [0u8; 64];
        for _ in 0..ROUNDS {
            let start = Instant::now();
            client.send_to(&[7; 64], to).map_err(failed)?;
            while client.recv(&mut answer).is_err() {
                std::hint::spin_loop();
            }
            took.push(start.elapsed());
            if !spin {
                // Long enough for the shard to fall asleep.
                let again = Instant::now() + Duration::from_micros(100);
                while Instant::now() < again {
                    std::hint::spin_loop();
                }
            }
        }
        client.send_to(STOP, to).map_err(failed)?;
        let counters = shard.join()??;
        took.sort_unstable();
        let (p50, p99) = (took[ROUNDS / 2], took[ROUNDS * 99 / 100]);
        println!("{}: p50 {p50:?}, p99 {p99:?}; {counters:?}", if spin { "spinning" } else { "sleeping" });
    }
    Ok(())
}

async fn echo(socket: UdpSocket, spin: bool) -> Result<rt::PacketCounters, rt::RtError> {
    let mut ring = PacketRing::new(socket, PacketRingConfig::default())?;
    let mut datagrams: Vec<(std::net::SocketAddr, [u8; 64], usize)> = Vec::new();
    loop {
        ring.poll(|arrival, payload| {
            let mut copy = [0; 64];
            copy[..payload.len()].copy_from_slice(payload);
            datagrams.push((arrival.from, copy, payload.len()));
        })?;
        for (from, payload, len) in datagrams.drain(..) {
            if payload.starts_with(STOP) {
                return Ok(*ring.counters());
            }
            let sent = ring.send(|slot| {
                slot[..len].copy_from_slice(&payload[..len]);
                Some((len, from))
            })?;
            assert_eq!(sent, Sent::Queued);
        }
        ring.flush()?;
        if !spin {
            let woken = ring.wait(None, || true)?;
            assert_ne!(woken, Wake::Timeout);
        }
        rt::yield_now().await;
    }
}
