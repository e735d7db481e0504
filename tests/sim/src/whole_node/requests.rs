//! What a client asks about the past of a document, and its end: asked again until there is an answer.

use bytes::Bytes;
use wire::sync::{At, Client, DocumentKind, Past, Server};
use wire::varint::Reader;
use wire::{Code, Span, Time};
use yrs::IdSet;

use super::oracle::{Claim, Oracle};
use super::session::{Phase, Session};
use super::yjs;
use crate::invariants::{Check, Invariant};

/// What is refused for a moment is asked again after so long.
const AGAIN_SPAN: Span = Span::from_ms(20);

/// The requests by their numbers.
const DELETE: u32 = 1;
const VERSION: u32 = 2;
const PAST: u32 = 3;

/// How one request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Want {
    #[default]
    No,
    /// Not before this instant.
    From(Time),
    Sent,
}

/// Those of one client in one document.
#[derive(Default)]
pub(super) struct Requests {
    /// By number.
    wants: [Want; 4],
    /// The last op of the past that is asked for.
    past_sequence: u64,
    past: Option<(u64, u64, Vec<u8>)>,
    /// The name of the version.
    pub(super) name: String,
}

impl Requests {
    /// Whether nothing is to be asked any more.
    pub(super) fn is_done(&self) -> bool {
        self.wants.iter().all(|want| *want == Want::No)
    }

    pub(super) const fn want_delete(&mut self) {
        self.wants[DELETE as usize] = Want::From(Time::ZERO);
    }

    /// Wants to name the document, and to have it as it was after this op.
    pub(super) fn want_past(&mut self, sequence: u64) {
        self.wants[VERSION as usize] = Want::From(Time::ZERO);
        if sequence > 0 {
            self.wants[PAST as usize] = Want::From(Time::ZERO);
            self.past_sequence = sequence;
        }
    }

    /// The connection is gone: what was not answered is asked again.
    pub(super) fn rewind(&mut self) {
        self.past = None;
        for want in self.wants.iter_mut().filter(|want| **want == Want::Sent) {
            *want = Want::From(Time::ZERO);
        }
    }

    /// The next one to send, and when there is one if not now.
    pub(super) fn next(&self, now: Time, handle: u32) -> Result<(u32, Bytes), Option<Time>> {
        let from = |want: &Want| if let Want::From(at) = want { Some(*at) } else { None };
        let next = (0..).zip(&self.wants).filter_map(|(request, want)| Some((from(want)?, request))).min();
        let Some((at, request)) = next else { return Err(None) };
        if at > now {
            return Err(Some(at));
        }
        let message = match request {
            DELETE => Client::Delete { handle, request },
            VERSION => Client::CreateVersion { handle, request, name: &self.name },
            _ => Client::ReadAt { handle, request, at: At::Sequence(self.past_sequence) },
        };
        Ok((request, message.to_vec().into()))
    }

    pub(super) fn mark_sent(&mut self, request: u32) {
        self.wants[request as usize] = Want::Sent;
    }
}

impl Session {
    /// Takes an answer.
    pub(super) fn handle_answer(
        &mut self,
        now: Time,
        message: &Server<'_>,
        oracle: &mut Oracle,
    ) -> Result<(), (Invariant, String)> {
        match message {
            Server::Done { request: DELETE, .. } => {
                self.requests.wants = Default::default();
                self.handle_end();
                oracle.on_deleted(self.document)?;
            }
            Server::Done { request: VERSION, sequence, .. } => {
                self.requests.wants[VERSION as usize] = Want::No;
                oracle.on_version(self.document, &self.requests.name, *sequence);
            }
            Server::Past(Past { request: PAST, sequence, state_bytes, .. }) => {
                self.requests.past = Some((*sequence, *state_bytes, Vec::new()));
                self.take_past(&[], oracle)?;
            }
            Server::PastState { request: PAST, bytes, .. } => self.take_past(bytes, oracle)?,
            Server::Refused { request, code, retry_after_ms, text, .. } => {
                let again = match code {
                    Code::DocumentDeleted | Code::HistoryNotKept => Want::No,
                    Code::SnapshotDamaged if oracle.was_damaged(self.document) => {
                        Want::From(now + AGAIN_SPAN)
                    }
                    Code::UnknownHandle => Want::From(now + AGAIN_SPAN),
                    _ if *retry_after_ms > 0 => Want::From(now + AGAIN_SPAN),
                    _ => return Err(self.wrong(&format!("refuses request {request}: {code}: {text}"))),
                };
                self.requests.wants[*request as usize] = again;
            }
            _ => return Err(self.wrong("answers what nobody has asked")),
        }
        Ok(())
    }

    /// The document is deleted.
    pub(super) fn handle_end(&mut self) {
        self.disconnect(Time::ZERO);
        self.phase = Phase::Left;
        self.unacked.clear();
        self.requests = Requests::default();
    }

    fn take_past(&mut self, bytes: &[u8], oracle: &mut Oracle) -> Check {
        let Some((sequence, expected, mut state)) = self.requests.past.take() else {
            return Err(self.wrong("sends a piece of the past that was not announced"));
        };
        state.extend_from_slice(bytes);
        if (state.len() as u64) < expected {
            self.requests.past = Some((sequence, expected, state));
            return Ok(());
        }
        self.requests.wants[PAST as usize] = Want::No;
        if sequence != self.requests.past_sequence || state.len() as u64 != expected {
            return Err(self.wrong(&format!("answers with the past at op {sequence}")));
        }
        let claim = match self.kind {
            DocumentKind::Yjs => yjs::letters_of(&state).map(Claim::Letters),
            DocumentKind::Opaque => ops_of(&state).map(Claim::Ops),
        };
        let claim = claim.ok_or_else(|| self.wrong("sends a past that does not decode"))?;
        oracle.on_past(self.document, sequence, claim);
        Ok(())
    }
}

/// The ops of an opaque past, each after its length.
fn ops_of(state: &[u8]) -> Option<Vec<Bytes>> {
    let mut reader = Reader::new(state);
    let mut ops = Vec::new();
    while !reader.is_empty() {
        ops.push(Bytes::copy_from_slice(reader.bytes("op").ok()?));
    }
    Some(ops)
}

/// Whether these are all the letters in the set.
pub(super) fn are_all(letters: impl Iterator<Item = yjs::Letters>, set: &IdSet) -> bool {
    let mut all = IdSet::new();
    letters.for_each(|letters| all.merge_with(letters.set()));
    all == *set
}
