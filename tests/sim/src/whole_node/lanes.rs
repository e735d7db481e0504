//! The rings between the shards of a node: in order, without loss, with a bound, and never at once.

use std::collections::VecDeque;

use netem::Random;
use shard::LaneMessage;
use wire::{Span, Time};

use super::World;
use crate::draw::Draw;

/// A message is under way for so long at most, microseconds.
const LATENCY_US_MAX: u64 = 200;
/// Slots of a lane.
const SLOTS: [usize; 4] = [1, 4, 64, 1_024];

/// All of them, by sender and receiver.
pub(super) struct Lanes {
    shards: usize,
    slots: usize,
    lanes: Vec<VecDeque<(Time, LaneMessage)>>,
}

impl Lanes {
    pub(super) fn new(shards: usize, random: &mut Random) -> Self {
        let lanes = (0..shards * shards).map(|_| VecDeque::new()).collect();
        Self { shards, slots: random.pick(&SLOTS), lanes }
    }

    /// When the next message comes out.
    pub(super) fn wake(&self) -> Option<Time> {
        self.lanes.iter().filter_map(|lane| lane.front()).map(|(due, _)| *due).min()
    }

    /// The node is gone, with all that was in its memory.
    pub(super) fn clear(&mut self) {
        self.lanes.iter_mut().for_each(VecDeque::clear);
    }

    fn lane(&mut self, from: usize, to: usize) -> &mut VecDeque<(Time, LaneMessage)> {
        &mut self.lanes[from * self.shards + to]
    }
}

impl World {
    /// Hands the shards what their siblings have sent.
    pub(super) fn carry_lanes(&mut self) {
        let now = self.node_now();
        let shards = self.plan.shards;
        let Some(hosts) = &mut self.node.shards else { return };
        for (to, host) in hosts.iter_mut().enumerate() {
            let mut any = false;
            for from in 0..shards {
                let lane = self.node.lanes.lane(from, to);
                while lane.front().is_some_and(|(due, _)| *due <= now.mono) {
                    let Some((_, message)) = lane.pop_front() else { break };
                    host.shard.handle_lane_message(now, from as u32, message);
                    any = true;
                }
            }
            if any {
                host.shard.finish_lane_messages(now);
                host.is_touched = true;
            }
        }
        // There may be room again for what waits.
        for (from, host) in hosts.iter_mut().enumerate() {
            host.is_touched |= (0..shards).any(|to| to != from && host.shard.has_lane_message(to as u32));
        }
    }

    /// Takes from a shard what it has for its siblings.
    pub(super) fn fill_lanes(&mut self, from: usize) {
        let now = self.node_now();
        let Some(hosts) = &mut self.node.shards else { return };
        for to in (0..self.plan.shards).filter(|to| *to != from) {
            let slots = self.node.lanes.slots;
            let lane = self.node.lanes.lane(from, to);
            while lane.len() < slots {
                let Some(message) = hosts[from].shard.poll_lane_message(now, to as u32) else { break };
                let due = now.mono + Span::from_us(self.random.between(1, LATENCY_US_MAX));
                let due = lane.back().map_or(due, |(last, _)| due.max(*last));
                self.counts.lane_messages += 1;
                lane.push_back((due, message));
            }
            self.counts.lanes_full += u64::from(lane.len() >= slots);
        }
    }
}
