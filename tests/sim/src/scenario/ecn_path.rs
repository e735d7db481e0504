//! What a network does to the marks of ECN (RFC 3168).

use netem::Random;
use wire::Ecn;

use crate::draw::Draw;

/// All of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EcnPath {
    /// Marks arrive as they were sent.
    Clean,
    /// No mark arrives.
    Clears,
    /// No datagram arrives that is marked.
    Drops,
    /// So many of a hundred that are marked arrive as having met congestion.
    Marks(u64),
}

impl EcnPath {
    pub(super) fn draw(random: &mut Random) -> Self {
        match random.below(100) {
            0..60 => Self::Clean,
            60..70 => Self::Clears,
            70..80 => Self::Drops,
            _ => Self::Marks(random.scaled_between(1, 100)),
        }
    }

    /// How a datagram arrives, by its number; none: it does not.
    pub(crate) fn carry(self, number: u64, ecn: Ecn) -> Option<Ecn> {
        match self {
            Self::Clean => Some(ecn),
            Self::Clears => Some(Ecn::NotEct),
            Self::Drops => (ecn == Ecn::NotEct).then_some(ecn),
            Self::Marks(percent) => {
                let is_marked = ecn != Ecn::NotEct && Random::stream(number, 3).percent(percent);
                Some(if is_marked { Ecn::Ce } else { ecn })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_know_marks_is_marked_or_dropped() {
        for path in [EcnPath::Clean, EcnPath::Clears, EcnPath::Drops, EcnPath::Marks(100)] {
            assert_eq!(path.carry(1, Ecn::NotEct), Some(Ecn::NotEct), "{path:?}");
        }
        let arrives = |path: EcnPath| path.carry(1, Ecn::Ect0);
        assert_eq!((arrives(EcnPath::Clears), arrives(EcnPath::Drops)), (Some(Ecn::NotEct), None));
        let marked =
            (0..1_000).filter(|&number| EcnPath::Marks(10).carry(number, Ecn::Ect0) == Some(Ecn::Ce));
        assert!((50..150).contains(&marked.count()));
    }
}
