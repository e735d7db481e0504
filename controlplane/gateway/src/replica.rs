//! What the gateway knows of an open document: a cache, made of what the node sent and the sockets said.
//!
//! It answers step 1 of a joining editor and the reads over REST. The alternative, a join at the node for
//! every socket with the socket's own state vector, would take a round trip and a subscription each, and the
//! node's core would pay for the differences. Updates are gathered as they are and integrated only when
//! somebody asks, because relaying needs no document. It must never stand for a document whose state has not
//! arrived: the hub makes one only from the node's state.
//!
//! A panic of the CRDT library is caught; the replica is then broken and its owner discards it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;
use wire::limits::SHARED_TYPES_MAX;
use wire::yjs_scan::{scan_state_vector, scan_update};
use yrs::types::ToJson;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Array, Doc, GetString, Map, ReadTxn, StateVector, Transact, Update};

use crate::documents::{Query, Reading};

/// Bytes of updates that may wait for being integrated.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// The most updates that may wait, so that a question after many small ones does not take long.
const PENDING_UPDATES_MAX: usize = 4_096;

/// What the bytes or the CRDT library did not allow.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum ReplicaError {
    /// Not a Yjs update (v1).
    #[error("not a Yjs update (v1): {0}")]
    Update(String),
    /// Not a Yjs state vector (v1).
    #[error("not a Yjs state vector (v1): {0}")]
    StateVector(String),
    /// The library failed on updates that had passed the checks.
    #[error("the CRDT library failed on this document: {0}; its log is not affected")]
    Broken(String),
}

/// Refuses what is not a Yjs update (v1), before anybody else is bothered with it.
pub(crate) fn check_update(update: &[u8]) -> Result<(), ReplicaError> {
    decode_update(update).map(drop)
}

/// Refuses what is not a Yjs state vector (v1).
pub(crate) fn check_state_vector(state_vector: &[u8]) -> Result<(), ReplicaError> {
    decode_state_vector(state_vector).map(drop)
}

fn decode_update(update: &[u8]) -> Result<Update, ReplicaError> {
    let shared_types = scan_update(update).map_err(|error| ReplicaError::Update(error.to_string()))?;
    if shared_types > SHARED_TYPES_MAX {
        let text = format!("{shared_types} shared types are over the limit of {SHARED_TYPES_MAX}");
        return Err(ReplicaError::Update(text));
    }
    let decoded = guarded(|| Update::decode_v1(update)).map_err(ReplicaError::Update)?;
    decoded.map_err(|error| ReplicaError::Update(error.to_string()))
}

fn decode_state_vector(state_vector: &[u8]) -> Result<StateVector, ReplicaError> {
    scan_state_vector(state_vector).map_err(|error| ReplicaError::StateVector(error.to_string()))?;
    let decoded = guarded(|| StateVector::decode_v1(state_vector)).map_err(ReplicaError::StateVector)?;
    decoded.map_err(|error| ReplicaError::StateVector(error.to_string()))
}

/// Runs `work`, turning a panic into its message.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
    })
}

/// The cached document.
pub(crate) struct Replica {
    doc: Doc,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    broken: Option<String>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Replica");
        out.field("pending", &self.pending.len()).field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Default for Replica {
    fn default() -> Self {
        Self { doc: Doc::new(), pending: Vec::new(), pending_bytes: 0, broken: None }
    }
}

impl Replica {
    /// Takes an update that has passed [`check_update`] or comes from the node.
    pub(crate) fn push(&mut self, update: Bytes) -> Result<(), ReplicaError> {
        self.pending_bytes += update.len();
        self.pending.push(update);
        if self.pending_bytes > PENDING_BYTES_MAX || self.pending.len() >= PENDING_UPDATES_MAX {
            return self.integrate();
        }
        Ok(())
    }

    /// Takes an update that may hold nothing new, as the answers of reconnecting editors often do; false:
    /// nothing is new.
    pub(crate) fn push_if_new(&mut self, update: &Bytes) -> Result<bool, ReplicaError> {
        self.integrate()?;
        let decoded = decode_update(update)?;
        self.with(|doc| {
            let mut transaction = doc.transact_mut();
            let applied = transaction.apply_update(decoded).map_err(|error| error.to_string());
            let new = transaction.before_state() != transaction.after_state()
                || !transaction.delete_set().is_empty()
                || transaction.has_missing_updates();
            applied.map(|()| new)
        })?
        .map_err(|why| self.broke(why))
    }

    /// What is asked for.
    pub(crate) fn read(&mut self, query: Query) -> Result<Reading, ReplicaError> {
        Ok(match query {
            Query::Text(name) => Reading::Text(self.text(&name)?),
            Query::Json(name) => Reading::Json(self.json(name.as_deref())?),
            Query::Update(state_vector) => Reading::Bytes(self.difference(&state_vector)?),
            Query::StateVector => Reading::Bytes(self.state_vector()?),
        })
    }

    /// The state vector (v1).
    pub(crate) fn state_vector(&mut self) -> Result<Bytes, ReplicaError> {
        self.integrate()?;
        self.with(|doc| doc.transact().state_vector().encode_v1().into())
    }

    /// An update (v1) with what `state_vector` lacks; all of it when that is empty.
    pub(crate) fn difference(&mut self, state_vector: &[u8]) -> Result<Bytes, ReplicaError> {
        self.integrate()?;
        let from =
            if state_vector.is_empty() { StateVector::default() } else { decode_state_vector(state_vector)? };
        self.with(|doc| doc.transact().encode_state_as_update_v1(&from).into())
    }

    /// The text of the root type `name`; empty when there is none.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, ReplicaError> {
        self.integrate()?;
        self.with(|doc| {
            let transaction = doc.transact();
            transaction.get_text(name).map(|text| text.get_string(&transaction)).unwrap_or_default()
        })
    }

    /// The root type `name`, or all of them by name, as JSON. Updates do not tell the types of roots: one
    /// with keys is taken for a map, one with characters for a text, and one with anything else for an array.
    pub(crate) fn json(&mut self, name: Option<&str>) -> Result<Value, ReplicaError> {
        self.integrate()?;
        self.with(|doc| {
            let transaction = doc.transact();
            match name {
                Some(name) => root_json(&transaction, name),
                None => {
                    let roots = transaction.root_refs();
                    roots.map(|(name, _)| (name.to_owned(), root_json(&transaction, name))).collect()
                }
            }
        })
    }

    fn integrate(&mut self) -> Result<(), ReplicaError> {
        if self.pending.is_empty() && self.broken.is_none() {
            return Ok(());
        }
        self.pending_bytes = 0;
        let pending = std::mem::take(&mut self.pending);
        self.with(|doc| {
            let mut transaction = doc.transact_mut();
            pending.iter().try_for_each(|update| {
                let update = Update::decode_v1(update).map_err(|error| error.to_string())?;
                transaction.apply_update(update).map_err(|error| error.to_string())
            })
        })?
        .map_err(|why| self.broke(why))
    }

    fn with<T>(&mut self, work: impl FnOnce(&Doc) -> T) -> Result<T, ReplicaError> {
        if let Some(why) = &self.broken {
            return Err(ReplicaError::Broken(why.clone()));
        }
        guarded(|| work(&self.doc)).map_err(|why| self.broke(why))
    }

    fn broke(&mut self, why: String) -> ReplicaError {
        self.broken = Some(why.clone());
        ReplicaError::Broken(why)
    }
}

fn root_json<T: ReadTxn>(transaction: &T, name: &str) -> Value {
    let to_value = |any| serde_json::to_value(&any).unwrap_or(Value::Null);
    if let Some(map) = transaction.get_map(name)
        && map.len(transaction) > 0
    {
        return to_value(map.to_json(transaction));
    }
    let text = transaction.get_text(name).map(|text| text.get_string(transaction)).unwrap_or_default();
    match transaction.get_array(name) {
        Some(array) if text.is_empty() && array.len(transaction) > 0 => to_value(array.to_json(transaction)),
        Some(_) => Value::String(text),
        None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yrs::{Any, Text};

    fn typed(client: u64, name: &str, text: &str) -> Bytes {
        let doc = Doc::with_client_id(client);
        let root = doc.get_or_insert_text(name);
        let mut transaction = doc.transact_mut();
        root.push(&mut transaction, text);
        transaction.encode_update_v1().into()
    }

    #[test]
    fn a_question_is_answered_before_updates_are_integrated() {
        let mut replica = Replica::default();
        let update = typed(1, "content", "hello");
        replica.push(update.clone()).unwrap();
        assert_eq!(replica.text("content").unwrap(), "hello");
        assert_eq!(replica.text("other").unwrap(), "");
        assert_eq!(&replica.state_vector().unwrap()[..], [1, 1, 5]);
        assert_eq!(replica.difference(&[]).unwrap(), update);
        assert_eq!(&replica.difference(&[1, 1, 5]).unwrap()[..], crate::yproto::UPDATE_EMPTY);
    }

    #[test]
    fn what_is_known_already_is_logged_again() {
        let doc = Doc::with_client_id(1);
        let text = doc.get_or_insert_text("content");
        text.push(&mut doc.transact_mut(), "hello");
        text.remove_range(&mut doc.transact_mut(), 0, 2);
        let all: Bytes = doc.transact().encode_state_as_update_v1(&StateVector::default()).into();
        let deleted: Bytes = doc.transact().encode_state_as_update_v1(&doc.transact().state_vector()).into();
        assert!(deleted.len() > crate::yproto::UPDATE_EMPTY.len());
        let mut replica = Replica::default();
        assert_eq!(replica.push_if_new(&all), Ok(true));
        assert_eq!(replica.push_if_new(&all), Ok(false));
        assert_eq!(replica.push_if_new(&deleted), Ok(false));
        assert_eq!(replica.push_if_new(&typed(2, "content", "x")), Ok(true));
    }

    #[test]
    fn a_deletion_of_what_is_not_here_yet_counts_as_nothing() {
        let doc = Doc::with_client_id(1);
        let text = doc.get_or_insert_text("content");
        text.push(&mut doc.transact_mut(), "hello");
        text.remove_range(&mut doc.transact_mut(), 0, 2);
        let deleted: Bytes = doc.transact().encode_state_as_update_v1(&doc.transact().state_vector()).into();
        assert_eq!(Replica::default().push_if_new(&deleted), Ok(true));
    }

    #[test]
    fn garbage_is_taken_for_an_update() {
        for bytes in [&[][..], &[1], &[9, 9, 9], &[0xff; 20]] {
            assert!(matches!(check_update(bytes), Err(ReplicaError::Update(_))), "{bytes:?}");
        }
        assert!(check_update(crate::yproto::UPDATE_EMPTY).is_ok());
        assert!(check_state_vector(&[0]).is_ok());
        assert!(matches!(check_state_vector(&[5, 1]), Err(ReplicaError::StateVector(_))));
        let update = typed(1, "content", "hello");
        for at in 0..update.len() {
            let _ = check_update(&update[..at]);
        }
    }

    #[test]
    fn a_root_is_read_as_another_type() {
        let doc = Doc::with_client_id(1);
        let (text, map) = (doc.get_or_insert_text("text"), doc.get_or_insert_map("map"));
        let array = doc.get_or_insert_array("array");
        {
            let mut transaction = doc.transact_mut();
            text.push(&mut transaction, "hi");
            map.insert(&mut transaction, "key", "value");
            array.push_back(&mut transaction, Any::from(1.5));
            array.push_back(&mut transaction, Any::from("two"));
        }
        let mut replica = Replica::default();
        replica.push(doc.transact().encode_state_as_update_v1(&StateVector::default()).into()).unwrap();
        let all = serde_json::json!({ "text": "hi", "map": { "key": "value" }, "array": [1.5, "two"] });
        assert_eq!(replica.json(None).unwrap(), all);
        assert_eq!(replica.json(Some("map")).unwrap(), all["map"]);
        assert_eq!(replica.json(Some("none")).unwrap(), Value::Null);
    }
}
