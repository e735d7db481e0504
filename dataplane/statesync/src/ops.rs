//! Ops: checked, logged, shown to the others, acknowledged.

use std::borrow::Cow;

use bytes::Bytes;
use wire::guuid::OP_COUNTER_MAX;
use wire::limits::SHARED_TYPES_MAX;
use wire::sync::{DocumentKind, Server};
use wire::varint::varint_len;
use wire::{Code, Guuid};
use yrs::Update;

use crate::config::SNAPSHOT_AGE_OPS_MAX;
use crate::op_log::KeptOp;
use crate::pending_acks::PendingAck;
use crate::yjs::{UpdateFault, decode_update};
use crate::{AppendLog, LogFull, LogOp, StateSync, SubscriberKey};

/// Why an op was refused: the code and what was wrong.
type Refusal = (Code, Cow<'static, str>);

const fn refuse(code: Code, text: &'static str) -> Refusal {
    (code, Cow::Borrowed(text))
}

impl StateSync {
    pub(crate) fn handle_op(
        &mut self,
        key: SubscriberKey,
        handle: u32,
        counter: u64,
        payload: &[u8],
        log: &mut impl AppendLog,
    ) {
        let connection = self.connections.get(&key).expect("checked by the caller");
        let refused = match connection.open.get(&handle) {
            Some(&subscription) => self.try_op(subscription, counter, payload, log).err(),
            None => Some(refuse(Code::UnknownHandle, "op under a handle that is not open")),
        };
        if let Some((code, text)) = refused {
            self.stats.count_op_refused(code);
            let retry_after_us = if code == Code::LogBusy { self.config.retry_after.as_us() } else { 0 };
            let retry_after_ms = u32::try_from(retry_after_us.div_ceil(1_000)).unwrap_or(u32::MAX);
            let reject = Server::Reject { handle, counter, code, retry_after_ms, text: &text };
            self.send_control(key, reject.to_vec());
        }
    }

    fn try_op(
        &mut self,
        subscription: usize,
        counter: u64,
        payload: &[u8],
        log: &mut impl AppendLog,
    ) -> Result<(), Refusal> {
        let found = &self.subscriptions[subscription];
        let (slot, writer) = (found.document, found.writer);
        if !found.may_write {
            return Err(refuse(Code::Forbidden, "the document is open without the right to write"));
        }
        if counter == 0 || counter > OP_COUNTER_MAX {
            return Err(refuse(Code::OpCounter, "op counters go from 1 to 2^40 - 1"));
        }
        let progress = self.documents[slot].writers.get(writer).copied().unwrap_or_default();
        if counter <= progress.logged_counter {
            self.stats.ops_duplicate += 1;
            self.answer_to(slot, writer, subscription);
            if counter <= progress.durable_counter {
                self.mark_ack_due(subscription);
            }
            return Ok(());
        }
        if found.refused_counter.is_some_and(|refused| counter > refused) {
            return Err(refuse(Code::LogBusy, "an earlier op was refused: send that again first"));
        }
        let (update, shared_types) = self.check_payload(slot, payload)?;
        if update.as_ref().is_some_and(Update::is_empty) {
            self.stats.ops_empty += 1;
            self.take_empty(subscription, slot, writer, counter);
            return Ok(());
        }
        match self.append(slot, writer.with_counter(counter), payload, log) {
            Ok(lsn) => {
                self.documents[slot].shared_types += shared_types;
                self.take_logged(subscription, slot, writer.with_counter(counter), lsn, payload, update);
            }
            Err(LogFull) => {
                self.subscriptions[subscription].refused_counter = Some(counter);
                return Err(refuse(Code::LogBusy, "the log takes no more: send the op again later"));
            }
        }
        Ok(())
    }

    /// Checks an op's bytes; decodes an update and counts the shared types in it.
    fn check_payload(&mut self, slot: usize, payload: &[u8]) -> Result<(Option<Update>, u64), Refusal> {
        let limits = &self.config.limits;
        if payload.len() > limits.op_bytes_max {
            let text = format!("op of {} bytes is over the limit of {}", payload.len(), limits.op_bytes_max);
            return Err((Code::OpTooLarge, Cow::Owned(text)));
        }
        let document = &mut self.documents[slot];
        let update = match document.kind {
            DocumentKind::Opaque => None,
            DocumentKind::Yjs => Some(
                decode_update(payload)
                    .map_err(|fault: UpdateFault| (Code::UndecodableUpdate, Cow::Owned(fault.to_string())))?,
            ),
        };
        let shared_types = update.as_ref().map_or(0, |(_, shared_types)| *shared_types);
        if document.shared_types + shared_types > SHARED_TYPES_MAX {
            return Err(refuse(Code::DocumentFull, "the document has as many shared types as it may have"));
        }
        if document.is_full_for(payload.len(), limits.document_bytes_max) {
            return Err(refuse(Code::DocumentFull, "the document is as large as it may be"));
        }
        let update = update.map(|(update, _)| update);
        if let (Some(cache), Some(update)) = (document.cache.as_mut(), update.as_ref()) {
            let is_pending_full = cache.pending_bytes() > limits.pending_bytes_max;
            if is_pending_full && !cache.is_quarantined() && !cache.extends_without_gap(update) {
                let text = "too many updates wait for others that are missing: send those first";
                return Err(refuse(Code::DocumentFull, text));
            }
        }
        Ok((update, shared_types))
    }

    fn append(
        &self,
        slot: usize,
        op_id: Guuid,
        payload: &[u8],
        log: &mut impl AppendLog,
    ) -> Result<u64, LogFull> {
        if self.pending_acks.len() >= self.config.limits.unacknowledged_ops_max {
            return Err(LogFull);
        }
        let document = &self.documents[slot];
        log.append(&LogOp {
            document: &document.id,
            kind: document.kind,
            partition: document.partition,
            epoch: self.placement.epoch(document.partition),
            sequence: document.sequence + 1,
            op_id,
            payload,
        })
    }

    /// Acknowledges an update that changes nothing, after the writer's ops before it.
    fn take_empty(&mut self, subscription: usize, slot: usize, writer: Guuid, counter: u64) {
        let (progress, forgotten) =
            self.documents[slot].writers.entry(writer, self.config.limits.writers_per_document_max);
        self.stats.writers_forgotten += forgotten as u64;
        let is_settled = progress.logged_counter == progress.durable_counter;
        progress.logged_counter = counter;
        let sequence = progress.logged_sequence;
        match self.pending_acks.last_lsn() {
            Some(lsn) if !is_settled => {
                self.pending_acks.push(PendingAck { lsn, document: slot, writer, counter, sequence });
            }
            _ => {
                progress.durable_counter = counter;
                self.mark_ack_due(subscription);
            }
        }
        self.answer_to(slot, writer, subscription);
    }

    /// An op is in the log: it takes its place in the document.
    fn take_logged(
        &mut self,
        subscription: usize,
        slot: usize,
        op_id: Guuid,
        lsn: u64,
        payload: &[u8],
        update: Option<Update>,
    ) {
        let (writer, counter) = (op_id.writer(), op_id.counter());
        self.stats.ops_logged += 1;
        self.stats.op_bytes_logged += payload.len() as u64;
        self.subscriptions[subscription].refused_counter = None;
        let sequence = self.keep_op(slot, op_id, payload, update);
        self.answer_to(slot, writer, subscription);
        self.pending_acks.push(PendingAck { lsn, document: slot, writer, counter, sequence });
        if self.documents[slot].kind == DocumentKind::Yjs {
            self.broadcast(slot, sequence);
        }
    }

    /// Ops of `writer` came by this subscription: they are acknowledged there, unless the writer has joined anew since.
    /// Where it comes from one connection to another, what it had sent by the old one may come last.
    fn answer_to(&mut self, slot: usize, writer: Guuid, subscription: usize) {
        let Some(progress) = self.documents[slot].writers.get_mut(writer) else { return };
        let is_newer = |known: usize| {
            let known = self.subscriptions.get(known);
            let known = known.filter(|known| known.writer == writer && known.document == slot);
            known.is_some_and(|known| known.joins > self.subscriptions[subscription].joins)
        };
        if progress.subscription.is_none_or(|known| known == subscription || !is_newer(known)) {
            progress.subscription = Some(subscription);
        }
    }

    /// Takes an op that is in the log into the document. Answers with its sequence.
    pub(crate) fn keep_op(
        &mut self,
        slot: usize,
        op_id: Guuid,
        payload: &[u8],
        update: Option<Update>,
    ) -> u64 {
        let limits = &self.config.limits;
        let document = &mut self.documents[slot];
        let sequence = document.sequence + 1;
        let op = Server::Op { document: slot as u32, sequence, payload };
        let fields = 1 + varint_len(slot as u64) + varint_len(sequence);
        let mut message = Vec::with_capacity(fields + payload.len());
        op.encode(&mut message);
        let kept = KeptOp { writer: op_id.writer(), message: Bytes::from(message) };
        // An opaque document is its ops: all are kept, and its own limit bounds them.
        let bytes_max =
            if document.kind == DocumentKind::Opaque { usize::MAX } else { limits.tail_bytes_max };
        document.log.push(sequence, kept, bytes_max);
        document.sequence = sequence;
        document.grown_bytes += payload.len() as u64;
        let (progress, forgotten) = document.writers.entry(op_id.writer(), limits.writers_per_document_max);
        progress.logged_counter = progress.logged_counter.max(op_id.counter());
        progress.logged_sequence = sequence;
        self.stats.writers_forgotten += forgotten as u64;
        if let (Some(cache), Some(update)) = (document.cache.as_mut(), update) {
            let was_quarantined = cache.is_quarantined();
            cache.forget_snapshot_before(sequence.saturating_sub(SNAPSHOT_AGE_OPS_MAX));
            self.stats.updates_integrated += cache.push(sequence, update, payload.len()) as u64;
            self.stats.quarantined += u64::from(!was_quarantined && cache.is_quarantined());
            if cache.has_queued() && !document.is_queued {
                document.is_queued = true;
                self.queued_documents.push_back(slot);
            }
        }
        sequence
    }

    /// The log is durable up to and with `lsn`: acknowledges, and shows the opaque ops that waited for it.
    /// A writer gets one acknowledgement a call and document, for its last op.
    pub fn handle_durable(&mut self, lsn: u64) {
        while let Some(pending) = self.pending_acks.pop_durable(lsn) {
            let document = &mut self.documents[pending.document];
            if let Some(progress) = document.writers.get_mut(pending.writer) {
                progress.durable_counter = progress.durable_counter.max(pending.counter);
                progress.durable_sequence = pending.sequence;
                if let Some(subscription) = progress.subscription {
                    let writer = pending.writer;
                    let found = self.subscriptions.get(subscription);
                    if found.is_some_and(|found| found.writer == writer && found.document == pending.document)
                    {
                        self.mark_ack_due(subscription);
                    }
                }
            }
            let document = &mut self.documents[pending.document];
            if pending.sequence > document.durable_sequence {
                document.durable_sequence = pending.sequence;
                if document.kind == DocumentKind::Opaque {
                    self.broadcast(pending.document, pending.sequence);
                }
            }
        }
        self.flush_acks();
    }
}
