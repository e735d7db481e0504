//! Which shard owns which partition.

use std::sync::Arc;

use wire::partition_of;

/// The owner of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The epoch at which it owns the partition.
    pub epoch: u64,
    /// The shard of that node.
    pub shard: u32,
    /// HOST:PORT of its node; empty: this node.
    pub address: Arc<str>,
}

/// The owners of all partitions, as one shard sees them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    shard: u32,
    owners: Arc<[Owner]>,
}

impl Placement {
    /// `owners` in order of partition; `shard` is the one that asks. There must be a partition at least.
    #[must_use]
    pub fn new(shard: u32, owners: Arc<[Owner]>) -> Self {
        assert!(!owners.is_empty(), "a cluster has at least one partition");
        Self { shard, owners }
    }

    /// A node alone: partition `p` belongs to shard `p % shard_count`, at epoch 1.
    #[must_use]
    pub fn single_node(shard: u32, shard_count: u32, partition_count: u32) -> Self {
        assert!(shard < shard_count, "shard {shard} of {shard_count}");
        let address: Arc<str> = Arc::from("");
        let owner = |partition| Owner { epoch: 1, shard: partition % shard_count, address: address.clone() };
        Self::new(shard, (0..partition_count).map(owner).collect())
    }

    /// The partition of a document and its owner.
    #[must_use]
    pub fn locate(&self, document: &str) -> (u32, &Owner) {
        let partition = partition_of(document, self.owners.len() as u32);
        (partition, &self.owners[partition as usize])
    }

    /// Whether `owner` is the shard that asks.
    #[must_use]
    pub fn is_here(&self, owner: &Owner) -> bool {
        owner.shard == self.shard && owner.address.is_empty()
    }

    /// The other shard of this node that `owner` is, if it is one.
    #[must_use]
    pub fn sibling(&self, owner: &Owner) -> Option<u32> {
        (owner.address.is_empty() && owner.shard != self.shard).then_some(owner.shard)
    }

    /// The epoch at which a partition is owned.
    #[must_use]
    pub fn epoch(&self, partition: u32) -> u64 {
        self.owners.get(partition as usize).map_or(0, |owner| owner.epoch)
    }
}
