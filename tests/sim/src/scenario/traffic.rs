//! What applications say, drawn.

use netem::{Direction, Random};
use wire::Span;
use wire::channel::{Channel, ChannelKind};

use super::{Appetite, AttemptPlan, ClientPlan, Ending, Flow};
use crate::content::INDEX_BYTES;
use crate::draw::Draw;

/// Messages of one flow at most.
const MESSAGES_MAX: u64 = 150;
/// The largest message of an ordinary flow.
const SMALL_BYTES_MAX: u64 = 4_000;
/// Bytes of a flow of large messages, about.
const LARGE_FLOW_BYTES: u64 = 400_000;
/// What a packet holds on the unreliable channel at the least.
const UNRELIABLE_BYTES_MAX: u64 = 1_000;

/// A graceful end takes so long at most.
const FINISH_US_MAX: u64 = 10_000_000;

/// How much there is to be said.
#[derive(Clone, Copy)]
pub(super) struct Volume {
    /// Messages of one flow at most.
    pub(super) messages_max: u64,
    /// The largest message that is taken.
    pub(super) bytes_max: u64,
    /// In which the flows begin.
    pub(super) span_us: u64,
}

impl Volume {
    pub(super) fn of(clients: u64, bytes_max: u64, span_us: u64) -> Self {
        Self { messages_max: (MESSAGES_MAX / clients).max(3), bytes_max, span_us }
    }
}

pub(super) fn client(random: &mut Random, volume: Volume) -> ClientPlan {
    let start_us = if random.percent(60) { 0 } else { random.below(volume.span_us) };
    let attempts = if random.percent(80) { 1 } else { random.between(2, 4) };
    ClientPlan {
        start: wire::Time::from_us(start_us),
        clock: Span::from_us(random.below(1 << 33)),
        attempts: (0..attempts).map(|number| attempt(random, volume, number + 1 == attempts)).collect(),
    }
}

fn attempt(random: &mut Random, volume: Volume, is_last: bool) -> AttemptPlan {
    let flows = random.between(1, 4);
    let ending = (!is_last || random.percent(15)).then(|| {
        let after = Span::from_us(random.between(0, volume.span_us));
        let patience = Span::from_us(random.scaled_between(1_000, FINISH_US_MAX));
        let ending = random.pick(&[
            Ending::ClientCloses,
            Ending::NodeCloses,
            Ending::ClientFinishes(patience),
            Ending::NodeFinishes(patience),
            Ending::ClientVanishes,
        ]);
        (after, ending)
    });
    AttemptPlan {
        flows: (0..flows).map(|_| flow(random, volume)).collect(),
        ending,
        client_appetite: appetite(random),
        node_appetite: appetite(random),
    }
}

fn appetite(random: &mut Random) -> Appetite {
    if random.percent(80) {
        return Appetite::AtOnce;
    }
    Appetite::Slow {
        every: Span::from_us(random.scaled_between(200, 50_000)),
        bytes: random.scaled_between(500, 100_000) as usize,
    }
}

fn flow(random: &mut Random, volume: Volume) -> Flow {
    let channel = random.pick(&Channel::ALL);
    let direction = random.pick(&[Direction::Up, Direction::Up, Direction::Down]);
    let is_large = channel.is_reliable() && volume.bytes_max > SMALL_BYTES_MAX && random.percent(8);
    // Where there is no order, a message must tell its index.
    let least = if channel.kind() == ChannelKind::ReliableOrdered { 0 } else { INDEX_BYTES as u64 };
    let (bytes_min, bytes_max) = if !channel.is_reliable() {
        (least, random.scaled_between(8, UNRELIABLE_BYTES_MAX))
    } else if is_large {
        (least, random.scaled_between(SMALL_BYTES_MAX, volume.bytes_max.min(LARGE_FLOW_BYTES)))
    } else {
        (least, random.scaled_between(1, SMALL_BYTES_MAX.min(volume.bytes_max)))
    };
    let affordable = (LARGE_FLOW_BYTES / bytes_max.max(1)).clamp(1, volume.messages_max);
    let messages = random.scaled_between(1, affordable);
    let burst = if random.percent(60) { 1 } else { random.between(1, messages.min(30)) };
    let ticks = messages.div_ceil(burst);
    Flow {
        direction,
        channel,
        start: Span::from_us(if random.percent(50) { 0 } else { random.below(volume.span_us) }),
        interval: Span::from_us(random.scaled_between(100, (volume.span_us / ticks).max(200))),
        ticks: ticks as u32,
        burst: burst as u32,
        bytes_min: bytes_min as usize,
        bytes_max: bytes_max.max(bytes_min) as usize,
        cancelled: if random.percent(15) { random.between(1, 60) } else { 0 },
        deadline: (channel.kind() != ChannelKind::ReliableOrdered && random.percent(30))
            .then(|| Span::from_us(random.scaled_between(100, 200_000))),
        keys: random.between(1, 5),
    }
}
