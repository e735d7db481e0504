//! A queue, and what empties it.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::Time;

use crate::payload::{Payload, wire_bytes};
use crate::trace::TracePlayer;
use crate::{Capacity, LinkSpec, QueueLimit};

/// What a queue can be told to hold at most.
pub const QUEUE_BYTES_MAX: u64 = 256_000_000;
/// A queue without a limit of its own holds what passes in so many milliseconds…
const QUEUE_DEFAULT_MS: u64 = 100;
/// … and no less than this.
const QUEUE_DEFAULT_BYTES_MIN: u64 = 64_000;
/// What a queue that is limited in packets may hold at most, so that it is limited in bytes too.
pub(crate) const QUEUE_PACKETS_MAX: u64 = 100_000;

const _: () = assert!(QUEUE_DEFAULT_BYTES_MIN < QUEUE_BYTES_MAX);

/// Packets that wait, first in first out, and the instant at which the first has left.
#[derive(Clone, Debug)]
pub(crate) struct Bottleneck<P> {
    server: Server,
    limit: QueueLimit,
    queue: VecDeque<P>,
    queue_bytes: u64,
    /// When the first of the queue has left.
    departure: Time,
}

#[derive(Clone, Debug)]
enum Server {
    Unlimited,
    Rate(RateServer),
    Trace(TracePlayer),
}

/// Sends at a fixed rate, without losing fractions of a nanosecond.
#[derive(Clone, Debug)]
struct RateServer {
    bits_per_s: u64,
    /// When the last packet had left.
    free_ns: u64,
    /// Fraction of a nanosecond after that, over the rate.
    remainder: u128,
}

impl RateServer {
    fn serve(&mut self, start: Time, bytes: u64) -> Time {
        let start_ns = start.as_us().saturating_mul(1_000);
        if start_ns > self.free_ns {
            (self.free_ns, self.remainder) = (start_ns, 0);
        }
        let rate = u128::from(self.bits_per_s.max(1));
        let work = u128::from(bytes) * 8 * 1_000_000_000 + self.remainder;
        self.free_ns = self.free_ns.saturating_add(u64::try_from(work / rate).unwrap_or(u64::MAX));
        self.remainder = work % rate;
        Time::from_us(self.free_ns.div_ceil(1_000))
    }
}

impl<P: Payload> Bottleneck<P> {
    pub(crate) fn new(spec: &LinkSpec) -> Self {
        Self {
            server: Server::new(&spec.capacity),
            limit: limit_of(spec),
            queue: VecDeque::new(),
            queue_bytes: 0,
            departure: Time::ZERO,
        }
    }

    /// Another capacity or limit. What waits goes on waiting, and the packet that is leaving leaves at its instant,
    /// except that nothing holds it any more when there is no bottleneck any more.
    pub(crate) fn change(&mut self, now: Time, spec: &LinkSpec) {
        self.limit = limit_of(spec);
        if !self.server.is(&spec.capacity) {
            self.server = Server::new(&spec.capacity);
            if matches!(self.server, Server::Unlimited) {
                self.departure = self.departure.min(now);
            }
        }
    }

    pub(crate) fn queue_bytes(&self) -> u64 {
        self.queue_bytes
    }

    pub(crate) fn queue_packets(&self) -> usize {
        self.queue.len()
    }

    /// Takes a packet, or gives it back because the queue is full.
    pub(crate) fn push(&mut self, now: Time, payload: P) -> Result<(), P> {
        let bytes = wire_bytes(&payload);
        let is_full = match self.limit {
            QueueLimit::Bytes(limit) => self.queue_bytes + bytes > limit,
            QueueLimit::Packets(limit) => self.queue.len() as u64 >= limit,
        };
        if self.queue.is_empty() {
            self.departure = self.server.serve(now, bytes);
        } else if is_full {
            return Err(payload);
        }
        self.queue_bytes += bytes;
        self.queue.push_back(payload);
        Ok(())
    }

    /// When the first packet has left.
    pub(crate) fn departure(&self) -> Option<Time> {
        (!self.queue.is_empty()).then_some(self.departure)
    }

    /// The first packet, if it has left by `now`, and when it did.
    pub(crate) fn pop(&mut self, now: Time) -> Option<(Time, P)> {
        let departure = self.departure().filter(|&departure| departure <= now)?;
        let payload = self.queue.pop_front()?;
        self.queue_bytes -= wire_bytes(&payload);
        if let Some(next) = self.queue.front() {
            self.departure = self.server.serve(departure, wire_bytes(next));
        }
        Some((departure, payload))
    }
}

impl Server {
    fn new(capacity: &Capacity) -> Self {
        match capacity {
            Capacity::Unlimited => Self::Unlimited,
            Capacity::BitsPerS(bits_per_s) => {
                Self::Rate(RateServer { bits_per_s: *bits_per_s, free_ns: 0, remainder: 0 })
            }
            Capacity::Trace(trace) => Self::Trace(TracePlayer::new(Arc::clone(trace))),
        }
    }

    fn is(&self, capacity: &Capacity) -> bool {
        match (self, capacity) {
            (Self::Unlimited, Capacity::Unlimited) => true,
            (Self::Rate(rate), Capacity::BitsPerS(bits_per_s)) => rate.bits_per_s == *bits_per_s,
            (Self::Trace(player), Capacity::Trace(trace)) => player.trace() == trace,
            _ => false,
        }
    }

    fn serve(&mut self, start: Time, bytes: u64) -> Time {
        match self {
            Self::Unlimited => start,
            Self::Rate(rate) => rate.serve(start, bytes),
            Self::Trace(player) => player.serve(start, bytes),
        }
    }
}

fn limit_of(spec: &LinkSpec) -> QueueLimit {
    let bits_per_s = match &spec.capacity {
        Capacity::Unlimited => u64::MAX,
        Capacity::BitsPerS(bits_per_s) => *bits_per_s,
        Capacity::Trace(trace) => trace.mean_bits_per_s(),
    };
    let default = bits_per_s / 8 / 1_000 * QUEUE_DEFAULT_MS;
    match spec.queue {
        None => QueueLimit::Bytes(default.clamp(QUEUE_DEFAULT_BYTES_MIN, QUEUE_BYTES_MAX)),
        Some(QueueLimit::Bytes(bytes)) => QueueLimit::Bytes(bytes.min(QUEUE_BYTES_MAX)),
        Some(QueueLimit::Packets(packets)) => QueueLimit::Packets(packets.min(QUEUE_PACKETS_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_a_nanosecond_are_lost() {
        // A third of a nanosecond is left over by each packet of a byte at 24 Gbit/s: 8 bits take 1/3 ns.
        let mut server = RateServer { bits_per_s: 24_000_000_000, free_ns: 0, remainder: 0 };
        let mut last = Time::ZERO;
        for _ in 0..3_000_000 {
            last = server.serve(Time::ZERO, 1);
        }
        assert_eq!(last, Time::from_us(1_000));
    }

    #[test]
    fn a_queue_takes_more_than_its_limit_or_refuses_a_packet_when_empty() {
        let spec = LinkSpec {
            capacity: Capacity::BitsPerS(8_000),
            queue: Some(QueueLimit::Packets(2)),
            ..LinkSpec::default()
        };
        let mut bottleneck = Bottleneck::new(&spec);
        let taken = (0..5).filter(|_| bottleneck.push(Time::ZERO, vec![0; 100]).is_ok()).count();
        assert_eq!(taken, 2);
        let tight = LinkSpec { queue: Some(QueueLimit::Bytes(1)), ..spec };
        let mut bottleneck = Bottleneck::new(&tight);
        let taken = (0..5).filter(|_| bottleneck.push(Time::ZERO, vec![0; 100]).is_ok()).count();
        assert_eq!(taken, 1);
    }

    #[test]
    fn what_waits_is_lost_or_stays_for_ever_when_the_bottleneck_goes() {
        let slow = LinkSpec { capacity: Capacity::BitsPerS(8), ..LinkSpec::default() };
        let mut bottleneck = Bottleneck::new(&slow);
        for _ in 0..3 {
            bottleneck.push(Time::ZERO, vec![0; 100]).expect("room");
        }
        let now = Time::from_us(10);
        assert!(bottleneck.pop(now).is_none());
        bottleneck.change(now, &LinkSpec::default());
        assert_eq!(std::iter::from_fn(|| bottleneck.pop(now)).count(), 3);
    }
}
