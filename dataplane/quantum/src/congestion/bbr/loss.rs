//! What losses and marks say, and taking it back (sections "Updating the Model Upon Packet Loss" and "Updating the Model
//! Upon Detecting a Spurious Loss Recovery").

use wire::Time;

use super::state::State;
use super::{Bbr, UNBOUNDED};
use crate::congestion::{AckSample, LostPacket, RateSample};

/// `BBR.LossThresh`: the part of a round's packets that may be lost.
pub(super) const LOSS_THRESHOLD: f64 = 0.02;
/// `BBR.Beta`: the most that one round's losses take.
pub(super) const BETA: f64 = 0.7;

/// A path that loses at random loses more in one round than in another: so many standard deviations more.
const LOSS_DEVIATIONS: f64 = 2.0;

/// So many lost packets in a round tell a Startup that it has begun with too much.
const LOSS_PACKETS_MANY: u32 = 6;

/// The current episode of losses, and what the model was before it.
#[derive(Default, Debug)]
pub(super) struct Recovery {
    /// Losses of packets sent until then belong to the episode; none: it is over.
    start: Option<Time>,
    is_new: bool,
    pub(super) is_loss_in_round: bool,
    /// Lost, or marked, in this round.
    lost_bytes: u64,
    loss_packets: u32,
    /// Runs of losses in this round.
    loss_runs: u8,
    /// Whether the episode is about marks, which are never spurious.
    has_marks: bool,
    /// Bytes of packets that were marked and not yet judged.
    marked_bytes: u64,
    pub(super) undo: Undo,
}

/// Section "Undo State".
#[derive(Default, Debug)]
pub(super) struct Undo {
    pub(super) state: Option<State>,
    bandwidth_shortterm: u64,
    inflight_shortterm: u64,
    inflight_longterm: u64,
}

impl Recovery {
    pub(super) const fn take_is_new(&mut self) -> bool {
        std::mem::replace(&mut self.is_new, false)
    }

    pub(super) const fn take_loss_runs(&mut self) -> u8 {
        std::mem::replace(&mut self.loss_runs, 0)
    }

    pub(super) const fn forget_marks(&mut self) {
        self.marked_bytes = 0;
    }

    /// Whether the losses of this round are too many for a Startup.
    pub(super) const fn has_many_losses(&self) -> bool {
        self.loss_packets >= LOSS_PACKETS_MANY
    }

    pub(super) const fn is_active(&self) -> bool {
        self.start.is_some()
    }
}

impl Bbr {
    pub(super) fn handle_lost_packet(&mut self, now: Time, packet: &LostPacket) {
        self.delivered_bytes = packet.total_delivered_bytes;
        self.note_loss(now, packet.sent, packet.bytes);
        if packet.is_run_start {
            self.recovery.loss_runs = self.recovery.loss_runs.saturating_add(1);
        }
        if !self.cycle.is_probe_sample {
            return;
        }
        let rate = RateSample {
            lost_bytes: packet.lost_bytes,
            in_flight_at_sending_bytes: packet.in_flight_at_sending_bytes,
            is_app_limited: packet.is_app_limited,
            ..RateSample::default()
        };
        if self.is_inflight_too_high(&rate) {
            self.handle_inflight_too_high(now, inflight_at_loss(packet), packet.is_app_limited);
        }
    }

    /// A packet of `sent` was lost, or marked.
    fn note_loss(&mut self, now: Time, sent: Time, bytes: u64) {
        let is_new_episode = self.recovery.start.is_none_or(|start| sent > start);
        if is_new_episode {
            // Once an episode: a second time would save what the first losses have left.
            self.save_state();
            self.recovery.start = Some(now);
            self.recovery.is_new = true;
            self.recovery.has_marks = false;
        }
        self.recovery.lost_bytes += bytes;
        self.recovery.loss_packets += 1;
        if !self.recovery.is_loss_in_round {
            self.latest.round_end_delivered_bytes = self.delivered_bytes;
            self.recovery.is_loss_in_round = true;
        }
    }

    /// Section "Saving State Upon Loss Recovery".
    fn save_state(&mut self) {
        self.save_window();
        self.recovery.undo = Undo {
            state: None,
            bandwidth_shortterm: self.bandwidth.shortterm,
            inflight_shortterm: self.inflight_shortterm,
            inflight_longterm: self.inflight_longterm,
        };
    }

    /// An acknowledgement of a packet sent after the episode began ends it.
    pub(super) fn check_recovery_done(&mut self, sent: Time) {
        if self.recovery.start.is_some_and(|start| sent > start) {
            self.recovery.start = None;
            self.restore_window();
        }
    }

    pub(super) fn is_inflight_too_high(&self, rate: &RateSample) -> bool {
        let lost = rate.lost_bytes + self.recovery.marked_bytes;
        lost as f64 > rate.in_flight_at_sending_bytes as f64 * LOSS_THRESHOLD
    }

    fn handle_inflight_too_high(&mut self, now: Time, inflight: u64, is_app_limited: bool) {
        self.cycle.prev_probe_too_high = true;
        self.cycle.is_probe_sample = false;
        if !is_app_limited {
            let least = (self.target_inflight() as f64 * BETA) as u64;
            self.inflight_longterm = inflight.max(least);
        }
        if self.state == State::ProbeBwUp {
            self.recovery.undo.state = Some(State::ProbeBwUp);
            self.start_probe_bw_down(now);
        }
    }

    /// Marks of the network count as losses (section "ECN"): here as one of this round, and in
    /// [`answer_congestion_marks`](Self::answer_congestion_marks) against a probe. Returns whether an episode begins.
    pub(super) fn handle_congestion_marks(&mut self, now: Time, sent: Time, packets: u64) -> bool {
        if packets == 0 {
            return false;
        }
        self.note_loss(now, sent, packets * self.datagram_bytes);
        self.recovery.has_marks = true;
        self.recovery.loss_runs = self.recovery.loss_runs.saturating_add(1);
        self.recovery.marked_bytes += packets * self.datagram_bytes;
        self.recovery.take_is_new()
    }

    /// Ends a probe that has met too many marks; returns whether it did.
    pub(super) fn answer_congestion_marks(&mut self, now: Time, ack: &AckSample) -> bool {
        if std::mem::take(&mut self.recovery.marked_bytes) == 0 || !self.cycle.is_probe_sample {
            return false;
        }
        self.handle_inflight_too_high(now, ack.rate.in_flight_at_sending_bytes, ack.rate.is_app_limited);
        true
    }

    /// Ends a round: its losses have been answered.
    pub(super) const fn forget_losses_of_round(&mut self) {
        self.recovery.is_loss_in_round = false;
        self.recovery.lost_bytes = 0;
        self.recovery.loss_packets = 0;
    }

    /// Section "When not Probing for Bandwidth": once per round with losses, the model follows what was delivered.
    ///
    /// An application-limited round is left alone: what it lost, it has not lost for sending too much, and its rate is
    /// not that of the path. So is a round that lost no more than a probe may lose, for what chance allows: else a path that
    /// loses at random would take a part of the rate with every round.
    pub(super) fn adapt_lower_bounds(&mut self, ack: &AckSample, round_delivered_bytes: u64) {
        let is_blind = self.state.is_probing_bandwidth() || ack.rate.is_app_limited;
        if is_blind || !self.recovery.is_loss_in_round || !self.is_loss_heavy(round_delivered_bytes) {
            return;
        }
        let follow = |bound: u64, start: u64, latest: u64| {
            let bound = if bound == UNBOUNDED { start } else { bound };
            latest.max((bound as f64 * BETA) as u64)
        };
        let (shortterm, max) = (self.bandwidth.shortterm, self.bandwidth.max());
        self.bandwidth.shortterm = follow(shortterm, max, self.latest.bytes_per_s);
        self.inflight_shortterm = follow(self.inflight_shortterm, self.window_bytes, self.latest.bytes);
    }

    /// Whether this round, in which so much was delivered, has lost more than a probe may lose, and than chance explains.
    pub(super) fn is_loss_heavy(&self, round_delivered_bytes: u64) -> bool {
        let datagrams = |bytes: u64| bytes as f64 / self.datagram_bytes as f64;
        let lost = datagrams(self.recovery.lost_bytes);
        let expected = (lost + datagrams(round_delivered_bytes)) * LOSS_THRESHOLD;
        lost > expected + LOSS_DEVIATIONS * expected.sqrt()
    }

    /// Section "Handling a Spurious Loss Recovery".
    pub(super) fn handle_spurious_loss(&mut self, _now: Time) {
        if self.recovery.has_marks {
            return;
        }
        self.restore_window();
        self.forget_losses_of_round();
        self.full_pipe.reset(0);
        let undo = std::mem::take(&mut self.recovery.undo);
        self.bandwidth.shortterm = self.bandwidth.shortterm.max(undo.bandwidth_shortterm);
        self.inflight_shortterm = self.inflight_shortterm.max(undo.inflight_shortterm);
        self.inflight_longterm = self.inflight_longterm.max(undo.inflight_longterm);
        match undo.state {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_pipe.is_reached = false;
                if self.state != State::ProbeRtt {
                    self.enter_startup();
                }
            }
            Some(State::ProbeBwUp) if self.state != State::ProbeBwUp && self.state != State::ProbeRtt => {
                self.start_probe_bw_refill();
            }
            _ => {}
        }
    }
}

/// The volume in flight at which losses crossed the threshold, within the packet that crossed it.
fn inflight_at_loss(packet: &LostPacket) -> u64 {
    let before = packet.in_flight_at_sending_bytes.saturating_sub(packet.bytes) as f64;
    let lost_before = packet.lost_bytes.saturating_sub(packet.bytes) as f64;
    let lost_prefix = (LOSS_THRESHOLD * before - lost_before) / (1.0 - LOSS_THRESHOLD);
    (before + lost_prefix.max(0.0)) as u64
}
