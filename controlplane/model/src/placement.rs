//! The placement planner: from the map that is, and the nodes that are, to the map that should be.
//!
//! Deterministic, so that two control planes that see the same state plan the same map. On one node with n
//! shards a fresh plan gives partition p to shard p modulo n.

use crate::cluster::{MapNode, PartitionMap, PartitionOwner};

/// How far a plan may go to spread the load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moves {
    /// A partition that has an owner stays on its node: its log is there.
    None,
    /// The fewest moves that leave no shard with two partitions more than another.
    Fewest,
}

/// A shard that can own partitions: index of its node, and its number.
type Slot = (u32, u32);

/// Plans the map for `nodes`. Nodes keep their index and new ones go behind; a node that is missing from
/// `nodes` is out of the plan. Without nodes the map stays as it is. The revision grows when anything changed, an epoch when its owner did. A node
/// that came back with another number of shards deals its own partitions out again.
#[must_use]
pub fn plan(current: &PartitionMap, nodes: &[MapNode], moves: Moves) -> PartitionMap {
    let mut next = PartitionMap { nodes: merge_nodes(&current.nodes, nodes), ..current.clone() };
    let mut slots: Vec<Slot> = Vec::new();
    for (index, node) in next.nodes.iter().enumerate() {
        if nodes.iter().any(|present| present.node_id == node.node_id) {
            slots.extend((0..node.shards).map(|shard| (index as u32, shard)));
        }
    }
    if slots.is_empty() {
        return current.clone();
    }
    let mut places = kept_places(current, &next.nodes, &slots);
    if moves == Moves::Fewest {
        take_excess(&mut places, &slots);
    }
    fill(&mut places, &slots);
    let own = |(partition, place): (usize, &Option<Slot>)| {
        let (node, shard) = place.expect("filled");
        let epoch = match current.owners.get(partition) {
            Some(owner) if (owner.node, owner.shard) == (node, shard) => owner.epoch,
            Some(owner) => owner.epoch + 1,
            None => 1,
        };
        PartitionOwner { node, shard, epoch }
    };
    next.owners = places.iter().enumerate().map(own).collect();
    if next != *current {
        next.revision += 1;
    }
    debug_assert!(next.is_sound());
    next
}

fn merge_nodes(current: &[MapNode], nodes: &[MapNode]) -> Vec<MapNode> {
    let mut merged = current.to_vec();
    for node in nodes {
        match merged.iter_mut().find(|held| held.node_id == node.node_id) {
            Some(held) => held.clone_from(node),
            None => merged.push(node.clone()),
        }
    }
    merged
}

/// Where each partition is now, `None` where that is no more.
fn kept_places(current: &PartitionMap, nodes: &[MapNode], slots: &[Slot]) -> Vec<Option<Slot>> {
    let mut dealt = vec![0_u32; nodes.len()];
    let keep = |partition: usize| {
        let owner = current.owners.get(partition)?;
        let index = owner.node as usize;
        let shards = nodes[index].shards;
        if !slots.contains(&(owner.node, 0)) {
            return None;
        }
        if current.nodes[index].shards == shards {
            return Some((owner.node, owner.shard));
        }
        let shard = dealt[index] % shards;
        dealt[index] += 1;
        Some((owner.node, shard))
    };
    (0..current.partition_count as usize).map(keep).collect()
}

fn position(slots: &[Slot], slot: Slot) -> usize {
    slots.binary_search(&slot).expect("a kept place is a slot")
}

/// Takes from each slot what it holds above its even share.
fn take_excess(places: &mut [Option<Slot>], slots: &[Slot]) {
    let share = places.len() / slots.len();
    let mut larger_shares = places.len() % slots.len();
    let mut held = vec![0; slots.len()];
    for slot in places.iter().flatten() {
        held[position(slots, *slot)] += 1;
    }
    let mut allowed = vec![share; slots.len()];
    for (allowed, held) in allowed.iter_mut().zip(&held) {
        if *held > share && larger_shares > 0 {
            *allowed += 1;
            larger_shares -= 1;
        }
    }
    for place in places.iter_mut() {
        let Some(slot) = *place else { continue };
        match &mut allowed[position(slots, slot)] {
            0 => *place = None,
            left => *left -= 1,
        }
    }
}

/// Gives each partition without a place to the slot that holds the fewest, the first of several.
fn fill(places: &mut [Option<Slot>], slots: &[Slot]) {
    let mut held = vec![0_u32; slots.len()];
    for slot in places.iter().flatten() {
        held[position(slots, *slot)] += 1;
    }
    for place in places.iter_mut().filter(|place| place.is_none()) {
        let least = (0..slots.len()).min_by_key(|&at| held[at]).expect("there is a slot");
        held[least] += 1;
        *place = Some(slots[least]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn node(id: usize, shards: u32) -> MapNode {
        MapNode { node_id: format!("n{id}"), quantum_address: format!("h{id}:1"), shards }
    }

    fn load(map: &PartitionMap) -> BTreeMap<Slot, usize> {
        let mut load = BTreeMap::new();
        for owner in &map.owners {
            *load.entry((owner.node, owner.shard)).or_default() += 1;
        }
        load
    }

    fn moved(from: &PartitionMap, to: &PartitionMap) -> usize {
        let differs = |(a, b): &(&PartitionOwner, &PartitionOwner)| (a.node, a.shard) != (b.node, b.shard);
        from.owners.iter().zip(&to.owners).filter(differs).count()
    }

    #[test]
    fn a_single_node_does_not_own_partition_p_on_shard_p_modulo_n() {
        for shards in [1, 2, 3, 7] {
            let map = plan(&PartitionMap::empty(256), &[node(0, shards)], Moves::None);
            for (partition, owner) in map.owners.iter().enumerate() {
                assert_eq!(*owner, PartitionOwner { node: 0, shard: partition as u32 % shards, epoch: 1 });
            }
            let again = plan(&map, &[node(0, shards + 1)], Moves::None);
            for (partition, owner) in again.owners.iter().enumerate() {
                assert_eq!(owner.shard, partition as u32 % (shards + 1));
                assert!(owner.epoch == 1 || owner.shard != map.owners[partition].shard);
            }
        }
    }

    #[test]
    fn a_partition_leaves_the_node_that_has_its_log() {
        let one = plan(&PartitionMap::empty(64), &[node(0, 2)], Moves::None);
        let two = plan(&one, &[node(0, 2), node(1, 2)], Moves::None);
        assert_eq!(one.owners, two.owners);
        assert_eq!(two.revision, one.revision + 1);
        assert_eq!(plan(&two, &[node(0, 2), node(1, 2)], Moves::None), two);
    }

    #[test]
    fn epochs_begin_again_when_the_last_node_goes() {
        let one = plan(&PartitionMap::empty(64), &[node(0, 2)], Moves::None);
        assert_eq!(plan(&one, &[], Moves::Fewest), one);
    }

    proptest! {
        #[test]
        fn a_plan_is_uneven_or_moves_more_than_it_must(
            partitions in 1_u32..600,
            before in prop::collection::vec(1_u32..9, 1..6),
            after in prop::collection::vec((any::<bool>(), 1_u32..9), 0..4),
        ) {
            let first: Vec<_> = before.iter().enumerate().map(|(id, &shards)| node(id, shards)).collect();
            let from = plan(&PartitionMap::empty(partitions), &first, Moves::Fewest);
            let mut second = first.clone();
            for (at, (remove, shards)) in after.iter().enumerate() {
                if *remove && second.len() > 1 {
                    second.remove(at % second.len());
                } else {
                    second.push(node(100 + at, *shards));
                }
            }
            let to = plan(&from, &second, Moves::Fewest);
            let slots: u32 = second.iter().map(|node| node.shards).sum();
            let (least, most) = (partitions / slots, partitions.div_ceil(slots));
            let load = load(&to);
            prop_assert!(load.values().all(|&held| (least as usize..=most as usize).contains(&held)));
            prop_assert!(least == 0 || load.len() == slots as usize);

            // A partition must move when its node is gone, or when its slot holds more than its share.
            let mut must_move = 0;
            let mut larger = (partitions % slots) as usize;
            for ((index, _), held) in self::load(&from) {
                let present = second.iter().any(|node| node.node_id == from.nodes[index as usize].node_id);
                if !present {
                    must_move += held;
                } else if held > least as usize {
                    let extra = usize::from(larger > 0);
                    larger -= extra;
                    must_move += held - least as usize - extra;
                }
            }
            prop_assert_eq!(moved(&from, &to), must_move);
            for (old, new) in from.owners.iter().zip(&to.owners) {
                let same = (old.node, old.shard) == (new.node, new.shard);
                prop_assert_eq!(new.epoch, old.epoch + u64::from(!same));
            }
            prop_assert_eq!(plan(&to, &second, Moves::Fewest), to);
        }
    }
}
