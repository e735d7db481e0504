//! Congestion control: how many bytes may be in flight.

mod cubic;

use wire::{Span, Time};

pub(crate) use self::cubic::Cubic;
use crate::config::{Config, ControllerKind};

/// The window at the start, in datagrams.
pub const INITIAL_WINDOW_DATAGRAMS: u64 = 32;
/// The least window, in datagrams: on a path of microseconds a smaller one would wait for timers.
pub const WINDOW_DATAGRAMS_MIN: u64 = 4;

const _: () = assert!(WINDOW_DATAGRAMS_MIN < INITIAL_WINDOW_DATAGRAMS);

/// An acknowledgement, as a controller sees it.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// The bytes that were newly acknowledged.
    pub bytes: u64,
    /// When the newest packet among them was sent.
    pub sent: Time,
    /// The smoothed round-trip time.
    pub smoothed_rtt: Span,
    /// Whether the window, and not the application, held back the sender.
    pub window_limited: bool,
}

/// Decides how many bytes may be in flight. Times never go backwards from call to call.
pub trait CongestionController: Send {
    /// A packet in flight was sent.
    fn on_sent(&mut self, now: Time, bytes: u64, in_flight_bytes: u64);
    /// Packets were acknowledged.
    fn on_ack(&mut self, now: Time, sample: &AckSample);
    /// Packets were lost, the newest of them sent at `sent`. Returns whether the window was reduced: one
    /// reduction answers all losses of a round trip.
    fn on_congestion_event(&mut self, now: Time, sent: Time, is_persistent: bool) -> bool;
    /// The window.
    fn window_bytes(&self) -> u64;
}

/// The controller that `config` names, at the start of a connection.
#[must_use]
pub fn controller(config: &Config) -> Box<dyn CongestionController> {
    match config.controller {
        ControllerKind::Cubic => {
            Box::new(Cubic::new(config.datagram_bytes_max as u64, config.congestion_window_bytes_max))
        }
    }
}
