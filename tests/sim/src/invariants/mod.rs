//! What must hold in every world, whatever the seed. Each invariant has a file.

pub(crate) mod amplification;
pub(crate) mod closing;
pub(crate) mod delivery;
pub(crate) mod memory;
pub(crate) mod progress;
pub(crate) mod timers;
pub(crate) mod window;

use std::fmt;

use wire::Time;

/// The invariants by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Invariant {
    /// A message on a reliable channel arrives once, in order where the channel has one, to the byte as it was sent.
    ReliableDelivery,
    /// A message on an unreliable channel arrives at most once, to the byte as it was sent.
    UnreliableDelivery,
    /// Of each key the last value arrives, and none after a newer one.
    LatestWins,
    /// A first packet opens one connection, whatever is repeated.
    OneConnection,
    /// Nothing is sent beyond the congestion window, except probes.
    Window,
    /// An address that has not proven itself is sent at most three times what it sent.
    Amplification,
    /// Nothing is delivered after the end of a connection, and nothing sent but CLOSE.
    SilenceAfterClose,
    /// A connection ends only for a reason that its world holds.
    StatedReason,
    /// Everything that is held has a limit.
    Memory,
    /// On a healed network everything reliable arrives within a bound.
    Progress,
    /// A timer that has fired makes something happen, or fires later.
    Timers,
    /// No packet is longer than a datagram may be.
    DatagramSize,
    /// What has ended leaves nothing behind.
    NothingLeft,
    /// Nothing panics.
    NoPanic,
    /// What was acknowledged to a client is in the log and in the document, whatever has crashed since.
    AcknowledgedKept,
    /// No op is in a document twice.
    AppliedOnce,
    /// A document's ops are numbered without a gap, and shown in this order.
    OrderedWhole,
    /// In the end all who have a document open have the same.
    SameForAll,
    /// What somebody was shown of an ordered document stays as it was, whatever has crashed since.
    NothingTakenBack,
    /// A node starts over its log, unless the disk has damaged what was acknowledged.
    TrustedLog,
    /// What is stored of a document has each op up to its last, and the merged state brings what they bring.
    StoredWhole,
}

impl Invariant {
    /// The name, as it is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReliableDelivery => "reliable-delivery",
            Self::UnreliableDelivery => "unreliable-delivery",
            Self::LatestWins => "latest-wins",
            Self::OneConnection => "one-connection",
            Self::Window => "window",
            Self::Amplification => "amplification",
            Self::SilenceAfterClose => "silence-after-close",
            Self::StatedReason => "stated-reason",
            Self::Memory => "memory",
            Self::Progress => "progress",
            Self::Timers => "timers",
            Self::DatagramSize => "datagram-size",
            Self::NothingLeft => "nothing-left",
            Self::NoPanic => "no-panic",
            Self::AcknowledgedKept => "acknowledged-kept",
            Self::AppliedOnce => "applied-once",
            Self::OrderedWhole => "ordered-whole",
            Self::SameForAll => "same-for-all",
            Self::NothingTakenBack => "nothing-taken-back",
            Self::TrustedLog => "trusted-log",
            Self::StoredWhole => "stored-whole",
        }
    }
}

/// An invariant did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When, in virtual time.
    pub at: Time,
    /// What was seen instead.
    pub seen: String,
}

impl Violation {
    pub(crate) const fn panic(message: String) -> Self {
        Self { invariant: Invariant::NoPanic, at: Time::ZERO, seen: message }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.at.as_us();
        write!(f, "{} at {}.{:03} ms: {}", self.invariant.name(), us / 1_000, us % 1_000, self.seen)
    }
}

/// What a check says: the invariant that does not hold, and what was seen.
pub(crate) type Check = Result<(), (Invariant, String)>;
