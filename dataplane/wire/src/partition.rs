//! From a document's id to its partition.

/// The partition of a document: XXH3-64 of its id modulo the number of partitions, the same in clients,
/// gateways, nodes and the control plane.
#[must_use]
pub fn partition_of(document: &str, partition_count: u32) -> u32 {
    assert!(partition_count > 0, "a cluster has at least one partition");
    (xxhash_rust::xxh3::xxh3_64(document.as_bytes()) % u64::from(partition_count)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_move_to_another_partition() {
        let found = ["", "a", "notes/2024", "ü"].map(|id| partition_of(id, 256));
        assert_eq!(found, [194, 31, 185, 110]);
    }
}
