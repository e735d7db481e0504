//! Where the transport's messages go while a datagram is being opened.

use bytes::Bytes;
use quantum::{ConnectionKey, MessageSink};
use statesync::{Session, StateSync, SubscriberKey};
use wal::{AlignedBuffer, LogWriter};
use wire::sync::{Channel, Client, client_handle};
use wire::{Ticket, Time};

use crate::lanes::{Lanes, Taken};
use crate::log::OpLog;
use crate::probe::{Probe, Stage};

/// Lends state sync and the log to the endpoint for the length of one datagram, and notes what the endpoint
/// has to do afterwards.
pub(crate) struct Sink<'a, B: AlignedBuffer, P> {
    pub(crate) now: Time,
    /// This one.
    pub(crate) shard: u32,
    pub(crate) sync: &'a mut StateSync,
    pub(crate) lanes: &'a mut Lanes,
    pub(crate) log: &'a mut LogWriter<B>,
    pub(crate) probe: &'a mut P,
    pub(crate) after: &'a mut AfterDatagram,
}

/// What is left to do on the connections when the datagram has been read.
#[derive(Debug, Default)]
pub(crate) struct AfterDatagram {
    /// Credit to give back: the bytes are in the log's batch or in a document by now.
    pub(crate) consumed: Vec<(ConnectionKey, Channel, usize)>,
    /// Round-trip probes to echo.
    pub(crate) probes: Vec<(ConnectionKey, Bytes)>,
    /// Connections to end: more waits for a sibling than may.
    pub(crate) overloaded: Vec<ConnectionKey>,
    /// Whose message took too long, and the document that it was for.
    pub(crate) offender: Option<(ConnectionKey, Option<Box<str>>)>,
}

impl AfterDatagram {
    /// Notes credit to give back.
    pub(crate) fn consume(&mut self, from: ConnectionKey, channel: Channel, bytes: usize) {
        match self.consumed.last_mut() {
            Some((key, last, sum)) if (*key, *last) == (from, channel) => *sum += bytes,
            _ => self.consumed.push((from, channel, bytes)),
        }
    }
}

/// The subscriber that stands for a connection of shard `origin`.
pub(crate) const fn subscriber(origin: u32, key: ConnectionKey) -> SubscriberKey {
    SubscriberKey { origin, connection: key.as_u64() }
}

/// The connection that a subscriber stands for.
pub(crate) const fn connection(key: SubscriberKey) -> ConnectionKey {
    ConnectionKey::from_u64(key.connection)
}

impl<B: AlignedBuffer, P: Probe> MessageSink for Sink<'_, B, P> {
    fn on_open(&mut self, from: ConnectionKey, ticket: &Ticket) {
        let session = Session {
            session_id: ticket.session_id,
            writer_id: ticket.writer_id,
            grants: ticket.grants.clone(),
        };
        self.sync.handle_open(subscriber(self.shard, from), session);
    }

    fn on_message(&mut self, from: ConnectionKey, channel: Channel, message: &[u8]) {
        if channel == Channel::Probe {
            self.after.probes.push((from, Bytes::copy_from_slice(message)));
            return;
        }
        match self.lanes.forward(self.sync, from, channel, message) {
            Taken::Here => self.after.consume(from, channel, message.len()),
            Taken::Forwarded => return,
            Taken::Overloaded => return self.after.overloaded.push(from),
        }
        self.probe.enter(Stage::Statesync);
        let mut log = OpLog { log: &mut *self.log, probe: &mut *self.probe };
        self.sync.handle_message(self.now, subscriber(self.shard, from), channel, message, &mut log);
        self.probe.leave();
        if self.probe.message() {
            self.note_offender(from, message);
        }
    }
}

impl<B: AlignedBuffer, P> Sink<'_, B, P> {
    #[cold]
    fn note_offender(&mut self, from: ConnectionKey, message: &[u8]) {
        let document = match Client::decode(message) {
            Ok(Client::Join(join)) => Some(join.document),
            Ok(_) => client_handle(message)
                .and_then(|handle| self.sync.document_of(subscriber(self.shard, from), handle)),
            Err(_) => None,
        };
        self.after.offender = Some((from, document.map(Into::into)));
    }
}
