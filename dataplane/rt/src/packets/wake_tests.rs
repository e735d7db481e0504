//! Every source of a wake-up against every way to be idle.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use super::tests::{PATIENCE, ring, small, socket};
use super::*;
use crate::{LogBuffer, LogDir, LogFile, run_local};

/// How long a shard looks for work before it sleeps: the policies `busy`, `adaptive` and `saver`.
const SPINS: [Duration; 3] = [Duration::MAX, Duration::from_micros(50), Duration::ZERO];
/// Wake-ups of each policy.
const ROUNDS: u64 = 1_500;

/// What is to wake the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Datagram,
    /// A message of another thread (the agent, the storage thread, a sibling shard), then its ring of the bell.
    Doorbell,
    /// A log write that the shard begins because a message says so, and that nothing follows.
    Log,
    /// A time limit that the shard sleeps with because a message says so, and that nothing follows.
    Timer,
}

const SOURCES: [Source; 4] = [Source::Datagram, Source::Doorbell, Source::Log, Source::Timer];

/// What the threads share: messages put, and things seen.
#[derive(Default)]
struct Shared {
    /// The message put last: its number and its source.
    put: AtomicU64,
    seen: AtomicU64,
}

struct IdleShard {
    ring: PacketRing,
    shared: Arc<Shared>,
    file: Rc<LogFile>,
    buffer: Option<LogBuffer>,
    taken: u64,
    seen: u64,
    /// Writes begun, which is where the next one goes.
    writes: u64,
    deadline: Option<Instant>,
}

impl IdleShard {
    /// One turn; whether it did anything.
    fn turn(&mut self) -> bool {
        let before = self.seen;
        self.seen += self.ring.poll(|_, _| ()).expect("poll").datagrams as u64;
        if let Some((buffer, ended)) = self.ring.poll_log_write() {
            ended.expect("the write");
            self.buffer = Some(buffer);
            self.seen += 1;
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.deadline = None;
            self.seen += 1;
        }
        let put = self.shared.put.load(Ordering::Acquire);
        let is_told = put != self.taken;
        if is_told {
            self.taken = put;
            self.obey(SOURCES[(put % 4) as usize]);
        }
        self.shared.seen.store(self.seen, Ordering::Release);
        self.seen != before || is_told
    }

    fn obey(&mut self, source: Source) {
        match source {
            Source::Log => {
                let buffer = self.buffer.take().expect("one write at a time");
                let block = wal::BLOCK_BYTES;
                let offset = self.writes % 64 * block as u64;
                self.ring.begin_log_write(&self.file, buffer, block, offset).expect("write");
                self.writes += 1;
            }
            Source::Timer => self.deadline = Some(Instant::now() + Duration::from_micros(self.taken % 300)),
            Source::Datagram | Source::Doorbell => self.seen += 1,
        }
    }

    /// Until all rounds are seen; how often it slept.
    fn run(mut self, spin: Duration) -> u64 {
        let mut last_work = Instant::now();
        while self.seen < ROUNDS {
            if self.turn() {
                last_work = Instant::now();
            } else if last_work.elapsed() >= spin {
                let until = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                let (shared, taken) = (&self.shared, self.taken);
                self.ring.wait(until, || shared.put.load(Ordering::Acquire) == taken).expect("wait");
            } else {
                self.ring.flush().expect("flush");
            }
        }
        self.ring.counters().waits
    }
}

fn spawn(
    spin: Duration,
    shared: Arc<Shared>,
) -> (mpsc::Receiver<(Doorbell, SocketAddr)>, std::thread::JoinHandle<u64>) {
    let (ready, told) = mpsc::channel();
    let shard = std::thread::spawn(move || {
        let directory = tempfile::tempdir().expect("directory");
        let log = LogDir::open(directory.path()).expect("log");
        log.prepare_segment(0, 1 << 20).expect("segment");
        let slept = run_local(async {
            let file = Rc::new(log.open_segment(0).expect("open"));
            let (ring, address) = ring(small());
            ready.send((ring.doorbell(), address)).expect("ready");
            let buffer = Some(LogBuffer::new(wal::BLOCK_BYTES));
            IdleShard { ring, shared, file, buffer, taken: 0, seen: 0, writes: 0, deadline: None }.run(spin)
        });
        slept.expect("executor")
    });
    (told, shard)
}

/// Another thread wakes the shard by each source at moments that a generator scatters around its sleep. The shard
/// sleeps without a limit of its own, and nothing is done before the last was seen, so a lost wake-up hangs it.
#[test]
fn a_wake_up_is_lost() {
    for spin in SPINS {
        let shared = Arc::new(Shared::default());
        let (told, shard) = spawn(spin, shared.clone());
        let (bell, address) = told.recv_timeout(PATIENCE).expect("shard");
        let client = socket();
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..ROUNDS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            for _ in 0..(random >> 33) % 4_000 {
                std::hint::spin_loop();
            }
            let source = (random >> 20) % 4;
            if SOURCES[source as usize] == Source::Datagram {
                client.send_to(b"wake", address).expect("send");
            } else {
                // A number that says its source and was not there before.
                shared.put.store((round + 1) * 4 + source, Ordering::Release);
                bell.ring();
            }
            let give_up = Instant::now() + PATIENCE;
            while shared.seen.load(Ordering::Acquire) <= round {
                assert!(
                    Instant::now() < give_up,
                    "round {round}, {:?}, spin {spin:?} was not seen",
                    SOURCES[source as usize]
                );
                std::thread::yield_now();
            }
        }
        let waits = shard.join().expect("shard");
        if spin == Duration::ZERO {
            assert!(waits > ROUNDS / 2, "it hardly slept: {waits}");
        } else if spin == Duration::MAX {
            assert_eq!(waits, 0, "it slept");
        }
    }
}

/// Several threads share the bell, as agent, storage thread and siblings do: each waits for its own message only.
#[test]
fn a_ring_of_one_thread_swallows_that_of_another() {
    const THREADS: usize = 3;
    const MESSAGES: u64 = 1_500;
    let put: Arc<[AtomicU64; THREADS]> = Arc::default();
    let seen: Arc<[AtomicU64; THREADS]> = Arc::default();
    let (ready, told) = mpsc::channel();
    let shard = {
        let (put, seen) = (put.clone(), seen.clone());
        std::thread::spawn(move || {
            let (mut ring, _) = ring(small());
            ready.send(ring.doorbell()).expect("ready");
            let mut taken = [0; THREADS];
            while taken != [MESSAGES; THREADS] {
                let look = || std::array::from_fn(|thread| put[thread].load(Ordering::Acquire));
                ring.wait(None, || look() == taken).expect("wait");
                taken = look();
                for (seen, taken) in seen.iter().zip(taken) {
                    seen.store(taken, Ordering::Release);
                }
                ring.poll(|_, _| ()).expect("poll");
            }
        })
    };
    let bell = told.recv_timeout(PATIENCE).expect("shard");
    let others: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (put, seen, bell) = (put.clone(), seen.clone(), bell.clone());
            std::thread::spawn(move || {
                let give_up = Instant::now() + 3 * PATIENCE;
                for message in 1..=MESSAGES {
                    put[thread].store(message, Ordering::Release);
                    bell.ring();
                    while seen[thread].load(Ordering::Acquire) < message {
                        assert!(
                            Instant::now() < give_up,
                            "message {message} of thread {thread} was not seen"
                        );
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    for other in others {
        other.join().expect("all seen");
    }
    shard.join().expect("shard");
}
