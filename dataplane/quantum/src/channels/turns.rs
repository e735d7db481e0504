//! Whose messages come first in a packet (`PROTOCOL.md`, section "Priorities").

use wire::channel::Channel;

/// So many packets in a row a channel waits behind more important ones; then it goes first once.
const PACKETS_WAITED_MAX: u8 = 15;

/// How many packets in a row have left without a message of a channel that had some to send.
#[derive(Default, Debug)]
pub(super) struct Turns {
    waited: [u8; Channel::COUNT],
}

impl Turns {
    /// The channel that goes first out of turn: the one that has waited longest, if any has waited too long.
    pub(super) fn overdue(&self) -> Option<Channel> {
        let waited = |channel: &Channel| self.waited[*channel as usize];
        Channel::BY_PRIORITY
            .into_iter()
            .rev()
            .max_by_key(waited)
            .filter(|channel| waited(channel) >= PACKETS_WAITED_MAX)
    }

    /// A packet with messages has been written.
    pub(super) fn note(&mut self, channel: Channel, has_waited: bool) {
        let waited = &mut self.waited[channel as usize];
        *waited = if has_waited { waited.saturating_add(1) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_wait_for_ever() {
        let mut turns = Turns::default();
        let mut served = [0; Channel::COUNT];
        for _ in 0..1_600 {
            let first = turns.overdue().unwrap_or(Channel::Control);
            served[first as usize] += 1;
            for channel in Channel::ALL {
                turns.note(channel, channel != first);
            }
        }
        let others = || Channel::ALL.into_iter().filter(|channel| *channel != Channel::Control);
        assert!(others().all(|channel| served[channel as usize] >= 72), "{served:?}");
        assert!(served[Channel::Control as usize] >= 960, "{served:?}");
    }
}
