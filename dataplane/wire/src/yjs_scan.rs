//! A look at a Yjs update (v1) before the CRDT library sees it.
//!
//! The library takes memory for counts that it reads, and descends into nested values without a bound on
//! its stack; a stack overflow ends the process and cannot be caught. This walk follows the library's
//! reading of the format, byte for byte, and refuses counts that the input cannot hold, values that nest too
//! deep, client ids above 53 bits and clocks above 32.

use crate::limits::VALUE_DEPTH_MAX;
use crate::varint::{Malformed, Reader};

/// The bits of a Yjs client id.
const CLIENT_ID_BITS: u32 = 53;

/// The kind of a block that holds a shared type.
const SHARED_TYPE: u8 = 7;
/// The kind of a block that stands for clocks that are not there. No content has it: it has no parent either.
const SKIP: u8 = 10;

const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
const HAS_PARENT_KEY: u8 = 0x20;

/// What an update holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpdateScan {
    /// Its shared types: a document nests no deeper than it has of them.
    pub shared_types: u64,
    /// Its blocks, those that stand for something deleted included.
    pub blocks: u64,
}

/// Blocks of one client that follow each other without a gap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockRange {
    /// The Yjs client.
    pub client: u64,
    /// The clock of the first.
    pub start: u32,
    /// The clock behind the last.
    pub end: u32,
}

/// Walks through a whole update, which must end where the input ends. Answers with the shared types in it: a
/// document nests no deeper than it has of them.
pub fn scan_update(update: &[u8]) -> Result<u64, Malformed> {
    scan_update_ranges(update, |_| {}).map(|scan| scan.shared_types)
}

/// The same walk, which tells of the clocks on its way.
pub fn scan_update_ranges(
    update: &[u8],
    mut on_range: impl FnMut(ClockRange),
) -> Result<UpdateScan, Malformed> {
    let mut reader = Reader::new(update);
    let mut scan = UpdateScan::default();
    // A client takes three bytes at least: its count of blocks, its id, its clock.
    for _ in 0..count(&mut reader, "client count", 3)? {
        let blocks = count(&mut reader, "block count", 2)?;
        let client = client(&mut reader)?;
        let mut start = reader.varint32("clock")?;
        let mut end = start;
        for _ in 0..blocks {
            let malformed = reader.malformed("clock");
            let (kind, clocks) = block(&mut reader, &mut scan.shared_types)?;
            if kind == SKIP {
                if start < end {
                    on_range(ClockRange { client, start, end });
                }
            } else {
                scan.blocks += 1;
            }
            end = u32::try_from(u64::from(end) + clocks).map_err(|_| malformed)?;
            if kind == SKIP {
                start = end;
            }
        }
        if start < end {
            on_range(ClockRange { client, start, end });
        }
    }
    delete_set(&mut reader)?;
    if reader.is_empty() { Ok(scan) } else { Err(reader.malformed("end of update")) }
}

/// Refuses a state vector (v1) that claims more clients than it has bytes for.
pub fn scan_state_vector(vector: &[u8]) -> Result<(), Malformed> {
    scan_state_vector_clocks(vector, |_, _| {})
}

/// The same, which tells each client with its clock.
pub fn scan_state_vector_clocks(vector: &[u8], mut on_clock: impl FnMut(u64, u32)) -> Result<(), Malformed> {
    let mut reader = Reader::new(vector);
    for _ in 0..count(&mut reader, "state vector length", 2)? {
        let client = client(&mut reader)?;
        on_clock(client, reader.varint32("clock")?);
    }
    if reader.is_empty() { Ok(()) } else { Err(reader.malformed("end of state vector")) }
}

/// Walks through a block; answers with its kind and the clocks that it takes.
fn block(reader: &mut Reader<'_>, shared_types: &mut u64) -> Result<(u8, u64), Malformed> {
    let info = reader.u8("block info")?;
    if info == 0 || info == SKIP {
        return Ok((info, u64::from(reader.varint32("block length")?)));
    }
    if info & HAS_ORIGIN != 0 {
        id(reader)?;
    }
    if info & HAS_RIGHT_ORIGIN != 0 {
        id(reader)?;
    }
    if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
        if reader.varint32("parent info")? == 1 {
            reader.string("parent name")?;
        } else {
            id(reader)?;
        }
        if info & HAS_PARENT_KEY != 0 {
            reader.string("parent key")?;
        }
    }
    let kind = info & 0x0f;
    *shared_types += u64::from(kind == SHARED_TYPE);
    Ok((kind, content(reader, kind)?))
}

fn content(reader: &mut Reader<'_>, kind: u8) -> Result<u64, Malformed> {
    let start = reader.malformed("block content");
    match kind {
        1 => return Ok(u64::from(reader.varint32("deleted length")?)),
        2 => {
            // The library reads one string more than the count says; what it reads is what counts here.
            let strings = count(reader, "string count", 1)?;
            for _ in 0..=strings {
                reader.string("string")?;
            }
            return Ok(strings + 1);
        }
        3 => drop(reader.bytes("binary")?),
        4 => return Ok(reader.string("text")?.encode_utf16().count() as u64),
        5 => drop(reader.string("embedded value")?),
        6 => {
            reader.string("format key")?;
            reader.string("format value")?;
        }
        SHARED_TYPE => match reader.u8("type")? {
            0..=2 | 4..=6 | 9 | 15 => {}
            3 => drop(reader.string("element name")?),
            _ => return Err(start),
        },
        8 => {
            let values = count(reader, "value count", 1)?;
            for _ in 0..values {
                value(reader, VALUE_DEPTH_MAX)?;
            }
            return Ok(values);
        }
        9 => {
            reader.string("document id")?;
            value(reader, VALUE_DEPTH_MAX)?;
        }
        _ => return Err(start),
    }
    Ok(1)
}

fn value(reader: &mut Reader<'_>, depth_left: usize) -> Result<(), Malformed> {
    let start = reader.malformed("value");
    if depth_left == 0 {
        return Err(reader.malformed("nesting of values"));
    }
    match reader.u8("value")? {
        120 | 121 | 126 | 127 => {}
        125 => signed(reader)?,
        124 => drop(reader.take(4, "value")?),
        122 | 123 => drop(reader.take(8, "value")?),
        119 => drop(reader.string("value")?),
        116 => drop(reader.bytes("value")?),
        118 => {
            for _ in 0..count(reader, "map length", 2)? {
                reader.string("map key")?;
                value(reader, depth_left - 1)?;
            }
        }
        117 => {
            for _ in 0..count(reader, "array length", 1)? {
                value(reader, depth_left - 1)?;
            }
        }
        _ => return Err(start),
    }
    Ok(())
}

/// A signed variable-length integer: the bytes that go on, and the last.
fn signed(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let start = reader.malformed("integer");
    for _ in 0..10 {
        if reader.u8("integer")? & 0x80 == 0 {
            return Ok(());
        }
    }
    Err(start)
}

fn delete_set(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    for _ in 0..count(reader, "delete set", 2)? {
        client(reader)?;
        for _ in 0..count(reader, "deleted ranges", 2)? {
            let start = reader.malformed("deleted range");
            if reader.varint32("clock")?.checked_add(reader.varint32("deleted length")?).is_none() {
                return Err(start);
            }
        }
    }
    Ok(())
}

fn id(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    client(reader)?;
    reader.varint32("clock")?;
    Ok(())
}

fn client(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let start = reader.malformed("client id");
    let client = reader.varint("client id")?;
    if client >> CLIENT_ID_BITS == 0 { Ok(client) } else { Err(start) }
}

/// A count of things that take `bytes_min` bytes each.
fn count(reader: &mut Reader<'_>, what: &'static str, bytes_min: u64) -> Result<u64, Malformed> {
    let start = reader.malformed(what);
    let count = u64::from(reader.varint32(what)?);
    if count <= reader.remaining() as u64 / bytes_min { Ok(count) } else { Err(start) }
}

#[cfg(test)]
mod tests {
    use yrs::updates::decoder::Decode;
    use yrs::updates::encoder::Encode;
    use yrs::{Any, Array, Doc, Map, ReadTxn, Text, Transact, Update, WriteTxn, XmlFragment};

    use super::*;

    /// An update with all that a document may hold.
    fn rich_update() -> Vec<u8> {
        let doc = Doc::with_client_id(7);
        let mut txn = doc.transact_mut();
        let text = txn.get_or_insert_text("text");
        text.insert(&mut txn, 0, "héllo 𝄞 world");
        text.insert_embed(&mut txn, 3, Any::from(vec![Any::from(1_i64), Any::Null]));
        text.format(&mut txn, 0, 3, [("bold".into(), Any::from(true))].into());
        text.remove_range(&mut txn, 1, 2);
        let map = txn.get_or_insert_map("map");
        map.insert(&mut txn, "nested", yrs::MapPrelim::from([("k", 1.5)]));
        map.insert(&mut txn, "bytes", Any::from(vec![1_u8, 2, 3]));
        map.insert(&mut txn, "big", Any::Number(yrs::Number::Int(i64::MIN)));
        let array = txn.get_or_insert_array("array");
        array.insert_range(&mut txn, 0, [Any::from("x"), Any::from(-70_000_i64), Any::from(false)]);
        let xml = txn.get_or_insert_xml_fragment("xml");
        xml.insert(&mut txn, 0, yrs::XmlElementPrelim::empty("p"));
        xml.insert(&mut txn, 1, yrs::XmlTextPrelim::new("t"));
        array.insert(&mut txn, 0, Doc::with_client_id(8));
        drop(txn);
        doc.transact().encode_state_as_update_v1(&yrs::StateVector::default())
    }

    #[test]
    fn a_good_update_or_state_vector_is_refused() {
        let update = rich_update();
        assert_eq!(scan_update(&update), Ok(3));
        assert_eq!(scan_update(Update::EMPTY_V1), Ok(0));
        let vector = Update::decode_v1(&update).unwrap().state_vector().encode_v1();
        assert_eq!(scan_state_vector(&vector), Ok(()));
        assert_eq!(scan_state_vector(&[0]), Ok(()));
    }

    #[test]
    fn the_clocks_of_an_update_are_other_than_the_library_counts() {
        let update = rich_update();
        let mut ranges = Vec::new();
        let scan = scan_update_ranges(&update, |range| ranges.push(range)).unwrap();
        let vector = Update::decode_v1(&update).unwrap().state_vector();
        assert_eq!(vector.iter().count(), ranges.len());
        for range in ranges {
            assert_eq!((range.start, range.end), (0, vector.get(&yrs::ClientID::new(range.client))));
        }
        assert!(scan.blocks > 10);
        // Two blocks with a gap of five clocks between them.
        let gap = [1, 3, 9, 2, 4, 1, 1, b't', 1, b'x', 10, 5, 4, 1, 1, b't', 2, b'y', b'z', 0];
        let mut ranges = Vec::new();
        scan_update_ranges(&gap, |range| ranges.push((range.start, range.end))).unwrap();
        assert_eq!(ranges, [(2, 3), (8, 10)]);
    }

    #[test]
    fn a_cut_update_passes() {
        let update = rich_update();
        for at in 0..update.len() {
            assert!(scan_update(&update[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_changed_update_passes_the_scan_and_means_more_to_the_library() {
        let update = rich_update();
        for at in 0..update.len() {
            for value in 0..=255 {
                let mut changed = update.clone();
                changed[at] = value;
                if scan_update(&changed).is_ok() {
                    let _ = std::panic::catch_unwind(|| Update::decode_v1(&changed).is_ok());
                }
            }
        }
    }

    #[test]
    fn nested_arrays_overflow_the_stack() {
        let mut update = vec![1, 1, 1, 0, 8, 1, 1, b'a', 1];
        update.extend([117, 1].repeat(500_000));
        update.extend([126, 0]);
        assert_eq!(scan_update(&update).unwrap_err().what, "nesting of values");
    }

    #[test]
    fn a_count_takes_memory_before_it_is_true() {
        assert!(scan_update(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).is_err());
        assert!(scan_update(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0]).is_err());
        assert!(scan_state_vector(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    }
}
