//! The channels of a connection: a number names what is promised of its messages and who goes first
//! (`PROTOCOL.md`, section "Channels").

/// What is promised of a channel's messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChannelKind {
    /// Every message arrives once, in order.
    ReliableOrdered,
    /// Every message arrives once, as soon as it is complete.
    ReliableUnordered,
    /// A message is sent once, within one packet, and arrives or does not.
    Unreliable,
    /// The last message of each key arrives; what a newer one has overtaken need not. Within one packet.
    LatestWins,
}

impl ChannelKind {
    /// Whether every message arrives once. Such channels have credit, and messages longer than a packet.
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        matches!(self, Self::ReliableOrdered | Self::ReliableUnordered)
    }
}

/// Who goes first: the order is that of importance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Priority {
    /// What steers the rest.
    Control,
    /// Edits and what belongs to them.
    Ops,
    /// What is soon of no interest.
    Presence,
    /// What can wait.
    Bulk,
}

/// A channel, by its number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Channel {
    /// Joins, ops and their acknowledgements: reliable and ordered.
    Sync = 0,
    /// Presence: reliable and ordered, apart from the ops.
    Presence = 1,
    /// Round-trip probes, echoed by the node as they are: unreliable.
    Probe = 2,
    /// What must overtake the ops: reliable and ordered.
    Control = 3,
    /// Large transfers, each message for itself: reliable and unordered.
    Bulk = 4,
    /// Values of which only the last counts, by key: latest-wins.
    Latest = 5,
    /// Application data of the moment: unreliable.
    Datagram = 6,
}

impl Channel {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// All channels, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Sync, Self::Presence, Self::Probe, Self::Control, Self::Bulk, Self::Latest, Self::Datagram];

    /// All channels, the most important first.
    pub const BY_PRIORITY: [Self; Self::COUNT] =
        [Self::Control, Self::Sync, Self::Presence, Self::Probe, Self::Latest, Self::Datagram, Self::Bulk];

    /// From its number on the wire.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        if (value as usize) < Self::COUNT { Some(Self::ALL[value as usize]) } else { None }
    }

    /// What is promised of its messages.
    #[must_use]
    pub const fn kind(self) -> ChannelKind {
        match self {
            Self::Sync | Self::Presence | Self::Control => ChannelKind::ReliableOrdered,
            Self::Bulk => ChannelKind::ReliableUnordered,
            Self::Probe | Self::Datagram => ChannelKind::Unreliable,
            Self::Latest => ChannelKind::LatestWins,
        }
    }

    /// Who goes first.
    #[must_use]
    pub const fn priority(self) -> Priority {
        match self {
            Self::Control => Priority::Control,
            Self::Sync => Priority::Ops,
            Self::Presence | Self::Probe | Self::Latest | Self::Datagram => Priority::Presence,
            Self::Bulk => Priority::Bulk,
        }
    }

    /// Whether its messages are worth redundancy against loss: those that somebody waits for. A probe is not, or
    /// it would measure the repair.
    #[must_use]
    pub const fn is_protected(self) -> bool {
        !matches!(self, Self::Probe | Self::Bulk)
    }

    /// Whether every message on it arrives, once.
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        self.kind().is_reliable()
    }
}

/// A frame's type has four bits for the channel.
const _: () = assert!(Channel::COUNT <= 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_names_another_channel() {
        for (number, channel) in Channel::ALL.into_iter().enumerate() {
            assert_eq!((channel as usize, Channel::from_u8(number as u8)), (number, Some(channel)));
        }
        assert_eq!(Channel::from_u8(Channel::COUNT as u8), None);
    }

    #[test]
    fn a_channel_has_no_turn_or_a_lower_one_comes_first() {
        let mut sorted = Channel::ALL.to_vec();
        sorted.sort_by_key(|channel| (channel.priority(), *channel as u8));
        assert_eq!(sorted, Channel::BY_PRIORITY);
    }
}
