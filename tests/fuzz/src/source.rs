//! Choices out of bytes.

/// Numbers around which things change.
const EDGES: [u64; 12] = [
    0x7f,
    0x3fff,
    1 << 10,
    32_768,
    1 << 16,
    1 << 20,
    4 << 20,
    u32::MAX as u64,
    1 << 62,
    u64::MAX >> 1,
    u64::MAX - 32,
    u64::MAX,
];

/// Bytes that choices are made by. When they run out, all further choices are 0.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    /// Choices by these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether all bytes are used up.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// Below `end`, which is at most 65,536 and not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = if end > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (wide | usize::from(self.byte())) % end
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// A number: mostly a small one, else one near an edge, or any.
    pub fn number(&mut self) -> u64 {
        match self.below(8) {
            0..=4 => u64::from(self.byte()),
            5 | 6 => self.pick(&EDGES).saturating_add(u64::from(self.byte())).saturating_sub(128),
            _ => u64::from_be_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// At most `bytes_max` of the bytes that are left.
    pub fn bytes(&mut self, bytes_max: usize) -> &'a [u8] {
        let length = self.below(bytes_max + 1).min(self.bytes.len());
        let (bytes, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        bytes
    }

    /// At most `bytes_max` bytes that mean nothing, for a few bytes of choices.
    pub fn filler(&mut self, bytes_max: usize) -> Vec<u8> {
        let length = self.below(bytes_max + 1);
        vec![self.byte(); length]
    }

    /// Changes a few bytes, or the length, of what is valid.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(6) {
                0..=2 => bytes[at] ^= 1 << self.below(8),
                3 => bytes[at] = self.byte(),
                4 => bytes.truncate(at),
                _ => bytes.insert(at, self.byte()),
            }
        }
    }
}
