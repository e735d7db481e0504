//! The sending side of channels (`PROTOCOL.md`, section "Channels").

use std::collections::VecDeque;

use bytes::Bytes;
use wire::frame::{self, Fragment};
use wire::sync::Channel;
use wire::varint::Writer;

use crate::config::{MESSAGE_CHARGE_BYTES, MESSAGES_AHEAD_MAX};
use crate::flow::SendCredit;
use crate::ranges::RangeSet;
use crate::sent_packets::{SentFrame, SentPackets};

/// A part smaller than this is not worth a fragment, unless it is the last of its message.
const FRAGMENT_BYTES_MIN: usize = 64;
/// The most unreliable messages that wait to be sent.
const UNRELIABLE_QUEUE_MAX: usize = 64;

/// What a message counts as while it is queued.
pub(crate) const fn charge(payload_bytes: usize) -> usize {
    payload_bytes + MESSAGE_CHARGE_BYTES
}

/// Messages from the oldest that is not acknowledged to the newest that is queued.
#[derive(Debug)]
pub(crate) struct ReliableSend {
    channel: Channel,
    messages: VecDeque<OutMessage>,
    /// The sequence of the first of `messages`.
    first: u64,
    /// The next to be sent for the first time, and how much of it has been.
    next: u64,
    next_offset: u32,
    resend: VecDeque<Resend>,
    pub(crate) credit: SendCredit,
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

/// What a call of [`ReliableSend::write`] needs besides the channel.
pub(crate) struct Packet<'a, 'b> {
    pub(crate) out: &'a mut Writer<'b>,
    pub(crate) sent: &'a mut SentPackets,
    pub(crate) connection_credit: &'a mut SendCredit,
    /// The room of a packet with nothing else in it: a message that fits it is never cut.
    pub(crate) whole_bytes_max: usize,
    pub(crate) bytes_retransmitted: &'a mut u64,
}

impl ReliableSend {
    pub(crate) fn new(channel: Channel, credit: u64) -> Self {
        Self {
            channel,
            messages: VecDeque::new(),
            first: 0,
            next: 0,
            next_offset: 0,
            resend: VecDeque::new(),
            credit: SendCredit::new(credit),
        }
    }

    pub(crate) fn push(&mut self, payload: Bytes) {
        self.messages.push_back(OutMessage { payload, acked_parts: RangeSet::default(), is_acked: false });
    }

    fn message(&self, sequence: u64) -> Option<&OutMessage> {
        self.messages.get(usize::try_from(sequence.checked_sub(self.first)?).ok()?)
    }

    /// Whether there is something that credit allows to be sent.
    pub(crate) fn has_pending(&self, connection_credit: &SendCredit) -> bool {
        if !self.resend.is_empty() {
            return true;
        }
        let room = self.credit.room().min(connection_credit.room());
        self.message(self.next).is_some_and(|message| {
            self.next - self.first < MESSAGES_AHEAD_MAX && (room > 0 || message.payload.is_empty())
        })
    }

    /// Whether there is something to send again.
    pub(crate) fn has_resend(&self) -> bool {
        !self.resend.is_empty()
    }

    /// Whether there is anything to send, credit or not.
    pub(crate) fn has_unsent(&self) -> bool {
        self.has_resend() || self.message(self.next).is_some()
    }

    /// Writes as many messages as fit; returns whether any was written.
    pub(crate) fn write(&mut self, packet: &mut Packet<'_, '_>) -> bool {
        let mut run = Run { channel: self.channel, written: None, any: false };
        if self.write_resends(packet, &mut run) {
            self.write_new(packet, &mut run);
        }
        run.flush(packet.sent);
        run.any
    }

    /// Returns whether all were written.
    fn write_resends(&mut self, packet: &mut Packet<'_, '_>, run: &mut Run) -> bool {
        while let Some(resend) = self.resend.front().copied() {
            let rest = match resend {
                Resend::Messages { first, end } => self.resend_messages(first, end, packet, run),
                Resend::Fragment { sequence, offset, end } => {
                    self.resend_fragment(sequence, offset, end, packet, run)
                }
            };
            match (rest, self.resend.front_mut()) {
                (Some(rest), Some(front)) => {
                    *front = rest;
                    return false;
                }
                _ => self.resend.pop_front(),
            };
        }
        true
    }

    /// Returns what did not fit.
    fn resend_messages(
        &self,
        first: u64,
        end: u64,
        packet: &mut Packet<'_, '_>,
        run: &mut Run,
    ) -> Option<Resend> {
        for sequence in first.max(self.first)..end {
            let Some(message) = self.message(sequence).filter(|message| !message.is_acked) else { continue };
            if !run.put(packet, sequence, &message.payload) {
                return Some(Resend::Messages { first: sequence, end });
            }
            *packet.bytes_retransmitted += message.payload.len() as u64;
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
            let written = run.put_fragment(packet, sequence, message, from as u32, (to - from) as usize);
            *packet.bytes_retransmitted += written as u64;
            let reached = from + written as u64;
            if reached < to {
                return Some(Resend::Fragment { sequence, offset: reached as u32, end });
            }
        }
        None
    }

    fn write_new(&mut self, packet: &mut Packet<'_, '_>, run: &mut Run) {
        while self.next - self.first < MESSAGES_AHEAD_MAX {
            let Some(message) = self.messages.get((self.next - self.first) as usize) else { return };
            let length = message.payload.len();
            let credit = self.credit.room().min(packet.connection_credit.room());
            let is_whole = self.next_offset == 0
                && frame::message_bytes(Some(self.next), length) <= packet.whole_bytes_max;
            let spent = if is_whole {
                if credit < length as u64 || !run.put(packet, self.next, &message.payload) {
                    return;
                }
                length
            } else {
                let rest = length - self.next_offset as usize;
                let allowed = rest.min(usize::try_from(credit).unwrap_or(usize::MAX));
                run.put_fragment(packet, self.next, message, self.next_offset, allowed)
            };
            self.credit.spend(spent as u64);
            packet.connection_credit.spend(spent as u64);
            let reached = self.next_offset as usize + spent;
            if reached < length {
                self.next_offset = reached as u32;
                return;
            }
            self.next += 1;
            self.next_offset = 0;
        }
    }

    /// Returns the charge of messages that are now acknowledged in full.
    pub(crate) fn on_ack_messages(&mut self, first: u64, count: u32) -> usize {
        let mut freed = 0;
        for sequence in first.max(self.first)..first + u64::from(count) {
            let Some(message) = self.messages.get_mut((sequence - self.first) as usize) else { break };
            freed += message.finish();
        }
        self.forget_acked();
        freed
    }

    pub(crate) fn on_ack_fragment(&mut self, sequence: u64, offset: u32, bytes: u32) -> usize {
        let Some(index) = sequence.checked_sub(self.first) else { return 0 };
        let Some(message) = self.messages.get_mut(index as usize) else { return 0 };
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
        while self.messages.front().is_some_and(|message| message.is_acked) {
            self.messages.pop_front();
            self.first += 1;
        }
    }

    /// Sends again what a lost packet carried.
    pub(crate) fn on_lost(&mut self, frame: SentFrame) {
        match frame {
            SentFrame::Messages { first, count, .. } => {
                self.resend.push_back(Resend::Messages { first, end: first + u64::from(count) });
            }
            SentFrame::Fragment { sequence, offset, bytes, .. } => {
                self.resend.push_back(Resend::Fragment { sequence, offset, end: offset + bytes });
            }
            SentFrame::Ack { .. } | SentFrame::MaxData | SentFrame::MaxChannelData(_) => {}
        }
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

/// Messages written one after the other: their numbers need not be repeated.
struct Run {
    channel: Channel,
    /// First sequence and count of the messages since the last flush.
    written: Option<(u64, u32)>,
    any: bool,
}

impl Run {
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
        message: &OutMessage,
        offset: u32,
        bytes: usize,
    ) -> usize {
        let total = message.payload.len() as u32;
        let overhead = frame::fragment_overhead_bytes(sequence, offset, total, packet.out.remaining());
        let bytes_fit = packet.out.remaining().saturating_sub(overhead).min(bytes);
        if bytes_fit == 0 || (bytes_fit < bytes && bytes_fit < FRAGMENT_BYTES_MIN) {
            return 0;
        }
        let start = offset as usize;
        let payload = &message.payload[start..start + bytes_fit];
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

/// Messages that are sent once, each within one packet.
#[derive(Debug)]
pub(crate) struct UnreliableSend {
    channel: Channel,
    messages: VecDeque<Bytes>,
    next: u64,
}

impl UnreliableSend {
    pub(crate) const fn new(channel: Channel) -> Self {
        Self { channel, messages: VecDeque::new(), next: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= UNRELIABLE_QUEUE_MAX
    }

    pub(crate) fn push(&mut self, payload: Bytes) {
        self.messages.push_back(payload);
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Writes what fits; returns the charge of what was written, and whether anything was.
    pub(crate) fn write(&mut self, out: &mut Writer<'_>) -> (usize, bool) {
        let (mut freed, mut any) = (0, false);
        while let Some(payload) = self.messages.front() {
            if frame::message_bytes(Some(self.next), payload.len()) > out.remaining() {
                break;
            }
            frame::put_message(out, self.channel, Some(self.next), payload);
            freed += charge(payload.len());
            any = true;
            self.next += 1;
            self.messages.pop_front();
        }
        (freed, any)
    }
}
