//! The sending side of a reliable channel (`PROTOCOL.md`, section "Reliable").

use std::collections::VecDeque;

use bytes::Bytes;
use wire::channel::Channel;
use wire::frame::{self, Fragment};
use wire::prefetch_front;

use super::queue::Queue;
use super::{Packet, WHOLE_BYTES_MAX, charge};
use crate::config::MESSAGES_AHEAD_MAX;
use crate::flow::SendCredit;
use crate::ranges::RangeSet;
use crate::sent_packets::{SentFrame, SentPackets};

/// A part smaller than this is not worth a fragment, unless it is the last of its message.
const FRAGMENT_BYTES_MIN: usize = 64;

/// Messages from the oldest that is not acknowledged to the newest that is queued.
#[derive(Debug)]
pub(super) struct ReliableSend {
    channel: Channel,
    /// Messages of which something has been sent. A message has its sequence from then on.
    begun: VecDeque<OutMessage>,
    /// The sequence of the first of `begun`.
    first: u64,
    /// How much of the last of `begun` has been sent, when that is not all of it.
    cut_at: Option<u32>,
    pub(super) queue: Queue,
    resend: VecDeque<Resend>,
    pub(super) credit: SendCredit,
}

#[derive(Debug)]
struct OutMessage {
    payload: Bytes,
    /// Acknowledged parts, when it is sent in parts.
    acked_parts: RangeSet,
    is_acked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Resend {
    Messages { first: u64, end: u64 },
    Fragment { sequence: u64, offset: u32, end: u32 },
}

impl ReliableSend {
    pub(super) fn new(channel: Channel, credit: u64) -> Self {
        Self {
            channel,
            begun: VecDeque::new(),
            first: 0,
            cut_at: None,
            queue: Queue::default(),
            resend: VecDeque::new(),
            credit: SendCredit::new(credit),
        }
    }

    fn message(&self, sequence: u64) -> Option<&OutMessage> {
        self.begun.get(usize::try_from(sequence.checked_sub(self.first)?).ok()?)
    }

    fn next_sequence(&self) -> u64 {
        self.first + self.begun.len() as u64
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.resend.is_empty()
    }

    /// Has the caches fetch the oldest messages, or where the next will lie.
    pub(super) fn prefetch(&self) {
        prefetch_front(&self.begun);
        self.queue.prefetch();
    }

    /// Whether there is anything to send, credit or not.
    pub(super) fn has_unsent(&self) -> bool {
        self.has_lost() || self.cut_at.is_some() || !self.queue.is_empty()
    }

    /// Whether there is something that credit allows to be sent.
    pub(super) fn has_pending(&self, connection_credit: &SendCredit) -> bool {
        if self.has_lost() {
            return true;
        }
        let room = self.credit.room().min(connection_credit.room());
        if self.cut_at.is_some() {
            return room > 0;
        }
        if (self.begun.len() as u64) >= MESSAGES_AHEAD_MAX {
            return false;
        }
        let Some(length) = self.queue.peek().map(|message| message.payload.len()) else { return false };
        let may_begin = is_whole(self.next_sequence(), length) || connection_credit.may_cut(length as u64);
        may_begin && (room > 0 || length == 0)
    }

    /// Writes what was lost, as much as fits; returns whether any was written.
    pub(super) fn write_lost(&mut self, packet: &mut Packet<'_, '_>) -> bool {
        let mut run = Run::new(self.channel);
        while let Some(resend) = self.resend.front().copied() {
            let rest = match resend {
                Resend::Messages { first, end } => self.resend_messages(first, end, packet, &mut run),
                Resend::Fragment { sequence, offset, end } => {
                    self.resend_fragment(sequence, offset, end, packet, &mut run)
                }
            };
            match (rest, self.resend.front_mut()) {
                (Some(rest), Some(front)) => {
                    *front = rest;
                    break;
                }
                _ => self.resend.pop_front(),
            };
        }
        run.flush(packet.sent);
        run.any
    }

    /// Returns what did not fit.
    fn resend_messages(
        &mut self,
        first: u64,
        end: u64,
        packet: &mut Packet<'_, '_>,
        run: &mut Run,
    ) -> Option<Resend> {
        for sequence in first.max(self.first)..end {
            let Some(message) = self.message(sequence).filter(|message| !message.is_acked) else { continue };
            let length = message.payload.len();
            if !is_whole(sequence, length) && length > 0 {
                // Packets have become smaller since: what went in one piece goes in parts.
                self.resend.push_back(Resend::Fragment { sequence, offset: 0, end: length as u32 });
                continue;
            }
            if !run.put(packet, sequence, &message.payload) {
                return Some(Resend::Messages { first: sequence, end });
            }
            packet.tally.retransmitted_bytes += length as u64;
        }
        None
    }

    fn resend_fragment(
        &self,
        sequence: u64,
        offset: u32,
        end: u32,
        packet: &mut Packet<'_, '_>,
        run: &mut Run,
    ) -> Option<Resend> {
        let message = self.message(sequence).filter(|message| !message.is_acked)?;
        for (from, to) in message.acked_parts.gaps(u64::from(offset), u64::from(end)) {
            let written =
                run.put_fragment(packet, sequence, &message.payload, from as u32, (to - from) as usize);
            packet.tally.retransmitted_bytes += written as u64;
            let reached = from + written as u64;
            if reached < to {
                return Some(Resend::Fragment { sequence, offset: reached as u32, end });
            }
        }
        None
    }

    /// Writes what has not been sent, as much as fits and credit allows; returns whether any was written.
    pub(super) fn write_new(&mut self, packet: &mut Packet<'_, '_>) -> bool {
        let mut run = Run::new(self.channel);
        while self.write_rest(packet, &mut run) && self.write_next(packet, &mut run) {}
        run.flush(packet.sent);
        run.any
    }

    /// Goes on with the message that has been sent in part; returns whether there is none any more.
    fn write_rest(&mut self, packet: &mut Packet<'_, '_>, run: &mut Run) -> bool {
        let (Some(offset), Some(message)) = (self.cut_at, self.begun.back()) else { return true };
        let sequence = self.first + self.begun.len() as u64 - 1;
        let length = message.payload.len();
        let allowed = self.allowed_bytes(length - offset as usize, packet);
        let written = run.put_fragment(packet, sequence, &message.payload, offset, allowed);
        self.spend(written, packet);
        let reached = offset as usize + written;
        self.cut_at = (reached < length).then_some(reached as u32);
        if self.cut_at.is_none() {
            packet.connection_credit.complete(length as u64);
        }
        self.cut_at.is_none()
    }

    /// Begins the next message; returns whether something of it was written, or all.
    fn write_next(&mut self, packet: &mut Packet<'_, '_>, run: &mut Run) -> bool {
        if self.begun.len() as u64 >= MESSAGES_AHEAD_MAX {
            return false;
        }
        let sequence = self.next_sequence();
        let Some(queued) = self.queue.front(packet.now, packet.tally) else { return false };
        let length = queued.payload.len();
        let allowed = self.credit.room().min(packet.connection_credit.room()).min(length as u64) as usize;
        let written = match is_whole(sequence, length) {
            true if allowed < length || !run.put(packet, sequence, &queued.payload) => return false,
            true => length,
            false if !packet.connection_credit.may_cut(length as u64) => return false,
            false => run.put_fragment(packet, sequence, &queued.payload, 0, allowed),
        };
        if written == 0 && length > 0 {
            return false;
        }
        self.spend(written, packet);
        self.cut_at = (written < length).then_some(written as u32);
        if self.cut_at.is_some() {
            packet.connection_credit.cut(length as u64);
        }
        let payload = self.queue.pop().map(|queued| queued.payload).unwrap_or_default();
        self.begun.push_back(OutMessage { payload, acked_parts: RangeSet::default(), is_acked: false });
        true
    }

    fn allowed_bytes(&self, bytes: usize, packet: &Packet<'_, '_>) -> usize {
        let room = self.credit.room().min(packet.connection_credit.room());
        bytes.min(usize::try_from(room).unwrap_or(usize::MAX))
    }

    fn spend(&mut self, bytes: usize, packet: &mut Packet<'_, '_>) {
        self.credit.spend(bytes as u64);
        packet.connection_credit.spend(bytes as u64);
    }

    /// Returns the charge of messages that are now acknowledged in full.
    pub(super) fn on_ack_messages(&mut self, first: u64, count: u32) -> usize {
        let mut freed = 0;
        for sequence in first.max(self.first)..first + u64::from(count) {
            let Some(message) = self.begun.get_mut((sequence - self.first) as usize) else { break };
            freed += message.finish();
        }
        self.forget_acked();
        freed
    }

    pub(super) fn on_ack_fragment(&mut self, sequence: u64, offset: u32, bytes: u32) -> usize {
        let Some(index) = sequence.checked_sub(self.first) else { return 0 };
        let Some(message) = self.begun.get_mut(index as usize) else { return 0 };
        if message.is_acked {
            return 0;
        }
        message.acked_parts.insert(u64::from(offset), u64::from(offset) + u64::from(bytes));
        if message.acked_parts.gaps(0, message.payload.len() as u64).next().is_some() {
            return 0;
        }
        let freed = message.finish();
        self.forget_acked();
        freed
    }

    fn forget_acked(&mut self) {
        while self.begun.front().is_some_and(|message| message.is_acked) {
            self.begun.pop_front();
            self.first += 1;
        }
        if self.begun.is_empty() {
            // The next begins at the start again, in the same cache lines.
            self.begun.clear();
        }
    }

    /// Sends whole messages again.
    pub(super) fn on_lost_messages(&mut self, first: u64, count: u32) {
        self.resend.push_back(Resend::Messages { first, end: first + u64::from(count) });
    }

    /// Sends a part of a message again.
    pub(super) fn on_lost_fragment(&mut self, sequence: u64, offset: u32, bytes: u32) {
        self.resend.push_back(Resend::Fragment { sequence, offset, end: offset + bytes });
    }
}

impl OutMessage {
    /// Lets go of the payload; returns its charge, once.
    fn finish(&mut self) -> usize {
        if std::mem::replace(&mut self.is_acked, true) {
            return 0;
        }
        self.acked_parts = RangeSet::default();
        charge(std::mem::take(&mut self.payload).len())
    }
}

fn is_whole(sequence: u64, length: usize) -> bool {
    frame::message_bytes(Some(sequence), length) <= WHOLE_BYTES_MAX
}

/// Messages written one after the other: their numbers need not be repeated.
struct Run {
    channel: Channel,
    /// First sequence and count of the messages since the last flush.
    written: Option<(u64, u32)>,
    any: bool,
}

impl Run {
    const fn new(channel: Channel) -> Self {
        Self { channel, written: None, any: false }
    }

    fn put(&mut self, packet: &mut Packet<'_, '_>, sequence: u64, payload: &[u8]) -> bool {
        let follows = self.written.is_some_and(|(first, count)| first + u64::from(count) == sequence);
        let number = (!follows).then_some(sequence);
        if frame::message_bytes(number, payload.len()) > packet.out.remaining() {
            return false;
        }
        frame::put_message(packet.out, self.channel, number, payload);
        if !follows {
            self.flush(packet.sent);
        }
        self.written.get_or_insert((sequence, 0)).1 += 1;
        self.any = true;
        true
    }

    /// Returns how much of `bytes` was written.
    fn put_fragment(
        &mut self,
        packet: &mut Packet<'_, '_>,
        sequence: u64,
        payload: &Bytes,
        offset: u32,
        bytes: usize,
    ) -> usize {
        let total = payload.len() as u32;
        let overhead = frame::fragment_overhead_bytes(sequence, offset, total, packet.out.remaining());
        let bytes_fit = packet.out.remaining().saturating_sub(overhead).min(bytes);
        if bytes_fit == 0 || (bytes_fit < bytes && bytes_fit < FRAGMENT_BYTES_MIN) {
            return 0;
        }
        let start = offset as usize;
        let payload = &payload[start..start + bytes_fit];
        frame::put_fragment(
            packet.out,
            &Fragment { channel: self.channel, sequence, offset, total, payload },
        );
        self.flush(packet.sent);
        let bytes = bytes_fit as u32;
        packet.sent.push_frame(SentFrame::Fragment { channel: self.channel, sequence, offset, bytes });
        self.any = true;
        bytes_fit
    }

    fn flush(&mut self, sent: &mut SentPackets) {
        if let Some((first, count)) = self.written.take() {
            sent.push_frame(SentFrame::Messages { channel: self.channel, first, count });
        }
    }
}
