//! The sending side of all channels.

use wire::channel::{Channel, ChannelKind};
use wire::{Time, prefetch};

use super::latest_send::LatestSend;
use super::queue::{Queue, Queued};
use super::reliable_send::ReliableSend;
use super::turns::Turns;
use super::unreliable_send::UnreliableSend;
use super::{Packet, Tally};
use crate::flow::SendCredit;
use crate::sent_packets::SentFrame;

/// Messages that have expired are looked for at most so often; the next to be sent is looked at each time.
const EXPIRY_INTERVAL: wire::Span = wire::Span::from_ms(1);

/// What one channel has to send.
#[derive(Debug)]
struct SendChannel {
    /// The id of the next message that is queued.
    next_id: u64,
    messages: Messages,
}

#[derive(Debug)]
enum Messages {
    Reliable(ReliableSend),
    Unreliable(UnreliableSend),
    Latest(LatestSend),
}

/// What all channels have to send.
#[derive(Debug)]
pub(crate) struct SendChannels {
    channels: [Option<Box<SendChannel>>; Channel::COUNT],
    turns: Turns,
    /// The first credit of a reliable channel.
    credit: u64,
    /// When to look for messages that have expired.
    expiry_at: Time,
}

/// What was written into a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct WrittenMessages {
    pub(crate) any: bool,
    /// Whether any is of a channel that is protected against loss.
    pub(crate) is_protected: bool,
}

impl SendChannels {
    pub(crate) fn new(credit: u64) -> Self {
        Self { channels: Default::default(), turns: Turns::default(), credit, expiry_at: Time::NEVER }
    }

    /// Has the caches fetch what is known of each channel.
    pub(crate) fn prefetch(&self) {
        self.channels.iter().flatten().for_each(|channel| prefetch(&**channel));
    }

    /// Has the caches fetch the messages of each channel.
    pub(crate) fn prefetch_messages(&self) {
        for channel in self.channels.iter().flatten() {
            if let Messages::Reliable(reliable) = &channel.messages {
                reliable.prefetch();
            }
        }
    }

    fn channel_mut(&mut self, channel: Channel) -> &mut SendChannel {
        let credit = self.credit;
        self.channels[channel as usize].get_or_insert_with(|| Box::new(SendChannel::new(channel, credit)))
    }

    fn reliable_mut(&mut self, channel: Channel) -> Option<&mut ReliableSend> {
        match &mut self.channels[channel as usize].as_mut()?.messages {
            Messages::Reliable(reliable) => Some(reliable),
            Messages::Unreliable(_) | Messages::Latest(_) => None,
        }
    }

    /// Whether a channel has no room for a message: queues that the send buffer does not bound are bounded here.
    pub(crate) fn is_full(&self, channel: Channel, key: u64) -> bool {
        let Some(found) = &self.channels[channel as usize] else { return false };
        match &found.messages {
            Messages::Reliable(_) => false,
            Messages::Unreliable(unreliable) => unreliable.is_full(),
            Messages::Latest(latest) => latest.is_full(key),
        }
    }

    /// Queues a message; returns its id. `key` matters on a latest-wins channel alone.
    pub(crate) fn push(
        &mut self,
        channel: Channel,
        key: u64,
        payload: bytes::Bytes,
        deadline: Time,
        tally: &mut Tally,
    ) -> u64 {
        self.expiry_at = self.expiry_at.min(deadline);
        let found = self.channel_mut(channel);
        let id = found.next_id;
        found.next_id += 1;
        let queued = Queued { payload, id, deadline };
        match &mut found.messages {
            Messages::Reliable(reliable) => reliable.queue.push(queued),
            Messages::Unreliable(unreliable) => unreliable.queue.push(queued),
            Messages::Latest(latest) => latest.push(key, queued, tally),
        }
        id
    }

    /// Takes back a message of which nothing has been sent.
    pub(crate) fn cancel(&mut self, channel: Channel, id: u64, tally: &mut Tally) -> bool {
        let Some(found) = &mut self.channels[channel as usize] else { return false };
        let queue: &mut Queue = match &mut found.messages {
            Messages::Latest(latest) => return latest.cancel(id, tally),
            Messages::Reliable(reliable) => &mut reliable.queue,
            Messages::Unreliable(unreliable) => &mut unreliable.queue,
        };
        queue.cancel(id).inspect(|message| tally.cancel(message)).is_some()
    }

    /// Drops messages that have expired, now and then.
    pub(crate) fn expire(&mut self, now: Time, tally: &mut Tally) {
        if now < self.expiry_at {
            return;
        }
        let mut next = Time::NEVER;
        for channel in self.channels.iter_mut().flatten() {
            next = next.min(channel.expire(now, tally));
        }
        self.expiry_at = next.max(now + EXPIRY_INTERVAL);
        if next == Time::NEVER {
            self.expiry_at = next;
        }
    }

    /// Whether there is something that credit allows to be sent.
    pub(crate) fn has_pending(&self, connection_credit: &SendCredit) -> bool {
        self.channels.iter().flatten().any(|channel| channel.has_pending(connection_credit))
    }

    /// Whether there is anything to send, credit or not.
    pub(crate) fn has_unsent(&self) -> bool {
        self.channels.iter().flatten().any(|channel| channel.has_unsent())
    }

    /// Whether there is something to send again.
    pub(crate) fn has_lost(&self) -> bool {
        self.channels.iter().flatten().any(|channel| channel.has_lost())
    }

    /// Writes messages, as many as fit: the most important channels first, and of those of one priority what was
    /// lost before what is new.
    pub(crate) fn write(&mut self, packet: &mut Packet<'_, '_>) -> WrittenMessages {
        if let Some(only) = self.only_unsent() {
            return self.write_only(only, packet);
        }
        let mut written = [false; Channel::COUNT];
        if let Some(overdue) = self.turns.overdue()
            && let Some(channel) = &mut self.channels[overdue as usize]
        {
            written[overdue as usize] = channel.write_lost(packet) | channel.write_new(packet);
        }
        for class in Channel::BY_PRIORITY.chunk_by(|a, b| a.priority() == b.priority()) {
            for channel in class {
                if let Some(found) = &mut self.channels[*channel as usize] {
                    written[*channel as usize] |= found.write_lost(packet);
                }
            }
            for channel in class {
                if let Some(found) = &mut self.channels[*channel as usize] {
                    written[*channel as usize] |= found.write_new(packet);
                }
            }
        }
        let any = written.contains(&true);
        if any {
            self.note_turns(&written, packet.connection_credit);
        }
        let is_protected = |channel: Channel| written[channel as usize] && channel.is_protected();
        WrittenMessages { any, is_protected: Channel::ALL.into_iter().any(is_protected) }
    }

    /// The channel that has something to send, if no other has: nearly always there is one.
    fn only_unsent(&self) -> Option<Channel> {
        let is_unsent = |channel: &Channel| {
            self.channels[*channel as usize].as_ref().is_some_and(|found| found.has_unsent())
        };
        let mut unsent = Channel::ALL.into_iter().filter(is_unsent);
        let only = unsent.next()?;
        unsent.next().is_none().then_some(only)
    }

    fn write_only(&mut self, only: Channel, packet: &mut Packet<'_, '_>) -> WrittenMessages {
        let Some(found) = &mut self.channels[only as usize] else { return WrittenMessages::default() };
        let any = found.write_lost(packet) | found.write_new(packet);
        if any {
            // Nobody waits.
            self.turns = Turns::default();
        }
        WrittenMessages { any, is_protected: any && only.is_protected() }
    }

    fn note_turns(&mut self, written: &[bool; Channel::COUNT], connection_credit: &SendCredit) {
        for channel in Channel::ALL {
            if let Some(found) = &self.channels[channel as usize] {
                let has_waited = !written[channel as usize] && found.has_pending(connection_credit);
                self.turns.note(channel, has_waited);
            }
        }
    }

    /// Something has been acknowledged; returns the charge of messages that now are in full.
    pub(crate) fn on_ack(&mut self, frame: SentFrame) -> usize {
        match frame {
            SentFrame::Messages { channel, first, count } => {
                self.reliable_mut(channel).map_or(0, |reliable| reliable.on_ack_messages(first, count))
            }
            SentFrame::Fragment { channel, sequence, offset, bytes } => self
                .reliable_mut(channel)
                .map_or(0, |reliable| reliable.on_ack_fragment(sequence, offset, bytes)),
            SentFrame::Latest { channel, key, sequence } => match &mut self.channels[channel as usize] {
                Some(found) => found.on_ack_latest(key, sequence),
                None => 0,
            },
            _ => 0,
        }
    }

    /// Something was lost, and goes again unless it does not matter any more.
    pub(crate) fn on_lost(&mut self, frame: SentFrame) {
        match frame {
            SentFrame::Messages { channel, first, count } => {
                if let Some(reliable) = self.reliable_mut(channel) {
                    reliable.on_lost_messages(first, count);
                }
            }
            SentFrame::Fragment { channel, sequence, offset, bytes } => {
                if let Some(reliable) = self.reliable_mut(channel) {
                    reliable.on_lost_fragment(sequence, offset, bytes);
                }
            }
            SentFrame::Latest { channel, key, sequence } => {
                if let Some(Messages::Latest(latest)) =
                    self.channels[channel as usize].as_mut().map(|found| &mut found.messages)
                {
                    latest.on_lost(key, sequence);
                }
            }
            _ => {}
        }
    }

    /// The peer's first credit for each reliable channel.
    pub(crate) fn raise_all_credit(&mut self, limit: u64) {
        self.credit = self.credit.max(limit);
        for channel in self.channels.iter_mut().flatten() {
            if let Messages::Reliable(reliable) = &mut channel.messages {
                reliable.credit.raise(limit);
            }
        }
    }

    /// The peer's credit for one channel, which must be reliable.
    pub(crate) fn raise_credit(&mut self, channel: Channel, limit: u64) {
        if let Messages::Reliable(reliable) = &mut self.channel_mut(channel).messages {
            reliable.credit.raise(limit);
        }
    }
}

impl SendChannel {
    fn new(channel: Channel, credit: u64) -> Self {
        let messages = match channel.kind() {
            ChannelKind::ReliableOrdered | ChannelKind::ReliableUnordered => {
                Messages::Reliable(ReliableSend::new(channel, credit))
            }
            ChannelKind::Unreliable => Messages::Unreliable(UnreliableSend::new(channel)),
            ChannelKind::LatestWins => Messages::Latest(LatestSend::new(channel)),
        };
        Self { next_id: 0, messages }
    }

    fn has_pending(&self, connection_credit: &SendCredit) -> bool {
        match &self.messages {
            Messages::Reliable(reliable) => reliable.has_pending(connection_credit),
            Messages::Unreliable(unreliable) => !unreliable.queue.is_empty(),
            Messages::Latest(latest) => latest.has_pending(),
        }
    }

    fn has_unsent(&self) -> bool {
        match &self.messages {
            Messages::Reliable(reliable) => reliable.has_unsent(),
            Messages::Unreliable(unreliable) => !unreliable.queue.is_empty(),
            Messages::Latest(latest) => latest.has_unsent(),
        }
    }

    fn has_lost(&self) -> bool {
        match &self.messages {
            Messages::Reliable(reliable) => reliable.has_lost(),
            Messages::Unreliable(_) => false,
            Messages::Latest(latest) => latest.has_lost(),
        }
    }

    fn write_lost(&mut self, packet: &mut Packet<'_, '_>) -> bool {
        match &mut self.messages {
            Messages::Reliable(reliable) if reliable.has_lost() => reliable.write_lost(packet),
            Messages::Latest(latest) if latest.has_lost() => latest.write(packet),
            _ => false,
        }
    }

    fn write_new(&mut self, packet: &mut Packet<'_, '_>) -> bool {
        match &mut self.messages {
            // What was lost goes first, even when it does not fit any more.
            Messages::Reliable(reliable) if reliable.has_lost() => false,
            Messages::Reliable(reliable) => reliable.write_new(packet),
            Messages::Unreliable(unreliable) => unreliable.write(packet),
            Messages::Latest(latest) => latest.write(packet),
        }
    }

    fn expire(&mut self, now: Time, tally: &mut Tally) -> Time {
        match &mut self.messages {
            Messages::Reliable(reliable) => reliable.queue.expire(now, tally),
            Messages::Unreliable(unreliable) => unreliable.queue.expire(now, tally),
            Messages::Latest(latest) => latest.expire(now, tally),
        }
    }

    fn on_ack_latest(&mut self, key: u64, sequence: u64) -> usize {
        match &mut self.messages {
            Messages::Latest(latest) => latest.on_ack(key, sequence),
            Messages::Reliable(_) | Messages::Unreliable(_) => 0,
        }
    }
}
