//! One client's side of one document, over all its connections: what a client library must do, and no more.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use wire::sync::{Client, DocumentKind, Join, Joined, PresenceEntry, ResumePoint, Server};
use wire::{Code, Guuid, Span, Time};
use yrs::IdSet;

use super::oracle::Oracle;
use super::plan::Role;
use super::requests::Requests;
use super::yjs;
use crate::invariants::{Check, Invariant};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Not joined before this instant.
    Offline(Time),
    Joining,
    Joined,
    Left,
}

/// An op that is not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Unacked {
    pub(super) counter: u64,
    pub(super) content: usize,
    message: Bytes,
    /// It tells the node again what a crash took: nobody waits for it.
    is_told_again: bool,
}

/// Counters before each op of a client that are left free: what the node has lost is told again under them, before ops
/// that may build on it.
pub(super) const SPARE_COUNTERS: u64 = 1 << 16;

#[derive(Clone, Debug)]
struct Assembly {
    sequence: u64,
    missing: u64,
    bytes: Vec<u8>,
}

/// What a client has of a document.
#[derive(Clone, Default)]
pub(super) struct View {
    /// Of an opaque document: what is where, without its own.
    pub(super) places: BTreeMap<u64, usize>,
    /// Of a Yjs document: all letters, its own too.
    pub(super) letters: IdSet,
    /// The updates that brought them.
    pub(super) updates: Vec<Bytes>,
}

/// What a message asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    None,
    /// The document is open under this number, and the node may lack what the client has.
    Joined {
        document: u32,
    },
    Moved {
        shard: usize,
    },
}

pub(super) struct Session {
    pub(super) part: usize,
    pub(super) document: usize,
    pub(super) name: String,
    pub(super) kind: DocumentKind,
    pub(super) role: Role,
    /// It says what it has when it joins, and sends nothing again that the node says it has.
    pub(super) tells_vector: bool,
    pub(super) writer: Guuid,
    pub(super) phase: Phase,
    pub(super) shard: usize,
    /// Moves since the last answered join.
    moves: u32,
    incarnation: Option<u64>,
    pub(super) seen: u64,
    assembly: Option<Assembly>,
    pub(super) unacked: VecDeque<Unacked>,
    sent: usize,
    pub(super) paused_until: Time,
    pub(super) view: View,
    pub(super) is_leaving: bool,
    pub(super) requests: Requests,
    /// The document had been deleted before it was joined.
    joins_deleted: bool,
    /// The node's vector when it opened the document: what it lacks is still to be told, before anything else.
    pub(super) node_vector: Option<yrs::StateVector>,
    /// The last op of this writer that the node had then.
    node_counter: u64,
    /// The run of the node that was told what it lacks: it loses nothing while it runs.
    told_run: Option<u64>,
    /// What the others announce: clock and state.
    pub(super) others: BTreeMap<u64, (u32, Vec<u8>)>,
    pub(super) presence: OwnPresence,
}

/// What this client announces.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnPresence {
    pub(super) client: u64,
    /// Zero: nothing.
    pub(super) clock: u32,
    pub(super) is_sent: bool,
}

impl OwnPresence {
    pub(super) fn state(self) -> Vec<u8> {
        format!("{} at {}", self.client, self.clock).into_bytes()
    }
}

/// After so many moves in a row something leads in circles.
const MOVES_MAX: u32 = 20;
/// A document that was refused for now is asked for again after so long.
const REJOIN_SPAN: Span = Span::from_ms(30);

impl Session {
    pub(super) fn new(
        part: usize,
        document: (usize, &str, DocumentKind),
        role: Role,
        writer: Guuid,
        shard: usize,
        presence: u64,
    ) -> Self {
        Self {
            part,
            document: document.0,
            name: document.1.to_owned(),
            kind: document.2,
            role,
            tells_vector: false,
            writer,
            phase: Phase::Offline(Time::ZERO),
            shard,
            moves: 0,
            incarnation: None,
            seen: 0,
            assembly: None,
            unacked: VecDeque::new(),
            sent: 0,
            paused_until: Time::ZERO,
            view: View::default(),
            is_leaving: false,
            requests: Requests::default(),
            joins_deleted: false,
            node_vector: None,
            node_counter: 0,
            told_run: None,
            others: BTreeMap::new(),
            presence: OwnPresence { client: presence, clock: 0, is_sent: false },
        }
    }

    /// The name of the document on a connection.
    pub(super) const fn handle(&self) -> u32 {
        self.part as u32 + 1
    }

    /// All that it has said is safe, and all that was announced to it has come.
    pub(super) fn is_settled(&self) -> bool {
        match self.phase {
            Phase::Left => true,
            Phase::Joined => {
                self.unacked.is_empty()
                    && self.assembly.is_none()
                    && self.node_vector.is_none()
                    && !self.is_leaving
                    && self.requests.is_done()
            }
            Phase::Offline(_) | Phase::Joining => false,
        }
    }

    /// Whether an announced state has not come whole.
    pub(super) const fn assembly_is_open(&self) -> bool {
        self.assembly.is_some()
    }

    /// The message that joins.
    pub(super) fn join(&mut self, oracle: &Oracle) -> Vec<u8> {
        self.joins_deleted = oracle.is_deleted(self.document);
        self.phase = Phase::Joining;
        let resume = self.incarnation.map(|incarnation| ResumePoint { incarnation, sequence: self.seen });
        let vector = if self.tells_vector && self.kind == DocumentKind::Yjs {
            yjs::vector(&self.view.letters)
        } else {
            Vec::new()
        };
        Client::Join(Join {
            handle: self.handle(),
            kind: self.kind,
            content: self.role != Role::Watcher,
            document: &self.name,
            resume,
            state_vector: &vector,
        })
        .to_vec()
    }

    /// Takes an op for sending.
    pub(super) fn push(&mut self, counter: u64, content: usize, payload: &[u8]) {
        let op = self.unacked_op(counter, content, payload);
        self.unacked.push_back(op);
    }

    fn unacked_op(&self, counter: u64, content: usize, payload: &[u8]) -> Unacked {
        let message = Client::Op { handle: self.handle(), counter, payload }.to_vec().into();
        Unacked { counter, content, message, is_told_again: false }
    }

    /// Begins to tell the node what it has lost. Answers the counters that are free for that: before the first op that it
    /// has not; none: it has all of them.
    pub(super) fn begin_telling(&mut self) -> Option<Range<u64>> {
        let known = self.node_counter;
        self.told_run = self.incarnation;
        // What was told to an earlier run is found anew.
        self.unacked.retain(|op| op.counter <= known || !op.is_told_again);
        let first = self.unacked.iter().map(|op| op.counter).find(|&counter| counter > known)?;
        Some((first - SPARE_COUNTERS).max(known + 1)..first)
    }

    /// Takes for sending what the node has lost.
    pub(super) fn push_again(&mut self, counter: u64, content: usize, payload: &[u8]) {
        let op = Unacked { is_told_again: true, ..self.unacked_op(counter, content, payload) };
        let at = self.unacked.partition_point(|other| other.counter < counter);
        self.unacked.insert(at, op);
    }

    /// The next op to send, if one may be sent.
    pub(super) fn next_op(&self, now: Time) -> Option<Bytes> {
        let may = self.phase == Phase::Joined && self.node_vector.is_none() && now >= self.paused_until;
        self.unacked.get(self.sent).filter(|_| may).map(|op| op.message.clone())
    }

    pub(super) const fn mark_sent(&mut self) {
        self.sent += 1;
    }

    /// What is to be announced now.
    pub(super) fn next_presence(&self) -> Option<Vec<u8>> {
        let OwnPresence { client, clock, is_sent } = self.presence;
        if self.phase != Phase::Joined || is_sent || clock == 0 {
            return None;
        }
        let state = self.presence.state();
        let entries = vec![PresenceEntry { client, clock, state: &state }];
        Some(Client::Presence { handle: self.handle(), entries }.to_vec())
    }

    /// The connection is gone, or the document is sought elsewhere.
    pub(super) fn disconnect(&mut self, until: Time) {
        if self.phase == Phase::Left {
            return;
        }
        if self.assembly.take().is_some() {
            // What was sent behind the state is no use without it.
            self.incarnation = None;
            self.seen = 0;
        }
        self.phase = Phase::Offline(until);
        self.sent = 0;
        self.paused_until = Time::ZERO;
        self.node_vector = None;
        self.others.clear();
        self.presence.is_sent = false;
        self.requests.rewind();
    }

    /// Takes what the node says.
    pub(super) fn handle_message(
        &mut self,
        now: Time,
        message: &Server<'_>,
        oracle: &mut Oracle,
    ) -> Result<Effect, (Invariant, String)> {
        if matches!(self.phase, Phase::Offline(_) | Phase::Left) {
            return Ok(Effect::None);
        }
        match message {
            Server::Joined(joined) => {
                // Whoever wants no content may open what is damaged, to delete it; the end was damaged, too, then.
                let is_damaged = self.role == Role::Watcher && oracle.was_damaged(self.document);
                if self.joins_deleted && !is_damaged {
                    return Err((
                        Invariant::NothingTakenBack,
                        format!("{}: it was deleted, and is open", self.name),
                    ));
                }
                return self.handle_joined(joined);
            }
            Server::State { bytes, .. } => self.handle_state(bytes)?,
            Server::Op { sequence, payload, .. } => self.handle_op(*sequence, payload, oracle)?,
            Server::Ack { counter, sequence, .. } => self.handle_ack(*counter, *sequence, oracle)?,
            // It was sent before the node had said that it closes the document.
            Server::Reject { code: Code::UnknownHandle, .. } if self.phase == Phase::Joining => {}
            // What becomes of it is known when the document is closed, or found to be there. Word of the end may wait for
            // room, and come behind the refusal of an op that found nothing open.
            Server::Reject { code: Code::DocumentDeleted | Code::UnknownHandle, .. } => {
                oracle.check_deleted(self.document)?;
            }
            Server::Reject { counter, code, retry_after_ms, text, .. } => {
                if *retry_after_ms == 0 {
                    return Err(self.wrong(&format!("refuses op {counter} for good: {code}: {text}")));
                }
                let found = self.unacked.iter().position(|op| op.counter == *counter);
                self.sent = found.map_or(self.sent, |at| self.sent.min(at));
                self.paused_until = now + Span::from_ms(u64::from(*retry_after_ms));
            }
            Server::Presence { entries, .. } => self.handle_presence(entries),
            Server::Moved { shard, .. } => {
                self.moves += 1;
                if self.moves > MOVES_MAX {
                    return Err(self.wrong("sends the client in circles"));
                }
                return Ok(Effect::Moved { shard: *shard as usize });
            }
            Server::Done { .. }
            | Server::Versions { .. }
            | Server::Past(_)
            | Server::PastState { .. }
            | Server::Refused { .. } => self.handle_answer(now, message, oracle)?,
            // It does not heed it: whoever stays is served as well.
            Server::Advice { .. } => {}
            Server::Error { code: Code::DocumentDeleted, .. } => {
                // Who has it open is told when it is durable.
                if self.phase == Phase::Joined {
                    oracle.on_deleted(self.document)?;
                }
                oracle.check_deleted(self.document)?;
                self.handle_end();
            }
            Server::Error { code, text, .. } => match code {
                Code::Draining
                | Code::Overloaded
                | Code::LogBusy
                | Code::DocumentBusy
                | Code::StorageFailed => self.disconnect(now + REJOIN_SPAN),
                Code::SnapshotDamaged if oracle.was_damaged(self.document) => {
                    self.disconnect(now + REJOIN_SPAN);
                }
                _ => return Err(self.wrong(&format!("refuses it: {code}: {text}"))),
            },
        }
        Ok(Effect::None)
    }

    pub(super) fn wrong(&self, what: &str) -> (Invariant, String) {
        (Invariant::StatedReason, format!("{}: the node {what}", self.name))
    }

    fn handle_joined(&mut self, joined: &Joined<'_>) -> Result<Effect, (Invariant, String)> {
        let is_same_run = self.incarnation.replace(joined.incarnation) == Some(joined.incarnation);
        if !is_same_run && self.kind == DocumentKind::Yjs {
            self.seen = 0;
        } else if self.kind == DocumentKind::Opaque && joined.sequence < self.seen {
            let seen =
                format!("{}: {} ops were shown, and now there are {}", self.name, self.seen, joined.sequence);
            return Err((Invariant::NothingTakenBack, seen));
        }
        if self.phase == Phase::Joining {
            self.others.clear();
            self.presence.is_sent = false;
            if self.tells_vector {
                let known = |op: &&Unacked| op.counter <= joined.writer_counter;
                self.sent = self.unacked.iter().take_while(known).count();
            }
        }
        self.phase = Phase::Joined;
        self.moves = 0;
        self.assembly = (joined.state_bytes > 0).then(|| Assembly {
            sequence: joined.state_sequence,
            missing: joined.state_bytes,
            bytes: Vec::new(),
        });
        let is_told = self.told_run == Some(joined.incarnation);
        if self.kind == DocumentKind::Yjs && self.role == Role::Writer && !is_told {
            let vector = yjs::vector_of(joined.state_vector);
            let vector = vector.ok_or_else(|| self.wrong("sends a state vector that is none"))?;
            self.node_vector = Some(vector);
            self.node_counter = joined.writer_counter;
        }
        Ok(Effect::Joined { document: joined.document })
    }

    fn handle_state(&mut self, bytes: &[u8]) -> Check {
        let Some(assembly) = &mut self.assembly else {
            return Err(self.wrong("sends a piece of state that was not announced"));
        };
        assembly.bytes.extend_from_slice(bytes);
        let Some(missing) = assembly.missing.checked_sub(bytes.len() as u64) else {
            return Err(self.wrong("sends more state than was announced"));
        };
        assembly.missing = missing;
        if missing > 0 {
            return Ok(());
        }
        let Assembly { sequence, bytes, .. } = self.assembly.take().expect("looked at above");
        self.seen = self.seen.max(sequence);
        let letters = yjs::letters_of(&bytes);
        let letters = letters.ok_or_else(|| self.wrong("sends a state that does not decode"))?;
        self.view.letters.merge_with(letters);
        self.view.updates.push(bytes.into());
        Ok(())
    }

    fn handle_op(&mut self, sequence: u64, payload: &[u8], oracle: &mut Oracle) -> Check {
        let content = oracle.recognise(self.document, payload)?;
        if self.kind == DocumentKind::Opaque {
            oracle.on_shown(self.document, sequence, content)?;
        }
        if sequence <= self.seen {
            return Ok(());
        }
        match oracle.content(content).letters {
            Some(letters) => {
                self.view.letters.merge_with(letters.set());
                self.view.updates.push(oracle.content(content).payload.clone());
            }
            None => {
                let left_out = oracle.shown_between(self.document, self.seen, sequence, self.writer);
                if let Some(left_out) = left_out {
                    let seen = format!("{}: op {sequence} comes, and {left_out} did not", self.name);
                    return Err((Invariant::OrderedWhole, seen));
                }
                self.view.places.insert(sequence, content);
            }
        }
        self.seen = sequence;
        Ok(())
    }

    fn handle_ack(&mut self, counter: u64, sequence: u64, oracle: &mut Oracle) -> Check {
        let count = self.unacked.iter().take_while(|op| op.counter <= counter).count();
        let last = self.unacked.iter().find(|op| op.counter == counter).map(|op| op.content);
        if let (Some(content), DocumentKind::Opaque) = (last, self.kind) {
            oracle.on_shown(self.document, sequence, content)?;
        }
        let writer = self.writer;
        let mine = self.unacked.drain(..count).map(|op| writer.with_counter(op.counter));
        oracle.on_acknowledged(self.document, mine);
        self.sent = self.sent.saturating_sub(count);
        Ok(())
    }

    fn handle_presence(&mut self, entries: &[PresenceEntry<'_>]) {
        for entry in entries {
            let known = self.others.get(&entry.client).map(|(clock, _)| *clock);
            if known.is_some_and(|clock| clock > entry.clock) {
                continue;
            }
            if entry.state.is_empty() {
                self.others.remove(&entry.client);
            } else {
                self.others.insert(entry.client, (entry.clock, entry.state.to_vec()));
            }
        }
    }
}
