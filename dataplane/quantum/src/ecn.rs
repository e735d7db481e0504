//! Whether a path carries the marks of explicit congestion notification, and what they say (`PROTOCOL.md`, section
//! "ECN"; RFC 9000, section 13.4).

use wire::Ecn;
use wire::frame::EcnCounts;

/// A path that has answered no marked packet after so many probe timeouts in a row may drop what is marked.
const TIMEOUTS_MAX: u32 = 3;

/// The sender's side.
#[derive(Debug)]
pub(crate) struct EcnSender {
    state: State,
    /// The first packet that was marked on the path in use.
    first: u64,
    /// Packets marked so far.
    marked: u64,
    seen: EcnCounts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Packets are marked, and none has been acknowledged.
    Testing,
    /// The path and the peer count what is marked.
    Capable,
    Off,
}

impl EcnSender {
    pub(crate) const fn new() -> Self {
        let seen = EcnCounts { ect0: 0, ect1: 0, ce: 0 };
        Self { state: State::Off, first: u64::MAX, marked: 0, seen }
    }

    /// A path begins with the packet of this number.
    pub(crate) const fn begin_path(&mut self, is_wanted: bool, number: u64) {
        self.state = if is_wanted { State::Testing } else { State::Off };
        self.first = number;
    }

    /// What the next packet carries.
    pub(crate) fn codepoint(&self) -> Ecn {
        if self.state == State::Off { Ecn::NotEct } else { Ecn::Ect0 }
    }

    pub(crate) const fn on_sent(&mut self, packets: u64) {
        self.marked += packets;
    }

    /// Whether a packet was marked, unless marking had ended before it was sent.
    pub(crate) const fn is_marked(&self, number: u64) -> bool {
        number >= self.first
    }

    /// An ACK has newly acknowledged its largest packet, and in all so many marked ones: the packets that the network has
    /// marked besides, or nothing when the counts cannot be true, and marking ends.
    pub(crate) fn on_ack(&mut self, acked: u64, counts: Option<EcnCounts>) -> Option<u64> {
        if self.state == State::Off {
            return Some(0);
        }
        let ce = match counts {
            None if acked == 0 => return Some(0),
            None => None,
            Some(counts) => self.validate(acked, counts),
        };
        match ce {
            Some(_) if acked > 0 => self.state = State::Capable,
            Some(_) => {}
            None => self.state = State::Off,
        }
        ce
    }

    fn validate(&mut self, acked: u64, counts: EcnCounts) -> Option<u64> {
        let ect0 = counts.ect0.checked_sub(self.seen.ect0)?;
        let ce = counts.ce.checked_sub(self.seen.ce)?;
        let is_enough = ect0.checked_add(ce)? >= acked;
        let is_possible = counts.ect0.checked_add(counts.ce)? <= self.marked;
        // ECT(1) is never sent.
        if !is_enough || !is_possible || counts.ect1 > 0 {
            return None;
        }
        self.seen = counts;
        Some(ce)
    }

    /// A probe timeout, the `timeouts`-th in a row. Returns whether marking ends.
    pub(crate) fn on_probe_timeout(&mut self, timeouts: u32) -> bool {
        let is_over = self.state == State::Testing && timeouts >= TIMEOUTS_MAX;
        if is_over {
            self.state = State::Off;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ect0: u64, ect1: u64, ce: u64) -> Option<EcnCounts> {
        Some(EcnCounts { ect0, ect1, ce })
    }

    fn marking() -> EcnSender {
        let mut ecn = EcnSender::new();
        assert_eq!(ecn.codepoint(), Ecn::NotEct);
        ecn.begin_path(true, 1);
        ecn.on_sent(10);
        ecn
    }

    #[test]
    fn marks_of_the_network_are_lost_or_counted_twice() {
        let mut ecn = marking();
        assert_eq!(ecn.on_ack(4, counts(3, 0, 1)), Some(1));
        assert_eq!(ecn.on_ack(2, counts(4, 0, 3)), Some(2), "an ACK in between was lost");
        assert_eq!(ecn.on_ack(0, counts(4, 0, 3)), Some(0));
        assert_eq!(ecn.codepoint(), Ecn::Ect0);
    }

    #[test]
    fn counts_that_cannot_be_true_are_believed() {
        for (acked, counts) in [
            (1, None),
            (4, counts(3, 0, 0)),
            (1, counts(1, 1, 0)),
            (1, counts(11, 0, 0)),
            (1, counts(5, 0, u64::MAX)),
        ] {
            let mut ecn = marking();
            assert_eq!(ecn.on_ack(acked, counts), None, "{counts:?}");
            assert_eq!(ecn.codepoint(), Ecn::NotEct);
        }
        let mut ecn = marking();
        ecn.on_ack(4, counts(4, 0, 0));
        assert_eq!(ecn.on_ack(0, counts(3, 0, 0)), None, "counts never fall");
    }

    #[test]
    fn a_path_that_drops_what_is_marked_is_marked_for_ever() {
        let mut ecn = marking();
        assert!(!ecn.on_probe_timeout(2));
        assert!(ecn.on_probe_timeout(3));
        ecn.begin_path(true, 20);
        assert_eq!(ecn.codepoint(), Ecn::Ect0, "another path");
        ecn.on_sent(1);
        ecn.on_ack(1, counts(1, 0, 0));
        assert!(!ecn.on_probe_timeout(9), "it has carried marks");
    }
}
