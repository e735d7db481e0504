//! One timer for each connection of an endpoint: a binary heap that knows where each slot's entry lies, so
//! that no stale entries gather.

use wire::Time;

const NOWHERE: u32 = u32::MAX;

/// The earliest timer first; at most one for each slot.
#[derive(Default, Debug)]
pub(crate) struct TimerHeap {
    entries: Vec<(Time, u32)>,
    /// Where in `entries` each slot's timer is.
    positions: Vec<u32>,
}

impl TimerHeap {
    /// The earliest timer and its slot.
    pub(crate) fn peek(&self) -> Option<(Time, usize)> {
        self.entries.first().map(|&(at, slot)| (at, slot as usize))
    }

    /// Makes the slot's timer fire no later than `at`. One that is set earlier is left: it will be found not
    /// to be due, which is cheaper than moving it with every packet.
    pub(crate) fn set_at_latest(&mut self, slot: usize, at: Time) {
        if self.positions.len() <= slot {
            self.positions.resize(slot + 1, NOWHERE);
        }
        let mut index = self.positions[slot] as usize;
        if self.positions[slot] == NOWHERE {
            index = self.entries.len();
            self.entries.push((at, slot as u32));
        } else if at < self.entries[index].0 {
            self.entries[index].0 = at;
        } else {
            return;
        }
        self.sift_up(index);
    }

    /// A slot whose timer is among the next.
    pub(crate) fn second(&self) -> Option<usize> {
        self.entries.get(1).map(|&(_, slot)| slot as usize)
    }

    /// Moves the slot's timer, if it has one, to `at`, which is no earlier than it was.
    pub(crate) fn postpone(&mut self, slot: usize, at: Time) {
        let Some(index) = self.positions.get(slot).filter(|&&at| at != NOWHERE).map(|&at| at as usize) else {
            return;
        };
        debug_assert!(self.entries[index].0 <= at);
        self.entries[index].0 = at;
        self.sift_down(index);
    }

    /// Forgets the slot's timer.
    pub(crate) fn remove(&mut self, slot: usize) {
        let Some(index) = self.positions.get(slot).filter(|&&at| at != NOWHERE).map(|&at| at as usize) else {
            return;
        };
        self.positions[slot] = NOWHERE;
        self.entries.swap_remove(index);
        if index < self.entries.len() {
            let index = self.sift_up(index);
            self.sift_down(index);
        }
    }

    fn sift_up(&mut self, mut index: usize) -> usize {
        let entry = self.entries[index];
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.entries[parent] <= entry {
                break;
            }
            self.place(index, self.entries[parent]);
            index = parent;
        }
        self.place(index, entry);
        index
    }

    fn sift_down(&mut self, mut index: usize) {
        let entry = self.entries[index];
        loop {
            let left = 2 * index + 1;
            let Some(least) =
                (left..self.entries.len().min(left + 2)).min_by_key(|&child| self.entries[child])
            else {
                break;
            };
            if entry <= self.entries[least] {
                break;
            }
            self.place(index, self.entries[least]);
            index = least;
        }
        self.place(index, entry);
    }

    fn place(&mut self, index: usize, entry: (Time, u32)) {
        self.entries[index] = entry;
        self.positions[entry.1 as usize] = index as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn timers_fire_out_of_order_or_for_the_wrong_slot(steps in prop::collection::vec((0_usize..12, prop::option::of(0_u64..100)), 1..200)) {
            let mut heap = TimerHeap::default();
            let mut model = BTreeMap::new();
            for (slot, at) in steps {
                match at.map(Time::from_us) {
                    Some(at) if model.get(&slot).is_some_and(|held| *held < at) => {
                        heap.set_at_latest(slot, at);
                        prop_assert_eq!(heap.peek(), model.iter().map(|(&slot, &at)| (at, slot)).min());
                        heap.postpone(slot, at);
                        model.insert(slot, at);
                    }
                    Some(at) => {
                        heap.set_at_latest(slot, at);
                        let held = model.entry(slot).or_insert(at);
                        *held = at.min(*held);
                    }
                    None => {
                        heap.remove(slot);
                        model.remove(&slot);
                    }
                }
                let earliest = model.iter().map(|(&slot, &at)| (at, slot)).min();
                prop_assert_eq!(heap.peek(), earliest);
            }
        }
    }
}
