//! The nodes: their registration, the map that follows from it, and who is attached.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::cluster::NODES_MAX;
use model::{MapNode, Moves, NodeRecord, PartitionMap, config, plan};
use proto::v1;
use store::{Compare, MetaStore};
use tokio::sync::{oneshot, watch};
use wire::Guuid;
use wire::limits::SHARDS_MAX;

use crate::error::ControlError;
use crate::view::{MAP, NODES, View, decode, read, write};

/// Attempts at a write that others are making, too.
const ATTEMPTS_MAX: usize = 16;
/// The longest version text that is kept of a node.
const VERSION_BYTES_MAX: usize = 64;

/// An attached node, for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// What it said of itself.
    pub record: NodeRecord,
    /// What it last reported, a shard each; empty until then.
    pub shards: Vec<AttachedShard>,
    /// The settings that all its shards have applied; 0: none yet.
    pub settings_version: u64,
}

/// What an attached node last reported of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttachedShard {
    /// Its number.
    pub shard: u32,
    /// Open connections.
    pub connections: u64,
    /// Documents in memory.
    pub documents: u64,
    /// Ops taken since the node was started.
    pub ops_total: u64,
    /// Bytes logged since then.
    pub log_bytes_total: u64,
}

#[derive(Debug)]
struct Attached {
    serial: u64,
    view: NodeView,
    /// Dropped when a later attachment takes this one's place.
    _superseded: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Book {
    next_serial: u64,
    attached: BTreeMap<String, Attached>,
}

/// The nodes.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    store: Arc<dyn MetaStore>,
    view: watch::Receiver<View>,
    book: Arc<Mutex<Book>>,
}

/// One attachment; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Attachment {
    nodes: Nodes,
    serial: u64,
    pub(crate) node_id: String,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut book = self.nodes.book.lock().unwrap_or_else(PoisonError::into_inner);
        if book.attached.get(&self.node_id).is_some_and(|attached| attached.serial == self.serial) {
            book.attached.remove(&self.node_id);
        }
    }
}

/// What a node says of itself, checked.
pub(crate) fn record(hello: v1::NodeHello) -> Result<NodeRecord, ControlError> {
    let refuse = |problem: String| Err(ControlError::NodeHello(problem));
    if !config::is_node_id(&hello.node_id) {
        return refuse(format!(
            "node_id \"{}\" must be 1 to 64 letters, digits, `.`, `_` or `-`",
            hello.node_id
        ));
    }
    if !config::is_host_port(&hello.quantum_address) || hello.quantum_address.len() > 256 {
        return refuse(format!("quantum_address \"{}\" must be HOST:PORT", hello.quantum_address));
    }
    if hello.shards == 0 || hello.shards as usize > SHARDS_MAX {
        return refuse(format!("shards is {}: it must be from 1 to {SHARDS_MAX}", hello.shards));
    }
    let Some(incarnation) = Guuid::from_slice(&hello.incarnation) else {
        return refuse(format!("incarnation must be 16 bytes, found {}", hello.incarnation.len()));
    };
    if hello.version.len() > VERSION_BYTES_MAX {
        return refuse(format!(
            "version must be at most {VERSION_BYTES_MAX} bytes, found {}",
            hello.version.len()
        ));
    }
    Ok(NodeRecord {
        node_id: hello.node_id,
        incarnation,
        quantum_address: hello.quantum_address,
        shards: hello.shards,
        version: hello.version,
    })
}

impl Nodes {
    pub(crate) fn new(store: Arc<dyn MetaStore>, view: watch::Receiver<View>) -> Self {
        Self { store, view, book: Arc::default() }
    }

    /// Stores the node and plans the map with it; answers when this control plane has seen that map. A process
    /// that is older than one seen of the same node is refused.
    pub(crate) async fn register(&self, record: &NodeRecord) -> Result<(), ControlError> {
        self.store_record(record).await?;
        let revision = self.plan().await?;
        let mut view = self.view.clone();
        view.wait_for(|view| view.map.revision >= revision).await.map_err(|_| ControlError::Draining)?;
        Ok(())
    }

    async fn store_record(&self, record: &NodeRecord) -> Result<(), ControlError> {
        let key = format!("{NODES}{}", record.node_id);
        for _ in 0..ATTEMPTS_MAX {
            let compare = match read::<NodeRecord>(&*self.store, &key).await? {
                Some((held, _)) if held == *record => return Ok(()),
                Some((held, _)) if held.incarnation > record.incarnation => {
                    return Err(ControlError::NodeSuperseded(record.node_id.clone()));
                }
                Some((_, entry)) => Compare::Revision(entry.revision),
                None => Compare::Absent,
            };
            if compare == Compare::Absent && self.store.list(NODES).await?.entries.len() >= NODES_MAX {
                return Err(ControlError::TooManyNodes(NODES_MAX));
            }
            if write(&*self.store, &key, record, compare, None).await? {
                return Ok(());
            }
        }
        Err(store::StoreError::Overloaded.into())
    }

    /// Plans the map for all registered nodes; answers its revision. Nodes that are not attached at the moment
    /// keep what is theirs, since their logs are on their disks.
    async fn plan(&self) -> Result<u64, ControlError> {
        for _ in 0..ATTEMPTS_MAX {
            let Some((current, entry)) = read::<PartitionMap>(&*self.store, MAP).await? else {
                let problem = "it is missing".to_owned();
                return Err(ControlError::StoredValue { key: MAP.to_owned(), problem });
            };
            let mut nodes = Vec::new();
            for node in self.store.list(NODES).await?.entries {
                let NodeRecord { node_id, quantum_address, shards, .. } = decode(&node.key, &node.value)?;
                nodes.push(MapNode { node_id, quantum_address, shards });
            }
            let next = plan(&current, &nodes, Moves::None);
            if next == current {
                return Ok(current.revision);
            }
            if write(&*self.store, MAP, &next, Compare::Revision(entry.revision), None).await? {
                tracing::info!(revision = next.revision, nodes = next.nodes.len(), "partition map planned");
                return Ok(next.revision);
            }
        }
        Err(store::StoreError::Overloaded.into())
    }

    /// Begins an attachment, in the place of an earlier one of the same node; the receiver ends when this one
    /// is superseded in turn.
    pub(crate) fn attach(&self, record: NodeRecord) -> (Attachment, oneshot::Receiver<()>) {
        let (sender, superseded) = oneshot::channel();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.next_serial += 1;
        let serial = book.next_serial;
        let node_id = record.node_id.clone();
        let view = NodeView { record, shards: Vec::new(), settings_version: 0 };
        book.attached.insert(node_id.clone(), Attached { serial, view, _superseded: sender });
        (Attachment { nodes: self.clone(), serial, node_id }, superseded)
    }

    /// The attached nodes, by id.
    pub(crate) fn attached(&self) -> Vec<NodeView> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.attached.values().map(|attached| attached.view.clone()).collect()
    }
}

impl Attachment {
    fn update(&self, change: impl FnOnce(&mut NodeView)) {
        let mut book = self.nodes.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attached) =
            book.attached.get_mut(&self.node_id).filter(|found| found.serial == self.serial)
        {
            change(&mut attached.view);
        }
    }

    /// Takes a report of its figures.
    pub(crate) fn handle_status(&self, status: &v1::NodeStatus) {
        let shard = |shard: &v1::ShardStatus| AttachedShard {
            shard: shard.shard,
            connections: shard.connections,
            documents: shard.documents,
            ops_total: shard.ops_total,
            log_bytes_total: shard.log_bytes_total,
        };
        let shards = status.shards.iter().take(SHARDS_MAX).map(shard).collect();
        self.update(|view| view.shards = shards);
    }

    /// Takes a report of settings applied, or not.
    pub(crate) fn handle_config_applied(&self, applied: &v1::ConfigApplied) {
        let (node_id, version) = (&self.node_id, applied.version);
        if applied.error.is_empty() {
            tracing::info!(node_id, version, "node applied its settings");
            self.update(|view| view.settings_version = version);
        } else {
            tracing::warn!(node_id, version, error = applied.error, "node did not apply its settings");
        }
    }
}
