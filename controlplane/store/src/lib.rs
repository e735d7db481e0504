//! Where the control plane keeps its state: a small ordered map with revisions, compare-and-set, leases and
//! watches, in one file of this machine ([`EmbeddedStore`]) or on etcd ([`EtcdStore`]).
//!
//! Both give the same guarantees, and one suite of tests holds them to these: a write is durable when it is
//! answered; revisions grow with every change and are never given twice; a watch misses nothing or ends. This
//! crate does not know what is stored.

mod embedded;
mod error;
mod etcd;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use model::config::StoreLocation;
use tokio::sync::mpsc;

pub use embedded::EmbeddedStore;
pub use error::StoreError;
pub use etcd::EtcdStore;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// The largest value: what etcd takes by default, less room for the request around it.
pub const VALUE_BYTES_MAX: usize = 5 << 18;
/// Changes that wait for a watcher; when there are more the watch ends.
pub const WATCH_QUEUE_MAX: usize = 1_024;

/// An answer to come.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A key with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The store's revision when the value was written.
    pub revision: u64,
    /// The lease that it lives by.
    pub lease: Option<LeaseId>,
}

/// What must be true of a key for a write to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compare {
    /// Nothing.
    Any,
    /// It does not exist.
    Absent,
    /// Its value was written at this revision.
    Revision(u64),
}

/// Entries as they were at one revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// The store's revision: watch from the next one on to miss nothing.
    pub revision: u64,
    /// In the order of their keys.
    pub entries: Vec<Entry>,
}

/// One change of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The store's revision that it made.
    pub revision: u64,
    /// The key.
    pub key: String,
    /// The new value; `None` when it was deleted.
    pub value: Option<Vec<u8>>,
}

/// A lease: when it is not kept alive, the keys attached to it are deleted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseId(pub u64);

/// Changes, in order.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Result<Change, StoreError>>,
}

impl Watch {
    /// The next change. An error is final: list again and watch from there.
    pub async fn next(&mut self) -> Result<Change, StoreError> {
        self.changes.recv().await.unwrap_or(Err(StoreError::WatchEnded))
    }
}

/// The store.
pub trait MetaStore: Send + Sync + std::fmt::Debug {
    /// The entry of `key`.
    fn get(&self, key: &str) -> Pending<'_, Option<Entry>>;

    /// Writes `key` when `compare` holds, else [`StoreError::Conflict`]; answers the revision. With a lease it
    /// is deleted when that ends; without one it is detached from the one that it had.
    fn put(&self, key: &str, value: Vec<u8>, compare: Compare, lease: Option<LeaseId>) -> Pending<'_, u64>;

    /// Deletes `key` when `compare` holds, else [`StoreError::Conflict`]; answers whether it was there.
    fn delete(&self, key: &str, compare: Compare) -> Pending<'_, bool>;

    /// All entries whose keys begin with `prefix`.
    fn list(&self, prefix: &str) -> Pending<'_, Listing>;

    /// Changes from `from_revision` on of keys that begin with `prefix`.
    fn watch(&self, prefix: &str, from_revision: u64) -> Pending<'_, Watch>;

    /// A new lease that ends after `ttl_s` seconds (the store may round up) unless it is kept alive.
    fn lease_grant(&self, ttl_s: u32) -> Pending<'_, LeaseId>;

    /// Starts the lease's time again, or [`StoreError::LeaseGone`].
    fn lease_keep_alive(&self, lease: LeaseId) -> Pending<'_, ()>;

    /// Ends the lease and deletes its keys, or [`StoreError::LeaseGone`].
    fn lease_revoke(&self, lease: LeaseId) -> Pending<'_, ()>;
}

/// Opens the store that the configuration names.
pub async fn open(location: &StoreLocation) -> Result<Arc<dyn MetaStore>, StoreError> {
    match location {
        StoreLocation::Embedded(path) => Ok(Arc::new(EmbeddedStore::open(path)?)),
        StoreLocation::Etcd(urls) => Ok(Arc::new(EtcdStore::connect(urls).await?)),
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(StoreError::Key(key.len()));
    }
    Ok(())
}

fn check_value(key: &str, value: &[u8]) -> Result<(), StoreError> {
    check_key(key)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::Value { key: key.to_owned(), bytes: value.len() });
    }
    Ok(())
}
