//! Rings: one side at a time on one core, and hops between two.

use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::{Duration, Instant};

use rings::spsc::{self, Consumer, Full, Producer};
use thiserror::Error;

use crate::{Visitor, Workload};

/// Slots of the rings, as between the shards of a node.
const SLOTS: usize = 1_024;
/// A message of one cache line.
type Message = [u64; 8];

pub(crate) fn visit(visitor: &mut impl Visitor) {
    visitor.visit("ring/push", || {
        let (producer, consumer) = spsc::channel(SLOTS);
        Push { producer, _consumer: consumer }
    });
    visitor.visit("ring/pop", || {
        let (mut producer, consumer) = spsc::channel(SLOTS);
        (0..SLOTS as u64).for_each(|number| push(&mut producer, [number; 8]));
        Pop { consumer, _producer: producer }
    });
}

struct Push {
    producer: Producer<Message>,
    _consumer: Consumer<Message>,
}

impl Workload for Push {
    const STEPS: u64 = SLOTS as u64;

    fn step(&mut self) {
        self.producer.try_push(black_box([7; 8])).expect("a free slot");
    }
}

struct Pop {
    consumer: Consumer<Message>,
    _producer: Producer<Message>,
}

impl Workload for Pop {
    const STEPS: u64 = SLOTS as u64;

    fn step(&mut self) {
        black_box(self.consumer.pop().expect("a message"));
    }
}

/// There are no two cores to hop between.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("ring hops need two cores, and this process may run on {allowed}; give it two with taskset -c")]
pub struct TooFewCores {
    /// The cores that it may run on.
    pub allowed: usize,
}

/// The last two cores that this process may run on: the first has the interrupts.
pub fn two_cores() -> Result<[usize; 2], TooFewCores> {
    let cores = rt::allowed_cores();
    match cores[..] {
        [.., first, second] => Ok([first, second]),
        _ => Err(TooFewCores { allowed: cores.len() }),
    }
}

/// `count` messages to another core and back, one at a time; both threads pinned and spinning.
#[must_use]
pub fn round_trips(cores: [usize; 2], count: u64) -> Duration {
    let (mut out, mut at_echo) = spsc::channel::<Message>(SLOTS);
    let (mut from_echo, mut back) = spsc::channel::<Message>(SLOTS);
    on_two_cores(
        cores,
        move || {
            let started = Instant::now();
            for number in 0..count {
                push(&mut out, [number; 8]);
                black_box(pop(&mut back));
            }
            started.elapsed()
        },
        move || (0..count).for_each(|_| push(&mut from_echo, pop(&mut at_echo))),
    )
}

/// `count` messages to another core as fast as they go.
#[must_use]
pub fn stream(cores: [usize; 2], count: u64) -> Duration {
    let (mut out, mut at_reader) = spsc::channel::<Message>(SLOTS);
    let (mut from_reader, mut done) = spsc::channel::<Message>(1);
    on_two_cores(
        cores,
        move || {
            let started = Instant::now();
            for number in 0..count {
                push(&mut out, [number; 8]);
            }
            pop(&mut done);
            started.elapsed()
        },
        move || {
            (0..count).for_each(|_| _ = black_box(pop(&mut at_reader)));
            push(&mut from_reader, [0; 8]);
        },
    )
}

/// The same, `batch` messages at a time: each batch is shown to the other core, and its slots handed back, at once.
#[must_use]
pub fn stream_batched(cores: [usize; 2], count: u64, batch: usize) -> Duration {
    let (mut out, mut at_reader) = spsc::channel::<Message>(SLOTS);
    let (mut from_reader, mut done) = spsc::channel::<Message>(1);
    on_two_cores(
        cores,
        move || {
            let started = Instant::now();
            let mut numbers = 0..count;
            while !numbers.is_empty() {
                let mut left = batch;
                let pushed = out.push_batch(|| {
                    left = left.checked_sub(1)?;
                    numbers.next().map(|number| [number; 8])
                });
                if pushed == 0 {
                    spin_loop();
                }
            }
            pop(&mut done);
            started.elapsed()
        },
        move || {
            let mut taken = 0;
            while taken < count {
                match at_reader.pop_batch(batch, |message| _ = black_box(message)) {
                    0 => spin_loop(),
                    popped => taken += popped as u64,
                }
            }
            push(&mut from_reader, [0; 8]);
        },
    )
}

/// Runs both until the end, each on its core, and says what the first measured.
fn on_two_cores(
    cores: [usize; 2],
    timed: impl FnOnce() -> Duration + Send,
    other: impl FnOnce() + Send,
) -> Duration {
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(cores[1]);
            other();
        });
        let timed = scope.spawn(move || {
            pin(cores[0]);
            timed()
        });
        timed.join().expect("the timed thread does not panic")
    })
}

/// An unpinned thread is slower, not wrong.
fn pin(core: usize) {
    if let Err(error) = rt::pin_current_thread(core) {
        eprintln!("ring hops are measured without pinning: {error}");
    }
}

fn push(producer: &mut Producer<Message>, mut message: Message) {
    while let Err(Full(back)) = producer.try_push(message) {
        message = back;
        spin_loop();
    }
}

fn pop(consumer: &mut Consumer<Message>) -> Message {
    loop {
        match consumer.pop() {
            Some(message) => return message,
            None => spin_loop(),
        }
    }
}
