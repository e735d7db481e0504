//! Networks, drawn.

use netem::{
    Blackhole, Capacity, GilbertElliott, LinkSpec, PRESETS, PathSpec, Policer, Probability, QueueLimit,
    Random, Reorder,
};
use wire::Span;

use crate::draw::Draw;

/// No slower than this, or a world would take too long.
const RATE_BITS_PER_S_MIN: u64 = 300_000;

/// A network with whatever may go wrong; at most one time of its life nothing passes, within `heal_us`.
pub(crate) fn disturbed(random: &mut Random, heal_us: u64) -> PathSpec {
    if random.percent(20) {
        let preset = PRESETS[random.below(PRESETS.len() as u64) as usize];
        return preset.text.parse().expect("a preset is a network");
    }
    let up = link(random, heal_us);
    if random.percent(50) {
        return up.into();
    }
    PathSpec { up, down: link(random, heal_us) }
}

/// The same network when nothing goes wrong any more.
pub(crate) fn healed(path: &PathSpec) -> PathSpec {
    let link = |link: &LinkSpec| LinkSpec {
        delay: link.delay,
        capacity: link.capacity.clone(),
        // A queue of a packet or two loses for ever.
        queue: None,
        ..LinkSpec::default()
    };
    PathSpec { up: link(&path.up), down: link(&path.down) }
}

/// The slower direction's rate.
pub(super) fn slowest_bits_per_s(path: &PathSpec) -> u64 {
    let rate = |link: &LinkSpec| match link.capacity {
        Capacity::BitsPerS(rate) => rate,
        Capacity::Unlimited | Capacity::Trace(_) => u64::MAX,
    };
    rate(&path.up).min(rate(&path.down))
}

fn link(random: &mut Random, heal_us: u64) -> LinkSpec {
    let delay_us = random.scaled_between(50, 150_000);
    let mut link = LinkSpec { delay: Span::from_us(delay_us), ..LinkSpec::default() };
    if random.percent(50) {
        link.jitter = Span::from_us(random.between(1, delay_us));
        link.jitter_reorders = random.percent(30);
    }
    let most_loss = random.pick(&[2, 2, 5, 10, 30]);
    if random.percent(50) {
        link.loss = percent(random.between(1, most_loss * 10), 10);
    }
    if random.percent(35) {
        link.gilbert_elliott = Some(GilbertElliott {
            good_to_bad: percent(random.between(1, 40), 10),
            bad_to_good: percent(random.between(10, 60), 1),
            loss_in_bad: percent(random.between(30, 100), 1),
            loss_in_good: Probability::ZERO,
        });
    }
    if random.percent(25) {
        let delay = Span::from_us(random.between(100, delay_us + 20_000));
        link.reorder = Some(Reorder { probability: percent(random.between(1, 100), 10), delay });
    }
    if random.percent(25) {
        link.duplicate = percent(random.between(1, 200), 10);
    }
    if random.percent(20) {
        link.corrupt = percent(random.between(1, 100), 10);
    }
    capacity(random, &mut link);
    if random.percent(15) {
        let after = random.below(heal_us);
        let length = random.between(1_000, heal_us - after + 1_000);
        link.blackhole =
            Some(Blackhole { after: Span::from_us(after), length: Span::from_us(length), every: None });
    }
    link
}

fn capacity(random: &mut Random, link: &mut LinkSpec) {
    if random.percent(40) {
        link.capacity = Capacity::BitsPerS(random.scaled_between(RATE_BITS_PER_S_MIN, 100_000_000));
        link.queue = match random.below(4) {
            0 => None,
            1 => Some(QueueLimit::Packets(random.scaled_between(2, 200))),
            _ => Some(QueueLimit::Bytes(random.scaled_between(4_000, 500_000))),
        };
    }
    if random.percent(10) {
        link.policer = Some(Policer {
            bits_per_s: random.scaled_between(RATE_BITS_PER_S_MIN, 20_000_000),
            burst_bytes: random.scaled_between(4_000, 64_000),
        });
    }
}

fn percent(tenths: u64, of: u64) -> Probability {
    Probability::new(tenths as f64 / (100 * of) as f64).expect("under one")
}
