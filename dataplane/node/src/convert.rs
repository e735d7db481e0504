//! From the control plane's messages to the shards' values; whatever does not make sense is refused here.

use std::sync::Arc;

use proto::v1::{self, NodeSettings, PartitionMap, SessionRevoked, ShardStatus, TicketKeys};
use shard::{Command, IdlePolicy, ShardSettings};
use statesync::{Owner, SessionRates};
use wire::limits::PARTITIONS_MAX;
use wire::{Guuid, Span};

use crate::state::ShardState;

/// Keys that open tickets.
pub(crate) fn ticket_keys(keys: &TicketKeys) -> Result<Command, String> {
    let key = |key: &proto::v1::TicketKey| {
        let secret = key.secret.as_slice().try_into();
        secret
            .map(|secret| (key.key_id, secret))
            .map_err(|_| format!("ticket key {} of {} bytes instead of 32", key.key_id, key.secret.len()))
    };
    keys.keys.iter().map(key).collect::<Result<_, _>>().map(Command::TicketKeys)
}

/// The map as `node_id` sees it; its shards share it.
pub(crate) fn owners(map: &PartitionMap, node_id: &str) -> Result<Arc<[Owner]>, String> {
    if map.owners.is_empty() || map.owners.len() > PARTITIONS_MAX as usize {
        return Err(format!("a map of {} partitions", map.owners.len()));
    }
    // This node's partitions have no address: that is how a shard knows them.
    let address = |node: u32| -> Result<&str, String> {
        let found = map.nodes.iter().find(|known| known.node == node);
        let found = found.ok_or_else(|| format!("partition of unknown node {node}"))?;
        Ok(if found.node_id == node_id { "" } else { found.quantum_address.as_str() })
    };
    map.owners
        .iter()
        .map(|owner| {
            let address = Arc::from(address(owner.node)?);
            // A record of the log has 32 bits for it.
            if owner.epoch > u64::from(u32::MAX) {
                return Err(format!("epoch {} is over 32 bits", owner.epoch));
            }
            Ok(Owner { epoch: owner.epoch, shard: owner.shard, address })
        })
        .collect()
}

/// Settings to apply without a restart.
pub(crate) fn settings(settings: &NodeSettings) -> Result<Command, String> {
    if settings.presence_tick_ms == 0 || settings.idle_timeout_ms == 0 {
        return Err("settings with a span of zero".to_owned());
    }
    let idle_policy = IdlePolicy::parse(&settings.idle_policy);
    Ok(Command::Settings(ShardSettings {
        version: settings.version,
        idle_policy: idle_policy.ok_or_else(|| format!("idle policy {:?}", settings.idle_policy))?,
        presence_tick_ms: settings.presence_tick_ms,
        idle_timeout_ms: settings.idle_timeout_ms,
        subscriber_queue_bytes_max: settings.subscriber_queue_bytes_max,
        document_bytes_max: settings.document_bytes_max,
        session_rates: settings.session_rates.as_ref().map_or_else(SessionRates::default, session_rates),
    }))
}

fn session_rates(rates: &v1::SessionRates) -> SessionRates {
    SessionRates {
        ops_per_s: rates.ops_per_s,
        op_bytes_per_s: rates.op_bytes_per_s,
        joins_per_s: rates.joins_per_s,
        presence_per_s: rates.presence_per_s,
        burst: Span::from_ms(u64::from(rates.burst_ms)),
    }
}

/// A session whose connections end now.
pub(crate) fn revoked(revoked: &SessionRevoked) -> Result<Command, String> {
    Guuid::from_slice(&revoked.session_id)
        .map(Command::RevokeSession)
        .ok_or_else(|| format!("session id of {} bytes", revoked.session_id.len()))
}

/// A shard's figures for the control plane.
pub(crate) fn shard_status((shard, state): (usize, &ShardState)) -> ShardStatus {
    ShardStatus {
        shard: shard as u32,
        connections: state.figure("connections"),
        documents: state.figure("documents"),
        ops_total: state.figure("ops_logged"),
        log_bytes_total: state.figure("log_record_bytes"),
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{NodeAddress, PartitionOwner, TicketKey};
    use statesync::Placement;

    use super::*;

    fn map() -> PartitionMap {
        let node = |node, node_id: &str, quantum_address: &str| NodeAddress {
            node,
            node_id: node_id.to_owned(),
            quantum_address: quantum_address.to_owned(),
            shards: 1,
        };
        let owner = |node| PartitionOwner { node, shard: 0, epoch: 7 };
        PartitionMap {
            revision: 1,
            partition_count: 2,
            nodes: vec![node(0, "a", "1.1.1.1:1"), node(4, "b", "2.2.2.2:2")],
            owners: vec![owner(0), owner(4)],
        }
    }

    #[test]
    fn a_shard_takes_a_partition_of_another_node() {
        let placement = Placement::new(0, owners(&map(), "b").unwrap());
        let here: Vec<bool> = ["0", "1", "2", "3"]
            .map(|id| placement.locate(id))
            .iter()
            .map(|(_, o)| placement.is_here(o))
            .collect();
        let partitions = ["0", "1", "2", "3"].map(|id| placement.locate(id).0);
        for (partition, here) in partitions.iter().zip(here) {
            assert_eq!(here, *partition == 1);
        }
    }

    #[test]
    fn nonsense_of_the_control_plane_reaches_a_shard() {
        let mut broken = map();
        broken.owners[0].node = 9;
        assert!(owners(&broken, "a").is_err());
        broken.owners.clear();
        assert!(owners(&broken, "a").is_err());
        let short = TicketKeys { keys: vec![TicketKey { key_id: 1, secret: vec![0; 31] }] };
        assert!(ticket_keys(&short).is_err());
        assert!(settings(&NodeSettings::default()).is_err());
        assert!(revoked(&SessionRevoked { session_id: vec![1] }).is_err());
    }
}
