//! The store on etcd: several control planes share it.

use std::time::Duration;

use etcd_client::{
    Client, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions, KeyValue, PutOptions,
    Txn, TxnOp, TxnOpResponse, WatchOptions, WatchResponse,
};
use tokio::sync::mpsc;

use crate::{
    Change, Compare, Entry, LeaseId, Listing, MetaStore, Pending, StoreError, WATCH_QUEUE_MAX, Watch,
    check_key, check_value,
};

/// All keys lie under it, so that an etcd can be shared with others.
const ROOT: &str = "aetherflow/";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A store on an etcd cluster.
#[derive(Clone)]
pub struct EtcdStore {
    client: Client,
    endpoints: String,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Connects to the cluster at `endpoints`, URLs; fails when none answers.
    pub async fn connect(endpoints: &[String]) -> Result<Self, StoreError> {
        let names = endpoints.join(",");
        let options =
            ConnectOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT);
        let refused =
            |error: Error| StoreError::Etcd { endpoints: names.clone(), message: error.to_string() };
        let mut client = Client::connect(endpoints, Some(options)).await.map_err(refused)?;
        client.status().await.map_err(refused)?;
        Ok(Self { client, endpoints: names })
    }

    fn failed(&self) -> impl Fn(Error) -> StoreError + use<> {
        let endpoints = self.endpoints.clone();
        move |error| StoreError::Etcd { endpoints: endpoints.clone(), message: error.to_string() }
    }
}

fn full(key: &str) -> String {
    format!("{ROOT}{key}")
}

fn own(key: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?.to_owned())
}

fn entry(found: &KeyValue) -> Option<Entry> {
    Some(Entry {
        key: own(found.key())?,
        value: found.value().to_vec(),
        revision: found.mod_revision() as u64,
        lease: (found.lease() != 0).then_some(LeaseId(found.lease() as u64)),
    })
}

fn condition(key: &str, compare: Compare) -> Vec<etcd_client::Compare> {
    match compare {
        Compare::Any => Vec::new(),
        Compare::Absent => vec![etcd_client::Compare::create_revision(full(key), CompareOp::Equal, 0)],
        Compare::Revision(revision) => {
            vec![etcd_client::Compare::mod_revision(full(key), CompareOp::Equal, revision as i64)]
        }
    }
}

/// Whether etcd says that the lease does not exist.
fn is_lease_gone(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => status.message().contains("requested lease not found"),
        Error::LeaseKeepAliveError(message) => message.contains("not found"),
        _ => false,
    }
}

impl MetaStore for EtcdStore {
    fn get(&self, key: &str) -> Pending<'_, Option<Entry>> {
        let key = full(key);
        Box::pin(async move {
            let found = self.client.kv_client().get(key, None).await.map_err(self.failed())?;
            Ok(found.kvs().first().and_then(entry))
        })
    }

    fn put(&self, key: &str, value: Vec<u8>, compare: Compare, lease: Option<LeaseId>) -> Pending<'_, u64> {
        let key = key.to_owned();
        Box::pin(async move {
            check_value(&key, &value)?;
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.0 as i64));
            let put = TxnOp::put(full(&key), value, options);
            let txn = Txn::new().when(condition(&key, compare)).and_then([put]);
            let done = self.client.kv_client().txn(txn).await.map_err(|error| match lease {
                Some(lease) if is_lease_gone(&error) => StoreError::LeaseGone(lease.0),
                _ => self.failed()(error),
            })?;
            if !done.succeeded() {
                return Err(StoreError::Conflict { key });
            }
            Ok(done.header().map_or(0, |header| header.revision() as u64))
        })
    }

    fn delete(&self, key: &str, compare: Compare) -> Pending<'_, bool> {
        let key = key.to_owned();
        Box::pin(async move {
            check_key(&key)?;
            let delete = TxnOp::delete(full(&key), None::<DeleteOptions>);
            let txn = Txn::new().when(condition(&key, compare)).and_then([delete]);
            let done = self.client.kv_client().txn(txn).await.map_err(self.failed())?;
            if !done.succeeded() {
                return Err(StoreError::Conflict { key });
            }
            let deleted = |response| matches!(response, TxnOpResponse::Delete(found) if found.deleted() > 0);
            Ok(done.op_responses().into_iter().any(deleted))
        })
    }

    fn list(&self, prefix: &str) -> Pending<'_, Listing> {
        let prefix = full(prefix);
        Box::pin(async move {
            let options = Some(GetOptions::new().with_prefix());
            let found = self.client.kv_client().get(prefix, options).await.map_err(self.failed())?;
            let revision = found.header().map_or(0, |header| header.revision() as u64);
            Ok(Listing { revision, entries: found.kvs().iter().filter_map(entry).collect() })
        })
    }

    fn watch(&self, prefix: &str, from_revision: u64) -> Pending<'_, Watch> {
        let prefix = full(prefix);
        Box::pin(async move {
            let options = WatchOptions::new().with_prefix().with_start_revision(from_revision as i64);
            let mut stream =
                self.client.watch_client().watch(prefix, Some(options)).await.map_err(self.failed())?;
            let (sender, changes) = mpsc::channel(WATCH_QUEUE_MAX);
            let failed = self.failed();
            tokio::spawn(async move {
                loop {
                    let message = tokio::select! {
                        message = stream.message() => message,
                        () = sender.closed() => return,
                    };
                    match message {
                        Ok(Some(response)) => {
                            if !forward(&response, &sender).await {
                                return;
                            }
                        }
                        Ok(None) => return,
                        Err(error) => {
                            // The receiver may be gone, which is as well.
                            drop(sender.send(Err(failed(error))).await);
                            return;
                        }
                    }
                }
            });
            Ok(Watch { changes })
        })
    }

    fn lease_grant(&self, ttl_s: u32) -> Pending<'_, LeaseId> {
        Box::pin(async move {
            let granted =
                self.client.lease_client().grant(i64::from(ttl_s), None).await.map_err(self.failed())?;
            Ok(LeaseId(granted.id() as u64))
        })
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Pending<'_, ()> {
        Box::pin(async move {
            match self.client.lease_client().keep_alive(lease.0 as i64).await {
                Ok(_) => Ok(()),
                Err(error) if is_lease_gone(&error) => Err(StoreError::LeaseGone(lease.0)),
                Err(error) => Err(self.failed()(error)),
            }
        })
    }

    fn lease_revoke(&self, lease: LeaseId) -> Pending<'_, ()> {
        Box::pin(async move {
            match self.client.lease_client().revoke(lease.0 as i64).await {
                Ok(_) => Ok(()),
                Err(error) if is_lease_gone(&error) => Err(StoreError::LeaseGone(lease.0)),
                Err(error) => Err(self.failed()(error)),
            }
        })
    }
}

/// Passes a response on; answers whether the watch goes on.
async fn forward(response: &WatchResponse, sender: &mpsc::Sender<Result<Change, StoreError>>) -> bool {
    if response.canceled() {
        let error = match response.compact_revision() {
            0 => StoreError::WatchEnded,
            revision => StoreError::Compacted(revision as u64),
        };
        // The receiver may be gone, which is as well.
        drop(sender.send(Err(error)).await);
        return false;
    }
    for event in response.events() {
        let Some((found, key)) = event.kv().and_then(|found| Some((found, own(found.key())?))) else {
            continue;
        };
        let value = (event.event_type() == EventType::Put).then(|| found.value().to_vec());
        let change = Change { revision: found.mod_revision() as u64, key, value };
        if sender.send(Ok(change)).await.is_err() {
            return false;
        }
    }
    true
}
