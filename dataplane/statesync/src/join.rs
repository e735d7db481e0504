//! Opening and closing documents.

use bytes::Bytes;
use wire::sync::{DocumentKind, Join, Joined, Server};
use wire::{Access, Code, Guuid, Time, access_to};

use crate::document::Document;
use crate::stats::SyncStats;
use crate::subscription::{CatchUp, Subscription};
use crate::yjs::{Quarantined, decode_state_vector};
use crate::{StateSync, SubscriberKey};

/// Why a join was refused: the code and what was wrong.
pub(crate) type Refusal = (Code, &'static str);

pub(crate) const QUARANTINED: Refusal = (
    Code::Quarantined,
    "the document's cached state was given up after a fault of the CRDT library; its ops are safe in the log",
);

/// What a join is answered with.
pub(crate) struct Answer {
    /// The last op in what is sent now.
    sequence: u64,
    /// The node's state vector.
    vector: Bytes,
    catch_up: CatchUp,
    /// The joiner goes on from where it was, and has its own ops.
    is_resumed: bool,
}

impl StateSync {
    pub(crate) fn handle_join(&mut self, now: Time, key: SubscriberKey, join: &Join<'_>) {
        if let Err((code, text)) = self.try_join(now, key, join) {
            self.stats.count_join_refused(code);
            self.send_error(key, join.handle, code, text);
        }
    }

    pub(crate) fn handle_leave(&mut self, now: Time, key: SubscriberKey, handle: u32) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        match connection.open.remove(&handle) {
            Some(subscription) => self.unsubscribe(now, subscription),
            None => self.send_error(key, handle, Code::UnknownHandle, "leave of a handle that is not open"),
        }
    }

    fn try_join(&mut self, now: Time, key: SubscriberKey, join: &Join<'_>) -> Result<(), Refusal> {
        let access = self.check_join(now, key, join)?;
        let (partition, owner) = self.placement.locate(join.document);
        if !self.placement.is_here(owner) {
            self.send_moved(key, join.handle, join.document);
            return Ok(());
        }
        let limits = &self.config.limits;
        let slot = match self.document_ids.get(join.document) {
            Some(&slot) => {
                let document = &self.documents[slot];
                if document.kind != join.kind {
                    return Err((Code::KindMismatch, "the document exists and is of another kind"));
                }
                if document.subscribers.len() >= limits.subscribers_per_document_max {
                    return Err((Code::LimitReached, "the document has as many subscribers as it may have"));
                }
                slot
            }
            None if self.documents.len() >= limits.documents_max => {
                return Err((Code::LimitReached, "the shard holds as many documents as it may hold"));
            }
            None => self.insert_document(join.document, join.kind, partition),
        };
        let document = &mut self.documents[slot];
        let answer = if join.content {
            let writer = self.connections[&key].session.writer_id;
            answer_join(document, self.incarnation, join, writer, &mut self.stats)
        } else {
            Ok(Answer {
                sequence: document.visible_sequence(),
                vector: Bytes::new(),
                catch_up: CatchUp { next: document.visible_sequence() + 1, ..CatchUp::default() },
                is_resumed: false,
            })
        };
        match answer {
            Ok(answer) => {
                self.stats.joins += 1;
                self.subscribe(key, join, slot, access, &answer);
                Ok(())
            }
            Err(refusal) => {
                self.remove_if_vacant(slot);
                Err(refusal)
            }
        }
    }

    /// The checks that need no document. A join under an open handle of the same document starts it anew.
    fn check_join(&mut self, now: Time, key: SubscriberKey, join: &Join<'_>) -> Result<Access, Refusal> {
        let connection = self.connections.get_mut(&key).expect("checked by the caller");
        if join.document.is_empty() {
            return Err((Code::DocumentId, "the document id is empty"));
        }
        let needed = if join.content { Access::Read } else { Access::Presence };
        let access = access_to(&connection.session.grants, join.document).filter(|&access| access >= needed);
        let access =
            access.ok_or((Code::Forbidden, "the session's grants do not allow to open the document"))?;
        let slot = self.document_ids.get(join.document);
        let open = slot.and_then(|&slot| {
            connection.open.iter().find(|&(_, &open)| self.subscriptions[open].document == slot)
        });
        match open.map(|(&handle, &subscription)| (handle, subscription)) {
            Some((handle, subscription)) if handle == join.handle => {
                connection.open.remove(&handle);
                self.unsubscribe(now, subscription);
            }
            Some(_) => {
                return Err((Code::UnknownHandle, "the document is open already under another handle"));
            }
            None if connection.open.contains_key(&join.handle) => {
                return Err((Code::UnknownHandle, "the handle is open already for another document"));
            }
            None if connection.open.len() >= self.config.limits.joins_per_connection_max => {
                return Err((Code::LimitReached, "the connection has as many documents open as it may have"));
            }
            None => {}
        }
        Ok(access)
    }

    fn subscribe(
        &mut self,
        key: SubscriberKey,
        join: &Join<'_>,
        slot: usize,
        access: Access,
        answer: &Answer,
    ) {
        let connection = self.connections.get_mut(&key).expect("checked by the caller");
        let writer = connection.session.writer_id;
        let known_vector = if answer.vector.is_empty() {
            Bytes::copy_from_slice(join.state_vector)
        } else {
            answer.vector.clone()
        };
        let subscription = self.subscriptions.insert(Subscription {
            key,
            handle: join.handle,
            document: slot,
            writer,
            joins: self.stats.joins,
            content: join.content,
            may_write: join.content && access >= Access::Write,
            catch_up: Some(answer.catch_up.clone()),
            is_listed: false,
            echo_own_until: if answer.is_resumed { 0 } else { self.documents[slot].sequence },
            known_vector,
            refused_counter: None,
            ack_due: false,
            presence_missed: false,
            presence_refused_until: Time::ZERO,
        });
        connection.open.insert(join.handle, subscription);
        let document = &mut self.documents[slot];
        document.subscribers.push(subscription);
        let writer_counter = document.writers.get_mut(writer).map_or(0, |progress| {
            progress.subscription = Some(subscription);
            progress.logged_counter
        });
        let joined = Server::Joined(Joined {
            handle: join.handle,
            document: slot as u32,
            incarnation: self.incarnation,
            sequence: answer.sequence,
            writer_counter,
            state_bytes: answer.catch_up.state.len() as u64,
            state_vector: &answer.vector,
        });
        self.send_control(key, joined.to_vec());
        if writer_counter > 0 {
            self.mark_ack_due(subscription);
        }
        for message in self.documents[slot].presence.all(slot as u32) {
            self.send_presence(subscription, wire::sync::Channel::Sync, message);
        }
        self.list_for_catch_up(subscription);
    }

    /// Announces state to a subscriber whose next op is no longer kept.
    pub(crate) fn resync(&mut self, subscription: usize) -> Result<(), Quarantined> {
        let found = &self.subscriptions[subscription];
        let (slot, key) = (found.document, found.key);
        let document = &mut self.documents[slot];
        let next = found.catch_up.as_ref().map_or(1, |catch_up| catch_up.next);
        let cache = document.cache.as_mut().ok_or(Quarantined)?;
        let known = match cache.vector_before(next) {
            Some(vector) => vector.clone(),
            None => decode_state_vector(&found.known_vector).unwrap_or_default(),
        };
        let (state, vector) = cache.diff(&known)?;
        let found = &mut self.subscriptions[subscription];
        let joined = Server::Joined(Joined {
            handle: found.handle,
            document: slot as u32,
            incarnation: self.incarnation,
            sequence: document.sequence,
            writer_counter: document.writers.get(found.writer).map_or(0, |writer| writer.logged_counter),
            state_bytes: state.len() as u64,
            state_vector: &vector,
        });
        let message = joined.to_vec();
        found.known_vector = vector;
        found.catch_up = Some(CatchUp { state, offset: 0, next: document.sequence + 1 });
        self.stats.resyncs += 1;
        self.send_control(key, message);
        Ok(())
    }

    pub(crate) fn send_error(&mut self, key: SubscriberKey, handle: u32, code: Code, text: &str) {
        self.send_control(key, Server::Error { handle, code, retry_after_ms: 0, text }.to_vec());
    }
}

/// Finds the least that brings the joiner up to date.
fn answer_join(
    document: &mut Document,
    incarnation: u64,
    join: &Join<'_>,
    writer: Guuid,
    stats: &mut SyncStats,
) -> Result<Answer, Refusal> {
    let visible = document.visible_sequence();
    // What an ordered log has shown is durable, and the same in all runs.
    let resume = join.resume.filter(|resume| {
        (resume.incarnation == incarnation || document.kind == DocumentKind::Opaque)
            && resume.sequence <= visible
            && document.log.holds_from(resume.sequence + 1)
    });
    if let Some(resume) = resume {
        stats.resumes += 1;
        return Ok(answer_resume(document, resume.sequence, writer));
    }
    let all_ops = Answer {
        sequence: visible,
        vector: Bytes::new(),
        catch_up: CatchUp { next: 1, ..CatchUp::default() },
        is_resumed: false,
    };
    if document.kind == DocumentKind::Opaque {
        return Ok(all_ops);
    }
    let held = decode_state_vector(join.state_vector)
        .ok_or((Code::StateVector, "the state vector does not follow the Yjs v1 format"))?;
    match state_for(document, &held, stats) {
        Ok(answer) => Ok(answer),
        // Without the cache, all ops one by one say the same, as long as all are kept.
        Err(Quarantined) if document.log.holds_from(1) => Ok(all_ops),
        Err(Quarantined) => Err(QUARANTINED),
    }
}

/// The ops after `sequence`. The joiner's own are left out, so the last op announced is another's.
fn answer_resume(document: &mut Document, sequence: u64, writer: Guuid) -> Answer {
    let mut last = document.visible_sequence();
    while last > sequence && document.log.get(last).is_some_and(|op| op.writer == writer) {
        last -= 1;
    }
    let vector = document.cache.as_mut().and_then(|cache| cache.state_vector().ok()).unwrap_or_default();
    let catch_up = CatchUp { next: sequence + 1, ..CatchUp::default() };
    Answer { sequence: last, vector, catch_up, is_resumed: true }
}

fn state_for(
    document: &mut Document,
    held: &yrs::StateVector,
    stats: &mut SyncStats,
) -> Result<Answer, Quarantined> {
    let cache = document.cache.as_mut().ok_or(Quarantined)?;
    if !held.is_empty() {
        let (state, vector) = cache.diff(held)?;
        let catch_up = CatchUp { state, offset: 0, next: document.sequence + 1 };
        return Ok(Answer { sequence: document.sequence, vector, catch_up, is_resumed: false });
    }
    let shared = cache.cached_snapshot().filter(|snapshot| {
        document.sequence - snapshot.sequence <= snapshot.age_ops_max()
            && document.log.holds_from(snapshot.sequence + 1)
    });
    let snapshot = match shared {
        Some(snapshot) => {
            stats.states_shared += 1;
            snapshot.clone()
        }
        None => {
            stats.states_encoded += 1;
            cache.snapshot(document.sequence)?
        }
    };
    let catch_up = CatchUp { state: snapshot.state, offset: 0, next: snapshot.sequence + 1 };
    Ok(Answer { sequence: snapshot.sequence, vector: snapshot.vector, catch_up, is_resumed: false })
}
