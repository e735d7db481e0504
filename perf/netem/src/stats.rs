//! What became of the packets.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Counters of one link since it was made. Packets taken and copied are the sum of those delivered, those dropped for
/// each reason, and those that still wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LinkStats {
    /// Packets given to the link.
    pub taken: u64,
    /// Bytes of them.
    pub taken_bytes: u64,
    /// Packets that the link gave out, copies included.
    pub delivered: u64,
    /// Bytes of them.
    pub delivered_bytes: u64,
    /// Packets lost on the medium.
    pub lost: u64,
    /// Runs of packets lost in a row: `lost / loss_bursts` is the mean length.
    pub loss_bursts: u64,
    /// Packets dropped because the queue was full.
    pub dropped_queue: u64,
    /// Packets dropped by the policer.
    pub dropped_policer: u64,
    /// Packets that found the medium down.
    pub dropped_blackhole: u64,
    /// Packets dropped because as many were under way as the link holds in memory.
    pub dropped_overflow: u64,
    /// Packets that were sent to a mapping which the NAT had forgotten; on the way down only.
    pub dropped_unmapped: u64,
    /// Second copies made.
    pub duplicated: u64,
    /// Packets with a bit flipped.
    pub corrupted: u64,
    /// Packets held back so that others overtake them.
    pub reordered: u64,
    /// Most bytes that the queue held at once, headers included.
    pub queue_bytes_peak: u64,
}

impl LinkStats {
    /// Packets that the link took and will never give out.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.lost
            + self.dropped_queue
            + self.dropped_policer
            + self.dropped_blackhole
            + self.dropped_overflow
            + self.dropped_unmapped
    }
}

/// Of several links: counters add up, the peak is the greatest.
impl AddAssign for LinkStats {
    fn add_assign(&mut self, other: Self) {
        self.taken += other.taken;
        self.taken_bytes += other.taken_bytes;
        self.delivered += other.delivered;
        self.delivered_bytes += other.delivered_bytes;
        self.lost += other.lost;
        self.loss_bursts += other.loss_bursts;
        self.dropped_queue += other.dropped_queue;
        self.dropped_policer += other.dropped_policer;
        self.dropped_blackhole += other.dropped_blackhole;
        self.dropped_overflow += other.dropped_overflow;
        self.dropped_unmapped += other.dropped_unmapped;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.reordered += other.reordered;
        self.queue_bytes_peak = self.queue_bytes_peak.max(other.queue_bytes_peak);
    }
}
