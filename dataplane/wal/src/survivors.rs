//! Records behind damage: sound in themselves, though nothing proves any more that they belong together.

use wire::Guuid;

use crate::header::{HEADER_BYTES, RecordHeader, Seed};
use crate::record::{Record, record_bytes};

/// Finds the records in `bytes`, which lie at `offset` of a segment, whatever is broken between them: those whose header
/// and body are sound and that say that they were written there. For people who want to know what damage costs; never
/// to serve from.
pub fn find_survivors(
    log_id: Guuid,
    segment: u32,
    offset: u64,
    bytes: &[u8],
    mut on_record: impl FnMut(u64, &Record<'_>),
) {
    let seed = Seed::of(log_id);
    let mut at = offset.next_multiple_of(8).saturating_sub(offset) as usize;
    while at + HEADER_BYTES <= bytes.len() {
        let place = offset + at as u64;
        let length = survivor(seed, segment, place, &bytes[at..]).map(|(record, length)| {
            on_record(place, &record);
            length
        });
        at += length.unwrap_or(8);
    }
}

fn survivor(seed: Seed, segment: u32, place: u64, bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let header =
        RecordHeader::peek(bytes).filter(|header| header.is_sound(seed) && header.is_at(segment, place))?;
    let body_bytes = header.body_bytes.get() as usize;
    let whole = record_bytes(body_bytes);
    let padded = bytes.get(HEADER_BYTES..whole)?;
    let is_sound = crc32c::crc32c(padded) == header.body_crc.get();
    let record = is_sound.then(|| Record::decode(header, &padded[..body_bytes]).ok())??;
    Some((record, whole))
}
