//! Where documents live: the partition map that comes with each ticket.

use thiserror::Error;
use wire::limits::{PARTITIONS_MAX, SHARDS_MAX};
use wire::partition_of;

/// One node of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodePlace {
    /// The number by which [`Owner::node`] refers to it.
    pub node: u32,
    /// Its name.
    pub node_id: String,
    /// HOST:PORT of its Quantum socket.
    pub address: String,
    /// How many shards it has.
    pub shards: u32,
}

/// Who owns a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The node's number.
    pub node: u32,
    /// The shard in it.
    pub shard: u32,
    /// Grows when the partition changes hands.
    pub epoch: u64,
}

/// A shard of a node, as a client reaches it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// HOST:PORT of the node.
    pub address: String,
    /// The shard.
    pub shard: u8,
}

/// Which shard of which node owns each partition.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PlacementMap {
    /// Grows with every change.
    pub revision: u64,
    /// The nodes.
    pub nodes: Vec<NodePlace>,
    /// One entry for each partition, in order.
    pub owners: Vec<Owner>,
}

/// Why a map was refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PlacementError {
    /// The owners are not one for each partition.
    #[error("partition map {revision} has {owners} owners for {partitions} partitions")]
    Count {
        /// The map's revision.
        revision: u64,
        /// How many owners it has.
        owners: usize,
        /// How many partitions it says there are.
        partitions: u32,
    },
    /// A partition's owner is a node or shard that cannot be.
    #[error("partition map {revision} gives partition {partition} to an unknown node or shard")]
    Owner {
        /// The map's revision.
        revision: u64,
        /// The partition.
        partition: usize,
    },
}

impl PlacementMap {
    /// A map that holds together: every owner is a shard of a node in it.
    pub fn new(
        revision: u64,
        partition_count: u32,
        nodes: Vec<NodePlace>,
        owners: Vec<Owner>,
    ) -> Result<Self, PlacementError> {
        if owners.len() != partition_count as usize || partition_count > PARTITIONS_MAX {
            return Err(PlacementError::Count {
                revision,
                owners: owners.len(),
                partitions: partition_count,
            });
        }
        let map = Self { revision, nodes, owners };
        let known = |owner: &Owner| {
            (owner.shard as usize) < SHARDS_MAX && map.nodes.iter().any(|place| place.node == owner.node)
        };
        match map.owners.iter().position(|owner| !known(owner)) {
            Some(partition) => Err(PlacementError::Owner { revision, partition }),
            None => Ok(map),
        }
    }

    /// One node whose shards take the partitions in turn, as a single node places them.
    #[must_use]
    pub fn single_node(address: &str, shards: u32, partition_count: u32) -> Self {
        let place = NodePlace { node: 0, node_id: "node".to_owned(), address: address.to_owned(), shards };
        let owner = |partition| Owner { node: 0, shard: partition % shards.max(1), epoch: 1 };
        Self { revision: 1, nodes: vec![place], owners: (0..partition_count).map(owner).collect() }
    }

    /// The shard that owns `document`; none when no node does at the moment.
    #[must_use]
    pub fn route(&self, document: &str) -> Option<Route> {
        let partitions = u32::try_from(self.owners.len()).ok().filter(|&count| count > 0)?;
        let owner = self.owners[partition_of(document, partitions) as usize];
        let place = self.nodes.iter().find(|place| place.node == owner.node)?;
        Some(Route { address: place.address.clone(), shard: u8::try_from(owner.shard).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_sought_at_another_shard_than_its_owner() {
        let map = PlacementMap::single_node("10.0.0.1:4433", 4, 256);
        for id in ["", "a", "notes/2024", "ü"] {
            let route = map.route(id).unwrap();
            assert_eq!(u32::from(route.shard), partition_of(id, 256) % 4, "{id}");
            assert_eq!(route.address, "10.0.0.1:4433");
        }
        assert_eq!(PlacementMap::default().route("a"), None);
    }

    #[test]
    fn a_map_that_names_no_node_is_believed() {
        let owner = Owner { node: 1, shard: 0, epoch: 1 };
        let error = PlacementMap::new(7, 1, vec![], vec![owner]).unwrap_err();
        assert_eq!(error, PlacementError::Owner { revision: 7, partition: 0 });
        let error = PlacementMap::new(7, 2, vec![], vec![owner]).unwrap_err();
        assert_eq!(error, PlacementError::Count { revision: 7, owners: 1, partitions: 2 });
        let place = NodePlace { node: 1, node_id: "a".into(), address: "h:1".into(), shards: 1 };
        let over = Owner { shard: 256, ..owner };
        assert!(PlacementMap::new(7, 1, vec![place.clone()], vec![over]).is_err());
        assert!(PlacementMap::new(7, 1, vec![place], vec![owner]).is_ok());
    }
}
