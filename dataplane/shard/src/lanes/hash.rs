//! Hashing of keys that this node has made itself: nobody outside can choose them.

use std::hash::{BuildHasherDefault, Hasher};

/// An odd number with its bits well spread: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

pub(super) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

/// One multiplication for each number of a key; the same in every run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(29) ^ value).wrapping_mul(MULTIPLIER);
    }

    fn finish(&self) -> u64 {
        // The table takes its buckets from the low bits, a product is best mixed in the high ones.
        self.0.rotate_left(26)
    }
}
