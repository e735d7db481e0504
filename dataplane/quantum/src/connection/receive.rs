//! Reading packets.

use std::net::SocketAddr;

use wire::frame::{Ack, Frame};
use wire::sync::Channel;
use wire::varint::Reader;
use wire::{Code, Ecn, Guuid, Header, PacketType, Span, Time};

use super::path::PathFrames;
use super::{ClosedBy, Connection, Event, MessageSink, State};
use crate::congestion::{AckSample, LossEvent, LostPacket};
use crate::rtt::GRANULARITY;
use crate::sent_packets::{Fate, SentFrame, SentPacket};

/// A rule that the peer has broken: the code to close with, and what it did.
pub(super) type Violation = (Code, &'static str);

const fn is_ack_eliciting(frame: &Frame<'_>) -> bool {
    !matches!(
        frame,
        Frame::Ack(_) | Frame::Padding | Frame::Close { .. } | Frame::Recovered(_) | Frame::LossReport(_)
    )
}

/// A DATA packet that has not been opened yet.
#[derive(Clone, Copy)]
struct Arrival {
    number: u64,
    flags: u8,
    id: Guuid,
    from: Option<SocketAddr>,
    ecn: Ecn,
}

impl Connection {
    /// Takes a datagram that came for this connection; decrypts it in place and delivers its messages.
    /// Whatever is wrong with it is counted in [`stats`](Self::stats).
    pub fn handle_datagram(&mut self, now: Time, datagram: &mut [u8], sink: &mut impl MessageSink) {
        self.handle_marked_datagram(now, Ecn::NotEct, datagram, sink);
    }

    /// The same, for who knows what the datagram's IP header carried (ECN).
    pub fn handle_marked_datagram(
        &mut self,
        now: Time,
        ecn: Ecn,
        datagram: &mut [u8],
        sink: &mut impl MessageSink,
    ) {
        self.handle(now, None, ecn, datagram, sink);
    }

    /// Returns whether the connection is to go on where the datagram came from, and to prove that path (`PROTOCOL.md`, section
    /// "Paths").
    pub(crate) fn handle(
        &mut self,
        now: Time,
        from: Option<SocketAddr>,
        ecn: Ecn,
        datagram: &mut [u8],
        sink: &mut impl MessageSink,
    ) -> bool {
        let Ok((header, kind)) = Header::parse(datagram) else {
            self.stats.malformed += 1;
            return false;
        };
        let (flags, id) = (header.flags, header.connection);
        if !self.is_known_as(&id) || (flags != 0 && kind != PacketType::Data) {
            self.stats.malformed += 1;
            return false;
        }
        let number = header.packet_number();
        match (kind, self.state) {
            (PacketType::Data, State::Established | State::Closing) => {
                self.handle_data(now, Arrival { number, flags, id, from, ecn }, datagram, sink)
            }
            (PacketType::Handshake, State::Handshaking) if number == 0 => {
                self.handle_reply(now, datagram, sink);
                false
            }
            (PacketType::Initial, State::Established) if !self.is_client() => {
                self.handle_repeated_initial(from, datagram);
                false
            }
            (PacketType::Retry, State::Handshaking) => {
                self.handle_retry(now, datagram);
                false
            }
            (PacketType::Versions, State::Handshaking) => {
                self.handle_versions(now, datagram);
                false
            }
            (PacketType::Reset, _) if self.is_client() => {
                self.handle_reset(now, datagram);
                false
            }
            _ => {
                self.stats.unexpected += 1;
                false
            }
        }
    }

    fn handle_data(
        &mut self,
        now: Time,
        arrival: Arrival,
        datagram: &mut [u8],
        sink: &mut impl MessageSink,
    ) -> bool {
        let Arrival { number, flags, id, from, ecn } = arrival;
        if self.replay.is_replay(number) {
            self.stats.replayed += 1;
            return false;
        }
        let received_bytes = datagram.len();
        let bytes = received_bytes as u64;
        let Some(payload) = self.open(now, (number, flags), datagram) else { return false };
        self.replay.insert(number);
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += bytes;
        if self.state == State::Closing {
            // Tell it again, but not for every packet.
            self.close_due |= now.since(self.close_sent) >= GRANULARITY;
            return false;
        }
        let is_newest = self.acks.largest().is_none_or(|largest| number > largest);
        self.last_received = now;
        let is_elsewhere = from.is_some_and(|from| from != self.remote);
        if !is_elsewhere {
            self.amplification.received_bytes += bytes;
        }
        let mut must_prove = false;
        if let Some(handshake) = self.node_handshake.take() {
            self.deadline = None;
            if handshake.has_moved {
                // It was sent to several addresses, and says nothing of the one where it was read.
                must_prove = true;
            } else {
                // Who has the keys got the reply, where the first packet came from.
                self.amplification.is_validated = true;
            }
        }
        if is_newest {
            self.adopt_id(id);
        }
        self.on_fec_packet(now, number);
        let frames = self.handle_payload(now, number, payload, sink);
        if self.is_closed() {
            return false;
        }
        if self.acks.on_mark(ecn) {
            self.stats.ecn_marked_received += 1;
            // The sooner the sender knows, the shorter the queue. What asks for no acknowledgement gets none of its own:
            // where acknowledgements are marked, too, they would answer each other for ever.
            if self.acks.is_pending() {
                self.acks.hurry(now);
            }
        }
        self.handle_path_frames(now, from, received_bytes, &frames);
        self.end_if_finished(now);
        must_prove || (is_newest && is_elsewhere && !frames.is_probing)
    }

    /// Reads the frames of an authentic packet.
    pub(super) fn handle_payload(
        &mut self,
        now: Time,
        number: u64,
        payload: &[u8],
        sink: &mut impl MessageSink,
    ) -> PathFrames {
        let mut paths = PathFrames::new();
        let mut reader = Reader::new(payload);
        let mut is_eliciting = false;
        let mut previous = None;
        if reader.is_empty() {
            self.violation(now, Code::Protocol, "a packet without frames");
        }
        while !reader.is_empty() && !self.is_closed() {
            let frame = match Frame::decode(&mut reader) {
                Ok(frame) => frame,
                Err(malformed) => {
                    self.stats.malformed += 1;
                    self.violation(now, Code::Protocol, &malformed.to_string());
                    return paths;
                }
            };
            paths.note(&frame);
            is_eliciting |= is_ack_eliciting(&frame);
            if let Err((code, what)) = self.handle_frame(now, number, &frame, &mut previous, sink) {
                self.violation(now, code, what);
            }
        }
        if !self.is_closed() {
            self.acks.on_packet(now, number, is_eliciting, self.config.max_ack_delay);
        }
        paths
    }

    pub(super) fn handle_frame(
        &mut self,
        now: Time,
        packet: u64,
        frame: &Frame<'_>,
        previous: &mut Option<(Channel, u64)>,
        sink: &mut impl MessageSink,
    ) -> Result<(), Violation> {
        match *frame {
            Frame::Padding | Frame::Ping | Frame::PathChallenge(_) | Frame::PathResponse(_) => Ok(()),
            Frame::NewConnectionId(ref new) => self.handle_new_connection_id(new),
            Frame::RetireConnectionId(sequence) => self.handle_retire_connection_id(now, sequence),
            Frame::Finish => {
                self.handle_finish();
                Ok(())
            }
            Frame::Ack(ref ack) => self.handle_ack(now, ack),
            Frame::MaxData(limit) => {
                self.send_credit.raise(limit);
                Ok(())
            }
            Frame::MaxChannelData(channel, _) if !channel.is_reliable() => {
                Err((Code::Protocol, "credit for a channel without credit"))
            }
            Frame::MaxChannelData(channel, limit) => {
                self.send_channels.raise_credit(channel, limit);
                Ok(())
            }
            Frame::Close { code, reason } => {
                self.end(now, ClosedBy::Peer, code, reason);
                Ok(())
            }
            Frame::Parameters(ref peer) if std::mem::take(&mut self.expects_parameters) => {
                self.set_peer(peer);
                Ok(())
            }
            Frame::Parameters(_) => Err((Code::Protocol, "parameters outside the handshake")),
            Frame::Message { channel, sequence, payload } => {
                let follows =
                    previous.filter(|last| last.0 == channel).and_then(|last| last.1.checked_add(1));
                let sequence = sequence.or(follows).ok_or((Code::Protocol, "a message that follows none"))?;
                *previous = Some((channel, sequence));
                self.handle_message(channel, sequence, payload, sink)
            }
            Frame::Symbol(ref symbol) => self.handle_symbol(now, packet, symbol, sink),
            Frame::Repair(ref repair) => self.handle_repair(now, packet, repair, sink),
            Frame::Recovered(recovered) => self.handle_recovered(recovered),
            Frame::LossReport(ref report) => {
                self.handle_loss_report(now, report);
                Ok(())
            }
            Frame::Fragment(ref fragment) => self.handle_fragment(fragment, sink),
            Frame::Latest(ref latest) => self.handle_latest(latest, sink),
        }
    }

    /// RFC 9002, sections 5 to 7.
    pub(super) fn handle_ack(&mut self, now: Time, ack: &Ack<'_>) -> Result<(), Violation> {
        if ack.largest >= self.sent.next_number() {
            return Err((Code::Protocol, "acknowledgement of a packet that was never sent"));
        }
        self.check_application_limited();
        let lowest = self.sent.first_number();
        let mut acked_bytes = 0;
        let mut newest = None;
        let mut marked = 0;
        for (first, last) in ack.ranges() {
            if last < lowest {
                break;
            }
            for number in first.max(lowest)..=last {
                if let Some(bytes) = self.ack_packet(now, number) {
                    acked_bytes += bytes;
                    marked += u64::from(self.ecn.is_marked(number));
                    newest = newest.max(Some(number));
                }
            }
        }
        let Some(newest) = newest else { return Ok(()) };
        let Some(packet) = self.sent.get(newest).copied() else { return Ok(()) };
        let rtt = (!self.is_sample_ambiguous(newest)).then(|| now.since(packet.sent));
        if let Some(rtt) = rtt.filter(|_| newest == ack.largest && self.sent.is_of_path(newest)) {
            self.rtt.update(rtt, Span::from_us(ack.delay_us).min(self.peer_ack_delay));
        }
        if newest == ack.largest && self.sent.is_of_path(newest) {
            self.handle_ecn_counts(now, packet.sent, marked, ack);
        }
        self.loss.on_ack(newest);
        if let Some(keys) = &mut self.keys {
            keys.on_ack(newest);
        }
        self.detect_losses(now);
        if !self.sent.is_of_path(newest) {
            return Ok(());
        }
        if self.loss.take_spurious_episode() {
            self.stats.spurious_episodes += 1;
            self.controller.on_spurious_loss(now);
        }
        let sample = AckSample {
            bytes: acked_bytes,
            sent: packet.sent,
            rtt,
            smoothed_rtt: self.rtt.smoothed(),
            window_limited: packet.window_limited,
            in_flight_bytes: self.sent.in_flight_bytes(),
            rate: self.delivery.sample(now, packet.sent, &packet.delivery, self.rtt.min()),
        };
        self.controller.on_ack(now, &sample);
        if self.controller.is_holding_back() {
            self.delivery.mark_app_limited(self.sent.in_flight_bytes());
        }
        Ok(())
    }

    /// What an ACK of new packets says about marks; the newest was sent at `sent`.
    fn handle_ecn_counts(&mut self, now: Time, sent: Time, marked: u64, ack: &Ack<'_>) {
        match self.ecn.on_ack(marked, ack.ecn) {
            Some(0) => {}
            Some(ce) => {
                self.stats.ecn_marks += ce;
                let reduced = self.controller.on_ecn_ce(now, sent, ce);
                self.stats.congestion_events += u64::from(reduced);
            }
            None => self.stats.ecn_failures += 1,
        }
    }

    /// A first packet that was sent twice does not tell which of them was answered. Its number is that of the retry that
    /// it follows.
    fn is_sample_ambiguous(&self, number: u64) -> bool {
        self.is_client() && number <= self.stats.retries && self.stats.probe_timeouts > 0
    }

    /// Returns the bytes on the path in use that were in flight until now, or had been taken for lost; none: the packet
    /// was acknowledged before.
    fn ack_packet(&mut self, now: Time, number: u64) -> Option<u64> {
        let packet = *self.sent.get(number)?;
        match packet.fate {
            Fate::Done => return None,
            Fate::InFlight => {}
            Fate::Lost => {
                self.stats.spurious_losses += 1;
                self.loss.on_spurious(number);
            }
        }
        let is_of_path = self.sent.is_of_path(number);
        let acked = if is_of_path { u64::from(packet.bytes) } else { 0 };
        self.delivery.on_delivered(now, acked);
        self.sent.set_fate(number, Fate::Done);
        let change = self.mtu.on_acked(now, number, packet.bytes);
        self.on_mtu_change(change);
        self.on_fec_acked(number);
        for frame in self.sent.frames(&packet) {
            if let SentFrame::Ack { largest } = frame {
                self.acks.on_ack_of_ack(largest);
            }
        }
        self.ack_messages(&packet);
        Some(acked)
    }

    /// The peer has the messages that a packet carried.
    pub(super) fn ack_messages(&mut self, packet: &SentPacket) {
        let mut freed = 0;
        for frame in self.sent.frames(packet) {
            match frame {
                SentFrame::Messages { .. } | SentFrame::Fragment { .. } | SentFrame::Latest { .. } => {
                    freed += self.send_channels.on_ack(frame);
                }
                SentFrame::Ack { .. }
                | SentFrame::MaxData
                | SentFrame::MaxChannelData(_)
                | SentFrame::NewConnectionId(_)
                | SentFrame::RetireConnectionId(_)
                | SentFrame::Finish => {}
            }
        }
        self.free(freed);
    }

    /// Declares packets lost and queues what they carried.
    pub(super) fn detect_losses(&mut self, now: Time) {
        let span = self.probe_timeout();
        let mut lost = std::mem::take(&mut self.lost_scratch);
        lost.clear();
        let found = self.loss.detect(now, &mut self.sent, &self.rtt, span, &mut lost);
        self.take_lost_probe(now, &mut lost);
        self.stats.packets_lost += lost.len() as u64;
        for &number in &lost {
            if let Some(packet) = self.sent.get(number).copied() {
                if self.sent.is_of_path(number) {
                    self.count_loss(now, &packet);
                }
                let scope = self.resend_of_lost(now, number);
                self.resend(&packet, scope);
            }
        }
        self.look_for_black_hole(now, &lost);
        let oldest_held = self.review_held(now, !lost.is_empty());
        let is_of_path = lost.last().is_some_and(|&number| self.sent.is_of_path(number));
        if let Some(losses) = found.filter(|_| is_of_path) {
            let event = LossEvent {
                sent: losses.newest_sent,
                is_persistent: losses.is_persistent,
                in_flight_bytes: self.sent.in_flight_bytes(),
            };
            let reduced = self.controller.on_congestion_event(now, &event);
            self.loss.on_congestion_event(reduced, &lost);
            self.stats.congestion_events += u64::from(reduced);
            self.stats.persistent_congestions += u64::from(losses.is_persistent);
        }
        self.lost_scratch = lost;
        let lost_before = Time::from_us(now.as_us().saturating_sub(span.times(2).as_us()));
        self.sent.forget_front(oldest_held.map_or(lost_before, |sent| sent.min(lost_before)));
    }

    /// A packet counts as lost, whether or not what it carried must be sent again.
    pub(super) fn count_loss(&mut self, now: Time, packet: &SentPacket) {
        self.delivery.on_lost(u64::from(packet.bytes));
        let lost = LostPacket {
            bytes: u64::from(packet.bytes),
            sent: packet.sent,
            is_run_start: self.loss.begins_run(packet.number),
            lost_bytes: self.delivery.lost_since(&packet.delivery),
            in_flight_at_sending_bytes: packet.delivery.in_flight_bytes(),
            total_delivered_bytes: self.delivery.delivered_bytes(),
            is_app_limited: packet.delivery.is_app_limited(),
        };
        self.controller.on_packet_lost(now, &lost);
    }

    pub(super) fn connected(&mut self) {
        self.events.push_back(Event::Connected);
    }
}
