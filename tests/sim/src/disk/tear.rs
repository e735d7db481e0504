//! Which part of a write a crash leaves.

use netem::Random;
use wal::{BLOCK_BYTES, SECTOR_BYTES};

use crate::draw::Draw;

/// Which sectors arrive. Devices write in units of 512 or of 4,096 bytes.
#[derive(Clone, Debug)]
pub(super) struct Tear {
    kept: Vec<bool>,
    unit: usize,
}

impl Tear {
    /// For a crash with so many sectors under way.
    pub(super) fn draw(random: &mut Random, sectors: usize) -> Self {
        let unit = random.pick(&[1, BLOCK_BYTES / SECTOR_BYTES]);
        let units = sectors.div_ceil(unit);
        if units == 0 {
            return Self { kept: Vec::new(), unit };
        }
        let at = random.below(units as u64 + 1) as usize;
        let kept: Vec<bool> = match random.below(8) {
            0 => vec![false; units],
            1 => vec![true; units],
            2 | 3 => (0..units).map(|index| index < at).collect(),
            4 => (0..units).map(|index| index >= at).collect(),
            5 => (0..units).map(|index| index != at).collect(),
            _ => (0..units).map(|_| random.percent(50)).collect(),
        };
        Self { kept: (0..sectors).map(|sector| kept[sector / unit]).collect(), unit }
    }

    /// The sectors that arrive together or not at all.
    pub(super) const fn unit_sectors(&self) -> usize {
        self.unit
    }

    pub(super) fn keeps(&self, sector: usize) -> bool {
        self.kept.get(sector).copied().unwrap_or(false)
    }
}
