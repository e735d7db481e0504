//! Messages of the application: queued, taken back, consumed.

use bytes::Bytes;
use wire::sync::Channel;

use super::Endpoint;
use crate::channels::charge;
use crate::connection::{ConnectionKey, MessageId, SendError, SendOptions};

impl Endpoint {
    /// Queues a message on a connection.
    pub fn send(&mut self, key: ConnectionKey, channel: Channel, message: Bytes) -> Result<(), SendError> {
        self.send_with(key, channel, message, SendOptions::default()).map(drop)
    }

    /// Queues a message on which more is asked than its channel promises; see [`Connection::send_with`].
    pub fn send_with(
        &mut self,
        key: ConnectionKey,
        channel: Channel,
        message: Bytes,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let message = self.queue(key, channel, message, options)?;
        self.mark_ready(key);
        Ok(message)
    }

    /// Takes a message back; see [`Connection::cancel`].
    pub fn cancel(&mut self, key: ConnectionKey, message: MessageId) -> bool {
        let is_cancelled = self.slot_mut(key).is_some_and(|slot| slot.connection.cancel(message));
        if is_cancelled {
            self.take_events(key);
        }
        is_cancelled
    }

    /// Queues a message that can wait: its connection has its turn after those that have anything else to send, and now and
    /// then between them. Messages of one channel keep their order.
    pub fn send_behind(
        &mut self,
        key: ConnectionKey,
        channel: Channel,
        message: Bytes,
    ) -> Result<(), SendError> {
        self.queue(key, channel, message, SendOptions::default())?;
        let slot = self.slot_mut(key).ok_or(SendError::Closed)?;
        if !std::mem::replace(&mut slot.is_behind, true) {
            if self.behind.is_empty() {
                self.ahead = 0;
            }
            self.behind.push_back(key);
        }
        Ok(())
    }

    /// Queues a message, if there is room for it in what all connections have.
    fn queue(
        &mut self,
        key: ConnectionKey,
        channel: Channel,
        message: Bytes,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let slot = self.slots.get_mut(key.slot()).filter(|slot| slot.connection.key() == key);
        let slot = slot.ok_or(SendError::Closed)?;
        let connection = &mut slot.connection;
        if !self.send_budget.admits(connection.queued_bytes(), charge(message.len())) {
            self.stats.send_buffer_limit += 1;
            connection.refuse_until_writable();
            return Err(SendError::Full);
        }
        let result = connection.send_with(channel, message, options);
        slot.settle_queued(&mut self.send_budget);
        result
    }

    /// The application has taken `bytes` of what a connection delivered on `channel`.
    pub fn consume(&mut self, key: ConnectionKey, channel: Channel, bytes: usize) {
        if let Some(slot) = self.slot_mut(key) {
            slot.connection.consume(channel, bytes);
            if slot.connection.has_credit_update() {
                self.mark_ready(key);
            }
        }
    }
}
