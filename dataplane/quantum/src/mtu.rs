//! How large datagrams are: path MTU discovery in the packetization layer (`PROTOCOL.md`, section "Datagram sizes";
//! RFC 8899).

use wire::limits::INITIAL_DATAGRAM_BYTES;
use wire::{Span, Time};

/// A size is given up after so many probes of it in a row were lost (RFC 8899, MAX_PROBES).
const PROBES_MAX: u8 = 3;
/// The search ends when no more than this is to be gained.
const STEP_BYTES_MIN: u16 = 16;
/// A search that has ended below the largest size begins anew after this (RFC 8899, PMTU_RAISE_TIMER).
const RAISE_INTERVAL: Span = Span::from_ms(600_000);
/// So many times in a row larger datagrams were lost and none was acknowledged: they do not pass any more.
const BLACK_HOLE_LOSSES: u8 = 3;

const BASE: u16 = INITIAL_DATAGRAM_BYTES as u16;

/// The search for the largest datagram that passes.
#[derive(Debug)]
pub(crate) struct MtuDiscovery {
    /// What is known to pass.
    current: u16,
    /// What both ends take.
    max: u16,
    /// What may pass.
    ceiling: u16,
    /// The packet in flight that tries a size, and that size.
    probe: Option<(u64, u16)>,
    probe_losses: u8,
    /// Losses of datagrams over the base in a row, and the least of those sizes.
    full_losses: u8,
    suspect: u16,
    is_wanted: bool,
    raise_at: Time,
}

/// What has become of the size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MtuChange {
    Raised,
    BlackHole,
}

impl MtuDiscovery {
    pub(crate) const fn new() -> Self {
        Self {
            current: BASE,
            max: BASE,
            ceiling: BASE,
            probe: None,
            probe_losses: 0,
            full_losses: 0,
            suspect: BASE,
            is_wanted: false,
            raise_at: Time::ZERO,
        }
    }

    /// Both ends take so much.
    pub(crate) fn set_max(&mut self, bytes: usize) {
        self.max = u16::try_from(bytes).unwrap_or(u16::MAX).max(BASE);
        self.ceiling = self.max;
    }

    /// Another path: nothing is known of it.
    pub(crate) fn begin_path(&mut self) {
        *self = Self { max: self.max, ceiling: self.max, ..Self::new() };
    }

    /// The largest datagram to send.
    pub(crate) const fn bytes(&self) -> usize {
        self.current as usize
    }

    /// A datagram of the size in use was sent: a larger one would have been of use.
    pub(crate) fn on_full(&mut self, now: Time) {
        if now >= self.raise_at && self.probe.is_none() {
            self.is_wanted = self.ceiling.saturating_sub(self.current) >= STEP_BYTES_MIN;
        }
    }

    /// The size that is to be tried now.
    pub(crate) const fn probe_due(&self) -> Option<usize> {
        if !self.is_wanted || self.probe.is_some() {
            return None;
        }
        Some(self.candidate() as usize)
    }

    /// Most paths carry all that the ends take, so that is tried first; then halves.
    const fn candidate(&self) -> u16 {
        if self.ceiling == self.max {
            self.max
        } else {
            self.current + (self.ceiling - self.current).div_ceil(2)
        }
    }

    pub(crate) const fn on_probe_sent(&mut self, number: u64) {
        self.probe = Some((number, self.candidate()));
    }

    /// A packet was acknowledged.
    pub(crate) fn on_acked(&mut self, now: Time, number: u64, bytes: u16) -> Option<MtuChange> {
        if bytes > BASE && bytes >= self.suspect {
            self.full_losses = 0;
        }
        let (_, size) = self.probe.filter(|probe| probe.0 == number)?;
        self.probe = None;
        self.probe_losses = 0;
        if size <= self.current {
            return None;
        }
        self.current = size;
        self.go_on(now);
        Some(MtuChange::Raised)
    }

    /// Whether a packet that was lost was a probe: its loss says nothing about congestion.
    pub(crate) fn on_probe_lost(&mut self, now: Time, number: u64) -> bool {
        let Some((_, size)) = self.probe.filter(|probe| probe.0 == number) else { return false };
        self.probe = None;
        self.probe_losses += 1;
        if self.probe_losses >= PROBES_MAX {
            self.probe_losses = 0;
            self.ceiling = size - 1;
            self.go_on(now);
        }
        true
    }

    fn go_on(&mut self, now: Time) {
        if self.ceiling.saturating_sub(self.current) >= STEP_BYTES_MIN {
            return;
        }
        self.is_wanted = false;
        self.raise_at = now + RAISE_INTERVAL;
        // What does not pass today may pass then.
        self.ceiling = self.max;
    }

    /// Packets were lost at the same time, or a second probe timeout in a row has passed; `bytes` is the largest of
    /// those in flight that were not heard of.
    pub(crate) fn on_lost(&mut self, now: Time, bytes: u16) -> Option<MtuChange> {
        if bytes <= BASE || bytes > self.current {
            return None;
        }
        self.suspect = if self.full_losses == 0 { bytes } else { bytes.min(self.suspect) };
        self.full_losses += 1;
        if self.full_losses < BLACK_HOLE_LOSSES {
            return None;
        }
        let max = self.max;
        *self = Self { max, ceiling: max, raise_at: now + RAISE_INTERVAL, ..Self::new() };
        Some(MtuChange::BlackHole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches on a path that carries so much; returns the size found and the probes that it took.
    fn search(mtu: &mut MtuDiscovery, now: Time, path_bytes: usize) -> (usize, u64) {
        let mut probes = 0;
        mtu.on_full(now);
        while let Some(bytes) = mtu.probe_due() {
            mtu.on_probe_sent(probes);
            if bytes <= path_bytes {
                assert_eq!(mtu.on_acked(now, probes, bytes as u16), Some(MtuChange::Raised));
            } else {
                assert!(mtu.on_probe_lost(now, probes));
            }
            probes += 1;
            assert!(probes < 100, "searches for ever");
        }
        (mtu.bytes(), probes)
    }

    fn searching() -> MtuDiscovery {
        let mut mtu = MtuDiscovery::new();
        mtu.set_max(1_452);
        mtu
    }

    #[test]
    fn a_clean_path_takes_more_than_one_probe() {
        assert_eq!(search(&mut searching(), Time::ZERO, 9_000), (1_452, 1));
    }

    #[test]
    fn a_narrow_path_is_misjudged() {
        for path in 1_200..1_452 {
            let (bytes, probes) = search(&mut searching(), Time::ZERO, path);
            assert!(bytes <= path && bytes + usize::from(STEP_BYTES_MIN) > path, "{bytes} of {path}");
            assert!(probes <= 20, "{probes}");
        }
    }

    #[test]
    fn a_connection_without_large_packets_probes() {
        assert_eq!(searching().probe_due(), None);
    }

    #[test]
    fn one_lost_probe_ends_the_search() {
        let mut mtu = searching();
        mtu.on_full(Time::ZERO);
        for number in 0..2 {
            assert_eq!(mtu.probe_due(), Some(1_452));
            mtu.on_probe_sent(number);
            assert_eq!(mtu.probe_due(), None, "one at a time");
            mtu.on_probe_lost(Time::ZERO, number);
        }
        mtu.on_probe_sent(2);
        assert_eq!(mtu.on_acked(Time::ZERO, 2, 1_452), Some(MtuChange::Raised));
    }

    #[test]
    fn a_path_that_grows_is_not_tried_again() {
        let mut mtu = searching();
        assert_eq!(search(&mut mtu, Time::ZERO, 1_200).0, 1_200);
        assert_eq!(search(&mut mtu, Time::ZERO + (RAISE_INTERVAL - Span::from_us(1)), 1_452), (1_200, 0));
        assert_eq!(search(&mut mtu, Time::ZERO + RAISE_INTERVAL, 1_452).0, 1_452);
    }

    #[test]
    fn congestion_is_taken_for_a_black_hole() {
        let mut mtu = searching();
        search(&mut mtu, Time::ZERO, 1_452);
        for number in 0..100 {
            assert_eq!(mtu.on_lost(Time::ZERO, 1_452), None);
            assert_eq!(mtu.on_lost(Time::ZERO, 1_452), None);
            mtu.on_acked(Time::ZERO, number, 1_452);
        }
        for _ in 0..100 {
            assert_eq!(mtu.on_lost(Time::ZERO, 1_200), None, "what every path carries");
        }
        assert_eq!(mtu.bytes(), 1_452);
    }

    #[test]
    fn smaller_datagrams_hide_a_black_hole() {
        let mut mtu = searching();
        search(&mut mtu, Time::ZERO, 1_452);
        for number in 0..2 {
            assert_eq!(mtu.on_lost(Time::ZERO, 1_440), None);
            mtu.on_acked(Time::ZERO, number, 1_300);
        }
        assert_eq!(mtu.on_lost(Time::ZERO, 1_440), Some(MtuChange::BlackHole));
    }

    #[test]
    fn a_black_hole_is_not_seen() {
        let mut mtu = searching();
        search(&mut mtu, Time::ZERO, 1_452);
        assert_eq!((0..3).find_map(|_| mtu.on_lost(Time::ZERO, 1_400)), Some(MtuChange::BlackHole));
        assert_eq!(mtu.bytes(), 1_200);
        assert_eq!(search(&mut mtu, Time::from_us(5), 1_452).1, 0, "not at once");
        assert_eq!(search(&mut mtu, Time::ZERO + RAISE_INTERVAL, 1_452).0, 1_452);
    }
}
