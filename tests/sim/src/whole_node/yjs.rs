//! Yjs updates (v1), made and taken apart.

use wire::varint::put_varint;
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ID, IdSet, ReadTxn, StateVector, Transact, Update, WriteTxn};

/// The text that everybody writes into.
const TEXT: &str = "t";
/// A block with a string in it, and one whose left neighbour is named.
const STRING: u8 = 4;
const HAS_ORIGIN: u8 = 0x80;
/// Without an origin the parent is named: a shared type at the root.
const ROOT: u64 = 1;

/// The letters that one update brings: of this Yjs client, from this clock on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Letters {
    pub(super) client: u64,
    pub(super) clock: u32,
    pub(super) count: u32,
}

impl Letters {
    /// The letter behind which the next ones go.
    pub(super) const fn last(self) -> (u64, u32) {
        (self.client, self.clock + self.count - 1)
    }

    pub(super) fn set(self) -> IdSet {
        let mut set = IdSet::new();
        set.insert(ID::new(ClientID::new(self.client), self.clock), self.count);
        set
    }

    /// Whether all of them are in the set. Sets hold what whole updates bring.
    pub(super) fn is_in(self, set: &IdSet) -> bool {
        let has = |clock| set.contains(&ID::new(ClientID::new(self.client), clock));
        has(self.clock) && has(self.clock + self.count - 1)
    }
}

/// An update that inserts `text`, behind `origin` or else at the beginning.
pub(super) fn insert(letters: Letters, origin: Option<(u64, u32)>, text: &str) -> Vec<u8> {
    debug_assert_eq!(text.len(), letters.count as usize, "a letter is a byte");
    let mut update = vec![1, 1];
    put_varint(&mut update, letters.client);
    put_varint(&mut update, u64::from(letters.clock));
    match origin {
        Some((client, clock)) => {
            update.push(STRING | HAS_ORIGIN);
            put_varint(&mut update, client);
            put_varint(&mut update, u64::from(clock));
        }
        None => {
            update.push(STRING);
            put_varint(&mut update, ROOT);
            put_varint(&mut update, TEXT.len() as u64);
            update.extend_from_slice(TEXT.as_bytes());
        }
    }
    put_varint(&mut update, text.len() as u64);
    update.extend_from_slice(text.as_bytes());
    // Nothing is deleted.
    update.push(0);
    update
}

/// The letters in an update; none: it does not decode.
pub(super) fn letters_of(update: &[u8]) -> Option<IdSet> {
    Some(Update::decode_v1(update).ok()?.insertions(true))
}

/// The state vector (v1) of somebody who has these letters: of each Yjs client up to the first gap.
pub(super) fn vector(letters: &IdSet) -> Vec<u8> {
    let clocks: Vec<(u64, u32)> = letters
        .iter()
        .filter_map(|(client, ranges)| {
            let first = ranges.iter().next().filter(|range| range.start == 0)?;
            Some((client.get(), first.end))
        })
        .collect();
    let mut vector = Vec::new();
    put_varint(&mut vector, clocks.len() as u64);
    for (client, clock) in clocks {
        put_varint(&mut vector, client);
        put_varint(&mut vector, u64::from(clock));
    }
    vector
}

/// Whether a state vector (v1) covers the letters.
pub(super) fn covers(vector: &StateVector, letters: Letters) -> bool {
    vector.get(&ClientID::new(letters.client)) >= letters.clock + letters.count
}

/// Reads a state vector (v1); no bytes stand for an empty one.
pub(super) fn vector_of(vector: &[u8]) -> Option<StateVector> {
    if vector.is_empty() { Some(StateVector::default()) } else { StateVector::decode_v1(vector).ok() }
}

/// Why updates make no text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Unmerged {
    /// One of them cannot be integrated.
    Broken,
    /// Some wait for these letters: Yjs clients and clocks.
    Waits(Vec<(u64, u32)>),
}

/// The letters that all the updates make, sorted: an update here names no right neighbour, so that their order may
/// depend on who came first.
///
/// # Errors
/// When one of them cannot be integrated, or waits for another.
pub(super) fn integrate<'a>(updates: impl Iterator<Item = &'a [u8]>) -> Result<String, Unmerged> {
    let doc = Doc::with_client_id(1);
    let mut txn = doc.transact_mut();
    for update in updates {
        let update = Update::decode_v1(update).map_err(|_| Unmerged::Broken)?;
        txn.apply_update(update).map_err(|_| Unmerged::Broken)?;
    }
    if let Some(pending) = txn.store().pending_update() {
        let missing = pending.missing.iter().map(|(client, clock)| (client.get(), *clock));
        return Err(Unmerged::Waits(missing.collect()));
    }
    let text = txn.get_or_insert_text(TEXT);
    let mut letters = text.get_string(&txn).into_bytes();
    letters.sort_unstable();
    String::from_utf8(letters).map_err(|_| Unmerged::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_means_something_else() {
        let first = Letters { client: 70, clock: 0, count: 3 };
        let second = Letters { client: 90, clock: 0, count: 2 };
        let updates = [insert(first, None, "abc"), insert(second, Some((70, 1)), "XY")];
        let set = letters_of(&updates[1]).unwrap();
        assert!(second.is_in(&set) && !first.is_in(&set));
        assert_eq!(set, second.set());
        assert_eq!(integrate(updates.iter().map(Vec::as_slice)).as_deref(), Ok("XYabc"));
        let Err(Unmerged::Waits(missing)) = integrate(updates[1..].iter().map(Vec::as_slice)) else {
            panic!("what it follows is missing");
        };
        assert!(missing.iter().any(|&(client, clock)| client == 70 && clock < 3), "{missing:?}");
    }
}
