//! `bulk`: how much goes one way, and what it costs both sides.
//!
//! The receiver counts: the sender asks it for its total when the warm-up ends and when the measured time does, and
//! goodput is the difference over the time between the two answers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use serde_json::json;

use super::{Measurement, Repeat, Title, choose, measure_all, ways_of_waiting};
use crate::args::{Defaults, Packets, Transports};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::load::Tally;
use crate::peer::{Client, MESSAGE_HEADER_BYTES, MessageHeader, Request, Sent, read_total};
use crate::peers::Peer;
use crate::result::{Pace, Waiting};
use crate::serve::{PeerServer, cpu_seconds};
use crate::stall::StallMeter;
use crate::verdict::Findings;

/// Of a message to a reliable peer.
pub const MESSAGE_BYTES: usize = 64 << 10;
/// Of a full packet so much is left out by a message to one that sends datagrams as they are.
pub const DATAGRAM_OVERHEAD_BYTES: usize = 52;
/// Given to the transport before it is polled again.
const BYTES_PER_TURN_MAX: usize = 128 << 10;
/// The total is asked for again after so long: the question may be lost where nothing is sent again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// What is on its way when the time is up may take so long.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// A generator that was away for a larger part of the measured time has measured itself.
const STALL_PART_MAX: f64 = 0.01;
/// The command's own choice of effort.
const DEFAULTS: Defaults = Defaults { repeats: 5, seconds: 2.0, warmup_seconds: 0.5, report: None };

const _: () = assert!(MESSAGE_BYTES >= MESSAGE_HEADER_BYTES && MESSAGE_BYTES <= BYTES_PER_TURN_MAX);

/// The command line of `bulk`.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = "Example: aether-perf bulk --peer tcp,quantum --seconds 3")]
pub struct Args {
    /// Transports, packets, and what every measurement has.
    #[command(flatten)]
    pub transports: Transports,
    /// Bytes of a message [default: 65536; 1400 where messages are datagrams, or what packets hold].
    #[arg(long, value_name = "BYTES")]
    pub message_bytes: Option<usize>,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &Args) -> Result<std::process::ExitCode> {
    let mut measurements: Vec<Box<dyn Measurement>> = Vec::new();
    for waiting in ways_of_waiting(&args.transports)? {
        for peer in choose(&args.transports)? {
            measurements.push(Box::new(Bulk::new(
                peer,
                waiting,
                args.message_bytes,
                args.transports.packets,
            )?));
        }
    }
    let mut context = Context::new("bulk", &args.transports.common, DEFAULTS)?;
    context.packets = args.transports.packets;
    let outcome = measure_all(&mut context, measurements);
    Ok(context.finish(outcome))
}

/// As much as one peer takes.
pub struct Bulk {
    peer: Peer,
    waiting: Waiting,
    message_bytes: usize,
}

impl Bulk {
    /// Checks that the peer can.
    ///
    /// # Errors
    /// A message that is too small to be numbered or too large for the peer.
    pub fn new(peer: Peer, waiting: Waiting, message_bytes: Option<usize>, packets: Packets) -> Result<Self> {
        let packet_bytes = packets.bytes();
        let datagram_bytes = usize::from(packet_bytes) - DATAGRAM_OVERHEAD_BYTES;
        let usual = if peer.reliable { MESSAGE_BYTES } else { datagram_bytes };
        let message_bytes = message_bytes.unwrap_or(usual.min((peer.message_bytes_max)(packet_bytes)));
        super::check_message_bytes(&peer, message_bytes, packets)?;
        Ok(Self { peer, waiting, message_bytes })
    }
}

impl Measurement for Bulk {
    fn title(&self) -> Title {
        Title {
            workload: "bulk",
            subject: self.peer.name.to_owned(),
            waiting: self.waiting,
            pace: Pace::Saturating,
            parameters: BTreeMap::from([("message_bytes".to_owned(), json!(self.message_bytes))]),
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let broke = |doing| {
            let subject = self.peer.name.to_owned();
            move |source| Error::Transport { subject, doing, source }
        };
        let mut server = PeerServer::start(&self.peer, self.waiting, context)?;
        let client = (self.peer.connect)(&server.client_context()).map_err(broke("connecting"))?;
        let mut sender = Sender::new(client, self.waiting, self.message_bytes, context);
        let before = server.begin()?;
        let cpu_before_s = cpu_seconds();
        let course = sender.run(context).map_err(broke("sending"))?;
        let cpu_s = cpu_seconds() - cpu_before_s;
        let mut held_up = Repeat::default();
        let after = server.end(&mut held_up)?;
        let mut repeat = self.repeat_of(&sender, course, cpu_s, after.cpu_s - before.cpu_s, context);
        // What was wanted is a mean over seconds: of what held it up only the relay's lateness says something.
        repeat.findings.held_up = held_up.findings.held_up;
        repeat.figures.extend(held_up.figures.remove_entry("relay_late_us_p99"));
        Ok(repeat)
    }
}

impl Bulk {
    fn repeat_of(
        &self,
        sender: &Sender,
        course: Option<Course>,
        sender_cpu_s: f64,
        receiver_cpu_s: f64,
        context: &Context,
    ) -> Repeat {
        let mut findings = Findings { tally: Tally::default(), ..Findings::default() };
        let stall_us = sender.stalls.take_longest_us();
        if stall_us > context.effort.measured.as_secs_f64() * 1e6 * STALL_PART_MAX {
            findings.generator_stall_us = stall_us;
        }
        let Some(course) = course else {
            findings.reasons.push(format!("the receiver gave no total within {} s", DRAIN_MAX.as_secs()));
            return Repeat { findings, ..Repeat::default() };
        };
        let received = course.end.bytes;
        if self.peer.reliable && received != sender.sent_bytes {
            let sent = sender.sent_bytes;
            findings.reasons.push(format!("{sent} bytes were sent and {received} received"));
        }
        let bytes = received.saturating_sub(course.begin.bytes) as f64;
        let seconds = course.end.at.saturating_duration_since(course.begin.at).as_secs_f64();
        if bytes == 0.0 || seconds == 0.0 {
            findings.reasons.push("nothing was received in the measured time".to_owned());
            return Repeat { findings, ..Repeat::default() };
        }
        // Both processes did nothing else from the first byte to the last, the warm-up included.
        let gigabytes = received as f64 / 1e9;
        let figures = [
            ("goodput_gbit_per_s", bytes * 8.0 / seconds / 1e9),
            ("sender_cpu_s_per_gb", sender_cpu_s / gigabytes),
            ("receiver_cpu_s_per_gb", receiver_cpu_s / gigabytes),
            ("delivered_percent", received as f64 / sender.sent_bytes as f64 * 100.0),
        ];
        let figures = figures.map(|(name, value)| (name.to_owned(), value));
        Repeat { findings, figures: BTreeMap::from(figures), ..Repeat::default() }
    }
}

/// What the receiver had at an instant.
#[derive(Clone, Copy)]
struct Total {
    at: Instant,
    bytes: u64,
}

/// The measured time, as the receiver saw it.
struct Course {
    begin: Total,
    end: Total,
}

struct Sender {
    client: Box<dyn Client>,
    waiting: Waiting,
    message: Vec<u8>,
    number: u64,
    sent_bytes: u64,
    stalls: StallMeter,
    warmup: Duration,
    measured: Duration,
    /// What the receiver said last.
    total: Option<Total>,
}

impl Sender {
    fn new(client: Box<dyn Client>, waiting: Waiting, message_bytes: usize, context: &Context) -> Self {
        Self {
            client,
            waiting,
            message: vec![0x5a; message_bytes],
            number: 0,
            sent_bytes: 0,
            stalls: StallMeter::default(),
            warmup: context.effort.warmup,
            measured: context.effort.measured,
            total: None,
        }
    }

    /// Nothing where the receiver does not answer.
    fn run(&mut self, context: &Context) -> std::io::Result<Option<Course>> {
        let origin = Instant::now();
        let mut begin: Option<Total> = None;
        let mut asked_at: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let since = now.saturating_duration_since(origin);
            if since >= self.warmup && begin.is_none() {
                begin = self.total;
                if begin.is_none() && asked_at.is_none_or(|at| now >= at + ASK_AGAIN) && self.ask()? {
                    asked_at = Some(now);
                }
            }
            let measured_until =
                begin.map_or(origin + self.warmup + DRAIN_MAX, |begin| begin.at + self.measured);
            if now >= measured_until || context.interrupt.is_set() {
                break;
            }
            let full = self.send_some()?;
            self.poll(full)?;
            self.stalls.turn(now);
        }
        let stall = self.stalls.take_longest_us();
        let end = self.drain()?;
        self.stalls.note_us(stall);
        Ok(begin.zip(end).map(|(begin, end)| Course { begin, end }))
    }

    /// Asks for the total; not, where the transport has no room.
    fn ask(&mut self) -> std::io::Result<bool> {
        let mut question = [0; MESSAGE_HEADER_BYTES];
        MessageHeader { request: Request::Total, number: self.number }.write(&mut question);
        Ok(self.client.send(&question)? == Sent::Taken)
    }

    /// Whether the transport has no room for more.
    fn send_some(&mut self) -> std::io::Result<bool> {
        let mut given = 0;
        while given < BYTES_PER_TURN_MAX {
            MessageHeader { request: Request::Sink, number: self.number }.write(&mut self.message);
            if self.client.send(&self.message)? == Sent::Full {
                return Ok(true);
            }
            self.number += 1;
            given += self.message.len();
            self.sent_bytes += self.message.len() as u64;
        }
        Ok(false)
    }

    /// Sleeps only where there is nothing to send.
    fn poll(&mut self, full: bool) -> std::io::Result<()> {
        let sleeps = full && self.waiting == Waiting::Blocking;
        let wait_until = sleeps.then(|| Instant::now() + Duration::from_millis(1));
        let total = &mut self.total;
        self.client.poll(wait_until, &mut |reply| {
            if let Some(bytes) = read_total(reply) {
                *total = Some(Total { at: Instant::now(), bytes });
            }
        })
    }

    /// Waits until what was sent has been received, as far as it will be.
    fn drain(&mut self) -> std::io::Result<Option<Total>> {
        let deadline = Instant::now() + DRAIN_MAX;
        let mut ask_at = Instant::now();
        self.total = None;
        while self.total.is_none() && Instant::now() < deadline {
            if Instant::now() >= ask_at && self.ask()? {
                ask_at = Instant::now() + ASK_AGAIN;
            }
            self.poll(true)?;
        }
        Ok(self.total)
    }
}
