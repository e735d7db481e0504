//! A document as the application holds it: ops go in, events come out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use wire::{Code, Guuid};

use crate::client::Handle;
use crate::error::ClientError;
use crate::requests::{Answer, Ask, At, PastState, Version};
use crate::shared::{Command, DocumentShared, PingTarget};

/// How a document is joined.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// The Yjs state vector (v1) of what the application has already; empty for nothing.
    pub state_vector: Bytes,
    /// Whether state and ops are wanted, or presence alone.
    pub content: bool,
    /// Of a Yjs document: the application answers each [`DocumentEvent::Joined`] that says `may_lack` by
    /// [`DocumentWriter::push_missing`], before which no op of it goes to the node. Without, a node that has lost ops
    /// of others in a crash gets own ops first that may build on them; should the application end there, those wait for
    /// ever.
    pub pushes_missing: bool,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self { state_vector: Bytes::new(), content: true, pushes_missing: false }
    }
}

/// Names an op, everywhere and for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OpId {
    /// The writer's id with the counter in its low 40 bits.
    pub guuid: Guuid,
    /// Grows with every op of this client, over all its documents.
    pub counter: u64,
}

/// The presence of one client of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresenceState {
    /// The Yjs client id, or any number that the client keeps for itself.
    pub client: u64,
    /// Grows with each change.
    pub clock: u32,
    /// The state, opaque to the node; empty: gone.
    pub state: Bytes,
}

/// What happens in a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DocumentEvent {
    /// The node has opened the document. Comes again after a reconnect, a move, or when the node brings a
    /// reader up to date that fell behind.
    Joined {
        /// The node's Yjs state vector (v1), by which the application finds what the node lacks; empty for
        /// opaque documents.
        server_state_vector: Bytes,
        /// The last op of what the node sends now: [`DocumentEvent::CaughtUp`] comes behind it.
        sequence: u64,
        /// Bytes of the [`DocumentEvent::State`] that follows; zero: none follows, ops may.
        state_bytes: u64,
        /// Whether the node goes on where an earlier connection stopped, so that nothing comes again.
        resumed: bool,
        /// The run of the node's log: another one after each crash.
        incarnation: u64,
        /// The node may have lost, in a crash, ops of others that the application has: see
        /// [`JoinOptions::pushes_missing`]. Never of opaque documents.
        may_lack: bool,
    },
    /// The document's state or, when the node knows what the application has, the difference: a Yjs update
    /// (v1) to apply.
    State(Bytes),
    /// All that the document held when [`DocumentEvent::Joined`] was said has come, and is in the application's hands.
    CaughtUp,
    /// Somebody else's op. Sequences grow; own ops take up the numbers that are missing.
    Op {
        /// Its place in the document.
        sequence: u64,
        /// The update or opaque bytes, as the writer gave them.
        payload: Bytes,
    },
    /// All own ops up to this one, less rejected ones, are durable. One event may stand for many.
    Durable {
        /// The highest counter covered.
        up_to_counter: u64,
        /// The document's sequence of that op.
        sequence: u64,
    },
    /// An own op was refused for good; it is in nobody's document.
    Rejected {
        /// Its counter.
        counter: u64,
        /// Why.
        code: Code,
        /// What was wrong and with what.
        text: String,
    },
    /// The presence of others has changed. After [`DocumentEvent::Joined`] everyone who is here is announced.
    Presence(Vec<PresenceState>),
    /// The connection was lost. Ops can go on being applied; the presence of others is not known any more.
    Disconnected,
    /// The connection is back; [`DocumentEvent::Joined`] follows.
    Reconnected,
    /// The node closed the document or refused to open it, or the session is over. The last event.
    Closed {
        /// Why.
        code: Code,
        /// What was wrong and with what.
        text: String,
    },
}

/// A joined document. Dropping both halves leaves it once its ops are durable.
#[derive(Debug)]
pub struct Document {
    writer: DocumentWriter,
    events: DocumentEvents,
}

/// The half of a document that takes ops and presence.
#[derive(Clone, Debug)]
pub struct DocumentWriter {
    open: Arc<OpenDocument>,
}

/// The half of a document that gives events.
#[derive(Debug)]
pub struct DocumentEvents {
    open: Arc<OpenDocument>,
}

/// What both halves hold; the document is left when the last of them goes.
#[derive(Debug)]
struct OpenDocument {
    document: Arc<DocumentShared>,
    client: Arc<Handle>,
}

impl Drop for OpenDocument {
    fn drop(&mut self) {
        self.client.shared.abandon(&self.document);
    }
}

impl Document {
    pub(crate) fn new(document: Arc<DocumentShared>, client: Arc<Handle>) -> Self {
        let open = Arc::new(OpenDocument { document, client });
        Self { writer: DocumentWriter { open: Arc::clone(&open) }, events: DocumentEvents { open } }
    }

    /// Gives the halves apart, for tasks of their own.
    #[must_use]
    pub fn split(self) -> (DocumentWriter, DocumentEvents) {
        (self.writer, self.events)
    }

    /// The half that takes ops; it can be cloned.
    #[must_use]
    pub fn writer(&self) -> &DocumentWriter {
        &self.writer
    }

    /// See [`DocumentWriter::apply`].
    pub async fn apply(&self, payload: Bytes) -> Result<OpId, ClientError> {
        self.writer.apply(payload).await
    }

    /// See [`DocumentWriter::try_apply`].
    pub fn try_apply(&self, payload: Bytes) -> Result<OpId, ClientError> {
        self.writer.try_apply(payload)
    }

    /// See [`DocumentWriter::push_missing`].
    pub fn push_missing(&self, incarnation: u64, update: Bytes) -> Result<(), ClientError> {
        self.writer.push_missing(incarnation, update)
    }

    /// See [`DocumentWriter::set_presence`].
    pub fn set_presence(&self, client: u64, state: Bytes) -> Result<(), ClientError> {
        self.writer.set_presence(client, state)
    }

    /// See [`DocumentWriter::remove_presence`].
    pub fn remove_presence(&self, client: u64) -> Result<(), ClientError> {
        self.writer.remove_presence(client)
    }

    /// See [`DocumentWriter::delete`].
    pub async fn delete(&self) -> Result<(), ClientError> {
        self.writer.delete().await
    }

    /// See [`DocumentWriter::create_version`].
    pub async fn create_version(&self, name: &str) -> Result<u64, ClientError> {
        self.writer.create_version(name).await
    }

    /// See [`DocumentWriter::versions`].
    pub async fn versions(&self) -> Result<Vec<Version>, ClientError> {
        self.writer.versions().await
    }

    /// See [`DocumentWriter::read_at`].
    pub async fn read_at(&self, at: At) -> Result<PastState, ClientError> {
        self.writer.read_at(at).await
    }

    /// See [`DocumentEvents::next_event`].
    pub async fn next_event(&mut self) -> Option<DocumentEvent> {
        self.events.next_event().await
    }

    /// See [`DocumentEvents::next_events`].
    pub async fn next_events(&mut self, out: &mut Vec<DocumentEvent>) -> bool {
        self.events.next_events(out).await
    }

    /// See [`DocumentWriter::leave`].
    pub async fn leave(self) -> Result<(), ClientError> {
        self.writer.leave().await
    }
}

impl DocumentWriter {
    /// The document's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.open.document.id
    }

    /// Takes an op (a Yjs update v1, or opaque bytes) for sending, and returns its id at once; whether it is
    /// durable is told by [`DocumentEvent::Durable`]. Waits while the client's budget of unacknowledged ops
    /// is in use, also while there is no connection. Dropping the future before it is done takes nothing.
    pub async fn apply(&self, payload: Bytes) -> Result<OpId, ClientError> {
        self.open.client.shared.apply(&self.open.document, &payload).await
    }

    #[expect(clippy::needless_pass_by_value, reason = "an op is given away, as to `apply`")]
    /// As [`Self::apply`], but fails with [`ClientError::Full`] instead of waiting.
    pub fn try_apply(&self, payload: Bytes) -> Result<OpId, ClientError> {
        self.open.client.shared.try_apply(&self.open.document, &payload)
    }

    /// Gives the node what it has lost: the Yjs update (v1) with all that the application has, its own ops too, and
    /// `server_state_vector` of a [`DocumentEvent::Joined`] that says `may_lack` has not; empty when there is nothing. It
    /// goes before all own ops that the node has not, for they may build on it, and takes nothing of the budget.
    /// `incarnation` is that event's: an answer to an earlier one is dropped.
    ///
    /// # Errors
    /// When it is too large: own ops go to the node without it then.
    pub fn push_missing(&self, incarnation: u64, update: Bytes) -> Result<(), ClientError> {
        self.open.client.shared.push_missing(&self.open.document, incarnation, update)
    }

    /// Announces the presence of `client` with the next clock. Empty: gone. The library announces it again
    /// after a reconnect.
    pub fn set_presence(&self, client: u64, state: Bytes) -> Result<(), ClientError> {
        self.open.client.shared.set_presence(&self.open.document, client, None, state)
    }

    /// As [`Self::set_presence`], for those who relay the presence of others with its clock. Ignored when a
    /// newer clock was set already.
    pub fn set_presence_at(&self, client: u64, clock: u32, state: Bytes) -> Result<(), ClientError> {
        self.open.client.shared.set_presence(&self.open.document, client, Some(clock), state)
    }

    /// Announces that `client` is gone.
    pub fn remove_presence(&self, client: u64) -> Result<(), ClientError> {
        self.set_presence(client, Bytes::new())
    }

    /// Deletes the document for everybody, with all its history, and returns when that is durable: needs the right to
    /// administer it. Whoever has it open is told by [`DocumentEvent::Closed`] with
    /// [`Code::DocumentDeleted`], this client too; it cannot be joined until its node forgets it, after a month.
    pub async fn delete(&self) -> Result<(), ClientError> {
        self.request(Ask::Delete).await.map(drop)
    }

    /// Names the document as the node has it now, and returns the last op in it once that is durable. A name that is
    /// there already is moved. Needs the right to write.
    pub async fn create_version(&self, name: &str) -> Result<u64, ClientError> {
        match self.request(Ask::CreateVersion(name.to_owned())).await? {
            Answer::Done(sequence) => Ok(sequence),
            _ => Err(unexpected()),
        }
    }

    /// The named versions, by sequence. Needs the right to write.
    pub async fn versions(&self) -> Result<Vec<Version>, ClientError> {
        match self.request(Ask::ListVersions).await? {
            Answer::Versions(versions) => Ok(versions),
            _ => Err(unexpected()),
        }
    }

    /// The document as it was. Needs the right to write: what was taken out is no longer for those who may only read.
    pub async fn read_at(&self, at: At) -> Result<PastState, ClientError> {
        match self.request(Ask::ReadAt(at)).await? {
            Answer::Past(past) => Ok(past),
            _ => Err(unexpected()),
        }
    }

    /// Waits for the answer over reconnects, and while the node is busy; dropping the future gives the request up.
    async fn request(&self, ask: Ask) -> Result<Answer, ClientError> {
        self.open.client.shared.request(&self.open.document, ask).await
    }

    /// Measures the round trip to the shard that owns the document, through the node's loop and back.
    pub async fn ping(&self, timeout: Duration) -> Result<Duration, ClientError> {
        self.open.client.shared.ping(PingTarget::Document(self.open.document.handle), timeout).await
    }

    /// Waits until all ops of the document are durable, then closes it. No further op is taken.
    pub async fn leave(&self) -> Result<(), ClientError> {
        let (done, left) = oneshot::channel();
        let shared = &self.open.client.shared;
        shared.leave(&self.open.document, done)?;
        left.await.map_err(|_| shared.failure())
    }
}

fn unexpected() -> ClientError {
    let text = "the node sent the answer to another request".to_owned();
    ClientError::RequestRefused { code: Code::Protocol, text }
}

impl DocumentEvents {
    /// The document's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.open.document.id
    }

    /// Waits for the next event; none: the document is closed and all events are taken. Nothing is lost when
    /// the future is dropped.
    pub async fn next_event(&mut self) -> Option<DocumentEvent> {
        self.wait().await;
        let document = &self.open.document;
        let mut events = document.events();
        let event = events.pop();
        let release = events.has_release();
        drop(events);
        self.caught_up(release);
        event
    }

    /// Waits for events and appends all that are there to `out`; false: the document is closed and all
    /// events are taken. Nothing is lost when the future is dropped.
    pub async fn next_events(&mut self, out: &mut Vec<DocumentEvent>) -> bool {
        self.wait().await;
        let mut events = self.open.document.events();
        let more = !events.is_empty();
        events.drain_into(out);
        let release = events.has_release();
        drop(events);
        self.caught_up(release);
        more
    }

    /// Returns when an event is there, or none can come any more.
    async fn wait(&self) {
        let document = &self.open.document;
        loop {
            {
                let events = document.events();
                if !events.is_empty() || events.is_ended() {
                    return;
                }
            }
            document.readable.notified().await;
        }
    }

    fn caught_up(&self, release: bool) {
        if release {
            self.open.client.shared.command(Command::Credit { handle: self.open.document.handle });
        }
    }
}

impl Drop for DocumentEvents {
    fn drop(&mut self) {
        let mut events = self.open.document.events();
        events.abandon();
        drop(events);
        self.open.client.shared.command(Command::ReaderGone { handle: self.open.document.handle });
    }
}
