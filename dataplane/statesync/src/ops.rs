//! Ops: checked, logged, shown to the others, acknowledged.

use std::borrow::Cow;

use wire::guuid::OP_COUNTER_MAX;
use wire::limits::SHARED_TYPES_MAX;
use wire::sync::{DocumentKind, Server};
use wire::yjs_scan::UpdateScan;
use wire::{Code, Guuid};

use crate::config::DELETIONS_PART;
use crate::document::Residence;
use crate::memory::TAIL_OP_BYTES;
use crate::pending_acks::PendingAck;
use crate::tail::NewOp;
use crate::yjs::check_update;
use crate::{AppendLog, LogFull, LogOp, StateSync, SubscriberKey};

/// Why an op was refused: the code and what was wrong.
type Refusal = (Code, Cow<'static, str>);

const fn refuse(code: Code, text: &'static str) -> Refusal {
    (code, Cow::Borrowed(text))
}

/// What was found in an op.
enum Checked {
    Opaque,
    Update(UpdateScan),
    /// An update that changes nothing.
    Empty,
}

/// Of what a document has as much as it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Full {
    Bytes,
    SharedTypes,
    Blocks,
    Pending,
}

impl Full {
    const fn text(self) -> &'static str {
        match self {
            Self::Bytes => "the document is as large as it may be",
            Self::SharedTypes => "the document has as many shared types as it may have",
            Self::Blocks => "the document has as many blocks as it may have",
            Self::Pending => "too many updates wait for others that are missing: send those first",
        }
    }
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
        let connection = self.connections.get_mut(&key).expect("checked by the caller");
        let refused = match connection.open.get(&handle) {
            Some(&subscription) => self.try_op(subscription, counter, payload, log).err(),
            None => match connection.waiting.iter_mut().find(|waiting| waiting.handle == handle) {
                Some(waiting) => {
                    waiting.refused_counter.get_or_insert(counter);
                    Some(refuse(Code::DocumentBusy, "the document is being loaded: send the op again later"))
                }
                None => Some(refuse(Code::UnknownHandle, "op under a handle that is not open")),
            },
        };
        if let Some((code, text)) = refused {
            self.stats.count_op_refused(code);
            let retry_after_ms = self.retry_after_ms(code);
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
        if !found.may_write() {
            return Err(refuse(Code::Forbidden, "the document is open without the right to write"));
        }
        if counter == 0 || counter > OP_COUNTER_MAX {
            return Err(refuse(Code::OpCounter, "op counters go from 1 to 2^40 - 1"));
        }
        let document = &self.documents[slot];
        if document.residence != Residence::Ready {
            return Err(refuse(Code::DocumentDeleted, "the document was deleted"));
        }
        let progress = document.writers.get(writer).copied().unwrap_or_default();
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
        let checked = match self.check_payload(slot, payload) {
            Ok(checked) => checked,
            Err(refusal) => {
                if refusal.0 == Code::DocumentBusy {
                    self.subscriptions[subscription].refused_counter = Some(counter);
                }
                return Err(refusal);
            }
        };
        if let Checked::Empty = checked {
            self.stats.ops_empty += 1;
            self.take_empty(subscription, slot, writer, counter);
            return Ok(());
        }
        let op_id = writer.with_counter(counter);
        let unix_ms = self.unix_ms();
        match self.append(slot, op_id, unix_ms, Some(payload), log) {
            Ok(lsn) => {
                self.take_logged(subscription, slot, &NewOp { op_id, lsn, unix_ms, payload }, checked);
            }
            Err(LogFull) => {
                self.subscriptions[subscription].refused_counter = Some(counter);
                return Err(refuse(Code::LogBusy, "the log takes no more: send the op again later"));
            }
        }
        Ok(())
    }

    /// Checks an op's bytes: decodes an update and counts what is in it.
    fn check_payload(&mut self, slot: usize, payload: &[u8]) -> Result<Checked, Refusal> {
        let limits = &self.config.limits;
        if payload.len() > limits.op_bytes_max {
            let text = format!("op of {} bytes is over the limit of {}", payload.len(), limits.op_bytes_max);
            return Err((Code::OpTooLarge, Cow::Owned(text)));
        }
        self.relieve_memory();
        if self.is_memory_spent() {
            self.stats.ops_no_memory += 1;
            self.want_snapshot(slot, true);
            let text = "the shard's documents take all memory: send the op again later";
            return Err(refuse(Code::DocumentBusy, text));
        }
        let document = &mut self.documents[slot];
        self.ranges.clear();
        let checked = match document.kind {
            DocumentKind::Opaque => Checked::Opaque,
            DocumentKind::Yjs => match check_update(payload, &mut self.ranges) {
                Ok(None) => return Ok(Checked::Empty),
                Ok(Some(scan)) => Checked::Update(scan),
                Err(fault) => return Err((Code::UndecodableUpdate, Cow::Owned(fault.to_string()))),
            },
        };
        match checked {
            Checked::Update(scan) => self.check_limits(slot, payload.len(), Some(scan))?,
            _ => self.check_limits(slot, payload.len(), None)?,
        }
        Ok(checked)
    }

    /// Whether a document has room for an op with such an update in it. `self.ranges` are its clocks.
    fn check_limits(&mut self, slot: usize, bytes: usize, scan: Option<UpdateScan>) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let document = &mut self.documents[slot];
        let bytes = document.bytes() + bytes as u64;
        // What only takes out makes room once it is merged; a document could not be emptied otherwise.
        let takes_out = scan.is_some_and(|scan| scan.blocks == 0);
        let bytes_max = match takes_out {
            true => limits.document_bytes_max + limits.document_bytes_max / DELETIONS_PART,
            false => limits.document_bytes_max,
        };
        let mut fault = (bytes > bytes_max).then_some(Full::Bytes);
        if let Some(scan) = scan {
            let is_merged = document.is_merged();
            let count = document.counted();
            if !takes_out && count.shared_types + scan.shared_types > SHARED_TYPES_MAX {
                fault = Some(Full::SharedTypes);
            }
            if !takes_out && count.blocks + scan.blocks > limits.document_blocks_max {
                fault = Some(Full::Blocks);
            }
            let is_pending_full = count.pending_bytes > limits.pending_bytes_max as u64;
            if is_pending_full && is_merged && !count.is_extended_by(&self.ranges) {
                fault = Some(Full::Pending);
            }
        }
        let Some(fault) = fault else {
            // Merged before it is full, it may turn out not to be.
            if bytes > limits.document_bytes_max / 16 * 15 {
                document.is_thinned |= takes_out;
                if document.has_grown(limits.document_bytes_max) {
                    self.want_snapshot(slot, true);
                }
            }
            return Ok(());
        };
        if document.is_thinned || document.has_grown(limits.document_bytes_max) {
            // In its turn: who fills a document keeps no other from being stored.
            self.want_snapshot(slot, false);
            let text = "the document is full, and being merged: send the op again later";
            return Err(refuse(Code::DocumentBusy, text));
        }
        self.stats.ops_over_blocks += u64::from(matches!(fault, Full::SharedTypes | Full::Blocks));
        self.stats.ops_over_pending += u64::from(fault == Full::Pending);
        Err(refuse(Code::DocumentFull, fault.text()))
    }

    /// Appends an op to the log, or the document's end.
    pub(crate) fn append(
        &self,
        slot: usize,
        op_id: Guuid,
        unix_ms: u64,
        payload: Option<&[u8]>,
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
            unix_ms,
            payload: payload.unwrap_or_default(),
            is_deletion: payload.is_none(),
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
    fn take_logged(&mut self, subscription: usize, slot: usize, op: &NewOp<'_>, checked: Checked) {
        let (writer, counter) = (op.op_id.writer(), op.op_id.counter());
        self.stats.ops_logged += 1;
        self.stats.op_bytes_logged += op.payload.len() as u64;
        self.subscriptions[subscription].refused_counter = None;
        let sequence = self.keep_op(slot, op);
        let document = &mut self.documents[slot];
        document.used = self.now;
        if let (Checked::Update(scan), Some(count)) = (checked, &mut document.count) {
            count.push(sequence, scan, &self.ranges, op.payload.len());
        }
        let is_clean = document.dirty_lsn.is_none();
        let is_yjs = document.kind == DocumentKind::Yjs;
        if is_clean {
            self.mark_dirty_from(slot, Some(op.lsn));
        }
        self.answer_to(slot, writer, subscription);
        self.pending_acks.push(PendingAck { lsn: op.lsn, document: slot, writer, counter, sequence });
        if is_yjs {
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
            known.is_some_and(|known| known.number > self.subscriptions[subscription].number)
        };
        if progress.subscription.is_none_or(|known| known == subscription || !is_newer(known)) {
            progress.subscription = Some(subscription);
        }
    }

    /// Takes an op that is in the log into the document. Answers with its sequence.
    pub(crate) fn keep_op(&mut self, slot: usize, op: &NewOp<'_>) -> u64 {
        let limits = &self.config.limits;
        let document = &mut self.documents[slot];
        let sequence = document.sequence + 1;
        document.tail.push(op, limits.tail_bytes_max);
        let taken_bytes = op.payload.len() as u64 + TAIL_OP_BYTES;
        document.counted_bytes += taken_bytes;
        self.memory.documents += taken_bytes;
        document.sequence = sequence;
        document.grown_bytes += op.payload.len() as u64;
        let (progress, forgotten) =
            document.writers.entry(op.op_id.writer(), limits.writers_per_document_max);
        progress.logged_counter = progress.logged_counter.max(op.op_id.counter());
        progress.logged_sequence = sequence;
        self.stats.writers_forgotten += forgotten as u64;
        sequence
    }

    /// The log is durable up to and with `lsn`: acknowledges, and shows the opaque ops that waited for it.
    /// A writer gets one acknowledgement a call and document, for its last op.
    pub fn handle_durable(&mut self, lsn: u64) {
        self.durable_lsn = Some(self.durable_lsn.map_or(lsn, |before| before.max(lsn)));
        while let Some(pending) = self.pending_acks.pop_durable(lsn) {
            if pending.counter == 0 {
                self.take_deleted(pending.document, pending.sequence);
                continue;
            }
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
                let unstored_bytes_max =
                    self.config.limits.snapshot_tail_bytes.max(document.base.state.len() / 4);
                if document.unstored_bytes() > unstored_bytes_max {
                    self.want_snapshot(pending.document, false);
                }
                if self.documents[pending.document].kind == DocumentKind::Opaque {
                    self.broadcast(pending.document, pending.sequence);
                }
            }
        }
        self.flush_acks();
    }
}
