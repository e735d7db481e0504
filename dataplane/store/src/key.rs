//! Keys: they sort by document, then by sequence number or name.
//!
//! `length u16 | document | rest`, numbers big-endian. The length before the document keeps one document's keys
//! from being a prefix of another's.

use crate::StoreError;

/// Document and nothing else: heads.
pub(crate) fn document(document: &str) -> Vec<u8> {
    with_room(document, 0)
}

/// Where the keys of a document begin that have to do with `sequence` or what follows it: history chunks, bases.
pub(crate) fn at(document: &str, sequence: u64) -> Vec<u8> {
    with_numbers(document, [sequence])
}

/// Document and name: versions.
pub(crate) fn named(document: &str, name: &str) -> Vec<u8> {
    let mut key = with_room(document, name.len());
    key.extend(name.as_bytes());
    key
}

fn with_room(document: &str, rest_bytes: usize) -> Vec<u8> {
    let length = u16::try_from(document.len()).expect("a document's id is at most 256 bytes long");
    let mut key = Vec::with_capacity(size_of::<u16>() + document.len() + rest_bytes);
    key.extend(length.to_be_bytes());
    key.extend(document.as_bytes());
    key
}

/// The document of a key, and what follows it.
pub(crate) fn split(key: &[u8]) -> Result<(&str, &[u8]), StoreError> {
    let (length, rest) = key.split_first_chunk().ok_or_else(|| bad(key))?;
    let length = u16::from_be_bytes(*length).into();
    let (document, rest) = rest.split_at_checked(length).ok_or_else(|| bad(key))?;
    Ok((std::str::from_utf8(document).map_err(|_| bad(key))?, rest))
}

/// What the key of a chunk of history says: enough to find and to drop chunks without reading them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chunk {
    /// The first op in it.
    pub(crate) first: u64,
    /// The last op in it.
    pub(crate) last: u64,
    /// When the latest of its ops was taken, Unix milliseconds.
    pub(crate) unix_ms_max: u64,
    /// Bytes of their payloads.
    pub(crate) bytes: u64,
}

impl Chunk {
    pub(crate) fn key(&self, document: &str) -> Vec<u8> {
        with_numbers(document, [self.first, self.last, self.unix_ms_max, self.bytes])
    }

    /// The document and the chunk of a key.
    pub(crate) fn of(key: &[u8]) -> Result<(&str, Self), StoreError> {
        let (document, [first, last, unix_ms_max, bytes]) = split_numbers(key)?;
        Ok((document, Self { first, last, unix_ms_max, bytes }))
    }
}

/// What the key of a merged state in the history says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BaseAt {
    /// The last op in it.
    pub(crate) sequence: u64,
    /// When it was merged, Unix milliseconds.
    pub(crate) unix_ms: u64,
    /// Bytes of the state.
    pub(crate) bytes: u64,
}

impl BaseAt {
    pub(crate) fn key(&self, document: &str) -> Vec<u8> {
        with_numbers(document, [self.sequence, self.unix_ms, self.bytes])
    }

    /// The document and the state of a key.
    pub(crate) fn of(key: &[u8]) -> Result<(&str, Self), StoreError> {
        let (document, [sequence, unix_ms, bytes]) = split_numbers(key)?;
        Ok((document, Self { sequence, unix_ms, bytes }))
    }
}

/// A deletion, by its time.
pub(crate) fn deleted(unix_ms: u64, document: &str) -> Vec<u8> {
    [&unix_ms.to_be_bytes()[..], document.as_bytes()].concat()
}

/// The time and the document of a key made by [`deleted`].
pub(crate) fn split_deleted(key: &[u8]) -> Result<(u64, &str), StoreError> {
    let (unix_ms, document) = key.split_first_chunk().ok_or_else(|| bad(key))?;
    let document = std::str::from_utf8(document).map_err(|_| bad(key))?;
    Ok((u64::from_be_bytes(*unix_ms), document))
}

fn with_numbers<const N: usize>(document: &str, numbers: [u64; N]) -> Vec<u8> {
    let mut key = with_room(document, N * size_of::<u64>());
    numbers.into_iter().for_each(|number| key.extend(number.to_be_bytes()));
    key
}

fn split_numbers<const N: usize>(key: &[u8]) -> Result<(&str, [u64; N]), StoreError> {
    let (document, rest) = split(key)?;
    let (fields, []) = rest.as_chunks::<{ size_of::<u64>() }>() else { return Err(bad(key)) };
    let numbers: Vec<_> = fields.iter().map(|field| u64::from_be_bytes(*field)).collect();
    Ok((document, numbers.try_into().map_err(|_| bad(key))?))
}

fn bad(key: &[u8]) -> StoreError {
    StoreError::Key { key: key.escape_ascii().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_documents_keys_lie_among_anothers() {
        let mut keys = Vec::new();
        for name in ["", "a", "a\0", "ab", "b", "ä"] {
            for sequence in [0, 1, 255, 256, u64::MAX] {
                keys.push((name, sequence, at(name, sequence)));
            }
        }
        keys.sort_by(|a, b| a.2.cmp(&b.2));
        for pair in keys.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            assert!(before.0 != after.0 || before.1 < after.1, "{before:?} {after:?}");
        }
        keys.dedup_by_key(|key| key.0);
        assert_eq!(keys.len(), 6, "a document's keys are not side by side");
    }

    #[test]
    fn a_key_is_read_back_as_another() {
        let chunk = Chunk { first: 7, last: 9, unix_ms_max: 1, bytes: 3 };
        let key = chunk.key("doc/ä");
        assert_eq!(Chunk::of(&key).unwrap(), ("doc/ä", chunk));
        assert!(at("doc/ä", 7) < key && key < at("doc/ä", 8));
        let base = BaseAt { sequence: 7, unix_ms: 1, bytes: 0 };
        assert_eq!(BaseAt::of(&base.key("doc")).unwrap(), ("doc", base));
        assert_eq!(split(&named("doc", "v 1")).unwrap(), ("doc", &b"v 1"[..]));
        assert_eq!(split_deleted(&deleted(5, "doc")).unwrap(), (5, "doc"));
        for broken in [&[][..], &[0], &[0, 3, b'a'], &[0, 1, 0xff]] {
            assert!(split(broken).is_err());
        }
        assert!(Chunk::of(&base.key("doc")).is_err() && BaseAt::of(&key).is_err());
        assert!(Chunk::of(&named("doc", "short")).is_err() && split_deleted(b"short").is_err());
    }
}
