//! The decoders of `wire`, but for frames.

use wire::header::{FLAG_KEY_PHASE, HEADER_BYTES, TAG_BYTES};
use wire::sync::{Client, Server};
use wire::varint::{Reader, Writer, put_bytes, put_varint, varint_len};
use wire::yjs_scan::{scan_state_vector, scan_update};
use wire::{Access, Grant, Guuid, Header, PacketType, Ticket, TicketKeyRing};
use zerocopy::IntoBytes;

use crate::Source;

/// A header: what is accepted is what another such header would be written as.
pub fn header(input: &[u8]) {
    let mut source = Source::new(input);
    let mut datagram = if source.once_in(2) {
        let id = Guuid::from_bytes(std::array::from_fn(|_| source.byte()));
        let kind =
            source.pick(&[PacketType::Initial, PacketType::Data, PacketType::Retry, PacketType::Reset]);
        let mut header = Header::new(kind, id, source.number(), source.number() as u32);
        header.flags = source.pick(&[0, FLAG_KEY_PHASE]);
        let datagram = [header.as_bytes(), &[0; TAG_BYTES]].concat();
        let (read, found) = Header::parse(&datagram).expect("a header that was just written");
        assert_eq!((read.as_bytes(), found), (header.as_bytes(), kind));
        datagram
    } else {
        input.to_vec()
    };
    source.mutate(&mut datagram);
    let _ = Header::connection_of_any_version(&datagram);
    let Ok((read, kind)) = Header::parse(&datagram) else { return };
    let mut again = match kind {
        PacketType::Versions => Header::versions(read.connection),
        _ => Header::new(kind, read.connection, read.packet_number(), read.timestamp_us()),
    };
    again.flags = read.flags;
    // The clock and the number of a list of versions mean nothing.
    let meaningful = if kind == PacketType::Versions { 0..4 } else { 0..HEADER_BYTES };
    assert_eq!(again.as_bytes()[meaningful.clone()], datagram[meaningful]);
}

/// Integers and byte strings: they come back as they were written, in the length that was foretold.
pub fn varints(input: &[u8]) {
    let mut reader = Reader::new(input);
    while !reader.is_empty() {
        let before = reader.offset();
        let Ok(value) = reader.varint("value") else { break };
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert!(out.len() == varint_len(value) && out.len() <= reader.offset() - before);
        assert_eq!(Reader::new(&out).varint("value"), Ok(value));
        let mut fixed = [0; 10];
        let mut writer = Writer::new(&mut fixed);
        writer.put_varint(value);
        let length = writer.len();
        assert_eq!(fixed[..length], out);
        assert_eq!(Reader::new(&out).varint32("value").ok(), u32::try_from(value).ok());
        let mut cut = reader.clone();
        if let Ok(bytes) = cut.bytes("bytes") {
            let mut out = Vec::new();
            put_bytes(&mut out, bytes);
            assert_eq!(Reader::new(&out).bytes("bytes"), Ok(bytes));
        }
        let _ = reader.clone().string("text");
    }
}

/// A ticket: what was sealed opens as it was; nothing else opens.
pub fn ticket(input: &[u8]) {
    let ring = TicketKeyRing::new([(1, [2; 32]), (7, [9; 32])]);
    assert!(ring.open(input, 0).is_err(), "random bytes are a ticket");
    let mut source = Source::new(input);
    let access = [Access::Presence, Access::Read, Access::Write, Access::Admin];
    let grants = (0..source.below(40)).map(|_| {
        let pattern = String::from_utf8_lossy(source.bytes(300)).into_owned();
        Grant { pattern, access: source.pick(&access) }
    });
    let ticket = Ticket {
        grants: grants.collect(),
        session_id: Guuid::new(source.number(), [1; 10]),
        writer_id: Guuid::new(source.number(), [2; 10]).writer(),
        psk: [source.byte(); 32],
        expires_unix_s: source.number(),
    };
    let Ok(mut sealed) = ring.seal(&ticket, [source.byte(); 12]) else { return };
    assert!(sealed.len() <= wire::limits::TICKET_BYTES_MAX);
    let is_readable = ticket.grants.iter().all(|grant| grant.pattern.len() <= 256);
    assert_eq!(ring.open_expired(&sealed).ok().as_ref(), is_readable.then_some(&ticket));
    let original = sealed.clone();
    source.mutate(&mut sealed);
    if sealed != original {
        assert!(ring.open_expired(&sealed).is_err(), "a changed ticket opens");
    }
}

/// A message of a client: what is accepted is the same when it is written and read again.
pub fn sync_from_client(input: &[u8]) {
    let input = with_kind(input, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let Ok(message) = Client::decode(&input) else { return };
    let bytes = message.to_vec();
    assert!(bytes.len() <= input.len());
    assert_eq!(Client::decode(&bytes), Ok(message));
}

/// A message of a node: likewise.
pub fn sync_from_node(input: &[u8]) {
    let input = with_kind(input, &[3, 4, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 30]);
    let Ok(message) = Server::decode(&input) else { return };
    let bytes = message.to_vec();
    assert!(bytes.len() <= input.len());
    assert_eq!(Server::decode(&bytes), Ok(message));
}

/// The input, mostly with the type of a message in front.
fn with_kind(input: &[u8], kinds: &[u8]) -> Vec<u8> {
    let mut input = input.to_vec();
    if let Some(first) = input.first_mut()
        && *first >= 0x20
    {
        *first = kinds[usize::from(*first) % kinds.len()];
    }
    input
}

/// A Yjs update: the scan ends, and claims no more shared types than there are bytes.
pub fn yjs_update(input: &[u8]) {
    let mut source = Source::new(input);
    // One client with a few blocks, or anything.
    let update = match source.once_in(2) {
        true => input.to_vec(),
        false => {
            let blocks = source.below(6) as u8;
            let mut update = vec![1, blocks, source.byte() & 0x7f, 0];
            update.extend_from_slice(source.bytes(2_000));
            update.push(0);
            update
        }
    };
    if let Ok(shared_types) = scan_update(&update) {
        assert!(shared_types <= update.len() as u64);
        assert!(scan_update(&update[..update.len() - 1]).is_err(), "the end of an update is not needed");
    }
}

/// A Yjs state vector: the scan ends, and takes nothing that goes on.
pub fn yjs_state_vector(input: &[u8]) {
    if scan_state_vector(input).is_ok() {
        assert!(scan_state_vector(&[input, &[0]].concat()).is_err());
    }
}
