//! What goes out: the queue of outputs, catching up, and connections that take no more.
//!
//! A subscriber is live, and gets each op as it comes, or catches up from a cursor: the state that was
//! announced to it, then the kept ops. A blocked connection costs no memory for ops: its subscribers go back
//! to the first op that could not be sent and catch up once it is writable. When that op is no longer kept,
//! they are sent one merged diff instead.

use bytes::Bytes;
use wire::Code;
use wire::limits::STATE_CHUNK_BYTES;
use wire::sync::{Channel, Server};
use wire::varint::varint_len;

use crate::config::{CATCH_UP_OP_BYTES, OWED_BYTES_MAX, OWED_MESSAGES_MAX, SUBSCRIBERS_FEW};
use crate::output::{Output, Queued, What};
use crate::subscription::Known;
use crate::{StateSync, SubscriberKey};

impl StateSync {
    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            while let Some(queued) = self.outputs.pop_front() {
                if let Some(output) = self.release(queued) {
                    return Some(output);
                }
            }
            self.is_degraded = false;
            if self.catch_up_bytes_left == 0 {
                return None;
            }
            match self.catching_up.pop_front() {
                Some(subscription) => self.continue_catch_up(subscription),
                None if self.continue_answer() => {}
                None => return None,
            }
        }
    }

    /// Whether somebody who is behind waits for the next tick.
    pub(crate) fn is_catch_up_waiting(&self) -> bool {
        self.catch_up_bytes_left == 0 && !(self.catching_up.is_empty() && self.answering.is_empty())
    }

    /// So many bytes were handed out to one who is behind.
    pub(crate) fn spend_catch_up(&mut self, bytes: usize) {
        self.catch_up_bytes_left = self.catch_up_bytes_left.saturating_sub(bytes);
        self.stats.catch_ups_deferred += u64::from(self.is_catch_up_waiting());
    }

    /// The transport refused the output polled last, which was to this connection: nothing more is sent there
    /// until [`handle_writable`](Self::handle_writable). Call it before the next poll.
    pub fn handle_blocked(&mut self, key: SubscriberKey) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        self.stats.blocked += u64::from(!connection.blocked);
        self.impaired += usize::from(!connection.is_impaired());
        connection.blocked = true;
        if let Some(refused) = self.last_polled.take_if(|last| last.to == key) {
            self.put_back(refused);
        }
    }

    /// The transport takes more for this connection.
    pub fn handle_writable(&mut self, key: SubscriberKey) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if !connection.blocked || connection.closing {
            return;
        }
        connection.blocked = false;
        self.impaired -= 1;
        // Ops that were queued before are still to be dropped: their subscribers catch up.
        self.is_degraded = true;
        connection.owed_bytes = 0;
        let owed = std::mem::take(&mut connection.owed);
        let open: Vec<usize> = connection.open.values().copied().collect();
        let requests = connection.requests.clone();
        self.outputs.extend(owed);
        requests.into_iter().for_each(|request| self.list_answer(request));
        for subscription in open {
            let Some(found) = self.subscriptions.get_mut(subscription) else { continue };
            let slot = found.document;
            if std::mem::take(&mut found.ack_due) {
                self.mark_ack_due(subscription);
            }
            if std::mem::take(&mut self.subscriptions[subscription].presence_missed) {
                for message in self.documents[slot].presence.all_and_gone(slot as u32) {
                    self.send_presence(subscription, message, false);
                }
            }
            self.list_for_catch_up(subscription);
        }
        self.flush_acks();
    }

    /// Queues a message that must arrive.
    pub(crate) fn send_control(&mut self, key: SubscriberKey, message: Vec<u8>) {
        let message = Bytes::from(message);
        self.outputs.push_back(Queued { to: key, channel: Channel::Sync, message, what: What::Control });
    }

    /// Queues an op for all live subscribers but its writer.
    pub(crate) fn broadcast(&mut self, slot: usize, sequence: u64) {
        let document = &self.documents[slot];
        let is_for_many = document.subscribers.len() > SUBSCRIBERS_FEW;
        let mut message = None;
        for &subscription in &document.subscribers {
            let found = &self.subscriptions[subscription];
            if !found.content || found.catch_up.is_some() {
                continue;
            }
            let Some(op) = document.tail.get(sequence) else { return };
            if !found.wants(op.op_id.writer(), sequence) {
                continue;
            }
            let message = message.get_or_insert_with(|| op_message(slot, sequence, op.payload)).clone();
            self.stats.ops_broadcast += 1;
            let what = What::Op { subscription, sequence, is_for_many };
            self.outputs.push_back(Queued { to: found.key, channel: Channel::Sync, message, what });
        }
    }

    /// Notes that a subscriber is to be told how far its ops are durable, once this call ends.
    pub(crate) fn mark_ack_due(&mut self, subscription: usize) {
        let found = &mut self.subscriptions[subscription];
        if !found.ack_due {
            found.ack_due = true;
            self.acks_due.push(subscription);
        }
    }

    pub(crate) fn flush_acks(&mut self) {
        while let Some(subscription) = self.acks_due.pop() {
            let Some(found) = self.subscriptions.get_mut(subscription) else { continue };
            let is_blocked = !found.is_announced
                || self.connections.get(&found.key).is_none_or(|connection| connection.blocked);
            let progress = self.documents[found.document].writers.get(found.writer);
            let Some(progress) = progress.filter(|progress| progress.durable_counter > 0 && !is_blocked)
            else {
                found.ack_due &= is_blocked;
                continue;
            };
            found.ack_due = false;
            let (counter, sequence) = (progress.durable_counter, progress.durable_sequence);
            let ack = Server::Ack { handle: found.handle, counter, sequence };
            let message = self.small_messages.encode(&ack);
            let what = What::Ack { subscription };
            self.stats.acks += 1;
            self.outputs.push_back(Queued { to: found.key, channel: Channel::Sync, message, what });
        }
    }

    /// Lists a subscriber that is behind.
    pub(crate) fn list_for_catch_up(&mut self, subscription: usize) {
        let found = &mut self.subscriptions[subscription];
        let is_behind = found.catch_up.as_ref().is_some_and(|catch_up| catch_up.awaited.is_none());
        if is_behind && !found.is_listed {
            found.is_listed = true;
            self.catching_up.push_back(subscription);
        }
    }

    /// Turns a queued output into one for the caller, unless its time has passed.
    fn release(&mut self, queued: Queued) -> Option<Output> {
        if let What::Close(code, reason) = queued.what {
            return Some(Output::Close { to: queued.to, code, reason });
        }
        if self.is_degraded || self.impaired > 0 {
            let connection = self.connections.get(&queued.to)?;
            if connection.closing {
                return None;
            }
            if connection.blocked {
                self.put_back(queued);
                return None;
            }
            // A subscriber that fell behind gets this op again from its cursor.
            if let What::Op { subscription, .. } = queued.what {
                self.subscriptions.get(subscription).filter(|found| found.catch_up.is_none())?;
            }
        }
        Some(self.emit(queued))
    }

    fn emit(&mut self, queued: Queued) -> Output {
        let (to, channel, message) = (queued.to, queued.channel, queued.message.clone());
        let output = Output::Send { to, channel, message, can_wait: queued.what.can_wait() };
        self.last_polled = Some(queued);
        output
    }

    /// Keeps what a message stood for until its connection takes more.
    fn put_back(&mut self, queued: Queued) {
        let of = |subscription: usize, machine: &mut Self| -> Option<usize> {
            machine.subscriptions.get(subscription).filter(|found| found.key == queued.to)?;
            Some(subscription)
        };
        match queued.what {
            What::Close(..) => {}
            What::Control => self.owe(queued),
            What::Op { subscription, sequence, .. } | What::KeptOp { subscription, sequence } => {
                if let Some(subscription) = of(subscription, self) {
                    self.subscriptions[subscription].fall_behind(sequence);
                }
            }
            What::State { subscription, offset } => {
                if let Some(subscription) = of(subscription, self)
                    && let Some(catch_up) = self.subscriptions[subscription].catch_up.as_mut()
                {
                    catch_up.offset = catch_up.offset.min(offset);
                }
            }
            What::Past { request, number, offset } => self.put_answer_back(request, number, offset),
            What::Ack { subscription } => {
                if let Some(subscription) = of(subscription, self) {
                    self.subscriptions[subscription].ack_due = true;
                }
            }
            What::Presence { subscription, .. } => {
                if let Some(subscription) = of(subscription, self) {
                    self.subscriptions[subscription].presence_missed = true;
                }
            }
        }
    }

    fn owe(&mut self, queued: Queued) {
        let Some(connection) = self.connections.get_mut(&queued.to) else { return };
        connection.owed_bytes += queued.message.len();
        let key = queued.to;
        connection.owed.push_back(queued);
        if connection.owed.len() > OWED_MESSAGES_MAX || connection.owed_bytes > OWED_BYTES_MAX {
            connection.owed.clear();
            self.stats.closed_unread += 1;
            self.close(key, Code::Overloaded, "the connection does not read what it asks for");
        }
    }

    /// Queues the next piece for a subscriber that is behind, or makes it live.
    fn continue_catch_up(&mut self, subscription: usize) {
        let Some(found) = self.subscriptions.get_mut(subscription) else { return };
        found.is_listed = false;
        let (key, slot) = (found.key, found.document);
        if self.connections.get(&key).is_none_or(|connection| connection.blocked || connection.closing) {
            return;
        }
        let Some(catch_up) = found.catch_up.as_mut() else { return };
        if catch_up.offset < catch_up.state.len() {
            let offset = catch_up.offset;
            let end = catch_up.state.len().min(offset + STATE_CHUNK_BYTES);
            catch_up.offset = end;
            let state = Server::State { document: slot as u32, bytes: &catch_up.state[offset..end] };
            let message = Bytes::from(state.to_vec());
            let what = What::State { subscription, offset };
            self.outputs.push_back(Queued { to: key, channel: Channel::Sync, message, what });
            self.list_for_catch_up(subscription);
            return self.spend_catch_up(end - offset);
        }
        let document = &mut self.documents[slot];
        if !found.content || catch_up.next > document.visible_sequence() {
            found.catch_up = None;
            if found.content && document.is_merged() {
                found.known = Known::by(document.sequence, document.vector());
            }
            return self.release_diff(subscription);
        }
        let sequence = catch_up.next;
        let fetched = catch_up.fetched.pop_front();
        let fetched = fetched.as_ref().filter(|op| op.sequence == sequence);
        let kept = document.tail.get(sequence).map(|op| (op.op_id, op.payload));
        let Some((op_id, payload)) = fetched.map(|op| (op.op_id, &op.payload[..])).or(kept) else {
            return self.resync(subscription);
        };
        catch_up.next += 1;
        if kept.is_some() {
            catch_up.fetched.clear();
        }
        let bytes = payload.len();
        if found.wants(op_id.writer(), sequence) {
            let message = op_message(slot, sequence, payload);
            let what = What::KeptOp { subscription, sequence };
            self.stats.ops_broadcast += 1;
            self.outputs.push_back(Queued { to: key, channel: Channel::Sync, message, what });
        }
        self.list_for_catch_up(subscription);
        self.spend_catch_up(bytes + CATCH_UP_OP_BYTES);
    }

    /// Closes a document for a subscriber, who is told why.
    pub(crate) fn expel(&mut self, subscription: usize, code: Code, text: &str) {
        let found = &self.subscriptions[subscription];
        let (key, handle) = (found.key, found.handle);
        self.send_error(key, handle, code, text);
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.open.remove(&handle);
        }
        self.unsubscribe(self.now, subscription);
    }
}

/// The message that shows an op.
fn op_message(slot: usize, sequence: u64, payload: &[u8]) -> Bytes {
    let fields = 1 + varint_len(slot as u64) + varint_len(sequence);
    let mut message = Vec::with_capacity(fields + payload.len());
    Server::Op { document: slot as u32, sequence, payload }.encode(&mut message);
    Bytes::from(message)
}
