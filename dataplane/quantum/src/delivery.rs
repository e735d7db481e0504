//! Delivery rate estimation (draft-ietf-ccwg-bbr-06, section "Delivery Rate Samples").
//!
//! Each packet remembers what had been delivered when it left; its acknowledgement then tells how much was delivered in
//! between, and how fast.

use wire::{Span, Time};

/// What a packet remembers of the moment of its sending (section "Per-packet (P) state"). Totals are kept modulo 2^32
/// and moments as spans before the sending: less is in flight than that, and for a shorter time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Snapshot {
    delivered: u32,
    lost: u32,
    since_delivered_us: u32,
    since_first_sent_us: u32,
    /// With the packet itself; the highest bit: whether the sender was application-limited.
    in_flight: u32,
}

/// The bit of `in_flight` that is not bytes.
const APP_LIMITED_BIT: u32 = 1 << 31;

impl Snapshot {
    /// What was in flight with this packet, bytes.
    pub(crate) const fn in_flight_bytes(&self) -> u64 {
        (self.in_flight & !APP_LIMITED_BIT) as u64
    }

    pub(crate) const fn is_app_limited(&self) -> bool {
        self.in_flight & APP_LIMITED_BIT != 0
    }
}

/// What an acknowledgement tells about the path (section "Rate Sample (rs) Output"). Totals are over the life of the
/// connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateSample {
    /// Bytes per second; zero: the acknowledgement came too soon to tell.
    pub bytes_per_s: u64,
    /// Bytes delivered between the sending and the acknowledgement of the newest packet.
    pub delivered_bytes: u64,
    /// Bytes declared lost, or marked by the network, in the same time.
    pub lost_bytes: u64,
    /// All bytes delivered when that packet was sent.
    pub prior_delivered_bytes: u64,
    /// All bytes delivered until now.
    pub total_delivered_bytes: u64,
    /// Bytes in flight when that packet was sent, itself included.
    pub in_flight_at_sending_bytes: u64,
    /// Whether the sender had run out of data when that packet was sent, or in the round trip before.
    pub is_app_limited: bool,
}

/// The state of section "Per-connection (C) state".
#[derive(Debug, Default)]
pub(crate) struct DeliveryRate {
    delivered_bytes: u64,
    lost_bytes: u64,
    delivered_at: Time,
    first_sent: Time,
    /// Samples are application-limited until so much has been delivered; zero: they are not.
    app_limited_until: u64,
}

impl DeliveryRate {
    pub(crate) const fn is_app_limited(&self) -> bool {
        self.app_limited_until != 0
    }

    pub(crate) const fn delivered_bytes(&self) -> u64 {
        self.delivered_bytes
    }

    /// A packet leaves (section "Transmitting a data packet").
    pub(crate) fn on_sent(&mut self, now: Time, bytes: u64, in_flight_before: u64) -> Snapshot {
        if in_flight_before == 0 {
            self.first_sent = now;
            self.delivered_at = now;
        }
        let in_flight = (in_flight_before + bytes).min(u64::from(APP_LIMITED_BIT - 1)) as u32;
        let span_us = |since: Time| u32::try_from(now.since(since).as_us()).unwrap_or(u32::MAX);
        Snapshot {
            delivered: self.delivered_bytes as u32,
            lost: self.lost_bytes as u32,
            since_delivered_us: span_us(self.delivered_at),
            since_first_sent_us: span_us(self.first_sent),
            in_flight: in_flight | if self.is_app_limited() { APP_LIMITED_BIT } else { 0 },
        }
    }

    /// A packet was acknowledged.
    pub(crate) const fn on_delivered(&mut self, now: Time, bytes: u64) {
        self.delivered_bytes += bytes;
        self.delivered_at = now;
    }

    /// A packet was declared lost, or packets were marked by the network: both say that the path is full.
    pub(crate) const fn on_lost(&mut self, bytes: u64) {
        self.lost_bytes += bytes;
    }

    /// Bytes lost since a packet was sent.
    pub(crate) const fn lost_since(&self, snapshot: &Snapshot) -> u64 {
        (self.lost_bytes as u32).wrapping_sub(snapshot.lost) as u64
    }

    /// The sender has nothing to send, although it might (section "Detecting application-limited phases").
    pub(crate) fn mark_app_limited(&mut self, in_flight_bytes: u64) {
        self.app_limited_until = (self.delivered_bytes + in_flight_bytes).max(1);
    }

    /// Ends an acknowledgement (section "Upon receiving an ACK"): `newest` is the newest of its packets, sent at `sent`.
    pub(crate) fn sample(&mut self, now: Time, sent: Time, newest: &Snapshot, rtt_min: Span) -> RateSample {
        if self.delivered_bytes > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let send_elapsed_us = u64::from(newest.since_first_sent_us);
        let ack_elapsed_us = now.since(sent).as_us() + u64::from(newest.since_delivered_us);
        self.first_sent = sent;
        let delivered_bytes = u64::from((self.delivered_bytes as u32).wrapping_sub(newest.delivered));
        let interval_us = send_elapsed_us.max(ack_elapsed_us);
        let is_reliable = interval_us > 0 && interval_us >= rtt_min.as_us();
        let per_s = || u128::from(delivered_bytes) * 1_000_000 / u128::from(interval_us);
        RateSample {
            bytes_per_s: if is_reliable { u64::try_from(per_s()).unwrap_or(u64::MAX) } else { 0 },
            delivered_bytes,
            lost_bytes: self.lost_since(newest),
            prior_delivered_bytes: self.delivered_bytes - delivered_bytes,
            total_delivered_bytes: self.delivered_bytes,
            in_flight_at_sending_bytes: newest.in_flight_bytes(),
            is_app_limited: newest.is_app_limited(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1_000;
    const RTT: Span = Span::from_ms(10);

    fn at(us: u64) -> Time {
        Time::from_us(1_000_000 + us)
    }

    /// Sends a packet every `gap_us`, and acknowledges each `RTT` later or when the path of `path_gap_us` a packet has
    /// carried it; returns the last sample.
    fn flow(gap_us: u64, path_gap_us: u64, packets: u64) -> RateSample {
        let mut rate = DeliveryRate::default();
        let mut acked = 0;
        let mut sent: Vec<(Time, Snapshot)> = Vec::new();
        let mut last = RateSample::default();
        for step in 0..packets * gap_us.max(path_gap_us) + RTT.as_us() {
            let now = at(step);
            if acked < sent.len() {
                let due = at(RTT.as_us() + acked as u64 * gap_us.max(path_gap_us));
                if due <= now {
                    rate.on_delivered(now, PACKET);
                    last = rate.sample(now, sent[acked].0, &sent[acked].1, RTT);
                    acked += 1;
                }
            }
            if step % gap_us == 0 && (sent.len() as u64) < packets {
                let in_flight = (sent.len() - acked) as u64 * PACKET;
                sent.push((now, rate.on_sent(now, PACKET, in_flight)));
            }
        }
        assert_eq!(acked as u64, packets);
        last
    }

    #[test]
    fn the_rate_of_the_path_is_mistaken_for_that_of_the_sender() {
        let close = |got: u64, want: u64| got.abs_diff(want) * 50 < want;
        assert!(close(flow(100, 400, 200).bytes_per_s, 2_500_000), "{:?}", flow(100, 400, 200));
        assert!(close(flow(400, 100, 200).bytes_per_s, 2_500_000), "{:?}", flow(400, 100, 200));
    }

    #[test]
    fn acknowledgements_in_a_bunch_make_the_path_look_faster_than_the_sender() {
        let mut rate = DeliveryRate::default();
        let sent: Vec<_> =
            (0..20).map(|n| (at(n * 500), rate.on_sent(at(n * 500), PACKET, n * PACKET))).collect();
        let now = at(10_000);
        for _ in &sent {
            rate.on_delivered(now, PACKET);
        }
        let sample = rate.sample(now, sent[19].0, &sent[19].1, RTT);
        assert_eq!((sample.bytes_per_s, sample.delivered_bytes), (2_000_000, 20 * PACKET));
    }

    #[test]
    fn an_acknowledgement_sooner_than_any_before_gives_a_rate() {
        let mut rate = DeliveryRate::default();
        let snapshot = rate.on_sent(at(0), PACKET, 0);
        rate.on_delivered(at(3), PACKET);
        assert_eq!(rate.sample(at(3), at(0), &snapshot, RTT).bytes_per_s, 0);
    }

    #[test]
    fn a_pause_of_the_application_looks_like_a_slow_path() {
        let mut rate = DeliveryRate::default();
        let before = rate.on_sent(at(0), PACKET, 0);
        rate.mark_app_limited(PACKET);
        let during = rate.on_sent(at(100), PACKET, PACKET);
        rate.on_delivered(at(10_000), PACKET);
        assert!(!rate.sample(at(10_000), at(0), &before, RTT).is_app_limited);
        let bubble = rate.on_sent(at(10_050), PACKET, PACKET);
        rate.on_delivered(at(10_100), PACKET);
        assert!(rate.sample(at(10_100), at(100), &during, RTT).is_app_limited);
        assert!(bubble.is_app_limited(), "what is in flight when it is marked, is in the bubble");
        assert!(!rate.on_sent(at(10_200), PACKET, PACKET).is_app_limited());
    }

    #[test]
    fn losses_are_counted_twice_or_for_the_wrong_packets() {
        let mut rate = DeliveryRate::default();
        let first = rate.on_sent(at(0), PACKET, 0);
        rate.on_lost(3 * PACKET);
        let second = rate.on_sent(at(10), PACKET, PACKET);
        rate.on_lost(PACKET);
        assert_eq!((rate.lost_since(&first), rate.lost_since(&second)), (4 * PACKET, PACKET));
    }
}
