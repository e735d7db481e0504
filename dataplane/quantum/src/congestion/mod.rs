//! Congestion control: how many bytes may be in flight, and how fast they leave.

mod bbr;
mod cubic;

use wire::{Span, Time};

use self::bbr::Bbr;
use self::cubic::Cubic;
use crate::config::{Config, ControllerKind};
pub use crate::delivery::RateSample;

/// The window at the start, in datagrams.
pub const INITIAL_WINDOW_DATAGRAMS: u64 = 32;
/// The least window, in datagrams: on a path of microseconds a smaller one would wait for timers.
pub const WINDOW_DATAGRAMS_MIN: u64 = 4;
/// The most that leaves in one train.
pub const SEND_QUANTUM_BYTES_MAX: u64 = 64 << 10;

const _: () = assert!(WINDOW_DATAGRAMS_MIN < INITIAL_WINDOW_DATAGRAMS);

/// A packet that counts as in flight leaves.
#[derive(Clone, Copy, Debug)]
pub struct SentSample {
    /// Its bytes.
    pub bytes: u64,
    /// What is in flight with it, bytes.
    pub in_flight_bytes: u64,
    /// Whether the sender had run out of data.
    pub is_app_limited: bool,
}

/// An acknowledgement, as a controller sees it: the losses that it told have been told before.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// The bytes that were newly acknowledged.
    pub bytes: u64,
    /// When the newest packet among them was sent.
    pub sent: Time,
    /// The round-trip time of that packet; none: not known for certain.
    pub rtt: Option<Span>,
    /// The smoothed round-trip time.
    pub smoothed_rtt: Span,
    /// Whether the window, and not the application, held back the sender when that packet was sent.
    pub window_limited: bool,
    /// What is still in flight, bytes.
    pub in_flight_bytes: u64,
    /// What it tells about the path.
    pub rate: RateSample,
}

/// A packet that was declared lost.
#[derive(Clone, Copy, Debug)]
pub struct LostPacket {
    /// Its bytes.
    pub bytes: u64,
    /// When it was sent.
    pub sent: Time,
    /// Whether the packet sent before it is not lost: a run of losses begins.
    pub is_run_start: bool,
    /// Bytes lost since it was sent, itself included.
    pub lost_bytes: u64,
    /// Bytes in flight when it was sent, itself included.
    pub in_flight_at_sending_bytes: u64,
    /// All bytes delivered until now.
    pub total_delivered_bytes: u64,
    /// Whether the sender had run out of data when it was sent.
    pub is_app_limited: bool,
}

/// Packets that were declared lost at the same time.
#[derive(Clone, Copy, Debug)]
pub struct LossEvent {
    /// When the newest of them was sent.
    pub sent: Time,
    /// Whether they span persistent congestion (RFC 9002, section 7.6).
    pub is_persistent: bool,
    /// What is still in flight, bytes.
    pub in_flight_bytes: u64,
}

/// What a controller believes, for metrics and traces. None: not modelled, not known, or without bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathModel {
    /// The phase that the controller is in.
    pub phase: &'static str,
    /// The rate that the path carries, bytes per second.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// What losses of late leave of it.
    pub bandwidth_shortterm_bytes_per_s: Option<u64>,
    /// The round-trip time of the empty path.
    pub rtt_min: Option<Span>,
    /// What may be in flight after losses of the last probes.
    pub inflight_longterm_bytes: Option<u64>,
    /// What may be in flight after losses of late.
    pub inflight_shortterm_bytes: Option<u64>,
    /// How much more is acknowledged at once than the rate explains.
    pub extra_acked_bytes: Option<u64>,
    /// Round trips so far, counted by packets.
    pub rounds: Option<u32>,
}

/// Decides how many bytes may be in flight, and how fast they leave. Times never go backwards from call to call.
///
/// For one ACK the order of calls is: [`on_ecn_ce`](Self::on_ecn_ce), [`on_packet_lost`](Self::on_packet_lost) for each
/// loss, [`on_congestion_event`](Self::on_congestion_event) when there was one, [`on_spurious_loss`](Self::on_spurious_loss),
/// [`on_ack`](Self::on_ack).
pub trait CongestionController: Send {
    /// A packet in flight was sent.
    fn on_sent(&mut self, now: Time, sample: &SentSample);
    /// Packets were acknowledged.
    fn on_ack(&mut self, now: Time, sample: &AckSample);
    /// A packet was lost.
    fn on_packet_lost(&mut self, _now: Time, _packet: &LostPacket) {}
    /// Packets were lost, and [`on_packet_lost`](Self::on_packet_lost) has been called for each. Returns whether the window
    /// was reduced: one reduction answers all losses of a round trip.
    fn on_congestion_event(&mut self, now: Time, event: &LossEvent) -> bool;
    /// All packets that were declared lost since the last congestion event that counted have been acknowledged after all.
    fn on_spurious_loss(&mut self, now: Time);
    /// The network has marked `ce_packets` more packets, the newest of them sent at `sent` (RFC 3168, RFC 9002 section 7.1).
    /// Returns whether the window was reduced.
    fn on_ecn_ce(&mut self, now: Time, sent: Time, ce_packets: u64) -> bool;
    /// Datagrams are of another size from now on (DPLPMTUD).
    fn on_datagram_bytes(&mut self, bytes: u64);
    /// The window.
    fn window_bytes(&self) -> u64;
    /// Bytes per second at which a backlog leaves; none: as fast as the window allows.
    fn pacing_rate(&self) -> Option<u64>;
    /// The most that leaves in one go of a backlog that is paced.
    fn send_quantum_bytes(&self) -> u64;
    /// Whether the controller itself holds the sender back now, so that samples say nothing about the path.
    fn is_holding_back(&self) -> bool {
        false
    }
    /// What it believes.
    fn path_model(&self) -> PathModel;
}

/// What leaves in one go at a rate: a millisecond's worth (draft-ietf-ccwg-bbr-06, section "Send Quantum").
fn send_quantum_bytes(bytes_per_s: u64, datagram_bytes: u64) -> u64 {
    (bytes_per_s / 1_000).min(SEND_QUANTUM_BYTES_MAX).max(2 * datagram_bytes)
}

/// The controller that `config` names, at the start of a path. `seed` is all its randomness: connections that share a
/// bottleneck should have different ones.
#[must_use]
pub fn controller(config: &Config, seed: u64) -> Box<dyn CongestionController> {
    match config.controller {
        ControllerKind::Bbr => {
            Box::new(Bbr::new(config.datagram_bytes_max as u64, config.congestion_window_bytes_max, seed))
        }
        ControllerKind::Cubic => {
            Box::new(Cubic::new(config.datagram_bytes_max as u64, config.congestion_window_bytes_max))
        }
    }
}
