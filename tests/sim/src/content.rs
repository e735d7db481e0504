//! What messages consist of: it follows from the seed and from the message's place, so that every byte can be checked.

use netem::Direction;
use wire::channel::Channel;

/// The bytes at the beginning that tell the message's index, where it is long enough.
pub(crate) const INDEX_BYTES: usize = 4;

/// Where a message belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) seed: u64,
    /// Which connection.
    pub(crate) attempt: usize,
    pub(crate) direction: Direction,
    pub(crate) channel: Channel,
    /// Which of its channel, from 0.
    pub(crate) index: u32,
}

impl Place {
    /// The words of the message.
    fn words(self) -> impl Iterator<Item = [u8; 8]> {
        let place = (self.attempt as u64) << 48
            | u64::from(self.direction == Direction::Up) << 40
            | (self.channel as u64) << 32
            | u64::from(self.index);
        let mut state = mix(self.seed ^ mix(place));
        std::iter::from_fn(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            Some(mix(state).to_le_bytes())
        })
    }

    /// The message, so long.
    pub(crate) fn message(self, bytes: usize) -> Vec<u8> {
        let mut message = Vec::with_capacity(bytes + 8);
        for word in self.words().take(bytes.div_ceil(8)) {
            message.extend_from_slice(&word);
        }
        message.truncate(bytes);
        if bytes >= INDEX_BYTES {
            message[..INDEX_BYTES].copy_from_slice(&self.index.to_le_bytes());
        }
        message
    }

    /// Whether this is the message, to the last byte.
    pub(crate) fn is_message(self, message: &[u8]) -> bool {
        let mut skipped = 0;
        if message.len() >= INDEX_BYTES {
            if message[..INDEX_BYTES] != self.index.to_le_bytes() {
                return false;
            }
            skipped = INDEX_BYTES;
        }
        message.chunks(8).zip(self.words()).all(|(chunk, word)| {
            let from = std::mem::take(&mut skipped).min(chunk.len());
            chunk[from..] == word[from..chunk.len()]
        })
    }
}

/// The index that a message carries.
pub(crate) fn index_of(message: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*message.first_chunk::<INDEX_BYTES>()?))
}

/// The finalizer of SplitMix64.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_passes_for_another_or_after_a_change() {
        let place =
            Place { seed: 5, attempt: 1, direction: Direction::Up, channel: Channel::Sync, index: 70_000 };
        for bytes in [0, 1, 3, 4, 5, 8, 13, 300] {
            let message = place.message(bytes);
            assert_eq!(message.len(), bytes);
            assert!(place.is_message(&message));
            for at in 0..bytes {
                let mut changed = message.clone();
                changed[at] ^= 1;
                assert!(!place.is_message(&changed), "byte {at} of {bytes}");
            }
            if bytes >= INDEX_BYTES {
                assert_eq!(index_of(&message), Some(70_000));
                assert!(!Place { attempt: 2, ..place }.is_message(&message) || bytes == INDEX_BYTES);
            }
        }
    }
}
