//! Messages in and out (`PROTOCOL.md`, section "Channels").

use bytes::Bytes;
use thiserror::Error;
use wire::channel::{Channel, ChannelKind};
use wire::frame::{Fragment, Latest};
use wire::{Code, Time};

use super::{Connection, Event, MessageSink};
use crate::channels::{PACKET_MESSAGE_BYTES_MAX, ReceiveLimits, Tally, charge};

/// Names a message of a connection that was queued, for [`Connection::cancel`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MessageId {
    channel: Channel,
    /// Counts the messages of the channel.
    number: u64,
}

/// What may be asked for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendOptions {
    /// From then on the message is not worth sending: if nothing of it has been sent, nothing will be. Not on a
    /// reliable, ordered channel.
    pub deadline: Option<Time>,
    /// On a latest-wins channel: which value this is. Elsewhere it means nothing.
    pub key: u64,
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SendError {
    /// The send buffer, or the channel's queue, is full: try again after [`Event::Writable`].
    #[error("the send buffer is full: wait until the connection is writable")]
    Full,
    /// Larger than the peer takes, or than a packet when the channel's messages must fit one.
    #[error("message of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// The message.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A deadline on a reliable, ordered channel, where every message arrives.
    #[error("a message of a reliable, ordered channel has no deadline: choose another channel")]
    Deadline,
    /// The connection is closed or [finishing](Connection::finish), or there is none of this key.
    #[error("the connection is closed")]
    Closed,
}

impl Connection {
    /// Queues a message. Before the handshake is complete, what fits rides in the first packet.
    pub fn send(&mut self, channel: Channel, message: Bytes) -> Result<(), SendError> {
        self.send_with(channel, message, SendOptions::default()).map(drop)
    }

    /// Queues a message of a latest-wins channel, in the place of the one of `key` that waits.
    pub fn send_latest(&mut self, key: u64, message: Bytes) -> Result<MessageId, SendError> {
        self.send_with(Channel::Latest, message, SendOptions { key, ..SendOptions::default() })
    }

    /// Queues a message on which more is asked than its channel promises.
    pub fn send_with(
        &mut self,
        channel: Channel,
        message: Bytes,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        if self.is_closed() || self.is_finishing() {
            return Err(SendError::Closed);
        }
        let bytes = message.len();
        let limit = if channel.is_reliable() { self.message_bytes_max } else { PACKET_MESSAGE_BYTES_MAX };
        if bytes > limit {
            return Err(SendError::TooLarge { bytes, limit });
        }
        if options.deadline.is_some() && channel.kind() == ChannelKind::ReliableOrdered {
            return Err(SendError::Deadline);
        }
        // An empty message takes room as well: without a bound there would be any number of them.
        let has_room = self.queued_bytes + charge(bytes) <= self.config.send_buffer_bytes_max;
        if !has_room || self.send_channels.is_full(channel, options.key) {
            self.is_blocked = true;
            return Err(SendError::Full);
        }
        self.check_application_limited();
        self.queued_bytes += charge(bytes);
        self.stats.messages_sent += 1;
        let deadline = options.deadline.unwrap_or(Time::NEVER);
        let mut tally = Tally::default();
        let number = self.send_channels.push(channel, options.key, message, deadline, &mut tally);
        self.settle_tally(tally);
        Ok(MessageId { channel, number })
    }

    /// Somebody else has no room for a message of this connection: it is told when to try again.
    pub(crate) const fn refuse_until_writable(&mut self) {
        self.is_blocked = true;
    }

    /// Takes a message back. True: nothing of it has been or will be sent. False: something has been, or it is gone:
    /// expired, or replaced by a newer one of its key.
    pub fn cancel(&mut self, message: MessageId) -> bool {
        let mut tally = Tally::default();
        let is_cancelled = self.send_channels.cancel(message.channel, message.number, &mut tally);
        self.settle_tally(tally);
        is_cancelled
    }

    /// The largest message that the send buffer takes now.
    #[must_use]
    pub fn send_room(&self) -> usize {
        self.config.send_buffer_bytes_max.saturating_sub(self.queued_bytes).saturating_sub(charge(0))
    }

    /// What the send buffer holds: messages not sent or not acknowledged, 64 bytes added for each.
    #[must_use]
    pub const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// What messages hold of memory that have come and cannot be delivered yet.
    pub(crate) fn receive_held_bytes(&self) -> u64 {
        self.receive_channels.held_bytes()
    }

    /// The application has taken `bytes` of delivered messages: the peer may send as many more.
    pub fn consume(&mut self, channel: Channel, bytes: usize) {
        self.receive_channels.consume(channel, bytes as u64);
    }

    /// Whether the peer is to be told that it may send more.
    pub(crate) fn has_credit_update(&self) -> bool {
        self.receive_channels.has_credit_update()
    }

    /// Counts what has become of messages, and releases their memory.
    pub(super) fn settle_tally(&mut self, tally: Tally) {
        if tally == Tally::default() {
            return;
        }
        self.stats.messages_expired += tally.expired;
        self.stats.messages_cancelled += tally.cancelled;
        self.stats.messages_replaced += tally.replaced;
        self.stats.bytes_retransmitted += tally.retransmitted_bytes;
        self.free(tally.freed_bytes);
    }

    /// Drops messages whose deadline has passed.
    pub(super) fn expire_messages(&mut self, now: Time) {
        let mut tally = Tally::default();
        self.send_channels.expire(now, &mut tally);
        self.settle_tally(tally);
    }

    /// Releases send buffer.
    pub(super) fn free(&mut self, bytes: usize) {
        self.queued_bytes -= bytes;
        // Only when something has been freed: a message that is longer than what is free would be refused again, and its
        // sender told again, at one instant for ever.
        if bytes > 0 && self.is_blocked && self.queued_bytes <= self.config.send_buffer_bytes_max / 2 {
            self.is_blocked = false;
            self.events.push_back(Event::Writable);
        }
    }

    fn receive_limits(&self) -> ReceiveLimits {
        ReceiveLimits {
            window_bytes: self.config.channel_window_bytes,
            message_bytes_max: self.config.message_bytes_max,
        }
    }

    pub(super) fn handle_message(
        &mut self,
        channel: Channel,
        sequence: u64,
        payload: &[u8],
        sink: &mut impl MessageSink,
    ) -> Result<(), (Code, &'static str)> {
        let limits = self.receive_limits();
        let (key, messages) = (self.key, &mut self.stats.messages_received);
        self.receive_channels.handle_message(channel, sequence, payload, limits, |message| {
            *messages += 1;
            sink.on_message(key, channel, message);
        })
    }

    pub(super) fn handle_fragment(
        &mut self,
        fragment: &Fragment<'_>,
        sink: &mut impl MessageSink,
    ) -> Result<(), (Code, &'static str)> {
        let limits = self.receive_limits();
        let (key, messages) = (self.key, &mut self.stats.messages_received);
        self.receive_channels.handle_fragment(fragment, limits, |message| {
            *messages += 1;
            sink.on_message(key, fragment.channel, message);
        })
    }

    pub(super) fn handle_latest(
        &mut self,
        latest: &Latest<'_>,
        sink: &mut impl MessageSink,
    ) -> Result<(), (Code, &'static str)> {
        if self.receive_channels.handle_latest(latest, self.receive_limits())? {
            self.stats.messages_received += 1;
            sink.on_latest(self.key, latest.channel, latest.key, latest.payload);
        } else {
            self.stats.messages_stale += 1;
        }
        Ok(())
    }
}
