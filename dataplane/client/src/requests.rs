//! Requests about a document's end or past, until they are answered: no clock, no socket.

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use wire::sync::{At as WireAt, Client, Server};
use wire::varint::Reader;
use wire::{Code, Span, Time};

use crate::error::ClientError;

/// Requests of one document that the node is asked at a time.
const SENT_MAX: usize = 4;
/// The most of an announced state for which room is made before its bytes arrive.
const STATE_RESERVE_BYTES_MAX: usize = 1 << 20;

/// A moment in a document's past.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum At {
    /// After this op.
    Sequence(u64),
    /// After the last op that the node took no later than this, Unix milliseconds.
    UnixMs(u64),
    /// As a version names it.
    Version(String),
}

/// A name for a document as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// The name, unique in the document.
    pub name: String,
    /// The last op in it.
    pub sequence: u64,
    /// When it was made, Unix milliseconds.
    pub unix_ms: u64,
}

/// A document as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastState {
    /// The last op in it.
    pub sequence: u64,
    /// A Yjs update (v1); for an opaque document see [`Self::ops`].
    pub state: Bytes,
    /// Its Yjs state vector (v1); empty for an opaque document.
    pub state_vector: Bytes,
}

impl PastState {
    /// The ops of an opaque document, in order; none when the state is something else.
    #[must_use]
    pub fn ops(&self) -> Option<Vec<Bytes>> {
        let mut reader = Reader::new(&self.state);
        let mut ops = Vec::new();
        while !reader.is_empty() {
            ops.push(self.state.slice_ref(reader.bytes("op").ok()?));
        }
        Some(ops)
    }
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    Delete,
    CreateVersion(String),
    ListVersions,
    ReadAt(At),
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Done(u64),
    Versions(Vec<Version>),
    Past(PastState),
}

/// Whom to tell.
pub(crate) type Reply = oneshot::Sender<Result<Answer, ClientError>>;

#[derive(Debug)]
struct Assembly {
    sequence: u64,
    state_vector: Bytes,
    bytes_expected: usize,
    bytes: BytesMut,
}

#[derive(Debug)]
struct Pending {
    number: u32,
    ask: Ask,
    reply: Reply,
    is_sent: bool,
    past: Option<Assembly>,
}

/// The requests of one document, oldest first. What the connection took with it is asked again.
#[derive(Default, Debug)]
pub(crate) struct Requests {
    made: u32,
    pending: Vec<Pending>,
    paused_until: Time,
}

impl Requests {
    pub(crate) fn push(&mut self, ask: Ask, reply: Reply) {
        self.made = self.made.wrapping_add(1);
        self.pending.push(Pending { number: self.made, ask, reply, is_sent: false, past: None });
    }

    /// The next request to send, if one may be sent now.
    pub(crate) fn next_message(&mut self, handle: u32, now: Time) -> Option<Vec<u8>> {
        if self.pending.is_empty() || now < self.paused_until {
            return None;
        }
        // Who asked may have stopped waiting.
        self.pending.retain(|pending| pending.is_sent || !pending.reply.is_closed());
        if self.pending.iter().filter(|pending| pending.is_sent).count() >= SENT_MAX {
            return None;
        }
        let next = self.pending.iter().find(|pending| !pending.is_sent)?;
        let request = next.number;
        let message = match &next.ask {
            Ask::Delete => Client::Delete { handle, request },
            Ask::CreateVersion(name) => Client::CreateVersion { handle, request, name },
            Ask::ListVersions => Client::ListVersions { handle, request },
            Ask::ReadAt(at) => {
                let at = match at {
                    At::Sequence(sequence) => WireAt::Sequence(*sequence),
                    At::UnixMs(unix_ms) => WireAt::UnixMs(*unix_ms),
                    At::Version(name) => WireAt::Version(name),
                };
                Client::ReadAt { handle, request, at }
            }
        };
        Some(message.to_vec())
    }

    /// The transport has taken what [`Self::next_message`] gave.
    pub(crate) fn mark_sent(&mut self) {
        if let Some(next) = self.pending.iter_mut().find(|pending| !pending.is_sent) {
            next.is_sent = true;
        }
    }

    /// The connection is gone: everything is asked again on the next.
    pub(crate) fn rewind(&mut self) {
        for pending in &mut self.pending {
            pending.is_sent = false;
            pending.past = None;
        }
        self.paused_until = Time::ZERO;
    }

    /// The document is closed: nothing will be answered any more. That it is deleted is what a deletion asked for.
    pub(crate) fn close(&mut self, code: Code, text: &str) {
        for pending in self.pending.drain(..) {
            let is_done = code == Code::DocumentDeleted && pending.ask == Ask::Delete;
            let closed = || ClientError::DocumentClosed { code, text: text.to_owned() };
            tell(pending.reply, if is_done { Ok(Answer::Done(0)) } else { Err(closed()) });
        }
    }

    /// Takes an answer. Some: requests may be sent from this moment on.
    pub(crate) fn handle_message(
        &mut self,
        now: Time,
        message: &Server<'_>,
        state_bytes_max: usize,
    ) -> Option<Time> {
        let request = match message {
            Server::Done { request, .. }
            | Server::Versions { request, .. }
            | Server::PastState { request, .. }
            | Server::Refused { request, .. } => *request,
            Server::Past(past) => past.request,
            _ => return None,
        };
        let at = self.pending.iter().position(|pending| pending.is_sent && pending.number == request)?;
        let answer = match message {
            Server::Done { sequence, .. } => Ok(Answer::Done(*sequence)),
            Server::Versions { versions, .. } => {
                let version = |found: &wire::sync::VersionEntry<'_>| Version {
                    name: found.name.to_owned(),
                    sequence: found.sequence,
                    unix_ms: found.unix_ms,
                };
                Ok(Answer::Versions(versions.iter().map(version).collect()))
            }
            Server::Refused { retry_after_ms, .. } if *retry_after_ms > 0 => {
                self.pending[at].is_sent = false;
                let until = now + Span::from_ms(u64::from(*retry_after_ms));
                self.paused_until = self.paused_until.max(until);
                return Some(self.paused_until);
            }
            Server::Refused { code, text, .. } => {
                Err(ClientError::RequestRefused { code: *code, text: (*text).to_owned() })
            }
            _ => self.pending[at].take_past(message, state_bytes_max)?,
        };
        let pending = self.pending.remove(at);
        tell(pending.reply, answer);
        // There is room for the next one.
        (!self.pending.is_empty()).then_some(now)
    }
}

impl Pending {
    /// Takes the head or a piece of a past state; none: more is to come.
    fn take_past(
        &mut self,
        message: &Server<'_>,
        state_bytes_max: usize,
    ) -> Option<Result<Answer, ClientError>> {
        let refuse =
            |code, text: &str| Some(Err(ClientError::RequestRefused { code, text: text.to_owned() }));
        match message {
            Server::Past(past) => {
                let room = usize::try_from(past.state_bytes).ok().filter(|&bytes| bytes <= state_bytes_max);
                let Some(bytes_expected) = room else {
                    return refuse(
                        Code::LimitReached,
                        "the state is over the client's limit: raise state_bytes_max",
                    );
                };
                self.past = Some(Assembly {
                    sequence: past.sequence,
                    state_vector: Bytes::copy_from_slice(past.state_vector),
                    bytes_expected,
                    bytes: BytesMut::with_capacity(bytes_expected.min(STATE_RESERVE_BYTES_MAX)),
                });
            }
            Server::PastState { bytes, .. } => match &mut self.past {
                Some(past) => past.bytes.extend_from_slice(bytes),
                None => {
                    return refuse(Code::Protocol, "the node sent a piece of state that was not announced");
                }
            },
            _ => {}
        }
        let is_whole = |past: &mut Assembly| past.bytes.len() >= past.bytes_expected;
        let Assembly { sequence, state_vector, bytes_expected, bytes } = self.past.take_if(is_whole)?;
        if bytes.len() > bytes_expected {
            return refuse(Code::Protocol, "the node sent more state than was announced");
        }
        Some(Ok(Answer::Past(PastState { sequence, state: bytes.freeze(), state_vector })))
    }
}

fn tell(reply: Reply, answer: Result<Answer, ClientError>) {
    // Who asked may have stopped waiting.
    let _unheard = reply.send(answer);
}

#[cfg(test)]
mod tests {
    use wire::sync::Past;

    use super::*;

    const NOW: Time = Time::from_us(1_000_000);

    fn ask(requests: &mut Requests, ask: Ask) -> oneshot::Receiver<Result<Answer, ClientError>> {
        let (reply, answer) = oneshot::channel();
        requests.push(ask, reply);
        answer
    }

    fn send(requests: &mut Requests, now: Time) -> Option<u32> {
        let message = requests.next_message(3, now)?;
        requests.mark_sent();
        match Client::decode(&message).expect("well formed") {
            Client::Delete { request, .. } | Client::ReadAt { request, .. } => Some(request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_lost_with_the_connection_or_answered_twice() {
        let mut requests = Requests::default();
        let mut answer = ask(&mut requests, Ask::ReadAt(At::Sequence(4)));
        let request = send(&mut requests, NOW).expect("to be sent");
        assert_eq!(send(&mut requests, NOW), None);
        let past = Past { handle: 3, request, sequence: 4, state_bytes: 4, state_vector: &[9] };
        requests.handle_message(NOW, &Server::Past(past), 1 << 20);
        requests.handle_message(NOW, &Server::PastState { handle: 3, request, bytes: b"lo" }, 1 << 20);
        requests.rewind();
        assert_eq!(send(&mut requests, NOW), Some(request), "asked again");
        requests.handle_message(NOW, &Server::Past(past), 1 << 20);
        for bytes in [b"st", b"at"] {
            assert!(answer.try_recv().is_err());
            requests.handle_message(NOW, &Server::PastState { handle: 3, request, bytes }, 1 << 20);
        }
        let Ok(Ok(Answer::Past(past))) = answer.try_recv() else { panic!("an answer") };
        assert_eq!((past.sequence, &past.state[..], &past.state_vector[..]), (4, &b"stat"[..], &[9][..]));
        requests.handle_message(NOW, &Server::Done { handle: 3, request, sequence: 1 }, 0);
    }

    #[test]
    fn a_busy_node_is_asked_at_once_or_never_again() {
        let mut requests = Requests::default();
        let mut answer = ask(&mut requests, Ask::Delete);
        let request = send(&mut requests, NOW).expect("to be sent");
        let refuse =
            |code, retry_after_ms| Server::Refused { handle: 3, request, code, retry_after_ms, text: "" };
        let until = requests.handle_message(NOW, &refuse(Code::LogBusy, 20), 0).expect("a pause");
        assert_eq!(until, NOW + Span::from_ms(20));
        assert_eq!(send(&mut requests, NOW), None);
        assert_eq!(send(&mut requests, until), Some(request));
        requests.handle_message(until, &refuse(Code::Forbidden, 0), 0);
        let refused = answer.try_recv().expect("an answer").expect_err("refused");
        assert!(matches!(refused, ClientError::RequestRefused { code: Code::Forbidden, .. }));
    }

    #[test]
    fn a_deletion_whose_answer_was_lost_fails() {
        let mut requests = Requests::default();
        let mut deletion = ask(&mut requests, Ask::Delete);
        let mut list = ask(&mut requests, Ask::ListVersions);
        requests.close(Code::DocumentDeleted, "deleted");
        assert_eq!(deletion.try_recv(), Ok(Ok(Answer::Done(0))));
        assert!(list.try_recv().expect("an answer").is_err());
    }

    #[test]
    fn an_answer_takes_more_memory_than_it_may_or_ops_run_together() {
        let mut requests = Requests::default();
        let mut answer = ask(&mut requests, Ask::ReadAt(At::UnixMs(4)));
        let request = send(&mut requests, NOW).expect("to be sent");
        let past = Past { handle: 3, request, sequence: 4, state_bytes: 1 << 40, state_vector: &[] };
        requests.handle_message(NOW, &Server::Past(past), 1 << 20);
        assert!(matches!(answer.try_recv(), Ok(Err(ClientError::RequestRefused { .. }))));
        let state = |bytes: &'static [u8]| PastState {
            sequence: 1,
            state: Bytes::from_static(bytes),
            state_vector: Bytes::new(),
        };
        assert_eq!(state(&[1, b'a', 0, 2, b'b', b'c']).ops().unwrap(), ["a", "", "bc"]);
        assert_eq!(state(&[3, b'a']).ops(), None);
    }
}
