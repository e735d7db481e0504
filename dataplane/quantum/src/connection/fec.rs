//! Forward error correction of one connection (`PROTOCOL.md`, section "Forward error correction").

use wire::fec::{self, LOSS_REPORT_BYTES_MAX, LossReport, RECOVERED_BYTES_MAX, Recovered, Repair, Symbol};
use wire::frame::Frame;
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::varint::{Reader, Writer};
use wire::{Code, Span, Time};

use super::receive::Violation;
use super::send::Resend;
use super::{Connection, MessageSink};
use crate::fec::{FecReceiver, FecSender, Outcome, RecoveryTimes, RepairHeader, Verdict};

/// By how much the repair of the longest symbol is longer than that symbol's packet: its head is longer, and the symbol's
/// length and a byte that makes it even are in it.
pub(super) const REPAIR_EXCESS_BYTES: usize = 5;

/// A REPAIR's head, the length of a symbol and the byte that makes the repair even, in excess of a SYMBOL's head.
const _: () = assert!(
    fec::repair_overhead_bytes(u64::MAX) + 2 + 1
        == fec::symbol_overhead_bytes(u64::MAX) + REPAIR_EXCESS_BYTES
);

/// Both halves, each there only when it is needed.
#[derive(Default)]
pub(super) struct Fec {
    sender: Option<Box<FecSender>>,
    receiver: Option<Box<FecReceiver>>,
    times: Option<Box<RecoveryTimes>>,
    /// The number of the next symbol, while there is no sender.
    next_symbol: u64,
    /// How many symbols back the peer can use repairs; 0: it uses none.
    pub(super) peer_window: u8,
}

impl Connection {
    /// How long after the first evidence of their loss symbols came back; none: none ever did.
    #[must_use]
    pub fn fec_recovery_times(&self) -> Option<&RecoveryTimes> {
        self.fec.times.as_deref()
    }

    /// Whether a retransmission comes after the deadline: only then are repairs worth sending.
    fn is_retransmission_late(&self) -> bool {
        let rtt = self.rtt.smoothed();
        let noticed = rtt + Span::from_us(rtt.as_us() / 8) + self.peer_ack_delay;
        self.rtt.has_sample() && noticed > self.config.fec.recovery_deadline
    }

    /// The number of the symbol that the next packet's messages make; none: they are not protected.
    pub(super) fn next_symbol(&self, now: Time) -> Option<u64> {
        let sender = self.fec.sender.as_ref()?;
        let is_protected = self.is_retransmission_late() && sender.is_worth_it(now, self.rtt.smoothed());
        is_protected.then(|| sender.next_number())
    }

    /// Something had to wait for the window or the pacer: what waits so is not protected.
    pub(super) fn note_backlog(&mut self, now: Time) {
        if let Some(sender) = &mut self.fec.sender {
            sender.on_backlog(now);
        }
    }

    /// The packet that leaves holds a symbol.
    pub(super) fn on_symbol_sent(&mut self, now: Time, datagram: &[u8], start: usize, is_resend: bool) {
        let packet = self.sent.next_number();
        let symbol = &datagram[start..datagram.len() - TAG_BYTES];
        if let Some(sender) = &mut self.fec.sender {
            sender.on_symbol(now, packet, datagram.len(), symbol, is_resend);
            self.stats.fec_symbols_sent += 1;
        }
        // At once: while nothing is heard of the peer nothing is reviewed, and symbols take the places of older ones.
        self.resend_abandoned();
    }

    /// Writes a packet with the repair that is due, unless the window is full.
    pub(super) fn transmit_repair(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        let sender = self.fec.sender.as_mut()?;
        let count = sender.repair_due()?;
        let payload_bytes = sender.repair_payload_bytes(count);
        let last = sender.next_number() - 1;
        let head = fec::repair_overhead_bytes(last);
        let length = HEADER_BYTES + head + payload_bytes + TAG_BYTES;
        if length > self.datagram_bytes {
            // Its symbols are older than the path's new limit.
            sender.drop_repair();
            return None;
        }
        let in_flight = self.sent.in_flight_bytes() + self.datagram_bytes as u64;
        let room = self.datagram_room(buffer);
        if in_flight > self.controller.window_bytes() || length > room {
            return None;
        }
        self.update_keys_by_count(now);
        if self.is_closed() {
            return None;
        }
        let mut out = Writer::new(&mut buffer[HEADER_BYTES..room - TAG_BYTES]);
        self.write_acks(now, &mut out, head + payload_bytes);
        let sender = self.fec.sender.as_mut()?;
        fec::put_repair(&mut out, last, count as u8, sender.next_index());
        sender.write_repair(count, out.put_zeros(payload_bytes));
        let length = HEADER_BYTES + out.len() + TAG_BYTES;
        sender.on_repair(self.sent.next_number(), length, count);
        self.seal(now, &mut buffer[..length])?;
        self.finish_packet(now, length, true);
        self.stats.fec_repairs_sent += 1;
        self.stats.fec_repair_bytes_sent += length as u64;
        Some(length)
    }

    /// Writes what the peer is told with an acknowledgement, in front of it.
    pub(super) fn write_fec_answers(&mut self, now: Time, out: &mut Writer<'_>, reserve_bytes: usize) {
        let Some(receiver) = &mut self.fec.receiver else { return };
        if let Some(recovered) = receiver.recovered_due()
            && out.remaining() >= RECOVERED_BYTES_MAX + reserve_bytes
        {
            fec::put_recovered(out, recovered);
            receiver.on_recovered_told();
        }
        if let Some(report) = receiver.report_due(now)
            && out.remaining() >= LOSS_REPORT_BYTES_MAX + reserve_bytes
        {
            fec::put_loss_report(out, report);
            receiver.on_reported(now);
        }
    }

    /// Whether repairs may be due.
    pub(super) const fn has_repairs(&self) -> bool {
        self.fec.sender.is_some()
    }

    /// When the next repair is due.
    pub(super) fn fec_timeout(&self) -> Option<Time> {
        self.fec.sender.as_ref()?.timeout()
    }

    pub(super) fn handle_fec_timeout(&mut self, now: Time) {
        if let Some(sender) = &mut self.fec.sender {
            sender.handle_timeout(now);
        }
    }

    pub(super) fn on_fec_acked(&mut self, packet: u64) {
        if let Some(sender) = &mut self.fec.sender {
            sender.on_acked(packet);
        }
    }

    /// What of a lost packet must be sent again at once.
    pub(super) fn resend_of_lost(&mut self, now: Time, packet: u64) -> Resend {
        match self.fec.sender.as_mut().map(|sender| sender.on_lost(now, packet)) {
            Some(Verdict::Hold) => Resend::Unprotected,
            Some(Verdict::Resend) | None => Resend::All,
        }
    }

    /// What of a packet that may be lost is worth sending again.
    pub(super) fn resend_of_doubtful(&self, packet: u64) -> Resend {
        let is_known = self.fec.sender.as_ref().is_some_and(|sender| sender.is_known(packet));
        if is_known { Resend::Unprotected } else { Resend::All }
    }

    /// Acknowledgements and losses have been told: sends again what repairs will not bring back. Returns when the oldest
    /// packet was sent that waits for repairs.
    pub(super) fn review_held(&mut self, now: Time, has_lost: bool) -> Option<Time> {
        let can_protect = self.config.fec.enabled && self.fec.peer_window > 0;
        if has_lost && self.fec.sender.is_none() && can_protect && self.is_retransmission_late() {
            let window = u64::from(self.fec.peer_window);
            let (sent, lost) = (self.stats.datagrams_sent, self.stats.packets_lost);
            let sender = FecSender::new(now, self.config.fec, window, self.fec.next_symbol, sent, lost);
            self.fec.sender = Some(Box::new(sender));
        }
        let sender = self.fec.sender.as_mut()?;
        sender.review();
        let oldest = sender.oldest_held_sent();
        self.resend_abandoned();
        oldest
    }

    /// Queues again what repairs have not brought back.
    fn resend_abandoned(&mut self) {
        while let Some(packet) = self.fec.sender.as_mut().and_then(|sender| sender.poll_abandoned()) {
            self.stats.fec_given_up += 1;
            if let Some(packet) = self.sent.get(packet).copied() {
                self.resend(&packet, Resend::Protected);
            }
        }
    }

    pub(super) fn handle_symbol(
        &mut self,
        now: Time,
        packet: u64,
        symbol: &Symbol<'_>,
        sink: &mut impl MessageSink,
    ) -> Result<(), Violation> {
        let mut receiver = self.take_receiver(now, packet, symbol.number)?;
        // What came back before its packet has been delivered.
        if !receiver.is_recovered(symbol.number) {
            let may_be_twice = receiver.is_forgotten(symbol.number);
            self.handle_symbol_frames(now, packet, symbol.frames, may_be_twice, sink)?;
        }
        receiver
            .handle_symbol(now, symbol.number, symbol.frames)
            .map_err(|_| (Code::Protocol, "a symbol that cannot be"))?;
        self.deliver_recovered(now, packet, receiver, sink)
    }

    pub(super) fn handle_repair(
        &mut self,
        now: Time,
        packet: u64,
        repair: &Repair<'_>,
        sink: &mut impl MessageSink,
    ) -> Result<(), Violation> {
        let mut receiver = self.take_receiver(now, packet, repair.last)?;
        let header = RepairHeader { last: repair.last, count: repair.count, index: repair.index };
        self.stats.fec_repairs_received += 1;
        match receiver.handle_repair(now, header, repair.payload) {
            Ok(Outcome::Unneeded) => self.stats.fec_wasted += 1,
            Ok(Outcome::Late) => self.stats.fec_late += 1,
            Ok(Outcome::Held | Outcome::Recovered(_)) => {}
            Err(_) => return Err((Code::Protocol, "a repair that cannot be")),
        }
        self.deliver_recovered(now, packet, receiver, sink)
    }

    fn take_receiver(&mut self, now: Time, packet: u64, symbol: u64) -> Result<Box<FecReceiver>, Violation> {
        if !self.config.fec.enabled {
            return Err((Code::Protocol, "a repair that was not asked for"));
        }
        let receiver = self.fec.receiver.take();
        Ok(receiver.unwrap_or_else(|| Box::new(FecReceiver::new(now, packet, symbol))))
    }

    /// Delivers what came back and puts the receiver in its place again.
    fn deliver_recovered(
        &mut self,
        now: Time,
        packet: u64,
        mut receiver: Box<FecReceiver>,
        sink: &mut impl MessageSink,
    ) -> Result<(), Violation> {
        while let Some((missed_for, symbol)) = receiver.poll_recovered(now) {
            let before = (self.stats.messages_received, self.receive_channels.received_bytes());
            self.handle_symbol_frames(now, packet, symbol, false, sink)?;
            self.stats.fec_recovered += 1;
            self.fec.times.get_or_insert_default().add(missed_for);
            if before == (self.stats.messages_received, self.receive_channels.received_bytes()) {
                self.stats.fec_late += 1;
                receiver.on_late();
            }
            self.acks.hurry(now);
        }
        self.fec.receiver = Some(receiver);
        Ok(())
    }

    /// The frames of a symbol, which came or came back. One that may have been delivered before has its unreliable messages
    /// left out: nothing else tells them from new ones.
    fn handle_symbol_frames(
        &mut self,
        now: Time,
        packet: u64,
        frames: &[u8],
        may_be_twice: bool,
        sink: &mut impl MessageSink,
    ) -> Result<(), Violation> {
        let mut reader = Reader::new(frames);
        let mut previous = None;
        while !reader.is_empty() {
            let frame = Frame::decode(&mut reader).map_err(|_| (Code::Protocol, "a malformed symbol"))?;
            if !matches!(
                frame,
                Frame::Message { .. } | Frame::Fragment(_) | Frame::Latest(_) | Frame::Padding
            ) {
                return Err((Code::Protocol, "a frame that does not belong into a symbol"));
            }
            let is_unreliable = matches!(frame, Frame::Message { channel, .. } if !channel.is_reliable());
            if !(may_be_twice && is_unreliable) {
                self.handle_frame(now, packet, &frame, &mut previous, sink)?;
            }
        }
        Ok(())
    }

    /// Any packet: losses are counted by number, and what is not needed any more is given back.
    pub(super) fn on_fec_packet(&mut self, now: Time, number: u64) {
        if let Some(sender) = self.fec.sender.take_if(|sender| sender.is_at_rest(now)) {
            self.fec.next_symbol = sender.next_number();
        }
        if let Some(receiver) = &mut self.fec.receiver {
            receiver.on_packet(number);
            self.fec.receiver.take_if(|receiver| receiver.is_at_rest(now));
        }
    }

    /// What came back need not be sent again.
    pub(super) fn handle_recovered(&mut self, recovered: Recovered) -> Result<(), Violation> {
        let next = self.fec.sender.as_ref().map_or(self.fec.next_symbol, |sender| sender.next_number());
        if recovered.largest >= next {
            return Err((Code::Protocol, "a symbol that was never sent came back"));
        }
        for number in recovered.numbers() {
            let packet = self.fec.sender.as_mut().and_then(|sender| sender.on_recovered(number));
            if let Some(packet) = packet.and_then(|packet| self.sent.get(packet).copied()) {
                self.ack_messages(&packet);
            }
        }
        Ok(())
    }

    pub(super) fn handle_loss_report(&mut self, now: Time, report: &LossReport) {
        let Some(sender) = &mut self.fec.sender else { return };
        let before = sender.on_report(now, report);
        self.stats.fec_peer_recovered += report.recovered.saturating_sub(before.recovered);
        self.stats.fec_peer_late += report.late.saturating_sub(before.late);
        self.stats.fec_peer_wasted += report.wasted.saturating_sub(before.wasted);
    }

    /// Gives back all memory, at the end.
    pub(super) fn release_fec(&mut self) {
        self.fec.sender = None;
        self.fec.receiver = None;
    }
}
