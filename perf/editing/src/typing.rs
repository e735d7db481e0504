//! A model of people who type into one text: bursts of letters, corrections, jumps of the cursor, deleted
//! passages, pasted lines. The same seed types the same.

use crate::trace::Patch;

/// Letters, with what is frequent more often; some take two bytes in UTF-8, one takes two units in UTF-16.
const LETTERS: [char; 32] = [
    'e', 'e', 'e', 't', 't', 'a', 'a', 'o', 'o', 'i', 'n', 's', 'h', 'r', 'd', 'l', 'u', 'c', 'm', 'w', 'f',
    'g', 'y', 'p', 'b', 'ü', ' ', ' ', ' ', ' ', '\n', '🙂',
];
/// What is pasted.
const PASTED: &str = "In the beginning there was a line, and somebody copied it. ";
/// One letter in so many is followed by something else than a letter.
const LETTERS_PER_PAUSE: u64 = 24;
/// The longest correction by backspace.
const BACKSPACES_MAX: u64 = 8;
/// The longest passage that is deleted at once.
const PASSAGE_MAX: u64 = 40;
/// One pause in so many is used to paste.
const PAUSES_PER_PASTE: u64 = 16;

/// A source of numbers that look random and follow from the seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}

/// One person at a keyboard.
#[derive(Clone, Debug)]
pub struct Typist {
    random: Random,
    /// In code points.
    cursor: usize,
    /// Corrections still to make.
    backspaces: u64,
}

impl Typist {
    /// Types what follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), cursor: 0, backspaces: 0 }
    }

    /// The next edit of a text that is `length` code points long for this typist now. It lies within the text
    /// and changes something.
    pub fn edit(&mut self, length: usize) -> Patch {
        self.cursor = self.cursor.min(length);
        if self.backspaces > 0 && self.cursor > 0 {
            self.backspaces -= 1;
            self.cursor -= 1;
            return Patch { position: self.cursor, deleted: 1, inserted: String::new() };
        }
        self.backspaces = 0;
        if self.random.below(LETTERS_PER_PAUSE) > 0 {
            let letter = LETTERS[self.random.below(LETTERS.len() as u64) as usize];
            return self.insert(letter.to_string());
        }
        self.after_a_pause(length)
    }

    fn after_a_pause(&mut self, length: usize) -> Patch {
        if self.random.below(PAUSES_PER_PASTE) == 0 {
            return self.insert(PASTED.to_owned());
        }
        match self.random.below(4) {
            0 => self.backspaces = 1 + self.random.below(BACKSPACES_MAX),
            1 => self.cursor = self.random.below(length as u64 + 1) as usize,
            2 => self.cursor = length,
            _ => {
                let passage = 1 + self.random.below(PASSAGE_MAX) as usize;
                let deleted = passage.min(length - self.cursor);
                if deleted > 0 {
                    return Patch { position: self.cursor, deleted, inserted: String::new() };
                }
            }
        }
        self.insert("x".to_owned())
    }

    fn insert(&mut self, inserted: String) -> Patch {
        let position = self.cursor;
        self.cursor += inserted.chars().count();
        Patch { position, deleted: 0, inserted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(seed: u64) -> Vec<Patch> {
        let mut typist = Typist::new(seed);
        let mut length = 0;
        let mut patches = Vec::new();
        for _ in 0..2_000 {
            let patch = typist.edit(length);
            assert!(patch.position + patch.deleted <= length, "{patch:?} in a text of {length}");
            assert!(patch.deleted > 0 || !patch.inserted.is_empty(), "nothing is changed");
            length = length - patch.deleted + patch.inserted.chars().count();
            patches.push(patch);
        }
        patches
    }

    #[test]
    fn the_same_seed_types_something_else() {
        assert_eq!(typed(7), typed(7));
        assert_ne!(typed(7), typed(8));
    }

    #[test]
    fn the_model_leaves_out_a_kind_of_edit() {
        let patches = typed(1);
        assert!(patches.iter().any(|patch| patch.deleted == 1));
        assert!(patches.iter().any(|patch| patch.deleted > 1));
        assert!(patches.iter().any(|patch| patch.inserted == PASTED));
        assert!(patches.iter().any(|patch| patch.inserted.chars().any(|c| c.len_utf16() == 2)));
        assert!(patches.windows(2).any(|pair| pair[0].position.abs_diff(pair[1].position) > 100));
    }
}
