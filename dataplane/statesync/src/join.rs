//! Opening and closing documents.

use bytes::Bytes;
use wire::sync::{Client, DocumentKind, Join, Joined, Server};
use wire::{Access, Code, Time, access_to};

use crate::config::DIFF_DOCUMENT_BYTES_MIN;
use crate::connection::WaitingJoin;
use crate::document::{Document, Residence};
use crate::storage::Wanted;
use crate::subscription::{Awaited, CatchUp, Known, Subscription};
use crate::yjs::decode_state_vector;
use crate::{StateSync, SubscriberKey};

/// Why a join was refused: the code and what was wrong.
pub(crate) type Refusal = (Code, &'static str);

/// The state of a Yjs document that holds nothing (update v1).
const EMPTY_STATE: &[u8] = &[0, 0];
const DELETED: Refusal = (Code::DocumentDeleted, "the document was deleted");

/// What a join is answered with.
struct Answer {
    /// The node's state vector.
    vector: Bytes,
    /// What the joiner has by the time the ops of `catch_up` come.
    known: Known,
    catch_up: Box<CatchUp>,
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
        if let Some(at) = connection.waiting.iter().position(|waiting| waiting.handle == handle) {
            connection.waiting.swap_remove(at);
            self.waiting_joins -= 1;
            return;
        }
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
        let slot = match self.document_ids.get(join.document) {
            Some(&slot) => slot,
            None => self.load(join, partition)?,
        };
        let document = &mut self.documents[slot];
        match document.residence {
            Residence::Loading => return self.wait(key, join, slot),
            Residence::Deleted { .. } | Residence::Gone => return Err(DELETED),
            Residence::Unusable(_) if !join.content && access >= Access::Admin => {}
            Residence::Unusable(code) => return Err((code, "what is stored of the document cannot be used")),
            Residence::Ready => {}
        }
        if document.kind != join.kind {
            return Err((Code::KindMismatch, "the document exists and is of another kind"));
        }
        if document.subscribers.len() >= self.config.limits.subscribers_per_document_max {
            return Err((Code::LimitReached, "the document has as many subscribers as it may have"));
        }
        document.used = now;
        let answer = if join.content {
            self.answer_join(slot, join)
        } else {
            let sequence = document.visible_sequence();
            Ok(Answer {
                vector: Bytes::new(),
                known: Known::default(),
                catch_up: CatchUp::from(sequence + 1),
                is_resumed: false,
            })
        };
        match answer {
            Ok(answer) => {
                self.stats.joins += 1;
                self.subscribe(key, join, slot, access, answer);
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
        let waits = connection.waiting.iter().any(|waiting| {
            waiting.handle == join.handle || slot.is_some_and(|&slot| slot == waiting.document)
        });
        match open.map(|(&handle, &subscription)| (handle, subscription)) {
            Some((handle, subscription)) if handle == join.handle => {
                connection.open.remove(&handle);
                self.unsubscribe(now, subscription);
            }
            Some(_) => {
                return Err((Code::UnknownHandle, "the document is open already under another handle"));
            }
            None if waits => {
                return Err((Code::UnknownHandle, "the handle or the document waits for a join already"));
            }
            None if connection.open.contains_key(&join.handle) => {
                return Err((Code::UnknownHandle, "the handle is open already for another document"));
            }
            None if connection.open.len() + connection.waiting.len()
                >= self.config.limits.joins_per_connection_max =>
            {
                return Err((Code::LimitReached, "the connection has as many documents open as it may have"));
            }
            None => {}
        }
        Ok(access)
    }

    /// Makes a document that is not in memory, and asks the store for it.
    fn load(&mut self, join: &Join<'_>, partition: u32) -> Result<usize, Refusal> {
        if self.documents.len() >= self.config.limits.documents_max {
            return Err((Code::LimitReached, "the shard holds as many documents as it may hold"));
        }
        if self.wanted.len() >= self.config.limits.jobs_queued_max {
            self.stats.joins_busy += 1;
            return Err((Code::DocumentBusy, "too many documents wait to be loaded: join again later"));
        }
        self.relieve_memory();
        if self.is_memory_short() {
            self.stats.joins_no_memory += 1;
            return Err((Code::DocumentBusy, "the shard's documents take all memory: join again later"));
        }
        let slot = self.insert_document(join.document, join.kind, partition, Residence::Loading);
        self.want(slot, Wanted::Load { slot });
        Ok(slot)
    }

    /// Keeps a join until its document is loaded.
    fn wait(&mut self, key: SubscriberKey, join: &Join<'_>, slot: usize) -> Result<(), Refusal> {
        if self.waiting_joins >= self.config.limits.waiting_joins_max {
            self.stats.joins_busy += 1;
            return Err((Code::DocumentBusy, "too many joins wait for documents: join again later"));
        }
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
        let message = Client::Join(join.clone()).to_vec().into_boxed_slice();
        let waiting = WaitingJoin { handle: join.handle, document: slot, message, refused_counter: None };
        connection.waiting.push(waiting);
        self.waiting_joins += 1;
        self.stats.joins_waited += 1;
        self.documents[slot].waiting.push(key);
        Ok(())
    }

    /// Takes the joins up that waited for a document.
    pub(crate) fn resume_waiting(&mut self, now: Time, slot: usize) {
        for key in std::mem::take(&mut self.documents[slot].waiting) {
            let Some(waiting) = self.take_waiting(key, slot) else { continue };
            let Ok(Client::Join(join)) = Client::decode(&waiting.message) else { continue };
            self.handle_join(now, key, &join);
            let connection = self.connections.get(&key);
            let subscription = connection.and_then(|connection| connection.open.get(&waiting.handle));
            if let Some(&subscription) = subscription {
                self.subscriptions[subscription].refused_counter = waiting.refused_counter;
            }
        }
    }

    /// Refuses the joins that waited for a document.
    pub(crate) fn refuse_waiting(&mut self, slot: usize, code: Code, text: &str) {
        for key in std::mem::take(&mut self.documents[slot].waiting) {
            if let Some(waiting) = self.take_waiting(key, slot) {
                self.stats.count_join_refused(code);
                self.send_error(key, waiting.handle, code, text);
            }
        }
    }

    /// The join under `handle` that waits for its document.
    pub(crate) fn waiting_join(&mut self, key: SubscriberKey, handle: u32) -> Option<&mut WaitingJoin> {
        let waiting = &mut self.connections.get_mut(&key)?.waiting;
        waiting.iter_mut().find(|waiting| waiting.handle == handle)
    }

    fn take_waiting(&mut self, key: SubscriberKey, slot: usize) -> Option<WaitingJoin> {
        let connection = self.connections.get_mut(&key)?;
        let at = connection.waiting.iter().position(|waiting| waiting.document == slot)?;
        self.waiting_joins -= 1;
        Some(connection.waiting.swap_remove(at))
    }

    /// Finds the least that brings the joiner up to date.
    fn answer_join(&mut self, slot: usize, join: &Join<'_>) -> Result<Answer, Refusal> {
        let document = &mut self.documents[slot];
        let visible = document.visible_sequence();
        let is_opaque = document.kind == DocumentKind::Opaque;
        let held = decode_state_vector(join.state_vector).filter(|_| !is_opaque);
        // What an ordered log has shown is durable, and the same in all runs. What is not merged can be read from
        // the store op by op.
        let resume = join.resume.filter(|resume| {
            (resume.incarnation == self.incarnation || is_opaque)
                && resume.sequence <= visible
                && (document.tail.holds_from(resume.sequence + 1) || !document.is_merged())
        });
        if let Some(resume) = resume {
            self.stats.resumes += 1;
            let known = if held.is_some() { join.state_vector } else { &[] };
            return Ok(answer_resume(document, resume.sequence, known));
        }
        if is_opaque {
            return Ok(Answer {
                vector: Bytes::new(),
                known: Known::default(),
                catch_up: CatchUp::from(1),
                is_resumed: false,
            });
        }
        let held = held.ok_or((Code::StateVector, "the state vector does not follow the Yjs v1 format"))?;
        let is_diff_cheaper = !held.is_empty() && document.bytes() > DIFF_DOCUMENT_BYTES_MIN;
        if is_diff_cheaper && document.is_merged() {
            if self.wanted.len() >= self.config.limits.jobs_queued_max {
                self.stats.joins_busy += 1;
                return Err((Code::DocumentBusy, "too many joins wait for what they lack: join again later"));
            }
            return Ok(Answer {
                vector: Bytes::new(),
                known: Known::by(0, Bytes::copy_from_slice(join.state_vector)),
                catch_up: CatchUp::waiting(Awaited::Join, visible + 1),
                is_resumed: false,
            });
        }
        self.stats.states_shared += 1;
        let answer = answer_all(document);
        if document.is_worth_merging() {
            self.want_snapshot(slot, false);
        }
        Ok(answer)
    }

    fn subscribe(
        &mut self,
        key: SubscriberKey,
        join: &Join<'_>,
        slot: usize,
        access: Access,
        answer: Answer,
    ) {
        let connection = self.connections.get_mut(&key).expect("checked by the caller");
        let writer = connection.session.writer_id;
        self.subscriptions_made += 1;
        let is_waiting = answer.catch_up.awaited.is_some();
        let state_bytes = answer.catch_up.state.len() as u64;
        let subscription = self.subscriptions.insert(Subscription {
            number: self.subscriptions_made,
            key,
            handle: join.handle,
            document: slot,
            writer,
            content: join.content,
            access,
            is_announced: false,
            catch_up: Some(answer.catch_up),
            is_listed: false,
            echo_own_until: if answer.is_resumed { 0 } else { self.documents[slot].sequence },
            known: answer.known,
            held_diff: None,
            refused_counter: None,
            ack_due: false,
            presence_missed: false,
            presence_refused_until: Time::ZERO,
        });
        connection.open.insert(join.handle, subscription);
        let document = &mut self.documents[slot];
        document.subscribers.push(subscription);
        if let Some(progress) = document.writers.get_mut(writer) {
            progress.subscription = Some(subscription);
        }
        if is_waiting {
            let number = self.subscriptions_made;
            self.want(slot, Wanted::Diff { subscription, number });
            return;
        }
        self.announce(subscription, &answer.vector, state_bytes);
    }

    /// Tells a subscriber what comes next for it; the first time, also who is here.
    pub(crate) fn announce(&mut self, subscription: usize, vector: &[u8], state_bytes: u64) {
        let found = &mut self.subscriptions[subscription];
        let (key, slot) = (found.key, found.document);
        let is_first = !std::mem::replace(&mut found.is_announced, true);
        // Later on it is due when the connection can be written to.
        let is_ack_due = is_first && std::mem::take(&mut found.ack_due);
        let document = &self.documents[slot];
        let writer_counter = document.writers.get(found.writer).map_or(0, |writer| writer.logged_counter);
        let state_sequence = found.catch_up.as_ref().map_or(0, |catch_up| catch_up.next - 1);
        let joined = Server::Joined(Joined {
            handle: found.handle,
            document: slot as u32,
            incarnation: self.incarnation,
            sequence: last_to_come(document, found, state_sequence),
            state_sequence,
            writer_counter,
            state_bytes,
            state_vector: vector,
        });
        self.send_control(key, joined.to_vec());
        if is_first {
            if writer_counter > 0 || is_ack_due {
                self.mark_ack_due(subscription);
            }
            for message in self.documents[slot].presence.all(slot as u32) {
                self.send_presence(subscription, message, false);
            }
        }
        self.list_for_catch_up(subscription);
    }

    /// Asks for what a subscriber lacks whose next op is no longer kept.
    pub(crate) fn resync(&mut self, subscription: usize) {
        self.release_diff(subscription);
        let found = &mut self.subscriptions[subscription];
        let (slot, number) = (found.document, found.number);
        let next = found.catch_up.as_ref().map_or(1, |catch_up| catch_up.next);
        let document = &self.documents[slot];
        let wanted = if document.is_merged() {
            self.stats.resyncs += 1;
            found.catch_up = Some(CatchUp::waiting(Awaited::Resync { next }, next));
            Wanted::Diff { subscription, number }
        } else {
            found.catch_up = Some(CatchUp::waiting(Awaited::Ops, next));
            Wanted::ReadOps { subscription, number }
        };
        self.want(slot, wanted);
    }

    pub(crate) fn send_error(&mut self, key: SubscriberKey, handle: u32, code: Code, text: &str) {
        let retry_after_ms = self.retry_after_ms(code);
        self.send_control(key, Server::Error { handle, code, retry_after_ms, text }.to_vec());
    }

    /// When to try again what was refused with this code; zero: not at all.
    pub(crate) fn retry_after_ms(&self, code: Code) -> u32 {
        let wait = match code {
            Code::DocumentBusy | Code::LogBusy => self.config.retry_after,
            // The store is not asked again sooner either.
            Code::StorageFailed => self.config.store_retry_after,
            _ => return 0,
        };
        u32::try_from(wait.as_us().div_ceil(1_000)).unwrap_or(u32::MAX)
    }
}

/// The merged state, then the ops after it.
fn answer_all(document: &mut Document) -> Answer {
    let vector = document.vector();
    let is_empty = document.base.state.is_empty();
    let state = if is_empty { Bytes::from_static(EMPTY_STATE) } else { document.base.state.clone() };
    Answer {
        vector,
        known: Known::by(document.base.sequence, document.base.vector.clone()),
        catch_up: CatchUp::state(state, document.base.sequence + 1),
        is_resumed: false,
    }
}

/// The ops after `sequence`.
fn answer_resume(document: &mut Document, sequence: u64, held: &[u8]) -> Answer {
    let vector = document.vector();
    let known = Known::by(0, Bytes::copy_from_slice(held));
    Answer { vector, known, catch_up: CatchUp::from(sequence + 1), is_resumed: true }
}

/// The last op that will be sent to a subscriber who is to have those after `state_sequence`. Its own are left out, but for
/// those that it may have forgotten.
fn last_to_come(document: &Document, found: &Subscription, state_sequence: u64) -> u64 {
    let mut last = document.visible_sequence().max(state_sequence);
    while last > state_sequence.max(found.echo_own_until) {
        match document.tail.get(last) {
            Some(op) if op.op_id.writer() == found.writer => last -= 1,
            Some(_) => break,
            // Whose it is says only the store: it may be the subscriber's own.
            None => return state_sequence,
        }
    }
    last
}
