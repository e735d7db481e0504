//! One document's conversation with its node, as a state machine: no clock, no socket.

use bytes::{Bytes, BytesMut};
use wire::sync::{Client, DocumentKind, Join, Joined, ResumePoint, Server};
use wire::{Code, Span, Time};

use crate::document::{DocumentEvent, PresenceState};
use crate::event_queue::EventQueue;
use crate::stats::ClientStats;
use crate::unacked::{UnackedOp, UnackedQueue};

/// The most of an announced state for which room is made before its bytes arrive.
const STATE_RESERVE_BYTES_MAX: usize = 1 << 20;

/// What is joined, and how.
#[derive(Clone, Debug)]
pub(crate) struct JoinSpec {
    pub(crate) handle: u32,
    pub(crate) id: String,
    pub(crate) kind: DocumentKind,
    pub(crate) content: bool,
    pub(crate) pushes_missing: bool,
    pub(crate) state_vector: Bytes,
    pub(crate) state_bytes_max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No join is under way.
    Offline,
    /// The join was sent.
    Joining,
    /// Ops may be sent.
    Joined,
}

#[derive(Debug)]
struct Assembly {
    sequence: u64,
    bytes_expected: usize,
    bytes: BytesMut,
}

/// What the driver must do after a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// The document is open under this number.
    Joined { document: u32 },
    /// Some ops may be sent from this moment on.
    PausedUntil(Time),
    /// Join at another shard; no address: of the same node.
    Moved { shard: u32, address: Option<String> },
    /// The document is open, and would be better off at another shard of the same node.
    Advised { shard: u32 },
    /// Join again after a pause.
    Rejoin,
    /// Join again after so long.
    RejoinAfter(Span),
    /// Presence may be told again from this moment on, all of it.
    PresencePausedUntil(Time),
    /// The document is closed for good.
    Closed { code: Code, text: String },
}

/// What came of a message.
#[derive(PartialEq, Eq, Default, Debug)]
pub(crate) struct Outcome {
    pub(crate) effect: Option<Effect>,
    /// Bytes of the budget to give back.
    pub(crate) released: usize,
}

impl From<Effect> for Outcome {
    fn from(effect: Effect) -> Self {
        Self { effect: Some(effect), released: 0 }
    }
}

/// Follows one document over all its connections.
#[derive(Debug)]
pub(crate) struct DocumentSession {
    spec: JoinSpec,
    phase: Phase,
    /// A loss of connection was told to the application.
    lost: bool,
    /// The document goes to another connection on advice: the application need not know.
    is_moving: bool,
    resume_asked: bool,
    incarnation: Option<u64>,
    /// The last op of others that the application has, or the last that a state contained.
    seen: u64,
    /// The application has not been told that it has caught up: it does with this op.
    catching_up: Option<u64>,
    assembly: Option<Assembly>,
    /// The run of the node that has been given what it lacked, or was to be: it loses nothing while it runs.
    made_up_run: Option<u64>,
    /// The last own op that the node had when it opened the document.
    node_counter: u64,
    /// The op that gave it what it lacked.
    missing_counter: Option<u64>,
    durable_counter: u64,
    unacked: UnackedQueue,
    paused_until: Time,
}

impl DocumentSession {
    pub(crate) fn new(spec: JoinSpec) -> Self {
        Self {
            spec,
            phase: Phase::Offline,
            lost: false,
            is_moving: false,
            resume_asked: false,
            incarnation: None,
            seen: 0,
            catching_up: None,
            assembly: None,
            made_up_run: None,
            node_counter: 0,
            missing_counter: None,
            durable_counter: 0,
            unacked: UnackedQueue::default(),
            paused_until: Time::ZERO,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.spec.id
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.phase == Phase::Offline
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    /// Whether it is open and nothing of its state is still to come: it may go to another connection.
    pub(crate) fn is_settled(&self) -> bool {
        self.phase == Phase::Joined && self.assembly.is_none()
    }

    pub(crate) const fn state_bytes_max(&self) -> usize {
        self.spec.state_bytes_max
    }

    /// Whether all ops are acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        self.unacked.is_empty()
    }

    pub(crate) fn push_op(&mut self, op: UnackedOp) {
        self.unacked.push(op);
    }

    /// Takes the application's answer to the question what the node lacks, and puts it before all that the node has not.
    /// `counter` is for when there is nothing such.
    pub(crate) fn push_missing(&mut self, incarnation: u64, counter: u64, update: &[u8]) {
        if self.incarnation != Some(incarnation) || self.made_up_run == Some(incarnation) {
            return;
        }
        self.made_up_run = Some(incarnation);
        if update.is_empty() {
            return;
        }
        let counter = self.unacked.spare_behind(self.node_counter).unwrap_or(counter);
        let message = Client::Op { handle: self.spec.handle, counter, payload: update }.to_vec().into();
        self.unacked.insert(UnackedOp { counter, message, cost: 0 });
        self.missing_counter = Some(counter);
    }

    /// The application will not answer any more.
    pub(crate) fn expect_no_answer(&mut self) {
        self.spec.pushes_missing = false;
        self.made_up_run = self.incarnation;
    }

    /// The message that joins on a new connection.
    pub(crate) fn poll_join(&mut self) -> Vec<u8> {
        self.phase = Phase::Joining;
        let seen = self.seen;
        let resume = self.incarnation.map(|incarnation| ResumePoint { incarnation, sequence: seen });
        self.resume_asked = resume.is_some();
        Client::Join(Join {
            handle: self.spec.handle,
            kind: self.spec.kind,
            content: self.spec.content,
            document: &self.spec.id,
            resume,
            state_vector: &self.spec.state_vector,
        })
        .to_vec()
    }

    /// The transport had no room for the join.
    pub(crate) fn retract_join(&mut self) {
        self.phase = Phase::Offline;
    }

    /// The next op to send, if one may be sent now.
    pub(crate) fn next_op(&self, now: Time) -> Option<&Bytes> {
        let is_asked = self.spec.pushes_missing && self.made_up_run != self.incarnation;
        if self.phase != Phase::Joined || now < self.paused_until || is_asked {
            return None;
        }
        self.unacked.next_unsent().map(|op| &op.message)
    }

    /// The transport has taken the op that [`Self::next_op`] gave.
    pub(crate) fn mark_sent(&mut self) {
        self.unacked.mark_sent();
    }

    /// The node takes no message as large as the op that [`Self::next_op`] gave: refuses it in the node's
    /// place. Returns bytes of the budget to give back.
    pub(crate) fn refuse_next_op(&mut self, events: &mut EventQueue, stats: &mut ClientStats) -> usize {
        let Some(counter) = self.unacked.next_unsent().map(|op| op.counter) else { return 0 };
        self.handle_reject(counter, Code::OpTooLarge, "over the node's limit", events, stats).released
    }

    /// The connection is gone, or the document is sought elsewhere.
    pub(crate) fn handle_disconnect(&mut self, events: &mut EventQueue) {
        events.forget_held();
        self.unacked.rewind();
        self.paused_until = Time::ZERO;
        if self.assembly.take().is_some() {
            // What was sent behind the state is no use without it.
            self.incarnation = None;
            self.seen = 0;
        }
        if std::mem::take(&mut self.is_moving) || self.phase == Phase::Joined {
            self.lost = true;
            events.push(DocumentEvent::Disconnected);
        }
        self.phase = Phase::Offline;
    }

    /// Another connection serves the document from now on. The node goes on from where this one stands, and knows by their
    /// counters the ops that come again.
    pub(crate) fn handle_move(&mut self) {
        self.unacked.rewind();
        self.paused_until = Time::ZERO;
        self.is_moving = true;
        self.phase = Phase::Offline;
    }

    /// Ends the document: no op of it will be sent.
    pub(crate) fn handle_close(&mut self, code: Code, text: &str, events: &mut EventQueue) -> usize {
        self.phase = Phase::Offline;
        events.push(DocumentEvent::Closed { code, text: text.to_owned() });
        events.end();
        self.unacked.clear().cost
    }

    /// Takes a message of the document's present connection.
    pub(crate) fn handle_message(
        &mut self,
        now: Time,
        message: &Server<'_>,
        events: &mut EventQueue,
        stats: &mut ClientStats,
    ) -> Outcome {
        if self.phase == Phase::Offline {
            return Outcome::default();
        }
        match message {
            Server::Joined(joined) => self.handle_joined(joined, events),
            Server::State { bytes, .. } => self.handle_state(bytes, events),
            Server::Op { sequence, payload, .. } => {
                if *sequence <= self.seen {
                    stats.ops_duplicate += 1;
                } else {
                    self.seen = *sequence;
                    let payload = Bytes::copy_from_slice(payload);
                    events.push(DocumentEvent::Op { sequence: *sequence, payload });
                    self.note_caught_up(*sequence, events);
                }
                Outcome::default()
            }
            Server::Ack { counter, sequence, .. } => self.handle_ack(*counter, *sequence, events, stats),
            // The node had closed the document before the op came: nothing is wrong with the op, which is sent again.
            Server::Reject { code: Code::UnknownHandle, .. } => match self.phase {
                Phase::Joined => Effect::Rejoin.into(),
                Phase::Offline | Phase::Joining => Outcome::default(),
            },
            Server::Reject { counter, code, retry_after_ms, text, .. } if *retry_after_ms == 0 => {
                self.handle_reject(*counter, *code, text, events, stats)
            }
            Server::Reject { counter, retry_after_ms, .. } => {
                if !self.unacked.rewind_to(*counter) {
                    return Outcome::default();
                }
                stats.ops_retried += 1;
                // What followed the refused op is refused as well, perhaps for a shorter time.
                let until = now + Span::from_ms(u64::from(*retry_after_ms));
                self.paused_until = self.paused_until.max(until);
                Effect::PausedUntil(self.paused_until).into()
            }
            Server::Presence { entries, .. } => {
                let state = |entry: &wire::sync::PresenceEntry<'_>| PresenceState {
                    client: entry.client,
                    clock: entry.clock,
                    state: Bytes::copy_from_slice(entry.state),
                };
                if !entries.is_empty() {
                    events.push(DocumentEvent::Presence(entries.iter().map(state).collect()));
                }
                Outcome::default()
            }
            // Answers to requests are taken elsewhere.
            Server::Done { .. }
            | Server::Versions { .. }
            | Server::Past(_)
            | Server::PastState { .. }
            | Server::Refused { .. } => Outcome::default(),
            Server::Moved { shard, address, .. } => {
                stats.moves += 1;
                let address = (!address.is_empty()).then(|| (*address).to_owned());
                Effect::Moved { shard: *shard, address }.into()
            }
            Server::Advice { shard, .. } => Effect::Advised { shard: *shard }.into(),
            Server::Error { code, retry_after_ms, .. } if *retry_after_ms > 0 => {
                let after = Span::from_ms(u64::from(*retry_after_ms));
                let is_of_presence = self.phase == Phase::Joined && *code == Code::RateLimited;
                if is_of_presence {
                    Effect::PresencePausedUntil(now + after).into()
                } else {
                    Effect::RejoinAfter(after).into()
                }
            }
            Server::Error { code, text, .. } => match code {
                Code::Draining | Code::Overloaded | Code::LogBusy => Effect::Rejoin.into(),
                _ => Effect::Closed { code: *code, text: (*text).to_owned() }.into(),
            },
        }
    }

    fn handle_joined(&mut self, joined: &Joined<'_>, events: &mut EventQueue) -> Outcome {
        let Some(bytes_expected) = self.state_room(joined.state_bytes) else {
            let text = format!(
                "state of {} bytes, over the client's limit of {}: raise state_bytes_max",
                joined.state_bytes, self.spec.state_bytes_max
            );
            return Effect::Closed { code: Code::LimitReached, text }.into();
        };
        let entered = self.phase == Phase::Joining;
        let goes_on = self.enter_log(joined);
        let resumed = self.resume_asked && goes_on && joined.state_bytes == 0;
        self.phase = Phase::Joined;
        if entered && std::mem::take(&mut self.lost) {
            events.push(DocumentEvent::Reconnected);
        }
        let may_lack = self.enter_run(joined);
        let is_unnoticed = std::mem::take(&mut self.is_moving) && resumed;
        if !is_unnoticed {
            events.push(DocumentEvent::Joined {
                server_state_vector: Bytes::copy_from_slice(joined.state_vector),
                sequence: joined.sequence,
                state_bytes: joined.state_bytes,
                resumed,
                incarnation: joined.incarnation,
                may_lack,
            });
            self.catching_up = Some(joined.sequence);
        }
        self.assembly = (bytes_expected > 0).then(|| Assembly {
            sequence: joined.state_sequence,
            bytes_expected,
            bytes: BytesMut::with_capacity(bytes_expected.min(STATE_RESERVE_BYTES_MAX)),
        });
        if self.assembly.is_none() {
            self.note_caught_up(self.seen.max(joined.state_sequence), events);
        }
        Effect::Joined { document: joined.document }.into()
    }

    /// The application has all up to op `sequence`.
    fn note_caught_up(&mut self, sequence: u64, events: &mut EventQueue) {
        if self.catching_up.is_some_and(|last| sequence >= last) {
            self.catching_up = None;
            events.push(DocumentEvent::CaughtUp);
        }
    }

    /// The announced size, unless it is over the limit.
    fn state_room(&self, state_bytes: u64) -> Option<usize> {
        usize::try_from(state_bytes).ok().filter(|&bytes| bytes <= self.spec.state_bytes_max)
    }

    /// Sequences are counted per run of the node's log. Ops of a Yjs document are relayed before they are
    /// durable, so after a crash the numbers can stand for other ops; those of an opaque one cannot, unless
    /// the log is another one. True: the numbers mean what they meant.
    fn enter_log(&mut self, joined: &Joined<'_>) -> bool {
        let same_log = self.incarnation.replace(joined.incarnation) == Some(joined.incarnation);
        let goes_on = same_log || self.spec.kind == DocumentKind::Opaque && joined.sequence >= self.seen;
        if !goes_on {
            self.seen = 0;
        }
        goes_on
    }

    /// Whether the node may have lost what the application has.
    fn enter_run(&mut self, joined: &Joined<'_>) -> bool {
        let run = Some(joined.incarnation);
        if self.made_up_run == run {
            return false;
        }
        self.node_counter = joined.writer_counter;
        // What an earlier run was given is durable, or lost and part of what this one is given.
        if let Some(counter) = self.missing_counter.take() {
            self.unacked.remove(counter);
        }
        let is_asked = self.spec.kind == DocumentKind::Yjs && self.spec.content;
        if !is_asked || !self.spec.pushes_missing {
            self.made_up_run = run;
        }
        is_asked
    }

    fn handle_state(&mut self, bytes: &[u8], events: &mut EventQueue) -> Outcome {
        let Some(assembly) = &mut self.assembly else {
            return unexpected("a piece of state that was not announced");
        };
        assembly.bytes.extend_from_slice(bytes);
        let missing = assembly.bytes_expected.checked_sub(assembly.bytes.len());
        match missing {
            None => unexpected("more state than was announced"),
            Some(0) => {
                self.seen = self.seen.max(assembly.sequence);
                let state = std::mem::take(&mut assembly.bytes).freeze();
                self.assembly = None;
                events.push(DocumentEvent::State(state));
                self.note_caught_up(self.seen, events);
                Outcome::default()
            }
            Some(_) => Outcome::default(),
        }
    }

    fn handle_ack(
        &mut self,
        counter: u64,
        sequence: u64,
        events: &mut EventQueue,
        stats: &mut ClientStats,
    ) -> Outcome {
        let released = self.unacked.acknowledge(counter);
        stats.ops_durable += released.ops;
        if counter > self.durable_counter {
            self.durable_counter = counter;
            events.push(DocumentEvent::Durable { up_to_counter: counter, sequence });
        }
        Outcome { effect: None, released: released.cost }
    }

    fn handle_reject(
        &mut self,
        counter: u64,
        code: Code,
        text: &str,
        events: &mut EventQueue,
        stats: &mut ClientStats,
    ) -> Outcome {
        let Some(released) = self.unacked.remove(counter) else { return Outcome::default() };
        stats.ops_rejected += 1;
        events.push(DocumentEvent::Rejected { counter, code, text: text.to_owned() });
        Outcome { effect: None, released: released.cost }
    }
}

fn unexpected(what: &str) -> Outcome {
    Effect::Closed { code: Code::Protocol, text: format!("the node sent {what}") }.into()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
