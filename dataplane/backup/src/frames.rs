//! Entries of a store, one behind the other: `table u8 | key length u32 | value length u32 | key | value`.

use bytes::Bytes;
use docstore::StoreEntry;

const FRAME_BYTES: usize = 9;

/// Appends an entry to a part.
pub fn encode_entry(part: &mut Vec<u8>, entry: &StoreEntry) {
    part.push(entry.table);
    for bytes in [&entry.key, &entry.value] {
        part.extend(u32::try_from(bytes.len()).expect("documents are far below 4 GiB").to_le_bytes());
    }
    part.extend_from_slice(&entry.key);
    part.extend_from_slice(&entry.value);
}

/// The next entry of a part.
pub(crate) fn decode_entry(part: &mut Bytes) -> Option<StoreEntry> {
    let frame = part.get(..FRAME_BYTES)?;
    let length =
        |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]) as usize;
    let (table, key, value) = (frame[0], length(1), length(5));
    if part.len() - FRAME_BYTES < key.checked_add(value)? {
        return None;
    }
    let mut rest = part.split_off(FRAME_BYTES);
    let key = rest.split_to(key);
    let value = rest.split_to(value);
    *part = rest;
    Some(StoreEntry { table, key, value })
}
