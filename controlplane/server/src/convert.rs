//! Between the messages of the contract and the values of the model.

use model::config::SessionRates;
use model::{KeyRing, PartitionMap, Session};
use proto::v1;
use wire::{Access, Grant, Guuid};

use crate::error::ControlError;
use crate::view::SettingsRecord;

/// A GUUID of exactly 16 bytes.
pub(crate) fn guuid(field: &'static str, bytes: &[u8]) -> Result<Guuid, ControlError> {
    let problem = || format!("must be 16 bytes, found {}", bytes.len());
    Guuid::from_slice(bytes).ok_or_else(|| ControlError::InvalidRequest { field, problem: problem() })
}

/// Grants whose access is given.
pub(crate) fn grants(grants: Vec<v1::Grant>) -> Result<Vec<Grant>, ControlError> {
    let grant = |grant: v1::Grant| match u8::try_from(grant.access).ok().and_then(Access::from_u8) {
        Some(access) => Ok(Grant { pattern: grant.pattern, access }),
        None => {
            let problem = format!("\"{}\" has access {}, which does not exist", grant.pattern, grant.access);
            Err(ControlError::InvalidRequest { field: "grants", problem })
        }
    };
    grants.into_iter().map(grant).collect()
}

pub(crate) fn session(session: &Session) -> v1::Session {
    let grant = |grant: &Grant| v1::Grant { pattern: grant.pattern.clone(), access: grant.access as i32 };
    v1::Session {
        session_id: session.session_id.as_bytes().to_vec(),
        user: session.user.clone(),
        grants: session.grants.iter().map(grant).collect(),
        created_unix_ms: session.created_unix_ms,
        expires_unix_ms: session.expires_unix_ms,
        revoked: session.revoked,
    }
}

pub(crate) fn map(map: &PartitionMap) -> v1::PartitionMap {
    let node = |(index, node): (usize, &model::MapNode)| v1::NodeAddress {
        node: index as u32,
        node_id: node.node_id.clone(),
        quantum_address: node.quantum_address.clone(),
        shards: node.shards,
    };
    let owner = |owner: &model::PartitionOwner| v1::PartitionOwner {
        node: owner.node,
        shard: owner.shard,
        epoch: owner.epoch,
    };
    v1::PartitionMap {
        revision: map.revision,
        partition_count: map.partition_count,
        nodes: map.nodes.iter().enumerate().map(node).collect(),
        owners: map.owners.iter().map(owner).collect(),
    }
}

pub(crate) fn keys(ring: &KeyRing) -> v1::TicketKeys {
    let key = |key: &model::KeyRecord| v1::TicketKey { key_id: key.key_id, secret: key.secret.to_vec() };
    v1::TicketKeys { keys: ring.keys.iter().map(key).collect() }
}

pub(crate) fn settings(record: &SettingsRecord) -> v1::NodeSettings {
    v1::NodeSettings {
        version: record.version,
        idle_policy: record.idle_policy.clone(),
        presence_tick_ms: record.settings.presence_tick_ms,
        idle_timeout_ms: record.settings.idle_timeout_ms,
        subscriber_queue_bytes_max: record.settings.subscriber_queue_bytes_max,
        document_bytes_max: record.settings.document_bytes_max,
        session_rates: Some(session_rates(&record.settings.session_rates)),
    }
}

fn session_rates(rates: &SessionRates) -> v1::SessionRates {
    v1::SessionRates {
        ops_per_s: rates.ops_per_s,
        op_bytes_per_s: rates.op_bytes_per_s,
        joins_per_s: rates.joins_per_s,
        presence_per_s: rates.presence_per_s,
        burst_ms: rates.burst_ms,
    }
}
