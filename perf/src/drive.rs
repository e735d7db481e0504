//! The generator: drives one client through a load, by the clock.

use std::time::{Duration, Instant};

use crate::context::Interrupt;
use crate::load::{Load, Plan, Tally};
use crate::peer::{Client, MessageHeader, Request, Sent};
use crate::record::{INTERVAL, Recorder};
use crate::result::Waiting;
use crate::stall::StallMeter;

/// Messages sent before the client is polled again: a generator that is late must not go deaf.
const SENDS_PER_TURN_MAX: usize = 32;

/// What came of a load.
#[derive(Debug)]
pub struct Driven {
    /// What became of the messages.
    pub tally: Tally,
    /// From the instant that each was due to its reply.
    pub round_trips: Recorder,
    /// The longest that the generator was away, microseconds.
    pub stall_us: f64,
    /// Replies that were not what was sent.
    pub damaged: u64,
}

/// Sends echo requests by the plan and times the replies, on the calling thread.
///
/// # Errors
/// The transport broke.
pub fn drive(
    client: &mut dyn Client,
    plan: Plan,
    waiting: Waiting,
    message_bytes: usize,
    interrupt: &Interrupt,
) -> std::io::Result<Driven> {
    let mut message: Vec<u8> = (0..message_bytes).map(|index| index as u8).collect();
    let mut load = Load::new(plan);
    let mut driven = Replies {
        expected: message.clone(),
        round_trips: Recorder::new(INTERVAL, Duration::from_nanos(plan.measured_ns)),
        damaged: 0,
    };
    let stalls = StallMeter::default();
    let origin = Instant::now();
    let mut warm = false;
    // The transport had no room, and not all that was due since has been sent.
    let mut behind = false;
    while !interrupt.is_set() {
        let now = Instant::now();
        let now_ns = nanoseconds(origin, now);
        if !warm && now_ns >= plan.warmup_ns {
            // What held up the warm-up disturbed nothing that counts.
            stalls.take_longest_us();
            warm = true;
        }
        if load.is_over(now_ns) {
            break;
        }
        let sending = send_what_is_due(client, &mut load, &mut message, now_ns, origin)?;
        // Late without the transport's doing: the generator did not wake, or had no processor.
        if !behind && sending.late_ns_max > 0 && warm {
            stalls.note_us(sending.late_ns_max as f64 / 1_000.0);
        }
        behind = sending.full || (behind && !sending.caught_up);
        let wait_until = match waiting {
            Waiting::Polling => None,
            Waiting::Blocking => Some(origin + Duration::from_nanos(load.poll_timeout(now_ns))),
        };
        if waiting == Waiting::Blocking {
            // Since it woke it had something to do and no reason to sleep.
            stalls.turn(Instant::now());
        }
        let mut came = false;
        client.poll(wait_until, &mut |reply| {
            came = true;
            driven.take(reply, &mut load, nanoseconds(origin, Instant::now()));
        })?;
        match wait_until {
            // Whom a reply woke slept as long as it should: what it is late by is part of the figure.
            Some(_) if came => {
                let awake = Instant::now();
                stalls.turn_after_sleep(awake, awake);
            }
            Some(wake_at) => stalls.turn_after_sleep(Instant::now(), wake_at.max(now)),
            None => stalls.turn(now),
        }
    }
    let Replies { round_trips, damaged, .. } = driven;
    Ok(Driven { tally: load.into_tally(), round_trips, stall_us: stalls.take_longest_us(), damaged })
}

/// What a turn's sending came to.
#[derive(Default)]
struct Sending {
    /// The transport had no room.
    full: bool,
    /// Nothing more was due.
    caught_up: bool,
    /// How long after it was due the latest message left.
    late_ns_max: u64,
}

fn send_what_is_due(
    client: &mut dyn Client,
    load: &mut Load,
    message: &mut [u8],
    now_ns: u64,
    origin: Instant,
) -> std::io::Result<Sending> {
    let mut sending = Sending::default();
    let mut send_ns = now_ns;
    for _ in 0..SENDS_PER_TURN_MAX {
        let Some(due) = load.poll_send(send_ns) else {
            sending.caught_up = true;
            break;
        };
        MessageHeader { request: Request::Echo, number: due.number }.write(message);
        if client.send(message)? == Sent::Full {
            sending.full = true;
            break;
        }
        load.handle_sent(due, send_ns);
        sending.late_ns_max = sending.late_ns_max.max(send_ns.saturating_sub(due.due_ns));
        send_ns = nanoseconds(origin, Instant::now());
    }
    Ok(sending)
}

struct Replies {
    expected: Vec<u8>,
    round_trips: Recorder,
    damaged: u64,
}

impl Replies {
    fn take(&mut self, reply: &[u8], load: &mut Load, now_ns: u64) {
        let Some(header) = MessageHeader::read(reply) else {
            self.damaged += 1;
            return;
        };
        header.write(&mut self.expected);
        if reply != self.expected || header.request != Request::Echo {
            self.damaged += 1;
            return;
        }
        if let Some(timed) = load.handle_reply(header.number, now_ns) {
            self.round_trips.record(timed.at_ns, timed.latency_ns);
        }
    }
}

fn nanoseconds(origin: Instant, now: Instant) -> u64 {
    // An hour is 42 bits; half a millennium is 64.
    now.saturating_duration_since(origin).as_nanos() as u64
}
