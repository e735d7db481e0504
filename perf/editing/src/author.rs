//! Somebody who edits a document without end that others may share: what a load is made of.
//!
//! An author's edits refer to the author's own characters alone, so that nobody has to wait for anybody, and no
//! CRDT is needed to make them.

use bytes::Bytes;

use crate::outline::{Outline, UpdateBuilder};
use crate::overwriter::Overwriter;
use crate::replica::ROOT;
use crate::typing::Typist;

/// Typed in place of letters that take two units in UTF-16, of which a later edit could delete one.
const INSTEAD: &str = "ß";

/// One author in one document.
#[derive(Debug)]
pub struct Author(Habit);

#[derive(Debug)]
enum Habit {
    Types(Box<Writing>),
    Overwrites(Overwriter),
}

/// A text that is typed.
#[derive(Debug)]
struct Writing {
    client: u64,
    typist: Typist,
    outline: Outline,
}

impl Author {
    /// Types what follows from `seed`, as the Yjs client `client`, which nobody else in the document may be. The
    /// document grows.
    #[must_use]
    pub fn new(client: u64, seed: u64) -> Self {
        let writing = Writing { client, typist: Typist::new(seed), outline: Outline::new() };
        Self(Habit::Types(Box::new(writing)))
    }

    /// Sets one key of the map [`crate::MAP_ROOT`] again and again, as the Yjs client `client`, which nobody else in the
    /// document may be. The document does not grow.
    #[must_use]
    pub fn overwriting(client: u64) -> Self {
        Self(Habit::Overwrites(Overwriter::new(client)))
    }

    /// The next edit, a Yjs update (v1). No two are the same.
    pub fn edit(&mut self) -> Bytes {
        match &mut self.0 {
            Habit::Types(writing) => writing.edit(),
            Habit::Overwrites(overwriter) => overwriter.edit(),
        }
    }
}

impl Writing {
    fn edit(&mut self) -> Bytes {
        let patch = self.typist.edit(self.outline.length() as usize);
        let mut update = UpdateBuilder::new(ROOT, self.client);
        if patch.deleted > 0 {
            self.outline.delete(patch.position as u32, patch.deleted as u32, update.deleted());
        }
        if !patch.inserted.is_empty() {
            let is_wide = patch.inserted.chars().any(|letter| letter.len_utf16() > 1);
            let inserted = if is_wide { INSTEAD } else { &patch.inserted };
            let length = inserted.encode_utf16().count() as u32;
            update.insert(self.outline.insert(patch.position as u32, length), inserted);
        }
        update.encode().into()
    }
}

/// The Yjs client that made an update of an [`Author`]; none: it was none of those.
#[must_use]
pub fn author_of(update: &[u8]) -> Option<u64> {
    // Either one client inserted, `1, inserts, client, …`, or nobody: `0, 1, client, …`.
    let mut rest = update;
    match variable(&mut rest)? {
        0 => (variable(&mut rest)? == 1).then_some(())?,
        1 => drop(variable(&mut rest)?),
        _ => return None,
    }
    variable(&mut rest)
}

/// Takes an integer of seven bits a byte, the lowest first.
fn variable(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Replica;

    #[test]
    fn edits_of_two_authors_do_not_fit_together() {
        let author = |client, seed| Writing { client, typist: Typist::new(seed), outline: Outline::new() };
        let mut authors = [author(1_000, 1), author(70_000, 2)];
        let mut replica = Replica::new();
        let mut edits = Vec::new();
        for at in 0..4_000 {
            let edit = authors[at % 2].edit();
            assert_eq!(author_of(&edit), Some([1_000, 70_000][at % 2]));
            edits.push(edit);
        }
        replica.apply(&edits).unwrap();
        let length = replica.text().encode_utf16().count() as u32;
        assert_eq!(length, authors[0].outline.length() + authors[1].outline.length());
        edits.sort_unstable();
        assert!(edits.windows(2).all(|pair| pair[0] != pair[1]), "two edits are the same");
    }

    #[test]
    fn what_is_no_update_has_an_author() {
        for bytes in [&[][..], &[0, 0], &[1], &[2, 1, 1], &[0xff; 12]] {
            assert_eq!(author_of(bytes), None, "{bytes:?}");
        }
    }
}
