//! What the whole cluster must know, followed in the store: keys, map, settings, revoked sessions.
//!
//! A write goes to the store; this view changes when the store says so, whichever control plane wrote. Readers
//! compare what they last saw with what is, so nothing is missed when changes come fast.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::config::IdlePolicy;
use model::{KeyRing, PartitionMap, Settings};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{Compare, Entry, LeaseId, MetaStore, StoreError};
use tokio::sync::watch;
use wire::Guuid;

use crate::error::ControlError;

/// All that the view follows.
const ROOT: &str = "cluster/";
pub(crate) const KEYS: &str = "cluster/keys";
pub(crate) const MAP: &str = "cluster/map";
pub(crate) const SETTINGS: &str = "cluster/settings";
pub(crate) const REVOKED: &str = "cluster/revoked/";
pub(crate) const NODES: &str = "cluster/nodes/";

/// How soon a lost watch is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The settings with their version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SettingsRecord {
    /// Grows with every change.
    pub(crate) version: u64,
    /// By name.
    pub(crate) idle_policy: String,
    pub(crate) settings: Settings,
}

impl SettingsRecord {
    pub(crate) fn new(version: u64, idle_policy: IdlePolicy, settings: Settings) -> Self {
        Self { version, idle_policy: idle_policy.as_str().to_owned(), settings }
    }
}

/// The cluster at one moment; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) map: Arc<PartitionMap>,
    pub(crate) settings: Arc<SettingsRecord>,
    pub(crate) revoked: Arc<BTreeSet<Guuid>>,
}

impl View {
    /// Reads all of it, and the revision at which it was so.
    pub(crate) async fn load(store: &dyn MetaStore) -> Result<(Self, u64), ControlError> {
        let listing = store.list(ROOT).await?;
        let required = |key: &str| {
            let problem = "it is missing".to_owned();
            let found = listing.entries.iter().find(|entry| entry.key == key);
            found.ok_or_else(|| ControlError::StoredValue { key: key.to_owned(), problem })
        };
        let revoked = listing.entries.iter().filter_map(|entry| revoked_id(&entry.key)).collect();
        let view = Self {
            keys: Arc::new(decode(KEYS, &required(KEYS)?.value)?),
            map: Arc::new(decode(MAP, &required(MAP)?.value)?),
            settings: Arc::new(decode(SETTINGS, &required(SETTINGS)?.value)?),
            revoked: Arc::new(revoked),
        };
        Ok((view, listing.revision))
    }

    /// Takes one change of the store.
    fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ControlError> {
        if let Some(session_id) = revoked_id(key) {
            let revoked = Arc::make_mut(&mut self.revoked);
            match value {
                Some(_) => revoked.insert(session_id),
                None => revoked.remove(&session_id),
            };
            return Ok(());
        }
        let Some(value) = value else { return Ok(()) };
        match key {
            KEYS => self.keys = Arc::new(decode(key, value)?),
            MAP => self.map = Arc::new(decode(key, value)?),
            SETTINGS => self.settings = Arc::new(decode(key, value)?),
            _ => {}
        }
        Ok(())
    }
}

fn revoked_id(key: &str) -> Option<Guuid> {
    Guuid::parse(key.strip_prefix(REVOKED)?)
}

/// A stored value.
pub(crate) fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(value)
        .map_err(|error| ControlError::StoredValue { key: key.to_owned(), problem: error.to_string() })
}

/// The stored value of `key` and its entry.
pub(crate) async fn read<T: DeserializeOwned>(
    store: &dyn MetaStore,
    key: &str,
) -> Result<Option<(T, Entry)>, ControlError> {
    let Some(entry) = store.get(key).await? else { return Ok(None) };
    Ok(Some((decode(key, &entry.value)?, entry)))
}

/// Stores a value; answers whether `compare` held.
pub(crate) async fn write<T: Serialize>(
    store: &dyn MetaStore,
    key: &str,
    value: &T,
    compare: Compare,
    lease: Option<LeaseId>,
) -> Result<bool, ControlError> {
    let value = serde_json::to_vec(value)
        .map_err(|error| ControlError::StoredValue { key: key.to_owned(), problem: error.to_string() })?;
    match store.put(key, value, compare, lease).await {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Follows the store until nobody looks any more or `stop` is set.
pub(crate) async fn follow(
    store: Arc<dyn MetaStore>,
    view: watch::Sender<View>,
    mut revision: u64,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let ended = tokio::select! {
            ended = follow_once(&*store, &view, revision) => ended,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        tracing::warn!(error = %ended, "the watch of the cluster's state ended: it is read again");
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match View::load(&*store).await {
            Ok((loaded, at)) => {
                view.send_replace(loaded);
                revision = at;
            }
            Err(error) => tracing::warn!(%error, "the cluster's state cannot be read"),
        }
    }
}

async fn follow_once(store: &dyn MetaStore, view: &watch::Sender<View>, revision: u64) -> StoreError {
    let mut changes = match store.watch(ROOT, revision + 1).await {
        Ok(changes) => changes,
        Err(error) => return error,
    };
    loop {
        let change = match changes.next().await {
            Ok(change) => change,
            Err(error) => return error,
        };
        view.send_modify(|view| {
            if let Err(error) = view.apply(&change.key, change.value.as_deref()) {
                tracing::error!(%error, "a change of the cluster's state is passed over");
            }
        });
    }
}
