//! What clients ask about a document's past, and its deletion: taken, answered, refused.
//!
//! The past is read by the storage worker, one request at a time and behind what others wait for. A request waits until
//! the store holds what it is about. Answers are sent piece by piece from where the connection stands; one that does not
//! read loses its answer after a while.

use bytes::Bytes;
use wire::limits::STATE_CHUNK_BYTES;
use wire::sync::{self, Channel, Past, Server, VersionEntry};
use wire::{Access, Code, Guuid, Time};

use crate::config::{ANSWER_PATIENCE, ANSWERS_BYTES_MAX};
use crate::document::Residence;
use crate::jobs::{At, Job, JobDone, Version};
use crate::output::{Queued, What};
use crate::pending_acks::PendingAck;
use crate::storage::Wanted;
use crate::{AppendLog, LogFull, StateSync, SubscriberKey};

/// Why a request was refused: the code and what was wrong.
type Refusal = (Code, &'static str);

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Delete,
    CreateVersion(Box<str>),
    ListVersions,
    ReadAt(At),
}

impl Asked {
    /// Reads what a request asks, and what must be granted for it.
    pub(crate) fn of(message: &sync::Client<'_>) -> Option<(u32, u32, Self)> {
        Some(match *message {
            sync::Client::Delete { handle, request } => (handle, request, Self::Delete),
            sync::Client::CreateVersion { handle, request, name } => {
                (handle, request, Self::CreateVersion(Box::from(name)))
            }
            sync::Client::ListVersions { handle, request } => (handle, request, Self::ListVersions),
            sync::Client::ReadAt { handle, request, at } => {
                let at = match at {
                    sync::At::Sequence(sequence) => At::Sequence(sequence),
                    sync::At::UnixMs(unix_ms) => At::UnixMs(unix_ms),
                    sync::At::Version(name) => At::Version(Box::from(name)),
                };
                (handle, request, Self::ReadAt(at))
            }
            _ => return None,
        })
    }

    const fn needed(&self) -> Access {
        match self {
            Self::Delete => Access::Admin,
            Self::CreateVersion(_) | Self::ListVersions | Self::ReadAt(_) => Access::Write,
        }
    }
}

/// How far a request is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// The store is to have all ops up to this one first.
    Storing(u64),
    /// Its job is asked for or under way.
    Working,
    /// The deletion is in the log.
    Logged,
    /// The state is being sent.
    Answering { state: Bytes, offset: usize, since: Time, is_listed: bool },
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Counts the requests: never used again, unlike its place in the table.
    number: u64,
    key: SubscriberKey,
    handle: u32,
    /// The client's name for it.
    request: u32,
    /// The document.
    pub(crate) slot: usize,
    asked: Asked,
    stage: Stage,
    /// The last op of the document when it was asked.
    sequence: u64,
}

impl StateSync {
    pub(crate) fn handle_request(
        &mut self,
        key: SubscriberKey,
        (handle, request, asked): (u32, u32, Asked),
        log: &mut impl AppendLog,
    ) {
        self.stats.requests += 1;
        if let Err((code, text)) = self.try_request(key, (handle, request, asked), log) {
            self.refuse_request(key, handle, request, code, text);
        }
    }

    fn try_request(
        &mut self,
        key: SubscriberKey,
        (handle, request, asked): (u32, u32, Asked),
        log: &mut impl AppendLog,
    ) -> Result<(), Refusal> {
        let connection = self.connections.get(&key).expect("checked by the caller");
        let Some(&subscription) = connection.open.get(&handle) else {
            let waits = connection.waiting.iter().any(|waiting| waiting.handle == handle);
            return Err(match waits {
                true => (Code::DocumentBusy, "the document is being loaded: ask again later"),
                false => (Code::UnknownHandle, "request under a handle that is not open"),
            });
        };
        let limits = &self.config.limits;
        let is_full = connection.requests.len() >= limits.requests_per_connection_max
            || self.requests.len() >= limits.requests_max;
        if is_full && asked != Asked::Delete {
            self.stats.requests_busy += 1;
            return Err((Code::DocumentBusy, "too many requests are under way: ask again later"));
        }
        let found = &self.subscriptions[subscription];
        if found.access < asked.needed() {
            return Err((Code::Forbidden, "the session's grants do not allow it on this document"));
        }
        let (slot, writer) = (found.document, found.writer);
        let stage = match &asked {
            Asked::Delete => self.delete(slot, writer, log)?,
            _ => self.stage_of(slot, &asked)?,
        };
        self.requests_made += 1;
        let number = self.requests_made;
        let sequence = self.documents[slot].sequence;
        let id = self.requests.insert(Request {
            number,
            key,
            handle,
            request,
            slot,
            asked,
            stage: stage.clone(),
            sequence,
        });
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.requests.push(id);
        }
        let document = &mut self.documents[slot];
        match stage {
            Stage::Storing(_) => {
                document.jobs += 1;
                document.is_awaited = true;
                self.want_snapshot(slot, true);
            }
            Stage::Working => {
                document.jobs += 1;
                self.requests_wanted.push_back((slot, id, number));
            }
            Stage::Logged | Stage::Answering { .. } => {}
        }
        Ok(())
    }

    /// What must be in the store before the request can be answered.
    fn stage_of(&mut self, slot: usize, asked: &Asked) -> Result<Stage, Refusal> {
        if let Asked::ReadAt(_) = asked
            && self.answers_bytes >= ANSWERS_BYTES_MAX
        {
            self.drop_stale_answers();
            if self.answers_bytes >= ANSWERS_BYTES_MAX {
                self.stats.requests_busy += 1;
                return Err((Code::DocumentBusy, "too much of the past is being read: ask again later"));
            }
        }
        let document = &self.documents[slot];
        match document.residence {
            Residence::Ready => {}
            Residence::Unusable(code) => return Err((code, "what is stored of the document cannot be used")),
            _ => return Err((Code::DocumentDeleted, "the document was deleted")),
        }
        let needed = match asked {
            Asked::ReadAt(At::Sequence(sequence)) if *sequence > document.visible_sequence() => {
                return Err((Code::HistoryNotKept, "the document has no such op yet"));
            }
            Asked::ReadAt(At::Sequence(sequence)) => *sequence,
            Asked::ReadAt(At::UnixMs(_)) => document.durable_sequence,
            Asked::CreateVersion(_) => document.sequence,
            // A version names what is stored.
            Asked::ReadAt(At::Version(_)) | Asked::ListVersions | Asked::Delete => 0,
        };
        let is_stored = needed <= document.stored_sequence;
        Ok(if is_stored { Stage::Working } else { Stage::Storing(needed) })
    }

    /// Puts a document's end into the log, unless it is there.
    fn delete(&mut self, slot: usize, writer: Guuid, log: &mut impl AppendLog) -> Result<Stage, Refusal> {
        if !matches!(self.documents[slot].residence, Residence::Ready | Residence::Unusable(_)) {
            return Ok(Stage::Logged);
        }
        let unix_ms = self.unix_ms();
        let lsn = self.append(slot, writer, unix_ms, None, log);
        let lsn = lsn.map_err(|LogFull| (Code::LogBusy, "the log takes no more: ask again later"))?;
        let document = &mut self.documents[slot];
        let sequence = document.sequence + 1;
        document.residence = Residence::Deleted { sequence, unix_ms };
        let is_clean = document.dirty_lsn.is_none();
        if is_clean {
            self.mark_dirty_from(slot, Some(lsn));
        }
        self.pending_acks.push(PendingAck { lsn, document: slot, writer, counter: 0, sequence });
        Ok(Stage::Logged)
    }

    /// The end of a document is durable: who has it open is told, and the store is asked to delete it.
    pub(crate) fn take_deleted(&mut self, slot: usize, sequence: u64) {
        // Ops before it are acknowledged while there is somebody to acknowledge to.
        self.flush_acks();
        let ids: Vec<_> =
            self.requests.iter().filter(|(_, found)| found.slot == slot).map(|(id, _)| id).collect();
        for id in ids {
            let found = &self.requests[id];
            let (key, handle, request) = (found.key, found.handle, found.request);
            if found.asked == Asked::Delete {
                self.send_control(key, Server::Done { handle, request, sequence }.to_vec());
            } else {
                let text = "the document was deleted meanwhile";
                self.refuse_request(key, handle, request, Code::DocumentDeleted, text);
            }
            self.drop_request(id);
        }
        for subscription in self.documents[slot].subscribers.clone() {
            self.expel(subscription, Code::DocumentDeleted, "the document was deleted");
        }
        self.documents[slot].durable_sequence = sequence;
        self.want(slot, Wanted::Delete { slot });
    }

    /// The job of the next request, if it is still of use.
    pub(crate) fn poll_request(&mut self) -> Option<(usize, usize, u64, Option<Job>)> {
        let (slot, id, number) = self.requests_wanted.pop_front()?;
        let found = self.requests.get(id).filter(|found| found.number == number);
        let Some(found) = found else { return Some((slot, id, number, None)) };
        let document = self.documents[slot].id.clone();
        let job = match &found.asked {
            Asked::Delete => return Some((slot, id, number, None)),
            Asked::CreateVersion(name) => {
                let version =
                    Version { name: name.clone(), sequence: found.sequence, unix_ms: self.unix_ms() };
                Job::CreateVersion { document, version }
            }
            Asked::ListVersions => Job::ListVersions { document },
            Asked::ReadAt(at) => Job::ReadAt { document, at: at.clone() },
        };
        Some((slot, id, number, Some(job)))
    }

    /// The store holds more of a document, or could not take it: requests that waited for that go on.
    pub(crate) fn continue_stored(&mut self, slot: usize, is_stored: bool) {
        if !std::mem::take(&mut self.documents[slot].is_awaited) {
            return;
        }
        let stored_sequence = self.documents[slot].stored_sequence;
        let waits = |found: &Request| match found.stage {
            Stage::Storing(sequence) if found.slot == slot => Some(sequence),
            _ => None,
        };
        let waiting = self.requests.iter().filter_map(|(id, found)| Some((found.number, id, waits(found)?)));
        // In the order in which they were asked: of two versions of one name the later one stays.
        let mut ids: Vec<_> = waiting.collect();
        ids.sort_unstable();
        for (_, id, sequence) in ids {
            let found = &mut self.requests[id];
            if !is_stored {
                let (key, handle, request) = (found.key, found.handle, found.request);
                let text = "the document could not be stored: ask again later";
                self.refuse_request(key, handle, request, Code::StorageFailed, text);
                self.drop_request(id);
            } else if sequence <= stored_sequence {
                found.stage = Stage::Working;
                self.requests_wanted.push_back((slot, id, found.number));
            } else {
                self.documents[slot].is_awaited = true;
            }
        }
        if self.documents[slot].is_awaited {
            self.want_snapshot(slot, true);
        }
    }

    /// The storage worker has an answer.
    pub(crate) fn take_answer(&mut self, id: usize, number: u64, done: JobDone) {
        let Some(found) = self.requests.get_mut(id).filter(|found| found.number == number) else { return };
        let (key, handle, request, sequence) = (found.key, found.handle, found.request, found.sequence);
        // Its job is done: it holds the document no longer.
        found.stage = Stage::Logged;
        match done {
            JobDone::VersionCreated => {
                self.stats.versions_created += 1;
                self.send_control(key, Server::Done { handle, request, sequence }.to_vec());
                self.drop_request(id);
            }
            JobDone::Versions(versions) => {
                let entry = |version: &Version| (version.sequence, version.unix_ms);
                let versions = versions.iter().map(|version| {
                    let (sequence, unix_ms) = entry(version);
                    VersionEntry { name: &version.name, sequence, unix_ms }
                });
                let versions = Server::Versions { handle, request, versions: versions.collect() };
                self.send_control(key, versions.to_vec());
                self.drop_request(id);
            }
            JobDone::State { sequence, state, vector } => {
                self.stats.past_reads += 1;
                let (state_bytes, state_vector) = (state.len() as u64, &vector[..]);
                let past = Server::Past(Past { handle, request, sequence, state_bytes, state_vector });
                self.answers_bytes += state_bytes;
                let since = self.now;
                self.requests[id].stage = Stage::Answering { state, offset: 0, since, is_listed: false };
                self.send_control(key, past.to_vec());
                self.list_answer(id);
            }
            JobDone::Failed { code, text } => {
                self.refuse_request(key, handle, request, code, &text);
                self.drop_request(id);
            }
            _ => {
                let text = "the storage worker answered something else";
                self.refuse_request(key, handle, request, Code::StorageFailed, text);
                self.drop_request(id);
            }
        }
    }

    /// Lists an answer that can go on.
    pub(crate) fn list_answer(&mut self, id: usize) {
        let Some(found) = self.requests.get_mut(id) else { return };
        if let Stage::Answering { is_listed, .. } = &mut found.stage
            && !std::mem::replace(is_listed, true)
        {
            self.answering.push_back((id, found.number));
        }
    }

    /// Queues the next piece of an answer, or ends it. False: there is none to go on with.
    pub(crate) fn continue_answer(&mut self) -> bool {
        let Some((id, number)) = self.answering.pop_front() else { return false };
        let Some(found) = self.requests.get_mut(id).filter(|found| found.number == number) else {
            return true;
        };
        let (key, handle, request) = (found.key, found.handle, found.request);
        let Stage::Answering { state, offset, since, is_listed } = &mut found.stage else { return true };
        *is_listed = false;
        if self.connections.get(&key).is_none_or(|connection| connection.blocked || connection.closing) {
            return true;
        }
        if *offset >= state.len() {
            self.drop_request(id);
            return true;
        }
        let start = *offset;
        let end = state.len().min(start + STATE_CHUNK_BYTES);
        *offset = end;
        *since = self.now;
        let piece = Server::PastState { handle, request, bytes: &state[start..end] };
        let message = Bytes::from(piece.to_vec());
        let what = What::Past { request: id, number, offset: start };
        self.outputs.push_back(Queued { to: key, channel: Channel::Sync, message, what });
        self.list_answer(id);
        self.spend_catch_up(end - start);
        true
    }

    /// A piece of an answer was not sent.
    pub(crate) fn put_answer_back(&mut self, id: usize, number: u64, from: usize) {
        let found = self.requests.get_mut(id).filter(|found| found.number == number);
        if let Some(Stage::Answering { offset, .. }) = found.map(|found| &mut found.stage) {
            *offset = from.min(*offset);
        }
    }

    /// Gives up answers that nobody reads.
    fn drop_stale_answers(&mut self) {
        let now = self.now;
        let is_stale = |found: &Request| matches!(found.stage, Stage::Answering { since, .. } if since + ANSWER_PATIENCE < now);
        let stale: Vec<_> =
            self.requests.iter().filter(|(_, found)| is_stale(found)).map(|(id, _)| id).collect();
        for id in stale {
            let found = &self.requests[id];
            let (key, handle, request) = (found.key, found.handle, found.request);
            self.refuse_request(key, handle, request, Code::Overloaded, "the answer was not read in time");
            self.drop_request(id);
        }
    }

    /// Forgets the requests of a handle that is closed.
    pub(crate) fn drop_requests(&mut self, key: SubscriberKey, handle: u32) {
        let Some(connection) = self.connections.get(&key) else { return };
        if connection.requests.is_empty() {
            return;
        }
        for id in connection.requests.clone() {
            if self.requests.get(id).is_some_and(|found| found.handle == handle) {
                self.drop_request(id);
            }
        }
    }

    fn drop_request(&mut self, id: usize) {
        let Some(removed) = self.requests.try_remove(id) else { return };
        if let Some(connection) = self.connections.get_mut(&removed.key) {
            connection.requests.retain(|&other| other != id);
        }
        match removed.stage {
            // Nothing else would give it back.
            Stage::Storing(_) => self.documents[removed.slot].jobs -= 1,
            Stage::Answering { state, .. } => self.answers_bytes -= state.len() as u64,
            Stage::Working | Stage::Logged => {}
        }
    }

    pub(crate) fn refuse_request(
        &mut self,
        key: SubscriberKey,
        handle: u32,
        request: u32,
        code: Code,
        text: &str,
    ) {
        self.stats.requests_refused += 1;
        let retry_after_ms = self.retry_after_ms(code);
        let refused = Server::Refused { handle, request, code, retry_after_ms, text };
        self.send_control(key, refused.to_vec());
    }
}
