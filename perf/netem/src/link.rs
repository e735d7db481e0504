//! One direction of a network.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use wire::{Span, Time};

use crate::bottleneck::Bottleneck;
use crate::loss::LossProcess;
use crate::payload::{DropReason, Payload, wire_bytes};
use crate::policer::TokenBucket;
use crate::{Capacity, LinkSpec, LinkStats, Random};

/// Packets under way at most, behind the bottleneck.
pub const FLIGHT_PACKETS_MAX: usize = 262_144;
/// Bytes of them at most.
pub const FLIGHT_BYTES_MAX: u64 = 512_000_000;

const _: () = assert!(FLIGHT_BYTES_MAX >= crate::QUEUE_BYTES_MAX);

/// One direction: see the crate's page for what a packet passes and for the order of calls.
#[derive(Clone, Debug)]
pub struct Link<P> {
    spec: LinkSpec,
    random: Streams,
    loss: LossProcess,
    /// Whether the packet before was lost.
    was_lost: bool,
    policer: Option<TokenBucket>,
    bottleneck: Bottleneck<P>,
    flight: BinaryHeap<InFlight<P>>,
    flight_bytes: u64,
    /// The next packet's number in the order of leaving the bottleneck.
    next_number: u64,
    /// Packets do not come before this, except where they may overtake.
    latest_due: Time,
    now: Time,
    stats: LinkStats,
}

/// Each kind of fate has a stream of its own.
#[derive(Clone, Debug)]
struct Streams {
    jitter: Random,
    reorder: Random,
    duplicate: Random,
    corrupt: Random,
}

/// A packet that comes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery<P> {
    /// When it was to come; not after the instant of the poll.
    pub due: Time,
    /// What it carries.
    pub payload: P,
}

#[derive(Clone, Debug)]
struct InFlight<P> {
    due: Time,
    number: u64,
    payload: P,
}

impl<P: Payload> Link<P> {
    /// A link whose fates follow from `seed`.
    #[must_use]
    pub fn new(spec: LinkSpec, seed: u64) -> Self {
        let stream = |number| Random::stream(seed, number);
        Self {
            loss: LossProcess::new(stream(0)),
            random: Streams {
                jitter: stream(1),
                reorder: stream(2),
                duplicate: stream(3),
                corrupt: stream(4),
            },
            was_lost: false,
            policer: spec.policer.map(|policer| TokenBucket::new(policer, Time::ZERO)),
            bottleneck: Bottleneck::new(&spec),
            flight: BinaryHeap::new(),
            flight_bytes: 0,
            next_number: 0,
            latest_due: Time::ZERO,
            now: Time::ZERO,
            stats: LinkStats::default(),
            spec,
        }
    }

    /// What it does.
    #[must_use]
    pub fn spec(&self) -> &LinkSpec {
        &self.spec
    }

    /// What became of the packets so far.
    #[must_use]
    pub fn stats(&self) -> &LinkStats {
        &self.stats
    }

    /// Packets that wait for the bottleneck or are under way.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bottleneck.queue_packets() + self.flight.len()
    }

    /// Does something else from `now` on. Packets under way arrive as it was decided; those that wait for the
    /// bottleneck meet the new conditions.
    pub fn change(&mut self, now: Time, spec: LinkSpec) {
        self.advance(now);
        if self.spec.policer != spec.policer {
            self.policer = spec.policer.map(|policer| TokenBucket::new(policer, self.now));
        }
        if self.spec.delay != spec.delay {
            // A faster way is not held up by what is still on the slower.
            self.latest_due = self.now;
        }
        self.bottleneck.change(self.now, &spec);
        self.spec = spec;
        self.advance(now);
    }

    /// Takes a packet. An instant before that of an earlier call counts as that one.
    pub fn handle_packet(&mut self, now: Time, mut payload: P) {
        self.advance(now);
        let now = self.now;
        self.stats.taken += 1;
        self.stats.taken_bytes += payload.bytes() as u64;
        if let Some(policer) = &mut self.policer
            && !policer.admits(now, wire_bytes(&payload))
        {
            self.stats.dropped_policer += 1;
            payload.on_dropped(now, DropReason::Policed);
            return;
        }
        if self.spec.capacity == Capacity::Unlimited && self.bottleneck.departure().is_none() {
            self.transmit(now, payload);
            return;
        }
        match self.bottleneck.push(now, payload) {
            Ok(()) => {
                self.stats.queue_bytes_peak = self.stats.queue_bytes_peak.max(self.bottleneck.queue_bytes());
            }
            Err(mut payload) => {
                self.stats.dropped_queue += 1;
                payload.on_dropped(now, DropReason::QueueFull);
            }
        }
    }

    /// The next packet that is due, in the order of their instants.
    pub fn poll_packet(&mut self, now: Time) -> Option<Delivery<P>> {
        self.advance(now);
        if self.flight.peek()?.due > self.now {
            return None;
        }
        let InFlight { due, payload, .. } = self.flight.pop()?;
        self.flight_bytes -= wire_bytes(&payload);
        self.stats.delivered += 1;
        self.stats.delivered_bytes += payload.bytes() as u64;
        Some(Delivery { due, payload })
    }

    /// No packet comes before this instant; none when nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let delay_min = self.spec.delay - self.spec.jitter;
        let leaving = self.bottleneck.departure().map(|departure| departure + delay_min);
        let arriving = self.flight.peek().map(|first| first.due);
        leaving.into_iter().chain(arriving).min()
    }

    /// Moves on what has left the bottleneck.
    fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
        while let Some((departure, payload)) = self.bottleneck.pop(self.now) {
            self.transmit(departure, payload);
        }
    }

    /// What happens to a packet behind the bottleneck.
    fn transmit(&mut self, at: Time, mut payload: P) {
        if self.spec.blackhole.is_some_and(|blackhole| blackhole.covers(at)) {
            self.stats.dropped_blackhole += 1;
            payload.on_dropped(at, DropReason::Blackhole);
            return;
        }
        let is_lost = self.loss.is_lost(self.spec.loss, self.spec.gilbert_elliott.as_ref());
        let was_lost = std::mem::replace(&mut self.was_lost, is_lost);
        if is_lost {
            self.stats.lost += 1;
            self.stats.loss_bursts += u64::from(!was_lost);
            payload.on_dropped(at, DropReason::Lost);
            return;
        }
        if payload.bytes() > 0 && self.random.corrupt.chance(self.spec.corrupt) {
            let bits = payload.bytes() * 8;
            let bit = self.random.corrupt.below(bits as u64);
            payload.flip_bit(usize::try_from(bit).unwrap_or(0));
            self.stats.corrupted += 1;
        }
        let due = self.due(at);
        if self.random.duplicate.chance(self.spec.duplicate) {
            self.stats.duplicated += 1;
            self.fly(due, payload.clone());
        }
        self.fly(due, payload);
    }

    /// When a packet that has left arrives.
    fn due(&mut self, at: Time) -> Time {
        let LinkSpec { delay, jitter, .. } = self.spec;
        let delay = if jitter == Span::ZERO {
            delay
        } else {
            let range_us = jitter.as_us().saturating_mul(2).saturating_add(1);
            delay + Span::from_us(self.random.jitter.below(range_us)) - jitter
        };
        let due = at + delay;
        if let Some(reorder) = self.spec.reorder
            && self.random.reorder.chance(reorder.probability)
        {
            self.stats.reordered += 1;
            return due + reorder.delay;
        }
        if self.spec.jitter_reorders {
            return due;
        }
        self.latest_due = self.latest_due.max(due);
        self.latest_due
    }

    fn fly(&mut self, due: Time, mut payload: P) {
        let bytes = wire_bytes(&payload);
        if self.flight.len() >= FLIGHT_PACKETS_MAX || self.flight_bytes + bytes > FLIGHT_BYTES_MAX {
            self.stats.dropped_overflow += 1;
            payload.on_dropped(self.now, DropReason::Overflow);
            return;
        }
        self.flight_bytes += bytes;
        self.flight.push(InFlight { due, number: self.next_number, payload });
        self.next_number += 1;
    }
}

/// The earliest is the greatest, so that it is on top of the heap; of equals, the one that left first.
impl<P> Ord for InFlight<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl<P> PartialOrd for InFlight<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> PartialEq for InFlight<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<P> Eq for InFlight<P> {}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
