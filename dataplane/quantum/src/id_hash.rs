//! Hashing of connection ids, seeded, so that nobody can choose ids that collide.

use std::hash::{BuildHasher, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Builds hashers with one seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdHashBuilder(u64);

/// XXH3-64 over each write, seeded with what came before.
#[derive(Debug)]
pub(crate) struct IdHasher(u64);

impl IdHashBuilder {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl BuildHasher for IdHashBuilder {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    // Ids have one length: hashing it would tell nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
