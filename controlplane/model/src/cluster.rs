//! Nodes, and which shard of which node owns each partition.

use serde::{Deserialize, Serialize};
use wire::Guuid;

/// The most partitions that a cluster may be configured with: its map must fit one value of etcd, 1.5 MiB.
pub const PARTITIONS_MAX: u32 = 4_096;
/// The most nodes of a cluster.
pub const NODES_MAX: usize = 1_024;

const OWNER_JSON_BYTES_MAX: usize = 128;
const _: () = assert!(PARTITIONS_MAX <= wire::limits::PARTITIONS_MAX);
const _: () = assert!(PARTITIONS_MAX as usize * OWNER_JSON_BYTES_MAX + NODES_MAX * 512 < 3 << 19);

/// What a node said of itself when it last attached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Unique in the cluster, and the same after a restart.
    pub node_id: String,
    /// New on every start of the process; being a UUIDv7, a later start compares greater.
    #[serde(with = "guuid_text")]
    pub incarnation: Guuid,
    /// HOST:PORT of its Quantum socket.
    pub quantum_address: String,
    /// Its shards.
    pub shards: u32,
    /// Its version.
    pub version: String,
}

/// A node as clients see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapNode {
    /// Unique in the cluster.
    pub node_id: String,
    /// HOST:PORT of its Quantum socket.
    pub quantum_address: String,
    /// Its shards.
    pub shards: u32,
}

/// Who owns a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionOwner {
    /// Index into the map's nodes.
    pub node: u32,
    /// The shard of that node.
    pub shard: u32,
    /// Grows by one whenever the owner changes: what an older epoch writes is refused.
    pub epoch: u64,
}

/// Which shard of which node owns each partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionMap {
    /// Grows with every change.
    pub revision: u64,
    /// Fixed when the cluster is first started.
    pub partition_count: u32,
    /// Referred to by index.
    pub nodes: Vec<MapNode>,
    /// One per partition, in order; empty as long as no node has attached.
    pub owners: Vec<PartitionOwner>,
}

impl PartitionMap {
    /// The map of a cluster without nodes.
    #[must_use]
    pub const fn empty(partition_count: u32) -> Self {
        Self { revision: 0, partition_count, nodes: Vec::new(), owners: Vec::new() }
    }

    /// Whether every owner is a shard of one of its nodes and no partition is left out.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let exists = |owner: &PartitionOwner| {
            self.nodes.get(owner.node as usize).is_some_and(|node| owner.shard < node.shards)
        };
        let complete = self.owners.len() == self.partition_count as usize || self.owners.is_empty();
        self.partition_count > 0 && complete && self.owners.iter().all(exists)
    }
}

/// A GUUID as its text.
pub(crate) mod guuid_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use wire::Guuid;

    pub(crate) fn serialize<S: Serializer>(id: &Guuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Guuid, D::Error> {
        let text = String::deserialize(deserializer)?;
        Guuid::parse(&text).ok_or_else(|| D::Error::custom(format!("\"{text}\" is not a GUUID")))
    }
}

/// 32 bytes as hexadecimal digits.
pub(crate) mod hex32 {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::session::to_hex(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::session::from_hex(&text).ok_or_else(|| D::Error::custom("not 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_names_a_shard_that_does_not_exist() {
        let node = MapNode { node_id: "n".to_owned(), quantum_address: "h:1".to_owned(), shards: 2 };
        let owner = |shard| PartitionOwner { node: 0, shard, epoch: 1 };
        let map =
            |owners| PartitionMap { revision: 1, partition_count: 2, nodes: vec![node.clone()], owners };
        assert!(map(vec![owner(0), owner(1)]).is_sound());
        assert!(!map(vec![owner(0), owner(2)]).is_sound());
        assert!(!map(vec![owner(0)]).is_sound());
        assert!(PartitionMap::empty(2).is_sound());
    }

    #[test]
    fn an_owner_outgrows_its_share_of_the_value() {
        let owner = PartitionOwner { node: u32::MAX, shard: u32::MAX, epoch: u64::MAX };
        assert!(serde_json::to_vec(&owner).unwrap().len() < OWNER_JSON_BYTES_MAX);
    }
}
