//! Peers that have valid keys and send what they like.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use bytes::Bytes;
use quantum::{Channel, Connection, PacketKeys};
use wire::header::{FLAG_KEY_PHASE, HEADER_BYTES, TAG_BYTES};
use wire::limits::{DATAGRAM_BYTES_MAX, INITIAL_DATAGRAM_BYTES};
use wire::{Guuid, Header, PacketType, Span, Time};
use zerocopy::IntoBytes;

use crate::hostile::{Dialogue, put_frames};
use crate::pair::{BURST_MAX, Inbox, PSK, Pair, address, client, config, connection_id, sealed_ticket};
use crate::{Noise, Source};

/// Datagrams of a peer, at most.
const DATAGRAMS_MAX: usize = 64;
/// PARAMETERS that an honest end might send: the largest datagram, credit, the largest message, repairs.
const PARAMETERS: [u8; 19] =
    [0x06, 17, 1, 0xb0, 0x09, 4, 0x80, 0x80, 0x10, 5, 0x80, 0x80, 0x08, 6, 0x80, 0x80, 0x04, 9, 32];
/// The cookie in a RETRY packet, and the proof behind it (`PROTOCOL.md`, section "Retry").
const COOKIE_BYTES: usize = 25;
/// Between two datagrams of a peer.
const PAUSES_US: [u64; 4] = [0, 10, 3_000, 50_000];
/// Ranges of packet numbers that are remembered (`PROTOCOL.md`, section "Acknowledgements").
const RANGES_MAX: usize = 64;
/// What a receiver adds to a message that it holds, in its account.
const HELD_MESSAGE_BYTES: usize = 64;

/// The keys of a connection, and what to do with them.
struct Peer {
    id: Guuid,
    secrets: ([u8; 32], [u8; 32]),
    is_client: bool,
    key_phase: bool,
    next_number: u64,
    frames: usize,
    dialogue: Dialogue,
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Peer {
    fn new(id: Guuid, secrets: ([u8; 32], [u8; 32]), is_client: bool) -> Self {
        Self {
            id,
            secrets,
            is_client,
            key_phase: false,
            next_number: 1,
            frames: 0,
            dialogue: Dialogue::new(),
        }
    }

    /// The next packet: hostile frames under good keys, mostly.
    fn packet(&mut self, source: &mut Source<'_>) -> Vec<u8> {
        if source.once_in(24) {
            self.update_keys();
        }
        let mut payload = Vec::new();
        // Most of it right: the first violation ends a connection, and what lies behind is not tried.
        self.frames += self.dialogue.put_frames(source, &mut payload);
        if source.once_in(12) {
            self.frames += put_frames(source, &mut payload, DATAGRAM_BYTES_MAX - HEADER_BYTES - TAG_BYTES);
        }
        let number = if source.once_in(16) { source.number() } else { self.next_number };
        self.next_number = self.next_number.max(number).saturating_add(1);
        let mut header = Header::new(PacketType::Data, self.id, number, source.byte().into());
        header.flags = if self.key_phase { FLAG_KEY_PHASE } else { 0 };
        let mut datagram = [header.as_bytes(), &payload, &[0; TAG_BYTES]].concat();
        PacketKeys::new(self.secrets, self.is_client).seal(number, &mut datagram);
        if source.once_in(32) {
            source.mutate(&mut datagram);
        }
        datagram
    }

    /// A datagram of the other end.
    fn hear(&mut self, datagram: &[u8]) {
        if let Ok((header, PacketType::Data)) = Header::parse(datagram) {
            self.dialogue.largest = self.dialogue.largest.max(Some(header.packet_number()));
        }
    }

    /// `PROTOCOL.md`, section "Key update".
    fn update_keys(&mut self) {
        let next = |secret: &[u8; 32]| {
            let secret = Prk::new_less_safe(HKDF_SHA256, secret);
            let mut out = [0; 32];
            let labels: [&[u8]; 1] = [b"aetherflow quantum 1 ku"];
            let okm = secret.expand(&labels, Length(32)).expect("far under HKDF's limit");
            okm.fill(&mut out).expect("the length that was asked for");
            out
        };
        self.secrets = (next(&self.secrets.0), next(&self.secrets.1));
        self.key_phase = !self.key_phase;
    }
}

/// A node and a client that has a valid ticket and sends what it likes: the node holds no more than its
/// limits, comes to an end with what it sends, and serves others as ever.
pub fn hostile_client(input: &[u8]) {
    let mut source = Source::new(input);
    let (mut pair, mut inbox) = (Pair::new(), Inbox::default());
    let Some(mut peer) = begin_as_client(&mut source, &mut pair, &mut inbox) else { return };
    let mut buffer = [0; 1_500];
    for _ in 0..DATAGRAMS_MAX {
        if source.is_empty() {
            break;
        }
        let mut datagram = peer.packet(&mut source);
        if source.once_in(5) {
            continue;
        }
        let from = address(if source.once_in(12) { 3 } else { 2 });
        let now = pair.now();
        pair.node.handle_datagram(now, from, &mut datagram, &mut inbox);
        let key = inbox.opened[0];
        if source.once_in(2) {
            let channel = source.pick(&Channel::ALL);
            // Refused when the hostile client takes nothing: that is what the limit is for.
            let _ = pair.node.send(key, channel, source.filler(2_000).into());
        }
        for (key, channel, bytes) in inbox.fresh() {
            pair.node.consume(key, channel, bytes);
        }
        pair.now += Span::from_us(source.pick(&PAUSES_US));
        pair.node.handle_timeout(pair.now);
        let mut burst = 0;
        while let Some((_, length)) = pair.node.poll_transmit(pair.now, &mut buffer) {
            peer.hear(&buffer[..length]);
            burst += 1;
            assert!(burst < BURST_MAX, "a node sends for ever");
        }
        pair.node.connections().for_each(|(connection, _)| check(connection, &peer));
        while pair.node.poll_event().is_some() {}
    }
    pair.client = client(1, pair.now, &config());
    pair.client.send(Channel::Sync, Bytes::from_static(b"an op")).expect("room");
    let served = pair.run_until(1_000, |pair| pair.at_node.messages.len() == 1);
    assert!(served, "a hostile client keeps others out");
}

/// The handshake of a client, with hostile frames in it or not; none: the node did not take it.
fn begin_as_client(source: &mut Source<'_>, pair: &mut Pair, inbox: &mut Inbox) -> Option<Peer> {
    let id = connection_id(2);
    let (mut cookie, mut number, mut received_bytes, mut sent_bytes) = (Vec::new(), 0, 0, 0);
    let mut buffer = [0; 1_500];
    loop {
        let (mut noise, mut datagram) = first_packet(source, id, number, &cookie);
        received_bytes += datagram.len();
        let now = pair.now();
        pair.node.handle_datagram(now, address(2), &mut datagram, inbox);
        number += 1;
        let is_retried = inbox.opened.is_empty();
        while let Some((_, length)) = pair.node.poll_transmit(pair.now, &mut buffer) {
            sent_bytes += length;
            assert!(sent_bytes <= 3 * received_bytes, "more than three times what came");
            match Header::parse(&buffer[..length]) {
                Ok((_, PacketType::Handshake)) => {
                    let payload = noise.read_second(&buffer[HEADER_BYTES..length]);
                    assert!(!payload.expect("the node's reading of Noise").is_empty());
                    return Some(Peer::new(id, noise.split(), true));
                }
                Ok((_, PacketType::Retry)) => {
                    cookie = buffer[HEADER_BYTES..HEADER_BYTES + COOKIE_BYTES].to_vec();
                }
                _ => {}
            }
        }
        assert!(!is_retried || number == 1, "a good ticket and a good handshake are refused");
        if !is_retried {
            return None;
        }
        assert_eq!(cookie.len(), COOKIE_BYTES, "neither taken nor asked for a cookie");
    }
}

fn first_packet(source: &mut Source<'_>, id: Guuid, number: u64, cookie: &[u8]) -> (Noise, Vec<u8>) {
    let header = Header::new(PacketType::Initial, id, number, 0);
    let ticket = sealed_ticket();
    let lengths = (cookie.len() as u8, (ticket.len() as u16).to_be_bytes());
    let prologue = [header.as_bytes(), &[lengths.0], cookie, &lengths.1, &ticket].concat();
    let mut payload = if source.once_in(16) { Vec::new() } else { PARAMETERS.to_vec() };
    let payload_bytes = INITIAL_DATAGRAM_BYTES - prologue.len() - 32 - TAG_BYTES;
    if source.once_in(8) {
        put_frames(source, &mut payload, payload_bytes);
    }
    payload.resize(payload_bytes, 0);
    let mut noise = Noise::new(&PSK, &prologue, &[source.byte(); 32]);
    let datagram = [prologue, noise.write_first(&payload)].concat();
    (noise, datagram)
}

/// A client and a node that has opened its ticket and sends what it likes: the client holds no more than its
/// limits, and comes to an end with what it sends.
pub fn hostile_node(input: &[u8]) {
    let mut source = Source::new(input);
    let mut now = Time::from_us(1_000_000);
    let mut client = client(1, now, &config());
    let mut buffer = [0; 1_500];
    let mut inbox = Inbox::default();
    if source.once_in(2) {
        client.send(Channel::Sync, source.filler(1_500).into()).expect("room");
    }
    let length = client.poll_transmit(now, &mut buffer).expect("a client begins");
    let (mut peer, mut reply) = begin_as_node(&mut source, &buffer[..length]);
    client.handle_datagram(now, &mut reply, &mut inbox);
    for _ in 0..DATAGRAMS_MAX {
        if source.is_empty() {
            break;
        }
        let mut datagram = peer.packet(&mut source);
        if source.once_in(5) {
            continue;
        }
        client.handle_datagram(now, &mut datagram, &mut inbox);
        if source.once_in(2) {
            let channel = source.pick(&Channel::ALL);
            let _ = client.send(channel, source.filler(2_000).into());
        }
        for (_, channel, bytes) in inbox.fresh() {
            client.consume(channel, bytes);
        }
        now += Span::from_us(source.pick(&PAUSES_US));
        client.handle_timeout(now);
        let mut burst = 0;
        while let Some(length) = client.poll_transmit(now, &mut buffer) {
            peer.hear(&buffer[..length]);
            burst += 1;
            assert!(burst < BURST_MAX, "a client sends for ever");
        }
        check(&client, &peer);
        while client.poll_event().is_some() {}
    }
}

/// The handshake of a node, with hostile frames in it or not.
fn begin_as_node(source: &mut Source<'_>, initial: &[u8]) -> (Peer, Vec<u8>) {
    let (header, kind) = Header::parse(initial).expect("a client writes headers");
    assert_eq!(kind, PacketType::Initial);
    let ticket_at = HEADER_BYTES + 1 + usize::from(initial[HEADER_BYTES]);
    let ticket_bytes = u16::from_be_bytes([initial[ticket_at], initial[ticket_at + 1]]);
    let (prologue, message) = initial.split_at(ticket_at + 2 + usize::from(ticket_bytes));
    let mut noise = Noise::new(&PSK, prologue, &[source.byte(); 32]);
    let (public, _) = noise.read_first(message).expect("the client's reading of Noise");
    let mut payload = if source.once_in(16) { Vec::new() } else { PARAMETERS.to_vec() };
    if source.once_in(8) {
        put_frames(source, &mut payload, 1_000);
    }
    let message = noise.write_second(&public, &payload).expect("a good key");
    let reply =
        [Header::new(PacketType::Handshake, header.connection, 0, 0).as_bytes(), &message[..]].concat();
    (Peer::new(header.connection, noise.split(), false), reply)
}

/// What a connection may hold of a peer that has sent so many frames.
fn check(connection: &Connection, peer: &Peer) {
    let config = config();
    let footprint = connection.footprint();
    assert!(footprint.queued_bytes <= config.send_buffer_bytes_max, "{footprint:?}");
    let reliable = Channel::ALL.iter().filter(|channel| channel.is_reliable()).count();
    let channel_bytes = config.channel_window_bytes as usize + config.message_bytes_max;
    let held_bytes_max = reliable * channel_bytes + HELD_MESSAGE_BYTES * peer.frames;
    assert!(footprint.held_bytes <= held_bytes_max, "{footprint:?}");
    assert!(footprint.received_ranges <= RANGES_MAX, "{footprint:?}");
}
