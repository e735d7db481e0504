//! The control plane as a whole: start, serve, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::config::{Config, IdlePolicy};
use model::{KeyRing, PartitionMap, Settings};
use proto::v1::node_service_server::NodeServiceServer;
use proto::v1::session_service_server::SessionServiceServer;
use store::{Compare, MetaStore};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::api_key::ApiKey;
use crate::error::ControlError;
use crate::node_service::NodeService;
use crate::nodes::{NodeView, Nodes};
use crate::session_service::SessionService;
use crate::sessions::Sessions;
use crate::view::{KEYS, MAP, SETTINGS, SettingsRecord, View, follow, read, write};
use crate::{now_unix_ms, random};

/// How often the age of the newest key is looked at.
const ROTATION_TICK: Duration = Duration::from_secs(30);
/// A peer that does not answer a ping within twice this is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Requests in progress on one connection.
const STREAMS_MAX: u32 = 256;
/// How long a stop waits for requests in progress.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts at a write that others are making, too.
const ATTEMPTS_MAX: usize = 16;

/// Why the control plane did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("the control plane cannot listen on {address}: {source}: is another one running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store refused, or holds what cannot be read.
    #[error("the control plane cannot start: {0}")]
    Control(#[from] ControlError),
}

/// A running control plane. Dropping it ends it at once; [`shutdown`](Self::shutdown) does so in order.
#[derive(Debug)]
pub struct ControlPlane {
    address: SocketAddr,
    store: Arc<dyn MetaStore>,
    nodes: Nodes,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    /// Follow the store and rotate the keys; end with `stop`.
    background: [JoinHandle<()>; 2],
}

impl ControlPlane {
    /// Starts on `listen` (port 0: any that is free) with `[control]`, `[settings]` and `node.idle_policy` of the
    /// configuration. What the store lacks, as the first ticket key, is made.
    pub async fn start(
        config: &Config,
        store: Arc<dyn MetaStore>,
        listen: SocketAddr,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address: listen, source };
        let incoming = TcpIncoming::bind(listen).map_err(failed)?.with_nodelay(Some(true));
        let address = incoming.local_addr().map_err(failed)?;
        prepare(&*store, config).await?;
        let (loaded, revision) = View::load(&*store).await?;
        if loaded.map.partition_count != config.control.partitions {
            let (held, configured) = (loaded.map.partition_count, config.control.partitions);
            tracing::warn!(held, configured, "the number of partitions is fixed since the first start: kept");
        }
        let (view_sender, view) = watch::channel(loaded);
        let (stop, stopped) = watch::channel(false);
        let background = [
            tokio::spawn(follow(Arc::clone(&store), view_sender, revision, stopped.clone())),
            tokio::spawn(rotate(Arc::clone(&store), config.control.ticket_key_rotate_s, stopped.clone())),
        ];

        let api_key = ApiKey::new(&config.control.api_key);
        let nodes = Nodes::new(Arc::clone(&store), view.clone());
        let sessions = Sessions::new(Arc::clone(&store), view.clone(), &config.control);
        let session_service =
            SessionService { sessions, view: view.clone(), api_key: api_key.clone(), stop: stopped.clone() };
        let node_service = NodeService { nodes: nodes.clone(), view, api_key, stop: stopped.clone() };
        let mut stopping = stopped;
        let serving = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(STREAMS_MAX)
            .add_service(SessionServiceServer::new(session_service))
            .add_service(NodeServiceServer::new(node_service))
            .serve_with_incoming_shutdown(incoming, async move {
                // An error means that the handle is gone, which is as good a reason.
                drop(stopping.wait_for(|stop| *stop).await);
            });
        let server = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the control plane's server ended");
            }
        });
        tracing::info!(%address, "control plane started");
        Ok(Self { address, store, nodes, stop, server, background })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The nodes that are attached here.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeView> {
        self.nodes.attached()
    }

    /// Changes the settings of the running nodes; answers their version, which nodes report when they have
    /// applied it.
    pub async fn update_settings(
        &self,
        idle_policy: IdlePolicy,
        settings: Settings,
    ) -> Result<u64, ControlError> {
        store_settings(&*self.store, idle_policy, settings).await
    }

    /// Tells nodes and watchers to go, ends the requests in progress and stops.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(STOP_TIMEOUT, &mut self.server).await.is_err() {
            tracing::warn!("requests were still in progress: ended");
            self.server.abort();
        }
        for task in &mut self.background {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the control plane failed");
            }
        }
        tracing::info!("control plane stopped");
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.server.abort();
    }
}

/// Makes what a fresh store lacks.
async fn prepare(store: &dyn MetaStore, config: &Config) -> Result<(), ControlError> {
    let keys = KeyRing::default().rotated(random()?, now_unix_ms() / 1_000);
    if write(store, KEYS, &keys, Compare::Absent, None).await? {
        tracing::info!(key_id = keys.keys[0].key_id, "first ticket key made");
    }
    let map = PartitionMap::empty(config.control.partitions);
    write(store, MAP, &map, Compare::Absent, None).await?;
    store_settings(store, config.node.idle_policy, config.settings).await?;
    Ok(())
}

/// Stores the settings under the next version, unless they are the same.
async fn store_settings(
    store: &dyn MetaStore,
    idle_policy: IdlePolicy,
    settings: Settings,
) -> Result<u64, ControlError> {
    for _ in 0..ATTEMPTS_MAX {
        let held = read::<SettingsRecord>(store, SETTINGS).await?;
        let (version, compare) = match &held {
            Some((held, entry)) => (held.version, Compare::Revision(entry.revision)),
            None => (0, Compare::Absent),
        };
        if held.is_some_and(|(held, _)| held == SettingsRecord::new(version, idle_policy, settings)) {
            return Ok(version);
        }
        let next = SettingsRecord::new(version + 1, idle_policy, settings);
        if write(store, SETTINGS, &next, compare, None).await? {
            tracing::info!(version = next.version, "settings changed");
            return Ok(next.version);
        }
    }
    Err(store::StoreError::Overloaded.into())
}

/// Makes a new ticket key whenever one is due.
async fn rotate(store: Arc<dyn MetaStore>, rotate_s: u32, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(ROTATION_TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if let Err(error) = rotate_once(&*store, now_unix_ms() / 1_000, rotate_s).await {
            tracing::warn!(%error, "the ticket key could not be rotated: tried again");
        }
    }
}

async fn rotate_once(store: &dyn MetaStore, now_unix_s: u64, rotate_s: u32) -> Result<(), ControlError> {
    let Some((keys, entry)) = read::<KeyRing>(store, KEYS).await? else { return Ok(()) };
    if !keys.is_due(now_unix_s, rotate_s) {
        return Ok(());
    }
    let next = keys.rotated(random()?, now_unix_s);
    // When another control plane was first there is nothing left to do.
    if write(store, KEYS, &next, Compare::Revision(entry.revision), None).await? {
        tracing::info!(key_id = next.keys[0].key_id, "ticket key rotated");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use store::EmbeddedStore;

    use super::*;

    #[tokio::test]
    async fn a_key_is_not_rotated_when_due_or_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn MetaStore> = Arc::new(EmbeddedStore::open(&dir.path().join("meta")).unwrap());
        prepare(&*store, &Config::default()).await.unwrap();
        prepare(&*store, &Config::default()).await.unwrap();
        let (loaded, revision) = View::load(&*store).await.unwrap();
        let first = loaded.keys.keys[0].clone();
        assert_eq!((loaded.keys.keys.len(), loaded.settings.version), (1, 1));
        let (sender, mut view) = watch::channel(loaded);
        let (stop, stopped) = watch::channel(false);
        let following = tokio::spawn(follow(Arc::clone(&store), sender, revision, stopped));

        let due_unix_s = first.created_unix_s + 3_600;
        rotate_once(&*store, due_unix_s - 1, 3_600).await.unwrap();
        rotate_once(&*store, due_unix_s, 3_600).await.unwrap();
        rotate_once(&*store, due_unix_s, 3_600).await.unwrap();
        let seen = view.wait_for(|view| view.keys.keys.len() > 1).await.unwrap().clone();
        assert_eq!(seen.keys.keys.iter().map(|key| key.key_id).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(seen.keys.keys[1], first);
        stop.send_replace(true);
        following.await.unwrap();
    }
}
