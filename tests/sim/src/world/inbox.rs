//! What connections deliver, kept until the world looks at it.

use std::ops::Range;

use quantum::{ConnectionKey, MessageSink};
use wire::channel::Channel;
use wire::{Guuid, Ticket};

#[derive(Debug)]
pub(super) enum Arrival {
    /// A node has opened a connection for this session.
    Opened {
        key: ConnectionKey,
        session: Guuid,
    },
    Message {
        key: ConnectionKey,
        channel: Channel,
        value_key: u64,
        bytes: Range<usize>,
    },
}

#[derive(Default, Debug)]
pub(super) struct Inbox {
    pub(super) arrivals: Vec<Arrival>,
    pub(super) bytes: Vec<u8>,
}

impl Inbox {
    pub(super) fn clear(&mut self) {
        self.arrivals.clear();
        self.bytes.clear();
    }
}

impl MessageSink for Inbox {
    fn on_open(&mut self, key: ConnectionKey, ticket: &Ticket) {
        self.arrivals.push(Arrival::Opened { key, session: ticket.session_id });
    }

    fn on_message(&mut self, key: ConnectionKey, channel: Channel, message: &[u8]) {
        self.on_latest(key, channel, 0, message);
    }

    fn on_latest(&mut self, key: ConnectionKey, channel: Channel, value_key: u64, message: &[u8]) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.arrivals.push(Arrival::Message { key, channel, value_key, bytes: from..self.bytes.len() });
    }
}
