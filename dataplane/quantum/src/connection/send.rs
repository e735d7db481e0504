//! Writing packets.

use wire::fec::{put_symbol, symbol_overhead_bytes};
use wire::frame::{self, put_close};
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::limits::INITIAL_DATAGRAM_BYTES;
use wire::varint::Writer;
use wire::{Ecn, Header, PacketType, Time};
use zerocopy::IntoBytes;

use super::fec::REPAIR_EXCESS_BYTES;
use super::ids::RETIRED_TIMEOUTS;
use super::{Connection, Side, State};
use crate::channels::{Packet, Tally, WrittenMessages};
use crate::congestion::SentSample;
use crate::delivery::Snapshot;
use crate::pacer::Pace;
use crate::sent_packets::{Departure, SentFrame, SentPacket};

/// A packet of a train is filled up to the size of the others when no more than this is missing.
const TRAIN_PADDING_BYTES_MAX: usize = 64;
/// The least room that is worth a packet.
pub(super) const DATAGRAM_BYTES_MIN: usize = HEADER_BYTES + 64 + TAG_BYTES;
/// Replies to an address that has not proven itself are at most this many times what it sent.
pub(super) const AMPLIFICATION_MAX: u64 = 3;
/// After so many packets of acknowledgements alone, one asks for an acknowledgement itself.
const ACKS_WITHOUT_PING_MAX: u32 = 16;
/// The most that an acknowledgement of one range takes; more ranges come along where there is room.
const ACK_BYTES_MAX: usize = 1 + 10 + 10 + 10 + 1 + 3 * 10;

/// What is written into one packet.
#[derive(Default)]
struct Written {
    any: bool,
    is_eliciting: bool,
    /// Where the symbol begins, to the end of the packet.
    symbol_start: Option<usize>,
}

/// What of a packet is sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resend {
    /// All that must arrive.
    All,
    /// All but what repairs protect.
    Unprotected,
    /// What repairs protect.
    Protected,
}

/// Datagrams for one peer, one behind the other, all of one size but the last, which may be shorter: what one
/// system call can send (UDP_SEGMENT in udp(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// All of them, bytes.
    pub bytes: usize,
    /// Each but the last, bytes.
    pub segment_bytes: usize,
    /// How many.
    pub datagrams: usize,
    /// What their IP headers are to carry.
    pub ecn: Ecn,
}

impl Connection {
    /// Writes the next datagrams into `buffer`, at most `datagrams_max`, as many as go in one train; nothing when
    /// there is nothing to send now. There may be more to send after a train of any length.
    pub fn poll_transmit_train(
        &mut self,
        now: Time,
        buffer: &mut [u8],
        datagrams_max: usize,
    ) -> Option<Transmit> {
        let is_train = datagrams_max > 1;
        let ecn = self.next_ecn();
        let segment_bytes = self.transmit(now, buffer, is_train)?;
        let mut train = Transmit { bytes: segment_bytes, segment_bytes, datagrams: 1, ecn };
        if segment_bytes < self.datagram_bytes / 2 || segment_bytes > self.datagram_bytes {
            // What is short has said all there is, or is followed by something that it would cut to pieces.
            // A larger one tries the path, and goes alone.
            self.on_train_sent(&train);
            return Some(train);
        }
        while train.datagrams < datagrams_max {
            let Some(room) = buffer.get_mut(train.bytes..train.bytes + segment_bytes) else { break };
            let Some(length) = self.transmit(now, room, is_train) else { break };
            train.bytes += length;
            train.datagrams += 1;
            if length < segment_bytes {
                break;
            }
        }
        self.on_train_sent(&train);
        Some(train)
    }

    /// What the next train carries: nothing but packets under the connection's keys is marked.
    fn next_ecn(&self) -> Ecn {
        let is_reply_due = self.node_handshake.as_ref().is_some_and(|handshake| handshake.is_reply_due);
        if self.state == State::Established && !is_reply_due { self.ecn.codepoint() } else { Ecn::NotEct }
    }

    const fn on_train_sent(&mut self, train: &Transmit) {
        if !matches!(train.ecn, Ecn::NotEct) {
            self.ecn.on_sent(train.datagrams as u64);
        }
    }

    /// Writes the next datagram, for who cannot mark it (ECN), into `buffer`, which should hold [`Config::datagram_bytes_max`]; returns its
    /// length, or nothing when there is nothing to send now.
    ///
    /// [`Config::datagram_bytes_max`]: crate::Config::datagram_bytes_max
    pub fn poll_transmit(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        self.transmit(now, buffer, false)
    }

    /// Whether there may be something to send now. When not, there is nothing until something comes or is queued, or a
    /// timer is due.
    pub(crate) fn may_transmit(&self, now: Time) -> bool {
        self.state != State::Established
            || self.paths.is_some()
            || self.node_handshake.as_ref().is_some_and(|handshake| handshake.is_reply_due)
            || self.send_channels.has_unsent()
            || self.has_signs()
            || self.mtu.probe_due().is_some()
            || self.acks.is_due(now)
            || self.has_repairs()
    }

    fn transmit(&mut self, now: Time, buffer: &mut [u8], is_train: bool) -> Option<usize> {
        let length = match self.state {
            State::Handshaking => self.transmit_initial(now, buffer),
            State::Established => match self.transmit_reply(buffer) {
                Some(length) => Some(length),
                None => self.transmit_established(now, buffer, is_train),
            },
            State::Closing => self.transmit_close(now, buffer),
            State::Draining | State::Drained => None,
        }?;
        self.amplification.sent_bytes += length as u64;
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += length as u64;
        Some(length)
    }

    /// How large a datagram may be.
    pub(super) fn datagram_room(&self, buffer: &[u8]) -> usize {
        self.datagram_bytes.min(buffer.len()).min(self.amplification_room())
    }

    /// What may still be sent to the peer's address.
    fn amplification_room(&self) -> usize {
        if self.amplification.is_validated {
            return usize::MAX;
        }
        let allowed = AMPLIFICATION_MAX * self.amplification.received_bytes;
        let left = allowed.saturating_sub(self.amplification.sent_bytes);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Whether nothing can be sent until the peer's address proves itself: timers would fire in vain.
    pub(super) fn is_muted(&self) -> bool {
        self.amplification_room() < DATAGRAM_BYTES_MIN
    }

    /// Data first: repairs that are due cover it then. An acknowledgement rides on a repair.
    fn transmit_established(&mut self, now: Time, buffer: &mut [u8], is_train: bool) -> Option<usize> {
        if let Some(length) = self.transmit_mtu_probe(now, buffer) {
            return Some(length);
        }
        if self.has_data()
            && let Some(length) = self.transmit_data(now, buffer, is_train)
        {
            return Some(length);
        }
        match self.transmit_repair(now, buffer) {
            Some(length) => Some(length),
            None => self.transmit_data(now, buffer, is_train),
        }
    }

    fn transmit_data(&mut self, now: Time, buffer: &mut [u8], is_train: bool) -> Option<usize> {
        self.expire_messages(now);
        let has_messages = self.has_messages();
        let has_data = has_messages || self.has_signs();
        let may_send = self.may_send(now, has_data);
        if !may_send && has_messages {
            self.note_backlog(now);
        }
        let is_path_due = self.is_path_frame_due();
        let is_wanted = is_path_due || self.acks.is_due(now) || (may_send && has_data);
        let room = self.datagram_room(buffer);
        if !is_wanted || room < DATAGRAM_BYTES_MIN {
            return None;
        }
        self.rotate_id_by_use(now);
        self.update_keys_by_count(now);
        if self.is_closed() {
            return None;
        }
        let may_protect = may_send && !is_path_due && has_messages;
        let symbol = self.next_symbol(now).filter(|_| may_protect);
        let room = if symbol.is_some() { room.min(self.datagram_bytes - REPAIR_EXCESS_BYTES) } else { room };
        let retransmitted_before = self.stats.bytes_retransmitted;
        let mut out = Writer::new(&mut buffer[HEADER_BYTES..room - TAG_BYTES]);
        let written = self.write_frames(now, &mut out, may_send, symbol);
        if !written.any {
            return None;
        }
        if is_path_due {
            pad_to_initial(&mut out);
        }
        let missing = out.remaining();
        if is_train && (1..=TRAIN_PADDING_BYTES_MAX).contains(&missing) && self.has_data() {
            out.put(&[frame::TYPE_PADDING; TRAIN_PADDING_BYTES_MAX][..missing]);
        }
        let length = HEADER_BYTES + out.len() + TAG_BYTES;
        let datagram = &mut buffer[..length];
        if let Some(start) = written.symbol_start {
            let is_resend = self.stats.bytes_retransmitted > retransmitted_before;
            self.on_symbol_sent(now, datagram, HEADER_BYTES + start, is_resend);
        }
        self.seal(now, datagram)?;
        self.finish_packet(now, length, written.is_eliciting);
        if length + TRAIN_PADDING_BYTES_MAX >= self.datagram_bytes {
            self.mtu.on_full(now);
        }
        self.end_if_finished(now);
        Some(length)
    }

    /// Whether what asks for an acknowledgement may leave: for new data the window and the pacer must allow it
    /// (`PROTOCOL.md`, sections "Loss and congestion" and "Pacing").
    fn may_send(&mut self, now: Time, has_data: bool) -> bool {
        if self.loss.probes_due() > 0 {
            return true;
        }
        let in_flight = self.sent.in_flight_bytes() + self.datagram_bytes as u64;
        if !has_data || in_flight > self.controller.window_bytes() {
            return false;
        }
        let pace = Pace {
            bytes_per_s: self.controller.pacing_rate(),
            quantum_bytes: self.controller.send_quantum_bytes(),
            datagram_bytes: self.datagram_bytes as u64,
        };
        if self.pacer.is_open(now, pace) || self.ping_due || self.receive_channels.has_credit_update() {
            return true;
        }
        self.send_channels.has_lost() && self.pacer.is_open_for_retransmission(pace)
    }

    /// Marks the time from here on as one in which the application, not the path, sets the rate: the sender has nothing to
    /// send although it might (draft-ietf-ccwg-bbr-06, section "Detecting application-limited phases").
    pub(super) fn check_application_limited(&mut self) {
        let in_flight = self.sent.in_flight_bytes();
        let is_window_open = in_flight + self.datagram_bytes as u64 <= self.controller.window_bytes();
        if is_window_open && !self.send_channels.has_unsent() {
            self.delivery.mark_app_limited(in_flight);
        }
    }

    pub(super) fn seal(&self, now: Time, datagram: &mut [u8]) -> Option<()> {
        let number = self.sent.next_number();
        let keys = self.keys.as_ref()?;
        let mut header = Header::new(PacketType::Data, self.current_id, number, now.as_us() as u32);
        header.flags = keys.flags();
        datagram[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        if let Some(tap) = &self.config.tap {
            tap.on_packet(header.as_bytes(), &datagram[HEADER_BYTES..datagram.len() - TAG_BYTES]);
        }
        keys.seal(number, datagram);
        Some(())
    }

    pub(super) fn finish_packet(&mut self, now: Time, bytes: usize, is_eliciting: bool) {
        let in_flight_before = self.sent.in_flight_bytes();
        let in_flight = in_flight_before + bytes as u64;
        let window_limited = in_flight * 2 >= self.controller.window_bytes();
        let mut delivery = Snapshot::default();
        if is_eliciting {
            delivery = self.delivery.on_sent(now, bytes as u64, in_flight_before);
            self.pacer.on_sent(now, bytes as u64, in_flight_before);
            self.last_eliciting_sent = now;
            let is_app_limited = self.delivery.is_app_limited();
            let sample = SentSample { bytes: bytes as u64, in_flight_bytes: in_flight, is_app_limited };
            self.controller.on_sent(now, &sample);
        }
        self.sent.finish(Departure { sent: now, bytes, is_eliciting, window_limited, delivery });
        self.loss.on_sent(now, is_eliciting);
    }

    /// Whether there is anything but acknowledgements to send.
    fn has_data(&self) -> bool {
        self.has_messages() || self.has_signs()
    }

    /// Whether the peer is to be told anything that is neither message nor acknowledgement.
    fn has_signs(&self) -> bool {
        self.ping_due
            || self.receive_channels.has_credit_update()
            || self.is_id_frame_due()
            || self.is_finish_due()
    }

    fn has_messages(&self) -> bool {
        self.send_channels.has_pending(&self.send_credit)
    }

    /// Writes what is to be acknowledged, with at least `reserve_bytes` left; returns whether it wrote anything.
    pub(super) fn write_acks(&mut self, now: Time, out: &mut Writer<'_>, reserve_bytes: usize) -> bool {
        if !self.acks.is_pending() || out.remaining() < reserve_bytes + ACK_BYTES_MAX {
            return false;
        }
        self.write_fec_answers(now, out, reserve_bytes + ACK_BYTES_MAX);
        let Some(largest) = self.acks.write(now, out) else { return false };
        self.sent.push_frame(SentFrame::Ack { largest });
        true
    }

    /// `symbol` is the number of the symbol that the messages make.
    fn write_frames(
        &mut self,
        now: Time,
        out: &mut Writer<'_>,
        may_send: bool,
        symbol: Option<u64>,
    ) -> Written {
        let mut written = Written { any: self.write_acks(now, out, 0), ..Written::default() };
        written.is_eliciting = self.write_path_frames(out);
        if may_send {
            let credit = self.receive_channels.write_credit(out, &mut self.sent);
            let ids = self.write_id_frames(out);
            let finish = self.write_finish(out);
            let before = out.len();
            let number = symbol.filter(|&number| out.remaining() > symbol_overhead_bytes(number));
            if let Some(number) = number {
                put_symbol(out, number);
            }
            let start = out.len();
            let messages = self.write_messages(now, out);
            if messages.is_protected {
                written.symbol_start = number.map(|_| start);
            } else {
                out.remove(before..start);
            }
            written.is_eliciting |= credit || ids || finish || messages.any;
        }
        self.acks_without_ping = if written.is_eliciting { 0 } else { self.acks_without_ping + 1 };
        let is_shedding = self.acks.has_many_ranges() && self.acks_without_ping > ACKS_WITHOUT_PING_MAX;
        let is_ping_wanted = (self.ping_due && may_send) || is_shedding;
        if is_ping_wanted && !written.is_eliciting && out.remaining() > 0 {
            out.put_u8(frame::TYPE_PING);
            written.is_eliciting = true;
            self.acks_without_ping = 0;
        }
        if written.is_eliciting {
            self.ping_due = false;
        }
        written.any |= written.is_eliciting;
        written
    }

    /// Writes messages.
    pub(super) fn write_messages(&mut self, now: Time, out: &mut Writer<'_>) -> WrittenMessages {
        let mut tally = Tally::default();
        let mut packet = Packet {
            now,
            out,
            sent: &mut self.sent,
            connection_credit: &mut self.send_credit,
            tally: &mut tally,
        };
        let written = self.send_channels.write(&mut packet);
        self.settle_tally(tally);
        written
    }

    fn transmit_close(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        if !std::mem::take(&mut self.close_due) {
            return None;
        }
        let (code, reason) = self.close.as_ref()?;
        let room = self.datagram_room(buffer);
        if room < DATAGRAM_BYTES_MIN {
            return None;
        }
        let mut out = Writer::new(&mut buffer[HEADER_BYTES..room - TAG_BYTES]);
        put_close(&mut out, *code, reason);
        let length = HEADER_BYTES + out.len() + TAG_BYTES;
        self.seal(now, &mut buffer[..length])?;
        self.finish_unmanaged(now, length);
        self.close_sent = now;
        Some(length)
    }

    /// Takes up a packet that is neither in flight nor sent again.
    pub(super) fn finish_unmanaged(&mut self, now: Time, bytes: usize) {
        let delivery = Snapshot::default();
        let (is_eliciting, window_limited) = (false, false);
        self.sent.finish(Departure { sent: now, bytes, is_eliciting, window_limited, delivery });
    }

    /// Queues again what `packet` carried, as far as it still matters.
    pub(super) fn resend(&mut self, packet: &SentPacket, scope: Resend) {
        let retired_until = self.last_received + self.probe_timeout().times(RETIRED_TIMEOUTS);
        for sent in self.sent.frames(packet) {
            let is_protected = matches!(
                sent,
                SentFrame::Messages { .. } | SentFrame::Fragment { .. } | SentFrame::Latest { .. }
            );
            match scope {
                Resend::Unprotected if is_protected => continue,
                Resend::Protected if !is_protected => continue,
                _ => {}
            }
            match sent {
                SentFrame::Messages { .. } | SentFrame::Fragment { .. } | SentFrame::Latest { .. } => {
                    self.send_channels.on_lost(sent);
                }
                SentFrame::MaxData => self.receive_channels.on_credit_lost(None),
                SentFrame::MaxChannelData(channel) => self.receive_channels.on_credit_lost(Some(channel)),
                SentFrame::Finish => {
                    if let Some(finishing) = &mut self.finishing {
                        finishing.is_frame_due = true;
                    }
                }
                SentFrame::NewConnectionId(_) | SentFrame::RetireConnectionId(_) => {
                    if let Some(ids) = self.ids.as_deref_mut() {
                        ids.on_lost(sent, retired_until);
                    }
                }
                SentFrame::Ack { .. } => {}
            }
        }
    }

    pub(super) fn is_client(&self) -> bool {
        self.side == Side::Client
    }
}

/// Pads a packet that proves a path to the size that every path must carry, if that much may be sent (RFC 9000, section
/// 8.2.1).
fn pad_to_initial(out: &mut Writer<'_>) {
    let padding = (INITIAL_DATAGRAM_BYTES - HEADER_BYTES - TAG_BYTES).saturating_sub(out.len());
    if padding <= out.remaining() {
        out.put(&[frame::TYPE_PADDING; INITIAL_DATAGRAM_BYTES][..padding]);
    }
}
