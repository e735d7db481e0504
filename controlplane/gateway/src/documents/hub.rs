//! One open document: a task that owns its subscription at the node, its replica, its presence and the
//! outboxes of its sockets.
//!
//! A socket's update goes to the other sockets and to the node at once, and back to its sender when it is
//! durable: providers that watch for their own updates then know. Nothing is taken from a socket before the
//! document's state has arrived, so that an empty document is never shown in its place.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aetherflow_client::{ClientError, DocumentEvent, DocumentEvents, DocumentWriter};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use wire::{Access, Guuid};

use super::pending::{Pending, Waiter};
use super::{Applied, Command, Documents, Queued};
use crate::config::{DOCUMENT_LINGER, INBOX_COMMANDS_MAX, LOAD_TIMEOUT};
use crate::outbox::Outbox;
use crate::presence::{Announcer, Presence, SocketId};
use crate::refusal::Refusal;
use crate::replica::Replica;
use crate::yproto::{self, Entry, UPDATE_EMPTY};

/// How soon an op that found the client's budget in use is tried again, if nothing happens before.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// Runs until nobody uses the document, or it cannot be had any more.
pub(super) async fn run(
    documents: Arc<Documents>,
    id: String,
    mut commands: mpsc::Receiver<Queued>,
    users: Weak<()>,
) {
    let refusal = match open(&documents, &id).await {
        Ok((mut hub, events)) => match hub.serve(events, &mut commands).await {
            Some(refusal) => {
                hub.end(&refusal);
                refusal
            }
            None => return,
        },
        Err(refusal) => refusal,
    };
    if refusal != Refusal::Draining {
        tracing::warn!(document = id, code = refusal.code(), "document closed: {refusal}");
    }
    documents.metrics.refused(&refusal);
    documents.close(&id, &users);
    commands.close();
    while let Some(queued) = commands.recv().await {
        refuse(queued.command, &refusal);
    }
}

fn refuse(command: Command, refusal: &Refusal) {
    match command {
        Command::Join { outbox, .. } => outbox.end(refusal.clone()),
        Command::Read { reply, .. } => drop(reply.send(Err(refusal.clone()))),
        Command::Apply { reply, .. } => drop(reply.send(Err(refusal.clone()))),
        Command::Writer { reply } => drop(reply.send(Err(refusal.clone()))),
        _ => {}
    }
}

/// Joins, and waits for the document's state.
async fn open(documents: &Arc<Documents>, id: &str) -> Result<(DocumentHub, DocumentEvents), Refusal> {
    let load = async {
        let (writer, mut events) = documents.upstream.join(id).await?.split();
        let mut hub = DocumentHub::new(Arc::clone(documents), id.to_owned(), writer);
        while !hub.loaded {
            match events.next_event().await {
                Some(event) => hub.handle_event(event)?,
                None => return Err(Refusal::Unavailable("the node closed the document".to_owned())),
            }
        }
        Ok((hub, events))
    };
    let late = || Refusal::Unavailable(format!("no state of the document within {LOAD_TIMEOUT:?}"));
    timeout(LOAD_TIMEOUT, load).await.unwrap_or_else(|_| Err(late()))
}

/// A socket of this document.
#[derive(Debug)]
struct Subscriber {
    session: Option<Guuid>,
    access: Access,
    outbox: Outbox,
}

/// An op that the client has no room for yet.
#[derive(Debug)]
struct Held {
    payload: Bytes,
    waiter: Waiter,
}

struct DocumentHub {
    documents: Arc<Documents>,
    id: String,
    writer: DocumentWriter,
    replica: Replica,
    presence: Presence,
    sockets: HashMap<SocketId, Subscriber>,
    pending: Pending,
    held: Option<Held>,
    /// The node's state is here. Never false again.
    loaded: bool,
}

impl DocumentHub {
    fn new(documents: Arc<Documents>, id: String, writer: DocumentWriter) -> Self {
        Self {
            documents,
            id,
            writer,
            replica: Replica::default(),
            presence: Presence::default(),
            sockets: HashMap::new(),
            pending: Pending::default(),
            held: None,
            loaded: false,
        }
    }

    /// Serves until the document is not used any more (none) or lost. The events end without a reason only
    /// when the gateway closes its client.
    async fn serve(
        &mut self,
        mut events: DocumentEvents,
        commands: &mut mpsc::Receiver<Queued>,
    ) -> Option<Refusal> {
        let mut batch = Vec::new();
        let mut unused_since = Instant::now();
        loop {
            let retry_at = Instant::now() + RETRY_AFTER;
            let unused = self.sockets.is_empty() && self.held.is_none();
            let done = tokio::select! {
                more = events.next_events(&mut batch) => self.handle_events(&mut batch, more),
                queued = commands.recv(), if self.held.is_none() => {
                    unused_since = Instant::now();
                    match queued {
                        Some(queued) => self.handle_commands(queued, commands),
                        None => Ok(()),
                    }
                }
                () = sleep_until(retry_at), if self.held.is_some() => Ok(()),
                () = sleep_until(unused_since + DOCUMENT_LINGER), if unused => {
                    unused_since = Instant::now();
                    if self.documents.close_unused(&self.id) {
                        return None;
                    }
                    Ok(())
                }
            };
            if let Err(refusal) = done.and_then(|()| self.retry_held()) {
                return Some(refusal);
            }
        }
    }

    /// Ends all sockets.
    fn end(&mut self, refusal: &Refusal) {
        for (_, subscriber) in self.sockets.drain() {
            subscriber.outbox.end(refusal.clone());
        }
        while let Some((_, waiter)) = self.pending.pop_durable(u64::MAX) {
            if let Waiter::Request(reply) = waiter {
                drop(reply.send(Err(refusal.clone())));
            }
        }
    }

    fn handle_events(&mut self, batch: &mut Vec<DocumentEvent>, more: bool) -> Result<(), Refusal> {
        batch.drain(..).try_for_each(|event| self.handle_event(event))?;
        if more { Ok(()) } else { Err(Refusal::Draining) }
    }

    fn handle_event(&mut self, event: DocumentEvent) -> Result<(), Refusal> {
        match event {
            DocumentEvent::Joined { server_state_vector, incarnation, may_lack, .. } => {
                if self.loaded {
                    self.documents.metrics.rejoins.fetch_add(1, Relaxed);
                }
                if may_lack {
                    self.push_missing(incarnation, &server_state_vector)?;
                }
            }
            // Only now: what the node has merged comes first, and then what has been edited since.
            DocumentEvent::CaughtUp => self.loaded = true,
            DocumentEvent::State(state) => self.handle_state(state)?,
            DocumentEvent::Op { payload, .. } => {
                let frame = yproto::update(&payload);
                self.replica.push(payload)?;
                self.broadcast(&frame, Access::Read, None);
            }
            DocumentEvent::Durable { up_to_counter, sequence } => {
                self.handle_durable(up_to_counter, sequence);
            }
            DocumentEvent::Rejected { counter, code, text } => {
                let refusal = Refusal::OpRejected { code, text };
                self.documents.metrics.refused(&refusal);
                match self.pending.remove(counter) {
                    Some(Waiter::Socket { socket, .. }) => self.end_socket(socket, refusal),
                    Some(Waiter::Request(reply)) => drop(reply.send(Err(refusal))),
                    None => {}
                }
            }
            DocumentEvent::Presence(states) => {
                let entry = |state: aetherflow_client::PresenceState| Entry {
                    client: state.client,
                    clock: state.clock,
                    state: state.state,
                };
                let entries: Vec<_> = states.into_iter().map(entry).collect();
                let changed = self.presence.report(&entries);
                self.broadcast_presence(&changed);
            }
            DocumentEvent::Disconnected => {
                let gone = self.presence.node_lost();
                self.broadcast_presence(&gone);
            }
            DocumentEvent::Reconnected => {}
            DocumentEvent::Closed { code, text } => return Err(Refusal::DocumentClosed { code, text }),
        }
        Ok(())
    }

    /// The first state is all there is; later ones bring the replica up to date after the node was lost.
    fn handle_state(&mut self, state: Bytes) -> Result<(), Refusal> {
        if !self.loaded {
            return Ok(self.replica.push(state)?);
        }
        let before = self.replica.state_vector()?;
        if self.replica.push_if_new(&state)? {
            let news = self.replica.difference(&before)?;
            self.broadcast(&yproto::update(&news), Access::Read, None);
        }
        Ok(())
    }

    /// A node that came back may lack ops that it had passed on but not made durable: it gets them from the
    /// replica, once for all sockets, and before what may build on them.
    fn push_missing(&mut self, incarnation: u64, state_vector: &[u8]) -> Result<(), Refusal> {
        // Before the state is here nothing was taken from anybody.
        let missing = if self.loaded { self.replica.difference(state_vector)? } else { Bytes::new() };
        let missing = if missing == UPDATE_EMPTY { Bytes::new() } else { missing };
        let pushed = self.writer.push_missing(incarnation, missing);
        pushed.map_err(|error| Refusal::Unavailable(error.to_string()))
    }

    fn handle_durable(&mut self, up_to_counter: u64, sequence: u64) {
        while let Some((op_id, waiter)) = self.pending.pop_durable(up_to_counter) {
            self.documents.metrics.ops_durable.fetch_add(1, Relaxed);
            match waiter {
                Waiter::Socket { socket, frame } => self.send_to(socket, frame),
                Waiter::Request(reply) => drop(reply.send(Ok(Applied { op_id, sequence }))),
            }
        }
    }

    /// Handles what waits, as long as the client has room.
    fn handle_commands(&mut self, first: Queued, more: &mut mpsc::Receiver<Queued>) -> Result<(), Refusal> {
        let mut next = Some(first);
        for turn in 1..=INBOX_COMMANDS_MAX {
            let Some(Queued { command, budget }) = next else { break };
            self.handle_command(command)?;
            drop(budget);
            let go_on = self.held.is_none() && turn < INBOX_COMMANDS_MAX;
            next = if go_on { more.try_recv().ok() } else { None };
        }
        Ok(())
    }

    fn handle_command(&mut self, command: Command) -> Result<(), Refusal> {
        match command {
            Command::Join { socket, session, access, outbox } => {
                self.handle_join(socket, Subscriber { session, access, outbox })?;
            }
            Command::Leave { socket } => {
                self.sockets.remove(&socket);
                let gone = self.presence.socket_closed(socket);
                self.announce(&gone);
            }
            Command::Step1 { socket, state_vector } => {
                if self.may(socket, Access::Read) {
                    let state = yproto::step_2(&self.replica.difference(&state_vector)?);
                    let subscriber = self.sockets.get(&socket);
                    let _ = subscriber.map(|subscriber| subscriber.outbox.send_state(state));
                }
            }
            Command::Update { socket, update, may_be_old } => {
                self.handle_update(socket, update, may_be_old)?;
            }
            Command::Awareness { socket, entries, opening } => {
                let Some(subscriber) = self.sockets.get(&socket) else { return Ok(()) };
                let from = Announcer { socket, session: subscriber.session, opening };
                let changed = self.presence.announce(from, &entries);
                self.announce(&changed);
            }
            Command::QueryAwareness { socket } => {
                let all = yproto::awareness(self.presence.entries());
                self.send_to(socket, all);
            }
            Command::Read { query, reply } => {
                let reading = self.replica.read(query).map_err(Refusal::from);
                let broken = reading.as_ref().err().filter(|why| matches!(why, Refusal::Replica(_))).cloned();
                drop(reply.send(reading));
                return broken.map_or(Ok(()), Err);
            }
            Command::Writer { reply } => drop(reply.send(Ok(self.writer.clone()))),
            Command::Apply { update, reply } => {
                self.replica.push(update.clone())?;
                self.broadcast(&yproto::update(&update), Access::Read, None);
                self.apply(update, Waiter::Request(reply))?;
            }
        }
        Ok(())
    }

    fn handle_join(&mut self, socket: SocketId, subscriber: Subscriber) -> Result<(), Refusal> {
        if subscriber.access >= Access::Read {
            subscriber.outbox.send(yproto::step_1(&self.replica.state_vector()?));
        }
        if self.presence.len() > 0 {
            subscriber.outbox.send(yproto::awareness(self.presence.introduce()));
        }
        self.sockets.insert(socket, subscriber);
        Ok(())
    }

    fn handle_update(&mut self, socket: SocketId, update: Bytes, may_be_old: bool) -> Result<(), Refusal> {
        if update == UPDATE_EMPTY {
            return Ok(());
        }
        let metrics = &self.documents.metrics;
        if !self.may(socket, Access::Write) {
            metrics.updates_read_only.fetch_add(1, Relaxed);
            return Ok(());
        }
        if may_be_old && !self.replica.push_if_new(&update)? {
            metrics.updates_without_news.fetch_add(1, Relaxed);
            return Ok(());
        }
        if !may_be_old {
            self.replica.push(update.clone())?;
        }
        let frame = yproto::update(&update);
        self.broadcast(&frame, Access::Read, Some(socket));
        self.apply(update, Waiter::Socket { socket, frame })
    }

    /// Hands an op to the node, or holds it and all that comes after it until there is room.
    fn apply(&mut self, payload: Bytes, waiter: Waiter) -> Result<(), Refusal> {
        match self.writer.try_apply(payload.clone()) {
            Ok(op) => {
                self.documents.metrics.ops.fetch_add(1, Relaxed);
                self.pending.push(op.guuid, op.counter, waiter);
                Ok(())
            }
            Err(ClientError::Full) => {
                self.held = Some(Held { payload, waiter });
                Ok(())
            }
            Err(error) => Err(Refusal::Unavailable(error.to_string())),
        }
    }

    fn retry_held(&mut self) -> Result<(), Refusal> {
        self.held.take().map_or(Ok(()), |held| self.apply(held.payload, held.waiter))
    }

    fn may(&self, socket: SocketId, access: Access) -> bool {
        self.sockets.get(&socket).is_some_and(|subscriber| subscriber.access >= access)
    }

    /// Tells everybody, here and behind the node, what has changed here.
    fn announce(&mut self, changed: &[Entry]) {
        for entry in changed {
            let set = self.writer.set_presence_at(entry.client, entry.clock, entry.state.clone());
            if let Err(error) = set {
                tracing::debug!(document = self.id, "presence not announced: {error}");
            }
        }
        self.broadcast_presence(changed);
    }

    fn broadcast_presence(&mut self, changed: &[Entry]) {
        if !changed.is_empty() {
            let entries = changed.iter().map(|entry| (entry.client, entry.clock, &entry.state[..]));
            self.broadcast(&yproto::awareness(entries), Access::Presence, None);
        }
    }

    fn broadcast(&mut self, frame: &Bytes, least: Access, except: Option<SocketId>) {
        for (&socket, subscriber) in &self.sockets {
            if subscriber.access >= least && Some(socket) != except {
                subscriber.outbox.send(frame.clone());
            }
        }
    }

    fn send_to(&self, socket: SocketId, frame: Bytes) {
        let _ = self.sockets.get(&socket).map(|subscriber| subscriber.outbox.send(frame));
    }

    fn end_socket(&self, socket: SocketId, refusal: Refusal) {
        if let Some(subscriber) = self.sockets.get(&socket) {
            subscriber.outbox.end(refusal);
        }
    }
}
