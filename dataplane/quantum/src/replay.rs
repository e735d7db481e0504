//! The window against replayed packets (`PROTOCOL.md`, section "Packet protection").

/// How far behind the largest number a packet may come.
pub(crate) const REPLAY_WINDOW_PACKETS: u64 = 2_048;
const WORDS: usize = (REPLAY_WINDOW_PACKETS / 64) as usize;

const _: () = assert!(REPLAY_WINDOW_PACKETS >= 1_024 && REPLAY_WINDOW_PACKETS.is_power_of_two());

/// Which packet numbers have been received: a bitmap that slides with the largest.
#[derive(Debug)]
pub(crate) struct ReplayWindow {
    /// One above the largest number received.
    end: u64,
    bits: [u64; WORDS],
}

impl ReplayWindow {
    pub(crate) const fn new() -> Self {
        Self { end: 0, bits: [0; WORDS] }
    }

    /// Whether `number` was received, or is too old to tell.
    pub(crate) fn is_replay(&self, number: u64) -> bool {
        if number >= self.end {
            return false;
        }
        self.end - number > REPLAY_WINDOW_PACKETS || self.bits[word(number)] & bit(number) != 0
    }

    /// Notes an authenticated packet.
    pub(crate) fn insert(&mut self, number: u64) {
        if number >= self.end {
            if number - self.end >= REPLAY_WINDOW_PACKETS {
                self.bits = [0; WORDS];
            } else {
                for skipped in self.end..number {
                    self.bits[word(skipped)] &= !bit(skipped);
                }
            }
            self.end = number + 1;
        }
        self.bits[word(number)] |= bit(number);
    }
}

const fn word(number: u64) -> usize {
    (number / 64) as usize % WORDS
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_is_taken_twice() {
        let mut window = ReplayWindow::new();
        assert!(!window.is_replay(0));
        window.insert(0);
        assert!(window.is_replay(0));
        window.insert(REPLAY_WINDOW_PACKETS);
        assert!(window.is_replay(0), "fell out of the window");
        assert!(!window.is_replay(1));
        window.insert(10 * REPLAY_WINDOW_PACKETS);
        assert!(window.is_replay(8 * REPLAY_WINDOW_PACKETS));
        assert!(!window.is_replay(10 * REPLAY_WINDOW_PACKETS - 1));
    }

    proptest! {
        #[test]
        fn the_window_disagrees_with_a_set(numbers in prop::collection::vec(0_u64..6_000, 1..200)) {
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            for number in numbers {
                let end = seen.last().map_or(0, |last| last + 1);
                let old = number + REPLAY_WINDOW_PACKETS < end;
                prop_assert_eq!(window.is_replay(number), old || seen.contains(&number));
                if !window.is_replay(number) {
                    window.insert(number);
                    seen.insert(number);
                }
            }
        }
    }
}
