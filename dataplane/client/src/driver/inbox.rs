//! Takes the messages of one connection to their documents.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wire::Time;
use wire::sync::{Channel, Server};

use super::documents::{Documents, Entry};
use super::early::EarlyPresence;
use crate::error::ClientError;
use crate::event_queue::{Credit, EventQueue};
use crate::session::Effect;
use crate::shared::Shared;
use crate::stats::ClientStats;

/// A round trip that is being measured.
pub(super) type Pings = HashMap<u64, (Time, oneshot::Sender<Duration>)>;

/// What the driver must do about a document.
pub(super) type Effects = Vec<(u32, Effect)>;

/// What messages of all connections touch.
pub(super) struct Desk<'a> {
    pub(super) now: Time,
    /// The connection that is read.
    pub(super) link: usize,
    pub(super) shared: &'a Shared,
    pub(super) documents: &'a mut Documents,
    pub(super) stats: &'a mut ClientStats,
    pub(super) effects: &'a mut Effects,
    /// Bytes of the budget to give back.
    pub(super) released: &'a mut usize,
}

/// Takes the messages of one connection.
pub(super) struct Inbox<'a> {
    desk: Desk<'a>,
    /// From the node's number of a document to its handle.
    numbers: &'a mut HashMap<u32, u32>,
    early: &'a mut EarlyPresence,
    pings: &'a mut Pings,
    /// Credit to give back to the node.
    pub(super) credit: Credit,
    /// A message could not be read.
    pub(super) malformed: bool,
}

impl<'a> Inbox<'a> {
    pub(super) fn new(
        desk: Desk<'a>,
        numbers: &'a mut HashMap<u32, u32>,
        early: &'a mut EarlyPresence,
        pings: &'a mut Pings,
    ) -> Self {
        Self { desk, numbers, early, pings, credit: Credit::default(), malformed: false }
    }

    /// Takes one message.
    pub(super) fn take(&mut self, channel: Channel, message: &[u8]) {
        if channel == Channel::Probe {
            self.credit.add(channel, message.len());
            self.take_echo(message);
            return;
        }
        match Server::decode(message) {
            Ok(Server::Presence { document, .. }) if !self.numbers.contains_key(&document) => {
                self.early.keep(document, message);
                self.credit.add(channel, message.len());
            }
            Ok(decoded) => {
                self.take_decoded(channel, &decoded, message.len());
                if let Server::Joined(joined) = decoded {
                    self.take_early(joined.document);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "message from the node cannot be read");
                self.malformed = true;
                self.desk.stats.malformed_messages += 1;
                self.credit.add(channel, message.len());
            }
        }
    }

    fn take_echo(&mut self, message: &[u8]) {
        let nonce = message.try_into().map(u64::from_be_bytes);
        if let Some((sent, reply)) = nonce.ok().and_then(|nonce| self.pings.remove(&nonce)) {
            // Who asked may have stopped waiting.
            let _unheard = reply.send(self.desk.now.since(sent).as_duration());
        }
    }

    /// What has overtaken the answer to a join; its credit is given back already.
    fn take_early(&mut self, document: u32) {
        for message in self.early.take(document) {
            if let Ok(decoded) = Server::decode(&message) {
                self.take_decoded(Channel::Presence, &decoded, 0);
            }
        }
    }

    fn take_decoded(&mut self, channel: Channel, message: &Server<'_>, bytes: usize) {
        let handle = match message {
            Server::State { document, .. }
            | Server::Op { document, .. }
            | Server::Presence { document, .. } => self.numbers.get(document).copied(),
            Server::Joined(joined) => Some(joined.handle),
            Server::Ack { handle, .. }
            | Server::Reject { handle, .. }
            | Server::Moved { handle, .. }
            | Server::Advice { handle, .. }
            | Server::Done { handle, .. }
            | Server::Versions { handle, .. }
            | Server::PastState { handle, .. }
            | Server::Refused { handle, .. }
            | Server::Error { handle, .. } => Some(*handle),
            Server::Past(past) => Some(past.handle),
        };
        // What comes for a document that was left, or is served elsewhere by now, is late and of no use.
        let found = handle.and_then(|handle| Some((handle, self.desk.documents.get_mut(&handle)?)));
        let Some((handle, entry)) = found.filter(|(_, entry)| entry.link == Some(self.desk.link)) else {
            self.credit.add(channel, bytes);
            return;
        };
        if is_answer(message) {
            self.credit.add(channel, bytes);
            let state_bytes_max = entry.session.state_bytes_max();
            if let Some(until) = entry.requests.handle_message(self.desk.now, message, state_bytes_max) {
                self.desk.effects.push((handle, Effect::PausedUntil(until)));
            }
            return;
        }
        let shared = Arc::clone(&entry.shared);
        let mut events = shared.events();
        let outcome = entry.session.handle_message(self.desk.now, message, &mut events, self.desk.stats);
        if events.is_full() && !matches!(message, Server::Ack { .. } | Server::Reject { .. }) {
            events.hold(channel, bytes);
        } else {
            self.credit.add(channel, bytes);
        }
        *self.desk.released += outcome.released;
        if let Some(effect) = outcome.effect {
            if matches!(effect, Effect::Moved { .. } | Effect::Rejoin | Effect::Closed { .. }) {
                // The connection goes on without the document.
                self.credit.add_all(events.take_held());
            }
            *self.desk.released += apply(&effect, handle, entry, &mut events, self.numbers, self.desk.shared);
            self.desk.effects.push((handle, effect));
        }
        drop(events);
        shared.readable.notify_one();
    }
}

/// Whether a message answers a request.
const fn is_answer(message: &Server<'_>) -> bool {
    matches!(
        message,
        Server::Done { .. }
            | Server::Versions { .. }
            | Server::Past(_)
            | Server::PastState { .. }
            | Server::Refused { .. }
    )
}

/// What an effect changes for the messages behind it in the same packet.
fn apply(
    effect: &Effect,
    handle: u32,
    entry: &mut Entry,
    events: &mut EventQueue,
    numbers: &mut HashMap<u32, u32>,
    shared: &Shared,
) -> usize {
    match effect {
        Effect::Joined { document } => {
            numbers.insert(*document, handle);
            entry.moves = 0;
            0
        }
        Effect::PausedUntil(_) | Effect::PresencePausedUntil(_) | Effect::Advised { .. } => 0,
        Effect::Moved { .. } | Effect::Rejoin | Effect::RejoinAfter(_) => {
            entry.session.handle_disconnect(events);
            entry.requests.rewind();
            0
        }
        Effect::Closed { code, text } => {
            let reason = ClientError::DocumentClosed { code: *code, text: text.clone() };
            shared.close_document(&entry.shared, reason);
            entry.requests.close(*code, text);
            entry.session.handle_close(*code, text, events)
        }
    }
}
