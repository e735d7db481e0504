//! The sending side of an unreliable channel (`PROTOCOL.md`, section "Unreliable").

use wire::channel::Channel;
use wire::frame;

use super::Packet;
use super::queue::Queue;

/// The most unreliable messages of one channel that wait to be sent.
const UNRELIABLE_QUEUE_MAX: usize = 64;

/// Messages that are sent once, each within one packet.
#[derive(Debug)]
pub(super) struct UnreliableSend {
    channel: Channel,
    pub(super) queue: Queue,
    next: u64,
}

impl UnreliableSend {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, queue: Queue::default(), next: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= UNRELIABLE_QUEUE_MAX
    }

    /// Writes what fits; returns whether anything was written.
    pub(super) fn write(&mut self, packet: &mut Packet<'_, '_>) -> bool {
        let mut any = false;
        while let Some(message) = self.queue.front(packet.now, packet.tally) {
            if frame::message_bytes(Some(self.next), message.payload.len()) > packet.out.remaining() {
                break;
            }
            frame::put_message(packet.out, self.channel, Some(self.next), &message.payload);
            packet.tally.freed_bytes += message.charge();
            any = true;
            self.next += 1;
            self.queue.pop();
        }
        any
    }
}
