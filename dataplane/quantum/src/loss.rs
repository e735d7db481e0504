//! Loss detection: packet and time thresholds, probe timeouts, persistent congestion (RFC 9002, section 6).

use wire::{Span, Time};

use crate::rtt::RttEstimator;
use crate::sent_packets::{Fate, SentPackets};

/// A packet is lost when one sent this many later was acknowledged (RFC 9002, section 6.1.1).
const PACKET_THRESHOLD: u64 = 3;
/// Losses over this many probe timeouts are persistent congestion (RFC 9002, section 7.6).
const PERSISTENT_TIMEOUTS: u64 = 3;
/// Probe timeouts double at most this often.
const BACKOFF_SHIFT_MAX: u32 = 6;
/// Datagrams sent on a probe timeout.
const PROBES_PER_TIMEOUT: u8 = 2;

/// The timers and marks of loss detection; the packets are in [`SentPackets`].
#[derive(Debug)]
pub(crate) struct LossDetector {
    largest_acked: Option<u64>,
    /// When the oldest packet below the largest acknowledged one will count as lost.
    loss_at: Option<Time>,
    /// The later of: the last packet sent that asks for an acknowledgement, the last probe timeout.
    timer_start: Time,
    timeouts_in_row: u32,
    probes_due: u8,
    episode: Episode,
    last_lost: Option<u64>,
}

/// The losses since the last congestion event that counted: if all of them come after all, none was lost.
#[derive(Clone, Copy, Default, Debug)]
struct Episode {
    first_number: u64,
    lost: u32,
    spurious: u32,
}

/// What one round of detection found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Losses {
    /// When the newest lost packet was sent.
    pub(crate) newest_sent: Time,
    /// Whether the losses span persistent congestion.
    pub(crate) is_persistent: bool,
}

impl LossDetector {
    pub(crate) const fn new() -> Self {
        Self {
            largest_acked: None,
            loss_at: None,
            timer_start: Time::ZERO,
            timeouts_in_row: 0,
            probes_due: 0,
            episode: Episode { first_number: 0, lost: 0, spurious: 0 },
            last_lost: None,
        }
    }

    /// Whether the loss of a packet does not go on from that of the packet before; to be asked once for each loss.
    pub(crate) fn begins_run(&mut self, number: u64) -> bool {
        self.last_lost.replace(number).is_none_or(|last| last + 1 != number)
    }

    /// The controller has answered losses: by a new reduction, or as part of the last one.
    pub(crate) fn on_congestion_event(&mut self, is_new: bool, lost: &[u64]) {
        if is_new {
            let first_number = lost.first().copied().unwrap_or_default();
            self.episode = Episode { first_number, ..Episode::default() };
        }
        self.episode.lost += lost.len() as u32;
    }

    /// A packet that was declared lost was acknowledged.
    pub(crate) const fn on_spurious(&mut self, number: u64) {
        if number >= self.episode.first_number {
            self.episode.spurious += 1;
        }
    }

    /// Whether all losses of the last episode have turned out to be none; true once.
    pub(crate) fn take_spurious_episode(&mut self) -> bool {
        let is_spurious = self.episode.lost > 0 && self.episode.spurious >= self.episode.lost;
        if is_spurious {
            self.episode = Episode::default();
        }
        is_spurious
    }

    pub(crate) fn on_sent(&mut self, now: Time, is_eliciting: bool) {
        if is_eliciting {
            self.timer_start = now;
            self.probes_due = self.probes_due.saturating_sub(1);
        }
    }

    /// Probe timeouts since something was acknowledged.
    pub(crate) const fn timeouts_in_row(&self) -> u32 {
        self.timeouts_in_row
    }

    /// Another path begins: timeouts on the last one say nothing about it.
    pub(crate) const fn begin_path(&mut self, now: Time) {
        self.timeouts_in_row = 0;
        self.timer_start = now;
    }

    /// An ACK that acknowledged something new.
    pub(crate) fn on_ack(&mut self, largest: u64) {
        self.largest_acked = self.largest_acked.max(Some(largest));
        self.timeouts_in_row = 0;
        self.probes_due = 0;
    }

    /// Declares packets lost; their numbers are appended to `lost`.
    pub(crate) fn detect(
        &mut self,
        now: Time,
        sent: &mut SentPackets,
        rtt: &RttEstimator,
        persistent_span: Span,
        lost: &mut Vec<u64>,
    ) -> Option<Losses> {
        self.loss_at = None;
        let largest = self.largest_acked?;
        let delay = rtt.loss_delay();
        let already = lost.len();
        let mut oldest_sent = None;
        let mut newest_sent = Time::ZERO;
        // Numbers and times both grow: behind the first packet that is not lost there is none that is.
        for packet in sent.in_flight() {
            if packet.number >= largest {
                break;
            }
            let due = packet.sent + delay;
            if packet.number + PACKET_THRESHOLD > largest && due > now {
                self.loss_at = Some(due);
                break;
            }
            oldest_sent.get_or_insert(packet.sent);
            newest_sent = packet.sent;
            lost.push(packet.number);
        }
        for &number in &lost[already..] {
            sent.set_fate(number, Fate::Lost);
        }
        let oldest_sent = oldest_sent?;
        let unbroken = lost[already..]
            .last()
            .zip(lost.get(already))
            .is_some_and(|(last, first)| last - first + 1 == (lost.len() - already) as u64);
        let is_persistent = unbroken
            && rtt.has_sample()
            && newest_sent.since(oldest_sent) > persistent_span.times(PERSISTENT_TIMEOUTS);
        Some(Losses { newest_sent, is_persistent })
    }

    /// The next moment at which [`is_loss_due`](Self::is_loss_due) or a probe timeout holds.
    pub(crate) fn timeout(&self, sent: &SentPackets, probe_timeout: Span) -> Option<Time> {
        if self.loss_at.is_some() {
            return self.loss_at;
        }
        sent.has_in_flight().then(|| self.probe_at(probe_timeout))
    }

    pub(crate) fn is_loss_due(&self, now: Time) -> bool {
        self.loss_at.is_some_and(|at| at <= now)
    }

    /// Counts a probe timeout.
    pub(crate) const fn on_probe_timeout(&mut self, now: Time) {
        self.timer_start = now;
        self.timeouts_in_row += 1;
        self.probes_due = PROBES_PER_TIMEOUT;
    }

    /// Datagrams that may be sent whatever the congestion window says.
    pub(crate) const fn probes_due(&self) -> u8 {
        self.probes_due
    }

    fn probe_at(&self, probe_timeout: Span) -> Time {
        self.timer_start + self.backed_off(probe_timeout)
    }

    /// The probe timeout after those that have passed in vain.
    pub(crate) fn backed_off(&self, probe_timeout: Span) -> Span {
        probe_timeout.times(1 << self.timeouts_in_row.min(BACKOFF_SHIFT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sent_packets::tests::departure;

    fn sent(times_us: &[u64]) -> SentPackets {
        let mut sent = SentPackets::default();
        for &us in times_us {
            sent.finish(departure(us, 1_200, true));
        }
        sent
    }

    fn acked(detector: &mut LossDetector, sent: &mut SentPackets, number: u64) {
        sent.set_fate(number, Fate::Done);
        detector.on_ack(number);
    }

    #[test]
    fn a_gap_of_three_waits_for_a_timer() {
        let (mut detector, mut sent) = (LossDetector::new(), sent(&[0, 1, 2, 3, 4]));
        acked(&mut detector, &mut sent, 4);
        let mut lost = Vec::new();
        let mut rtt = RttEstimator::new();
        rtt.update(Span::from_ms(10), Span::ZERO);
        let found = detector.detect(Time::from_us(50), &mut sent, &rtt, Span::from_ms(1), &mut lost);
        assert_eq!(lost, [0, 1]);
        assert_eq!(found, Some(Losses { newest_sent: Time::from_us(1), is_persistent: false }));
        assert_eq!(detector.timeout(&sent, Span::from_ms(1)), Some(Time::from_us(2 + 11_250)));
        lost.clear();
        detector.detect(Time::from_us(2 + 11_250), &mut sent, &rtt, Span::from_ms(1), &mut lost);
        assert_eq!(lost, [2]);
    }

    #[test]
    fn losses_over_many_timeouts_do_not_count_as_persistent() {
        let (mut detector, mut sent) =
            (LossDetector::new(), sent(&[0, 50_000, 100_000, 100_001, 100_002, 100_003]));
        let mut rtt = RttEstimator::new();
        rtt.update(Span::from_ms(1), Span::ZERO);
        acked(&mut detector, &mut sent, 5);
        let mut lost = Vec::new();
        let found = detector.detect(Time::from_us(101_000), &mut sent, &rtt, Span::from_ms(10), &mut lost);
        assert!(found.unwrap().is_persistent);
    }

    #[test]
    fn probe_timeouts_do_not_back_off() {
        let (mut detector, sent) = (LossDetector::new(), sent(&[0]));
        detector.on_sent(Time::ZERO, true);
        assert_eq!(detector.timeout(&sent, Span::from_ms(3)), Some(Time::from_us(3_000)));
        detector.on_probe_timeout(Time::ZERO);
        assert_eq!(detector.probes_due(), 2);
        assert_eq!(detector.timeout(&sent, Span::from_ms(3)), Some(Time::from_us(6_000)));
        detector.on_ack(0);
        assert_eq!(detector.backed_off(Span::from_ms(3)), Span::from_ms(3));
    }
}
