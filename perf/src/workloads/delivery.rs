//! How long messages take one way, from the instant that each was due to its delivery in order.
//!
//! Sender and receiver are processes of one machine and read one clock: the sender stamps each message with the instant
//! at which it was due, the receiver keeps the ages, and is asked for them at the end. The bytes on the wire are counted
//! by the relay between them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Measurement, Repeat, Title, check_message_bytes};
use crate::args::Packets;
use crate::context::{Context, Interrupt};
use crate::error::{Error, Result};
use crate::impair::Summary;
use crate::load::{SECOND_NS, Tally};
use crate::peer::{Ages, Client, MESSAGE_HEADER_BYTES, MessageHeader, Request, Sent, monotonic_ns, stamp};
use crate::peers::Peer;
use crate::record::{INTERVAL, Recorder};
use crate::result::{Pace, Waiting};
use crate::serve::PeerServer;
use crate::verdict::Findings;

/// The name of the workload, and of what it times.
pub const DELIVERY: &str = "delivery";
/// UDP payload of the sender for each message.
pub const SENDER_BYTES: &str = "sender_bytes_per_message";
/// The same of both ends.
pub const BOTH_BYTES: &str = "both_bytes_per_message";
/// A sleep may end so much late: that much before a message is due the generator stays awake.
const SPIN: Duration = Duration::from_micros(150);
/// What is under way when the last message has been sent may take so long.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// Messages of one size one way, through one peer, at one rate.
pub struct Delivery {
    peer: Peer,
    rate_per_s: f64,
    message_bytes: usize,
}

impl Delivery {
    /// Checks that the peer can.
    ///
    /// # Errors
    /// A message that is too small to be stamped or too large for the peer.
    pub fn new(peer: Peer, rate_per_s: f64, message_bytes: usize, packets: Packets) -> Result<Self> {
        check_message_bytes(&peer, message_bytes, packets)?;
        Ok(Self { peer, rate_per_s, message_bytes })
    }
}

/// What tells such a run from others, but for the network.
pub fn parameters(message_bytes: usize) -> BTreeMap<String, serde_json::Value> {
    BTreeMap::from([("message_bytes".to_owned(), json!(message_bytes))])
}

impl Measurement for Delivery {
    fn title(&self) -> Title {
        Title {
            workload: DELIVERY,
            subject: self.peer.name.to_owned(),
            waiting: Waiting::Blocking,
            pace: Pace::Open { rate_per_s: self.rate_per_s },
            parameters: parameters(self.message_bytes),
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let broke = |doing| {
            let subject = self.peer.name.to_owned();
            move |source| Error::Transport { subject, doing, source }
        };
        let mut server = PeerServer::start(&self.peer, Waiting::Blocking, context)?;
        let mut client = (self.peer.connect)(&server.client_context()).map_err(broke("connecting"))?;
        server.begin()?;
        let before = server.relayed()?;
        let plan = Plan {
            rate_per_s: self.rate_per_s,
            warmup_ns: context.effort.warmup.as_nanos() as u64,
            measured_ns: context.effort.measured.as_nanos() as u64,
            message_bytes: self.message_bytes,
        };
        let generated =
            generate(client.as_mut(), plan, &context.interrupt).map_err(broke("sending and receiving"))?;
        let ages = ask_ages(client.as_mut(), &context.interrupt).map_err(broke("asking for the ages"))?;
        let after = server.relayed()?;
        let mut repeat = judged(plan, &generated, &ages);
        if let (Some(before), Some(after)) = (before, after) {
            let messages = generated.sent.max(1) as f64;
            let [sender, receiver] = wire_bytes(&before, &after);
            repeat.figures.insert(SENDER_BYTES.to_owned(), sender as f64 / messages);
            repeat.figures.insert(BOTH_BYTES.to_owned(), (sender + receiver) as f64 / messages);
        }
        for (name, value) in client.counters() {
            if name.starts_with("fec_") {
                repeat.figures.insert(name.to_owned(), value as f64);
            }
        }
        server.end(&mut repeat)?;
        Ok(repeat)
    }
}

#[derive(Clone, Copy)]
struct Plan {
    rate_per_s: f64,
    warmup_ns: u64,
    measured_ns: u64,
    message_bytes: usize,
}

impl Plan {
    /// Computed from the message's number, so that no error adds up.
    fn due_ns(&self, number: u64) -> u64 {
        (number as f64 * SECOND_NS as f64 / self.rate_per_s) as u64
    }
}

#[derive(Default)]
struct Generated {
    /// The warm-up included.
    sent: u64,
    counted: u64,
    /// From the first to the last that counts.
    counted_ns: u64,
    stall_us: f64,
}

/// Sends what is due when it is due.
fn generate(client: &mut dyn Client, plan: Plan, interrupt: &Interrupt) -> std::io::Result<Generated> {
    let mut message = vec![0xa5; plan.message_bytes];
    let mut generated = Generated::default();
    let (origin, origin_ns) = (Instant::now(), monotonic_ns());
    let mut is_behind = false;
    while plan.due_ns(generated.sent) < plan.warmup_ns + plan.measured_ns && !interrupt.is_set() {
        let due_ns = plan.due_ns(generated.sent);
        let due = origin + Duration::from_nanos(due_ns);
        let now = Instant::now();
        if now < due {
            is_behind = false;
            let wake_at = due - SPIN;
            client.poll((now < wake_at).then_some(wake_at), &mut |_| {})?;
            continue;
        }
        let counts = due_ns >= plan.warmup_ns;
        stamp(&mut message, generated.sent, if counts { origin_ns + due_ns } else { 0 });
        if client.send(&message)? == Sent::Full {
            is_behind = true;
            client.poll(Some(Instant::now() + SPIN), &mut |_| {})?;
            continue;
        }
        client.poll(None, &mut |_| {})?;
        generated.sent += 1;
        if counts {
            generated.counted += 1;
            generated.counted_ns = (now - origin).as_nanos() as u64 - plan.warmup_ns.min(due_ns);
            // Late without the transport's doing.
            if !is_behind {
                generated.stall_us = generated.stall_us.max((now - due).as_secs_f64() * 1e6);
            }
        }
    }
    Ok(generated)
}

/// Asks the receiver for all ages; it has them when everything sent before has been delivered.
fn ask_ages(client: &mut dyn Client, interrupt: &Interrupt) -> std::io::Result<Ages> {
    let mut all = Ages { first: 0, count: u64::MAX, misordered: 0, ages_ns: Vec::new() };
    let deadline = Instant::now() + DRAIN_MAX;
    let mut question = [0; MESSAGE_HEADER_BYTES];
    let mut is_asked = false;
    while (all.ages_ns.len() as u64) < all.count && Instant::now() < deadline && !interrupt.is_set() {
        if !is_asked {
            let number = all.ages_ns.len() as u64;
            MessageHeader { request: Request::Ages, number }.write(&mut question);
            is_asked = client.send(&question)? == Sent::Taken;
        }
        client.poll(Some(Instant::now() + INTERVAL), &mut |reply| {
            if let Some(more) = Ages::read(reply).filter(|more| more.first == all.ages_ns.len() as u64) {
                is_asked = false;
                (all.count, all.misordered) = (more.count, more.misordered);
                all.ages_ns.extend(more.ages_ns);
            }
        })?;
    }
    Ok(all)
}

fn judged(plan: Plan, generated: &Generated, ages: &Ages) -> Repeat {
    let mut recorder = Recorder::new(INTERVAL, Duration::from_nanos(plan.measured_ns));
    let first = generated.sent - generated.counted;
    for (number, &age_ns) in (first..).zip(&ages.ages_ns) {
        recorder.record(plan.due_ns(number).saturating_sub(plan.warmup_ns), u64::from(age_ns));
    }
    let delivered = ages.ages_ns.len() as u64;
    let tally = Tally {
        asked_per_s: Some(plan.rate_per_s),
        achieved_per_s: generated.counted as f64 * SECOND_NS as f64
            / generated.counted_ns.max(plan.measured_ns) as f64,
        sent: generated.counted,
        replies: delivered,
        lost: generated.counted.saturating_sub(delivered),
        duplicated: delivered.saturating_sub(generated.counted),
        ..Tally::default()
    };
    let mut findings = Findings { tally, generator_stall_us: generated.stall_us, ..Findings::default() };
    if ages.misordered > 0 {
        findings.reasons.push(format!("{} messages did not follow the one before", ages.misordered));
    }
    Repeat { findings, latencies: BTreeMap::from([(DELIVERY.to_owned(), recorder)]), ..Repeat::default() }
}

/// What each end has sent meanwhile.
fn wire_bytes(before: &Summary, after: &Summary) -> [u64; 2] {
    [
        after.up.taken_bytes.saturating_sub(before.up.taken_bytes),
        after.down.taken_bytes.saturating_sub(before.down.taken_bytes),
    ]
}
