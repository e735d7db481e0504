//! Documents, subscriptions and presence of the partitions of one shard, as a sans-I/O state machine.
