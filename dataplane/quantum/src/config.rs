//! What a connection may be told, and its documented defaults.

use std::sync::Arc;

use thiserror::Error;
use wire::Span;
use wire::frame::Parameters;
use wire::limits::{DATAGRAM_BYTES_MAX, INITIAL_DATAGRAM_BYTES, MESSAGE_BYTES_MAX};

use crate::fec::WINDOW_SYMBOLS_MAX;
use crate::key_update::KEY_UPDATE_PACKETS_MAX;
use crate::tap::PacketTap;

/// The longest that an acknowledgement may be held back.
pub const ACK_DELAY_MAX: Span = Span::from_ms(2);
/// The shortest idle timeout.
pub const IDLE_TIMEOUT_MIN: Span = Span::from_ms(100);
/// The shortest interval of signs of life.
const KEEP_ALIVE_INTERVAL_MIN: Span = Span::from_ms(10);
/// The most that a peer's credit is believed, so that sums of credit cannot overflow.
pub(crate) const CREDIT_MAX: u64 = 1 << 60;
/// How much queued memory a message is counted as, besides its payload.
pub(crate) const MESSAGE_CHARGE_BYTES: usize = 64;
/// The most messages of a reliable channel between the oldest missing and the newest.
pub const MESSAGES_AHEAD_MAX: u64 = 32_768;

/// Which congestion controller a connection uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum ControllerKind {
    /// BBR, version 3 (draft-ietf-ccwg-bbr-06).
    #[default]
    Bbr,
    /// CUBIC (RFC 9438).
    Cubic,
}

/// Forward error correction (`PROTOCOL.md`, section "Forward error correction").
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FecConfig {
    /// Whether this end uses repairs, and sends them to a peer that uses them; default true. None are sent while nothing
    /// is lost, nor where a retransmission makes the deadline as well.
    pub enabled: bool,
    /// By how much later than its packet what is lost should come; default 10 ms.
    pub recovery_deadline: Span,
    /// The share of what is lost that may come later than that; default 0.01. Redundancy is the least that keeps it.
    pub unrecovered_max: f64,
    /// What repairs may add to what they protect, in parts of it, while nothing is lost; default 0.28. Four times the
    /// share of packets that is lost comes on top: 0.32 at 1 %, 0.48 at 5 %. Traffic of a few packets a second, which
    /// repairs may double, is exempt up to 64,000 bytes of repairs a second.
    pub overhead_max: f64,
    /// How long a message waits for a repair that covers it, where messages are few; 3 to 5 ms, default 5 ms.
    pub repair_timer: Span,
}

impl Default for FecConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            recovery_deadline: Span::from_ms(10),
            unrecovered_max: 0.01,
            overhead_max: 0.28,
            repair_timer: Span::from_ms(5),
        }
    }
}

impl FecConfig {
    /// The range of [`repair_timer`](Self::repair_timer).
    pub const REPAIR_TIMERS: std::ops::RangeInclusive<Span> = Span::from_ms(3)..=Span::from_ms(5);

    /// The checks of [`Config::validate`]: name, value (shares in millionths), whether it holds, rule.
    fn checks(&self) -> [(&'static str, u64, bool, &'static str); 4] {
        let millionths = |share: f64| (share * 1e6) as u64;
        [
            (
                "fec.recovery_deadline",
                self.recovery_deadline.as_us(),
                self.recovery_deadline >= self.repair_timer && self.recovery_deadline <= Span::from_ms(1_000),
                "must be the repair timer to 1 s",
            ),
            (
                "fec.unrecovered_max",
                millionths(self.unrecovered_max),
                self.unrecovered_max > 0.0 && self.unrecovered_max <= 1.0,
                "must be more than 0, at most 1",
            ),
            (
                "fec.overhead_max",
                millionths(self.overhead_max),
                (0.0..=1.0).contains(&self.overhead_max),
                "must be 0 to 1",
            ),
            (
                "fec.repair_timer",
                self.repair_timer.as_us(),
                Self::REPAIR_TIMERS.contains(&self.repair_timer),
                "must be 3 to 5 ms",
            ),
        ]
    }
}

/// One connection's settings. The defaults are the production values.
#[derive(Clone, Debug)]
pub struct Config {
    /// The largest datagram sent and taken: 1,200 to 1,452 bytes; default 1,452. Larger ones than 1,200 are sent once the path has
    /// been found to carry them.
    pub datagram_bytes_max: usize,
    /// Silence after which a connection is dropped; default 30 s. The smaller of the two ends' counts.
    pub idle_timeout: Span,
    /// A client that has heard and said nothing for so long asks for a sign of life, so that neither NAT nor node forgets
    /// it; default 10 s, none: never. At most a third of the idle timeout that the ends have agreed on.
    pub keep_alive_interval: Option<Span>,
    /// The same for a node; default none.
    pub node_keep_alive_interval: Option<Span>,
    /// How long an acknowledgement may be held back: at most, and by default, 2 ms.
    pub max_ack_delay: Span,
    /// How long a handshake may take; default 10 s.
    pub handshake_timeout: Span,
    /// Bytes of messages queued or not yet acknowledged; default 8 MiB. [`SendError::Full`](crate::SendError)
    /// beyond.
    pub send_buffer_bytes_max: usize,
    /// Bytes delivered but not consumed, or waiting for earlier ones, over all channels; default 8 MiB.
    pub receive_window_bytes: u64,
    /// The same for one channel; default 6 MiB. At least the largest message.
    pub channel_window_bytes: u64,
    /// The largest message sent and taken; default 4 MiB.
    pub message_bytes_max: usize,
    /// The congestion window's upper bound in bytes; default 8 MiB.
    pub congestion_window_bytes_max: u64,
    /// The congestion controller; default BBR.
    pub controller: ControllerKind,
    /// Forward error correction.
    pub fec: FecConfig,
    /// Whether datagrams are marked for explicit congestion notification where the path carries it; default true.
    pub ecn: bool,
    /// Packets sealed with one key before the next takes over; default 2^20, at most 2^22.
    pub key_update_packets: u64,
    /// Is shown every packet before it is sealed; default none, and none in production.
    pub tap: Option<Arc<dyn PacketTap>>,
    /// A client goes over to a fresh connection id after so many packets; default none: never.
    pub connection_id_packets: Option<u64>,
    /// The same, by time; default none: never.
    pub connection_id_lifetime: Option<Span>,
}

const _: () = assert!(MESSAGE_BYTES_MAX as u64 <= 6 << 20);

impl Default for Config {
    fn default() -> Self {
        Self {
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            idle_timeout: Span::from_ms(30_000),
            keep_alive_interval: Some(Span::from_ms(10_000)),
            node_keep_alive_interval: None,
            max_ack_delay: ACK_DELAY_MAX,
            handshake_timeout: Span::from_ms(10_000),
            send_buffer_bytes_max: 8 << 20,
            receive_window_bytes: 8 << 20,
            channel_window_bytes: 6 << 20,
            message_bytes_max: MESSAGE_BYTES_MAX,
            congestion_window_bytes_max: 8 << 20,
            controller: ControllerKind::default(),
            fec: FecConfig::default(),
            ecn: true,
            key_update_packets: 1 << 20,
            tap: None,
            connection_id_packets: None,
            connection_id_lifetime: None,
        }
    }
}

/// A setting outside its range.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("quantum setting `{setting}` is {value}: {rule}")]
pub struct ConfigError {
    /// The field.
    pub setting: &'static str,
    /// What it was set to.
    pub value: u64,
    /// What it must be.
    pub rule: &'static str,
}

impl Config {
    /// Checks every range and the relations between settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let message = self.message_bytes_max as u64;
        let datagrams = INITIAL_DATAGRAM_BYTES..=DATAGRAM_BYTES_MAX;
        let checks = [
            (
                "datagram_bytes_max",
                self.datagram_bytes_max as u64,
                datagrams.contains(&self.datagram_bytes_max),
                "must be 1200 to 1452",
            ),
            (
                "idle_timeout",
                self.idle_timeout.as_us(),
                self.idle_timeout >= IDLE_TIMEOUT_MIN,
                "must be at least 100 ms",
            ),
            (
                "keep_alive_interval",
                self.keep_alive_interval.map_or(0, Span::as_us),
                self.keep_alive_interval.is_none_or(|interval| interval >= KEEP_ALIVE_INTERVAL_MIN),
                "must be at least 10 ms, or none",
            ),
            (
                "node_keep_alive_interval",
                self.node_keep_alive_interval.map_or(0, Span::as_us),
                self.node_keep_alive_interval.is_none_or(|interval| interval >= KEEP_ALIVE_INTERVAL_MIN),
                "must be at least 10 ms, or none",
            ),
            (
                "max_ack_delay",
                self.max_ack_delay.as_us(),
                self.max_ack_delay <= ACK_DELAY_MAX,
                "must be at most 2 ms",
            ),
            (
                "handshake_timeout",
                self.handshake_timeout.as_us(),
                self.handshake_timeout >= IDLE_TIMEOUT_MIN,
                "must be at least 100 ms",
            ),
            (
                "message_bytes_max",
                message,
                (1..=MESSAGE_BYTES_MAX).contains(&self.message_bytes_max),
                "must be 1 to 4 MiB",
            ),
            (
                "channel_window_bytes",
                self.channel_window_bytes,
                self.channel_window_bytes >= message,
                "must hold the largest message",
            ),
            (
                "receive_window_bytes",
                self.receive_window_bytes,
                self.receive_window_bytes >= self.channel_window_bytes,
                "must hold one channel's window",
            ),
            (
                "receive_window_bytes",
                self.receive_window_bytes,
                self.receive_window_bytes <= CREDIT_MAX / 2,
                "must be less than 2^59",
            ),
            (
                "send_buffer_bytes_max",
                self.send_buffer_bytes_max as u64,
                self.send_buffer_bytes_max >= self.message_bytes_max + MESSAGE_CHARGE_BYTES,
                "must hold the largest message and 64 bytes",
            ),
            (
                "congestion_window_bytes_max",
                self.congestion_window_bytes_max,
                self.congestion_window_bytes_max >= 64 << 10,
                "must be at least 64 KiB",
            ),
            (
                "key_update_packets",
                self.key_update_packets,
                (1..=KEY_UPDATE_PACKETS_MAX).contains(&self.key_update_packets),
                "must be 1 to 2^22",
            ),
        ];
        match checks.into_iter().chain(self.fec.checks()).find(|(.., holds, _)| !holds) {
            Some((setting, value, _, rule)) => Err(ConfigError { setting, value, rule }),
            None => Ok(()),
        }
    }

    /// What the peer is told.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters {
            datagram_bytes_max: self.datagram_bytes_max as u64,
            idle_timeout_ms: self.idle_timeout.as_us() / 1_000,
            max_ack_delay_us: self.max_ack_delay.as_us(),
            max_data: self.receive_window_bytes,
            max_channel_data: self.channel_window_bytes,
            message_bytes_max: self.message_bytes_max as u64,
            fec_window: if self.fec.enabled { WINDOW_SYMBOLS_MAX as u64 } else { 0 },
            ..Parameters::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_taken() {
        Config::default().validate().unwrap();
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err().setting
        };
        assert_eq!(refused(|c| c.datagram_bytes_max = 1_500), "datagram_bytes_max");
        assert_eq!(refused(|c| c.max_ack_delay = Span::from_ms(3)), "max_ack_delay");
        assert_eq!(refused(|c| c.channel_window_bytes = 1_000), "channel_window_bytes");
        assert_eq!(refused(|c| c.receive_window_bytes = 5 << 20), "receive_window_bytes");
        assert_eq!(refused(|c| c.fec.repair_timer = Span::from_ms(6)), "fec.repair_timer");
        assert_eq!(refused(|c| c.fec.unrecovered_max = f64::NAN), "fec.unrecovered_max");
        assert_eq!(refused(|c| c.send_buffer_bytes_max = 4 << 20), "send_buffer_bytes_max");
    }
}
