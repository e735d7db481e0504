//! The receiving side of a latest-wins channel (`PROTOCOL.md`, section "Latest wins").

use wire::Code;

use super::LATEST_KEYS_MAX;

/// Which message of each key was the last.
#[derive(Default, Debug)]
pub(super) struct LatestReceive {
    /// Key and sequence, by key: those of the last [`LATEST_KEYS_MAX`] sequences, and up to as many more.
    last: Vec<(u64, u64)>,
    largest: u64,
}

impl LatestReceive {
    /// Whether a message is newer than the last of its key.
    pub(super) fn handle(&mut self, key: u64, sequence: u64) -> Result<bool, Code> {
        if self.is_behind(sequence) {
            return Ok(false);
        }
        self.largest = self.largest.max(sequence);
        match self.last.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(index) => {
                let last = &mut self.last[index].1;
                let is_newer = sequence > *last;
                *last = sequence.max(*last);
                Ok(is_newer)
            }
            Err(index) => {
                self.last.insert(index, (key, sequence));
                self.forget_behind()?;
                Ok(true)
            }
        }
    }

    /// Whether a sequence lies so far behind that its sender cannot want it to be delivered.
    const fn is_behind(&self, sequence: u64) -> bool {
        self.largest.saturating_sub(sequence) >= LATEST_KEYS_MAX as u64
    }

    /// Forgets keys, many at once, when there are too many.
    fn forget_behind(&mut self) -> Result<(), Code> {
        if self.last.len() < LATEST_KEYS_MAX * 2 {
            return Ok(());
        }
        let mut last = std::mem::take(&mut self.last);
        last.retain(|(_, sequence)| !self.is_behind(*sequence));
        self.last = last;
        // Each sequence belongs to one key.
        if self.last.len() > LATEST_KEYS_MAX { Err(Code::Protocol) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_message_overtakes_a_newer_one() {
        let mut latest = LatestReceive::default();
        let deliveries = [(7, 0), (7, 2), (7, 1), (8, 1), (7, 2), (8, 3), (7, 9)]
            .map(|(key, sequence)| latest.handle(key, sequence));
        assert_eq!(deliveries, [true, true, false, true, false, true, true].map(Ok));
    }

    #[test]
    fn a_forgotten_keys_old_message_is_delivered_again() {
        let mut latest = LatestReceive::default();
        for key in 0..10 * LATEST_KEYS_MAX as u64 {
            assert_eq!(latest.handle(key, key), Ok(true));
            assert!(latest.last.len() <= 2 * LATEST_KEYS_MAX);
        }
        for key in 0..10 * LATEST_KEYS_MAX as u64 {
            assert_eq!(latest.handle(key, key), Ok(false), "{key}");
        }
    }

    #[test]
    fn a_peer_takes_memory_with_keys_of_one_sequence() {
        let mut latest = LatestReceive::default();
        let result = (0..).map(|key| latest.handle(key, 5)).find(Result::is_err);
        assert_eq!(result, Some(Err(Code::Protocol)));
        assert!(latest.last.len() <= 2 * LATEST_KEYS_MAX);
    }
}
