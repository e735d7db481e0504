//! Drawing values from a seeded stream.

use netem::Random;

/// Draws of the kinds that scenarios are made of.
pub(crate) trait Draw {
    /// True in so many of a hundred cases.
    fn percent(&mut self, percent: u64) -> bool;
    /// Uniform, both ends included.
    fn between(&mut self, least: u64, most: u64) -> u64;
    /// Small values as likely as large ones: every doubling has the same chance. Both ends included.
    fn scaled_between(&mut self, least: u64, most: u64) -> u64;
    /// One of them.
    fn pick<T: Copy>(&mut self, of: &[T]) -> T;
    /// 32 random bytes.
    fn bytes32(&mut self) -> [u8; 32];
}

impl Draw for Random {
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn scaled_between(&mut self, least: u64, most: u64) -> u64 {
        let doublings = u64::from((most / least.max(1)).max(1).ilog2());
        let scale = least.max(1) << self.between(0, doublings);
        self.between(scale.max(least).min(most), (scale * 2).min(most).max(least))
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_leaves_its_range_or_never_reaches_its_ends() {
        let mut random = Random::new(1);
        for (least, most) in [(0, 0), (0, 5), (3, 9), (100, 300_000)] {
            let draws: Vec<u64> = (0..4_000).map(|_| random.scaled_between(least, most)).collect();
            assert!(draws.iter().all(|draw| (least..=most).contains(draw)), "{least} to {most}");
            assert!(most > 10 || (draws.contains(&most) && draws.contains(&least.max(1).min(most))));
            assert!((least..=most).contains(&random.between(least, most)));
        }
    }
}
