//! What a link does to its packets, in values that cannot be wrong.

use std::sync::Arc;

use wire::{Span, Time};

use crate::{CapacityTrace, GilbertElliott, Probability};

/// One direction. The default is a perfect link: nothing is lost, nothing takes time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LinkSpec {
    /// One way.
    pub delay: Span,
    /// A packet takes the delay give or take up to so much, uniformly; never less than nothing.
    pub jitter: Span,
    /// Whether jitter lets packets overtake each other. Real paths seldom do: without it a packet waits for the one
    /// before it.
    pub jitter_reorders: bool,
    /// Each packet by itself.
    pub loss: Probability,
    /// In bursts, besides.
    pub gilbert_elliott: Option<GilbertElliott>,
    /// Some packets are held back, and overtaken.
    pub reorder: Option<Reorder>,
    /// Some packets come twice.
    pub duplicate: Probability,
    /// Some packets come with one bit flipped, unseen by any checksum.
    pub corrupt: Probability,
    /// How much goes through.
    pub capacity: Capacity,
    /// What waits for the bottleneck at most; without one, what it passes in 100 ms, and no less than 64,000 bytes.
    pub queue: Option<QueueLimit>,
    /// Drops what exceeds a rate.
    pub policer: Option<Policer>,
    /// Times at which nothing passes.
    pub blackhole: Option<Blackhole>,
}

/// How much goes through a bottleneck.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Capacity {
    /// There is none.
    #[default]
    Unlimited,
    /// Bits a second, headers of IP and UDP included; more than 0.
    BitsPerS(u64),
    /// It changes over time.
    Trace(Arc<CapacityTrace>),
}

/// What waits for the bottleneck at most, the packet that is leaving included. An empty queue takes any packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueLimit {
    /// Headers of IP and UDP included.
    Bytes(u64),
    /// However long each is.
    Packets(u64),
}

/// Packets held back so that others overtake them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reorder {
    /// Of a packet being held back.
    pub probability: Probability,
    /// How much longer it takes.
    pub delay: Span,
}

/// A token bucket that drops what finds too few tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policer {
    /// It fills at so many bits a second; more than 0.
    pub bits_per_s: u64,
    /// It holds so many bytes, headers of IP and UDP included; it begins full.
    pub burst_bytes: u64,
}

/// Times at which the medium is down: what would leave, is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blackhole {
    /// It begins so long after the instant 0.
    pub after: Span,
    /// It lasts so long.
    pub length: Span,
    /// It comes again so long after it began; longer than `length`. Without, it comes once.
    pub every: Option<Span>,
}

impl Blackhole {
    /// Whether the medium is down.
    #[must_use]
    pub fn covers(&self, at: Time) -> bool {
        let Some(since_us) = at.as_us().checked_sub(self.after.as_us()) else {
            return false;
        };
        let within_us = match self.every {
            Some(every) if every > Span::ZERO => since_us % every.as_us(),
            _ => since_us,
        };
        within_us < self.length.as_us()
    }
}

/// Both directions.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PathSpec {
    /// From the client to the server.
    pub up: LinkSpec,
    /// From the server to the client.
    pub down: LinkSpec,
}

/// The same both ways.
impl From<LinkSpec> for PathSpec {
    fn from(link: LinkSpec) -> Self {
        Self { up: link.clone(), down: link }
    }
}

impl From<&LinkSpec> for PathSpec {
    fn from(link: &LinkSpec) -> Self {
        link.clone().into()
    }
}

impl From<&Self> for PathSpec {
    fn from(path: &Self) -> Self {
        path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blackhole_comes_at_other_times_than_it_should() {
        let at = |blackhole: Blackhole, ms: u64| blackhole.covers(Time::from_us(ms * 1_000));
        let once = Blackhole { after: Span::from_ms(5), length: Span::from_ms(2), every: None };
        assert_eq!([4, 5, 6, 7, 15].map(|ms| at(once, ms)), [false, true, true, false, false]);
        let again = Blackhole { every: Some(Span::from_ms(10)), ..once };
        assert_eq!([4, 5, 6, 7, 15, 17].map(|ms| at(again, ms)), [false, true, true, false, true, false]);
    }
}
