//! A fingerprint of everything that happened: equal runs have equal ones.

/// Mixes words one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) const fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
        self.0 ^= self.0 >> 31;
    }

    /// All of the bytes, and how many they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.word(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
        }
        for &byte in chunks.remainder() {
            self.word(u64::from(byte));
        }
    }

    pub(crate) const fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_events_have_the_same_digest() {
        let of = |parts: &[&[u8]]| {
            let mut digest = Digest::new(1);
            parts.iter().for_each(|part| digest.bytes(part));
            digest.value()
        };
        assert_eq!(of(&[b"abcdefgh", b"i"]), of(&[b"abcdefgh", b"i"]));
        assert_ne!(of(&[b"abcdefgh", b"i"]), of(&[b"abcdefghi"]));
        assert_ne!(of(&[b"ab"]), of(&[b"ba"]));
    }
}
