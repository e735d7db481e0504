//! Between documents in memory and those in the store: which jobs are wanted, and what their answers change.

use bytes::Bytes;
use wire::{Code, Time};

use crate::StateSync;
use crate::config::{PRESSED_DOCUMENTS, READ_OPS_BYTES, REQUESTS_IN_FLIGHT_MAX, SNAPSHOTS_IN_FLIGHT_MAX};
use crate::document::{Document, Residence, SnapshotState};
use crate::jobs::{Base, HistoryOp, Job, JobDone, JobId, Snapshot, StoredDocument};
use crate::subscription::{Awaited, CatchUp, Known};

/// A job that is asked for. It is made when it is handed out, of what is true then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    Load { slot: usize },
    Delete { slot: usize },
    Diff { subscription: usize, number: u64 },
    ReadOps { subscription: usize, number: u64 },
}

/// A job that is handed out.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    slot: usize,
    what: InFlightKind,
}

#[derive(Clone, Debug)]
enum InFlightKind {
    Load,
    Delete,
    Snapshot,
    Diff { subscription: usize, number: u64 },
    ReadOps { subscription: usize, number: u64 },
    Request { request: usize, number: u64 },
}

impl StateSync {
    /// Asks for a job of a document, which stays in memory until it is done.
    pub(crate) fn want(&mut self, slot: usize, wanted: Wanted) {
        self.documents[slot].jobs += 1;
        self.wanted.push_back((slot, wanted));
    }

    /// Asks for a document to be stored, unless it is on its way.
    pub(crate) fn want_snapshot(&mut self, slot: usize, is_urgent: bool) {
        let document = &mut self.documents[slot];
        let is_possible = document.residence == Residence::Ready && document.is_dirty();
        if !is_possible || document.snapshot != SnapshotState::None {
            return;
        }
        document.snapshot = SnapshotState::Wanted;
        document.jobs += 1;
        if is_urgent {
            self.snapshots_wanted.push_front(slot);
        } else {
            self.snapshots_wanted.push_back(slot);
        }
    }

    /// The log is longer than it should be: stores the documents that hold its oldest ops.
    pub fn handle_log_pressure(&mut self) {
        let oldest: Vec<_> = self.dirty.iter().take(PRESSED_DOCUMENTS).map(|&(_, slot)| slot).collect();
        for slot in oldest.into_iter().rev() {
            self.want_snapshot(slot, true);
        }
    }

    /// The next job for the storage worker. Jobs are done in this order.
    pub fn poll_job(&mut self, now: Time) -> Option<(JobId, Job)> {
        self.advance_clock(now);
        while self.in_flight.len() < self.config.limits.jobs_in_flight_max {
            if let Some((slot, wanted)) = self.wanted.pop_front() {
                match self.make(slot, &wanted) {
                    Some((what, job)) => return Some(self.hand_out(slot, what, job)),
                    None => self.release_job(slot),
                }
                continue;
            }
            if self.requests_in_flight < REQUESTS_IN_FLIGHT_MAX
                && let Some((slot, request, number, job)) = self.poll_request()
            {
                let Some(job) = job else {
                    self.release_job(slot);
                    continue;
                };
                self.requests_in_flight += 1;
                return Some(self.hand_out(slot, InFlightKind::Request { request, number }, job));
            }
            if self.snapshots_in_flight >= SNAPSHOTS_IN_FLIGHT_MAX {
                return None;
            }
            let slot = self.snapshots_wanted.pop_front()?;
            match self.make_snapshot(slot) {
                Some(job) => {
                    self.documents[slot].snapshot = SnapshotState::InFlight;
                    self.snapshots_in_flight += 1;
                    return Some(self.hand_out(slot, InFlightKind::Snapshot, job));
                }
                None => {
                    self.documents[slot].snapshot = SnapshotState::None;
                    // Nothing of it is durable yet.
                    self.look_after(slot, now + self.config.retry_after);
                    self.release_job(slot);
                }
            }
        }
        None
    }

    fn hand_out(&mut self, slot: usize, what: InFlightKind, job: Job) -> (JobId, Job) {
        self.jobs_made += 1;
        self.in_flight.insert(self.jobs_made, InFlight { slot, what });
        (JobId(self.jobs_made), job)
    }

    fn release_job(&mut self, slot: usize) {
        self.documents[slot].jobs -= 1;
        self.remove_if_vacant(slot);
    }

    /// The job, if it is still of use to anybody.
    fn make(&mut self, slot: usize, wanted: &Wanted) -> Option<(InFlightKind, Job)> {
        let document = &self.documents[slot];
        let id = document.id.clone();
        match *wanted {
            Wanted::Load { .. } => Some((InFlightKind::Load, Job::Load { document: id })),
            Wanted::Delete { .. } => {
                let Residence::Deleted { sequence, unix_ms } = document.residence else { return None };
                let delete = Job::Delete { document: id, kind: document.kind, sequence, unix_ms };
                Some((InFlightKind::Delete, delete))
            }
            Wanted::Diff { subscription, number } => {
                let found = self.subscriptions.get(subscription).filter(|found| found.number == number)?;
                let vector = match found.catch_up.as_ref()?.awaited? {
                    Awaited::Resync { next } => known_before(document, &found.known, next),
                    _ => found.known.vector.clone(),
                };
                let ops = document.ops_after_base(document.sequence);
                let diff = Job::Diff { document: id, base: document.base.clone(), ops, vector };
                Some((InFlightKind::Diff { subscription, number }, diff))
            }
            Wanted::ReadOps { subscription, number } => {
                let found = self.subscriptions.get(subscription).filter(|found| found.number == number)?;
                let from = found.catch_up.as_ref()?.next;
                let read = Job::ReadOps { document: id, from, bytes_max: READ_OPS_BYTES };
                Some((InFlightKind::ReadOps { subscription, number }, read))
            }
        }
    }

    fn make_snapshot(&self, slot: usize) -> Option<Job> {
        let document = &self.documents[slot];
        if document.residence != Residence::Ready || document.durable_sequence <= document.stored_sequence {
            return None;
        }
        Some(Job::Snapshot(Snapshot {
            document: document.id.clone(),
            kind: document.kind,
            base: document.base.clone(),
            ops: document.tail.ops(document.stored_sequence + 1, document.durable_sequence),
            writers: document.writers.durable_marks(),
            quarantined: document.is_quarantined,
            unix_ms: self.unix_ms(),
        }))
    }

    /// The storage worker did a job.
    pub fn handle_job_done(&mut self, now: Time, id: JobId, done: JobDone) {
        self.advance_clock(now);
        let Some(InFlight { slot, what }) = self.in_flight.remove(&id.0) else { return };
        self.stats.jobs_done += 1;
        self.stats.jobs_failed += u64::from(matches!(done, JobDone::Failed { .. }));
        self.documents[slot].jobs -= 1;
        match (what, done) {
            (InFlightKind::Load, JobDone::Loaded(stored)) => self.take_loaded(now, slot, stored),
            (InFlightKind::Load, JobDone::Failed { code: code @ Code::SnapshotDamaged, .. }) => {
                self.stats.loads_failed += 1;
                // Who may delete it can still do that.
                self.documents[slot].residence = Residence::Unusable(code);
                self.resume_waiting(now, slot);
            }
            (InFlightKind::Load, JobDone::Failed { code, text }) => {
                self.stats.loads_failed += 1;
                self.refuse_waiting(slot, code, &text);
                self.remove(slot);
            }
            (InFlightKind::Delete, JobDone::Deleted) => self.finish_delete(slot),
            (InFlightKind::Delete, _) => self.look_after(slot, now + self.config.store_retry_after),
            (InFlightKind::Snapshot, done) => self.take_snapshotted(now, slot, done),
            (InFlightKind::Diff { subscription, number }, done) => {
                self.take_diff(slot, subscription, number, done);
            }
            (InFlightKind::ReadOps { subscription, number }, done) => {
                self.take_ops(subscription, number, done);
            }
            (InFlightKind::Request { request, number }, done) => {
                self.requests_in_flight -= 1;
                self.take_answer(request, number, done);
            }
            (InFlightKind::Load, _) => self.remove(slot),
        }
        self.relieve_of(slot);
        if self.documents.contains(slot) {
            self.remove_if_vacant(slot);
        }
        self.flush_acks();
    }

    fn take_loaded(&mut self, now: Time, slot: usize, stored: Option<Box<StoredDocument>>) {
        self.stats.loads += 1;
        let document = &mut self.documents[slot];
        document.residence = Residence::Ready;
        document.used = now;
        if let Some(stored) = stored {
            if stored.tombstone.is_some() {
                let text = "the document was deleted";
                self.refuse_waiting(slot, Code::DocumentDeleted, text);
                return self.remove(slot);
            }
            document.fill(*stored);
            let due = now + self.config.unload_after;
            self.look_after(slot, due);
            self.settle_memory(slot);
        }
        self.resume_waiting(now, slot);
    }

    fn take_snapshotted(&mut self, now: Time, slot: usize, done: JobDone) {
        self.snapshots_in_flight -= 1;
        let keep_bytes = self.config.limits.tail_bytes_max;
        let document = &mut self.documents[slot];
        document.snapshot = SnapshotState::None;
        if matches!(document.residence, Residence::Deleted { .. }) {
            return;
        }
        match done {
            JobDone::Snapshotted { base, sequence, quarantined } => {
                self.stats.snapshots += 1;
                self.stats.quarantined += u64::from(quarantined && !document.is_quarantined);
                document.take_snapshot(base, sequence, quarantined, keep_bytes);
                self.settle_memory(slot);
                let document = &self.documents[slot];
                let first = document.tail.get(document.stored_sequence + 1).map(|op| op.lsn);
                self.mark_dirty_from(slot, first);
                let due = now + self.config.unload_after;
                self.look_after(slot, due);
                self.continue_stored(slot, true);
            }
            _ => {
                self.stats.snapshots_failed += 1;
                self.look_after(slot, now + self.config.store_retry_after);
                self.continue_stored(slot, false);
            }
        }
    }

    fn take_diff(&mut self, slot: usize, subscription: usize, number: u64, done: JobDone) {
        if let JobDone::Failed { code: Code::Quarantined, .. } = done {
            let document = &mut self.documents[slot];
            self.stats.quarantined += u64::from(!document.is_quarantined);
            document.is_quarantined = true;
        }
        let Some(found) = self.subscriptions.get_mut(subscription).filter(|found| found.number == number)
        else {
            return;
        };
        let Some(catch_up) = found.catch_up.as_mut() else { return };
        let Some(awaited) = catch_up.awaited else { return };
        match done {
            JobDone::Diff { state, vector, sequence } => {
                if let Awaited::Resync { next } = awaited
                    && catch_up.next < next
                {
                    // An op before it turned out to be unsent.
                    return self.resync(subscription);
                }
                let state_bytes = state.len() as u64;
                found.known = Known::by(sequence, vector.clone());
                found.catch_up = Some(CatchUp::state(state, sequence + 1));
                self.announce(subscription, &vector, state_bytes);
                self.hold_diff(subscription, state_bytes as usize);
            }
            JobDone::Failed { code: Code::Quarantined, .. } => self.answer_unmerged(subscription, awaited),
            JobDone::Failed { code, text } => self.expel(subscription, code, &text),
            _ => self.expel(subscription, Code::StorageFailed, "the storage worker answered something else"),
        }
    }

    /// The document turned out to be unfit for merging: sends the last good state and the ops behind it, or the ops
    /// alone to one who has had a state.
    fn answer_unmerged(&mut self, subscription: usize, awaited: Awaited) {
        let found = &mut self.subscriptions[subscription];
        let document = &mut self.documents[found.document];
        match awaited {
            Awaited::Join => {
                let base: Base = document.base.clone();
                let vector = document.vector();
                let next = base.sequence + 1;
                found.known = Known::default();
                found.catch_up = Some(CatchUp::state(base.state.clone(), next));
                self.announce(subscription, &vector, base.state.len() as u64);
            }
            Awaited::Resync { .. } | Awaited::Ops => {
                let next = found.catch_up.as_ref().map_or(1, |catch_up| catch_up.next);
                found.catch_up = Some(CatchUp::from(next));
                self.list_for_catch_up(subscription);
            }
        }
    }

    fn take_ops(&mut self, subscription: usize, number: u64, done: JobDone) {
        let Some(found) = self.subscriptions.get_mut(subscription).filter(|found| found.number == number)
        else {
            return;
        };
        let Some(catch_up) = found.catch_up.as_mut() else { return };
        catch_up.awaited = None;
        match done {
            JobDone::Ops(ops) if is_from(&ops, catch_up.next) => {
                let bytes = ops.iter().map(|op| op.payload.len()).sum();
                catch_up.fetched = ops.into();
                self.list_for_catch_up(subscription);
                self.hold_diff(subscription, bytes);
            }
            JobDone::Failed { code, text } => self.expel(subscription, code, &text),
            _ => {
                let text = "older ops of the document are not kept any more";
                self.expel(subscription, Code::HistoryNotKept, text);
            }
        }
    }

    /// It leaves memory once nothing of it is under way any more.
    fn finish_delete(&mut self, slot: usize) {
        self.stats.documents_deleted += 1;
        self.mark_dirty_from(slot, None);
        self.documents[slot].residence = Residence::Gone;
    }

    /// The document's first op that only the log holds is at `lsn`; `None`: it has none.
    pub(crate) fn mark_dirty_from(&mut self, slot: usize, lsn: Option<u64>) {
        let document = &mut self.documents[slot];
        if document.dirty_lsn == lsn {
            return;
        }
        if let Some(before) = std::mem::replace(&mut document.dirty_lsn, lsn) {
            self.dirty.remove(&(before, slot));
        }
        document.dirty_since = None;
        if let Some(lsn) = lsn {
            document.dirty_since = Some(self.now);
            self.dirty.insert((lsn, slot));
            let due = self.now + self.config.snapshot_after;
            self.look_after(slot, due);
        }
    }

    /// Every record of the log before this one is stored elsewhere, and may go; `None`: nothing is durable yet.
    #[must_use]
    pub fn poll_log_needed(&self) -> Option<u64> {
        let first_dirty = self.dirty.first().map(|&(lsn, _)| lsn);
        first_dirty.or(self.durable_lsn.map(|lsn| lsn + 1))
    }

    /// Wants to look after a document no later than `due`.
    pub(crate) fn look_after(&mut self, slot: usize, due: Time) {
        let document = &mut self.documents[slot];
        if document.due.is_some_and(|before| before <= due) {
            return;
        }
        if let Some(before) = document.due.replace(due) {
            self.documents_due.remove(&(before, slot));
        }
        self.documents_due.insert((due, slot));
    }

    /// Stores or unloads the documents whose time has come.
    pub(crate) fn look_after_due(&mut self, now: Time) {
        while let Some(&(due, slot)) = self.documents_due.first() {
            if due > now {
                break;
            }
            self.documents_due.pop_first();
            let document = &mut self.documents[slot];
            document.due = None;
            let unload_at = document.used + self.config.unload_after;
            if let Residence::Deleted { sequence, .. } = document.residence {
                if document.jobs == 0 && document.durable_sequence >= sequence {
                    self.want(slot, Wanted::Delete { slot });
                }
            } else if document.is_dirty() && document.residence == Residence::Ready {
                let since = document.dirty_since.unwrap_or(now);
                let store_at = (since + self.config.snapshot_after).min(unload_at.max(since));
                if store_at <= now || document.is_awaited {
                    let is_urgent = document.is_awaited;
                    self.want_snapshot(slot, is_urgent);
                } else {
                    self.look_after(slot, store_at);
                }
            } else if unload_at > now {
                self.look_after(slot, unload_at);
            } else if document.is_unused() && document.residence == Residence::Ready {
                self.stats.unloads += 1;
                self.remove(slot);
            } else {
                document.rest();
                self.settle_memory(slot);
            }
        }
    }
}

/// The most that a subscriber has who has all ops before `next`.
fn known_before(document: &Document, known: &Known, next: u64) -> Bytes {
    let checkpoint = document.count.as_ref().and_then(|count| count.vector_before(next));
    let is_newer = |&(sequence, _): &(u64, Bytes)| sequence > known.sequence || known.sequence >= next;
    match checkpoint.filter(is_newer) {
        Some((_, vector)) => vector,
        None if known.sequence < next => known.vector.clone(),
        None => Bytes::new(),
    }
}

fn is_from(ops: &[HistoryOp], sequence: u64) -> bool {
    ops.first().is_some_and(|first| first.sequence == sequence)
}
