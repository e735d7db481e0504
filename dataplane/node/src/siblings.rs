//! The lanes of a shard to its siblings and from them: rings, their limits, and the doorbells that wake who sleeps.

use std::collections::VecDeque;

use quantum::Now;
use rings::spsc::{self, Consumer, Producer};
use rt::Doorbell;
use shard::{LaneMessage, Probe, Shard};
use wal::AlignedBuffer;

/// Slots of a lane. Memory that no message has lain in is not resident.
const LANE_SLOTS: usize = 1_024;
/// Bytes in one lane of messages too long for a slot; one may go beyond.
const LANE_BOXED_BYTES_MAX: usize = 16 << 20;
/// Messages taken from one sibling in a turn at the most.
const LANE_MESSAGES_PER_TURN: usize = 256;

const _: () = assert!(LANE_BOXED_BYTES_MAX > wire::limits::MESSAGE_BYTES_MAX);
const _: () = assert!(LANE_MESSAGES_PER_TURN <= LANE_SLOTS);

/// The lanes to one sibling and from it.
pub(crate) struct Sibling {
    shard: u32,
    out: Outgoing,
    from: Consumer<LaneMessage>,
    /// Its own; known once it runs.
    doorbell: Option<Doorbell>,
}

/// The lane to a sibling, with what its messages hold beside their slots.
struct Outgoing {
    ring: Producer<LaneMessage>,
    /// Messages put in so far.
    pushed: u64,
    /// Those that were too long for a slot, by their place among all, and their bytes.
    boxed: VecDeque<(u64, usize)>,
    boxed_bytes: usize,
}

/// All siblings of one shard.
#[derive(Default)]
pub(crate) struct Siblings(Vec<Sibling>);

/// The lanes between so many shards: for each, those to its siblings.
pub(crate) fn mesh(shards: usize) -> Vec<Siblings> {
    let mut all: Vec<Vec<Sibling>> = (0..shards).map(|_| Vec::with_capacity(shards)).collect();
    for one in 0..shards {
        for other in one + 1..shards {
            let (to_other, from_one) = spsc::channel(LANE_SLOTS);
            let (to_one, from_other) = spsc::channel(LANE_SLOTS);
            all[one].push(Sibling::new(other as u32, to_other, from_other));
            all[other].push(Sibling::new(one as u32, to_one, from_one));
        }
    }
    all.into_iter().map(Siblings).collect()
}

impl Sibling {
    fn new(shard: u32, ring: Producer<LaneMessage>, from: Consumer<LaneMessage>) -> Self {
        let out = Outgoing { ring, pushed: 0, boxed: VecDeque::new(), boxed_bytes: 0 };
        Self { shard, out, from, doorbell: None }
    }

    fn ring(&self) {
        if let Some(doorbell) = &self.doorbell {
            doorbell.ring();
        }
    }
}

impl Outgoing {
    /// Whether the lane takes a message. What its reader has taken out holds nothing any more.
    fn has_room(&mut self) -> bool {
        if !self.boxed.is_empty() {
            let taken = self.pushed - self.ring.len() as u64;
            while let Some((_, bytes)) = self.boxed.pop_front_if(|(place, _)| *place < taken) {
                self.boxed_bytes -= bytes;
            }
        }
        self.boxed_bytes < LANE_BOXED_BYTES_MAX && self.ring.has_room()
    }

    /// Puts in what `next` gives, as long as there is room. Returns how many.
    fn push(&mut self, mut next: impl FnMut() -> Option<LaneMessage>) -> usize {
        if !self.has_room() {
            return 0;
        }
        let Self { ring, pushed, boxed, boxed_bytes } = self;
        ring.push_batch(|| {
            if *boxed_bytes >= LANE_BOXED_BYTES_MAX {
                return None;
            }
            let message = next()?;
            let bytes = message.boxed_bytes();
            if bytes > 0 {
                boxed.push_back((*pushed, bytes));
                *boxed_bytes += bytes;
            }
            *pushed += 1;
            Some(message)
        })
    }
}

impl Siblings {
    /// Everybody's doorbells, by shard.
    pub(crate) fn with_doorbells(mut self, doorbells: &[Doorbell]) -> Self {
        for sibling in &mut self.0 {
            sibling.doorbell = doorbells.get(sibling.shard as usize).cloned();
        }
        self
    }

    /// Takes in what siblings sent; false: nothing.
    pub(crate) fn take_in<B: AlignedBuffer, P: Probe>(&mut self, now: Now, shard: &mut Shard<B, P>) -> bool {
        let mut any = false;
        for sibling in &mut self.0 {
            let from = sibling.shard;
            let take = |message| shard.handle_lane_message(now, from, message);
            if sibling.from.pop_batch(LANE_MESSAGES_PER_TURN, take) > 0 {
                // It may sleep because the lane was full.
                sibling.ring();
                any = true;
            }
        }
        if any {
            shard.finish_lane_messages(now);
        }
        any
    }

    /// Sends what waits for siblings, as far as there is room; false: nothing.
    pub(crate) fn put_out<B: AlignedBuffer, P: Probe>(&mut self, now: Now, shard: &mut Shard<B, P>) -> bool {
        let mut any = false;
        for sibling in &mut self.0 {
            let to = sibling.shard;
            if shard.has_lane_message(to) && sibling.out.push(|| shard.poll_lane_message(now, to)) > 0 {
                sibling.ring();
                any = true;
            }
        }
        any
    }

    /// Whether there is nothing to take in, and no room for what waits to go out. A shard that is about to sleep asks:
    /// siblings ring its doorbell when either changes.
    pub(crate) fn is_idle<B: AlignedBuffer, P: Probe>(&mut self, shard: &Shard<B, P>) -> bool {
        self.0.iter_mut().all(|sibling| {
            sibling.from.is_empty() && !(shard.has_lane_message(sibling.shard) && sibling.out.has_room())
        })
    }
}
