//! A peer that holds valid keys and sends what it likes.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use wire::frame::{self, Fragment, put_ack, put_fragment, put_message};
use wire::limits::TICKET_BYTES_MAX;
use wire::sync::Channel;
use wire::varint::Writer;
use wire::{Guuid, Span, Ticket, TicketKeyRing, Time};

use super::{Acceptor, Connection, ConnectionKey, Initial, MessageSink, Now};
use crate::config::Config;
use crate::connection_ids::{CONNECTION_IDS_MAX, IdChange};
use crate::keys::EntropyPool;

#[derive(Default)]
pub(super) struct Count(usize);

impl MessageSink for Count {
    fn on_message(&mut self, _: ConnectionKey, _: Channel, message: &[u8]) {
        self.0 += message.len();
    }
}

/// A node's connection that has just been accepted.
pub(super) fn accepted() -> Connection {
    let ticket = Ticket {
        session_id: Guuid::NIL,
        writer_id: Guuid::NIL,
        psk: [1; 32],
        expires_unix_s: 100,
        grants: Vec::new(),
    };
    let keys = TicketKeyRing::new([(1, [2; 32])]);
    let sealed = keys.seal(&ticket, [3; 12]).unwrap();
    let config = Arc::new(Config::default());
    let id = Guuid::new(1, [4; 10]);
    let mut client =
        Connection::connect(Now::default(), config.clone(), id, &sealed, &[1; 32], [5; 32]).unwrap();
    let mut buffer = [0; 1_500];
    let length = client.poll_transmit(Time::ZERO, &mut buffer).unwrap();
    let mut entropy = EntropyPool::new([6; 32]);
    let key = ConnectionKey::new(0, 1);
    let from = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let reset_token = [7; 16];
    let acceptor = Acceptor { key, config: &config, reset_token, audience: 0, entropy: &mut entropy, from };
    let initial = Initial::parse(&buffer[..length]).unwrap();
    let mut opened = [0; TICKET_BYTES_MAX];
    let ticket = keys.open_into(initial.ticket, 0, &mut opened).unwrap();
    let now = Now::default();
    Connection::accept(acceptor, now, (&initial, &ticket), &mut Count::default()).unwrap()
}

const CHANNELS: u8 = Channel::COUNT as u8;

#[derive(Clone, Debug)]
enum Hostile {
    Bytes(Vec<u8>),
    Ack(u64, u64, u64),
    Message(u8, Option<u64>, usize),
    Fragment(u8, u64, u32, u32, usize),
    Latest(u8, u64, u64, usize),
    Credit(Option<u8>, u64),
    Path(bool, u8),
    NewId(u64, u8),
    RetireId(u64),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..40, 32_000_u64..33_000, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

fn hostile() -> impl Strategy<Value = Hostile> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Hostile::Bytes),
        3 => (number(), number(), number()).prop_map(|(a, b, c)| Hostile::Ack(a, b, c)),
        4 => (0..CHANNELS, prop::option::of(number()), 0_usize..100).prop_map(|(c, s, l)| Hostile::Message(c, s, l)),
        4 => (0..CHANNELS, number(), 0_u32..5_000_000, 0_u32..5_000_000, 0_usize..200)
            .prop_map(|(c, s, o, t, l)| Hostile::Fragment(c, s, o, t, l)),
        3 => (0..CHANNELS, 0_u64..9, number(), 0_usize..100).prop_map(|(c, k, s, l)| Hostile::Latest(c, k, s, l)),
        1 => (prop::option::of(0..CHANNELS + 1), number()).prop_map(|(c, n)| Hostile::Credit(c, n)),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(is_response, byte)| Hostile::Path(is_response, byte)),
        2 => (number(), any::<u8>()).prop_map(|(sequence, byte)| Hostile::NewId(sequence % 8, byte)),
        1 => number().prop_map(|sequence| Hostile::RetireId(sequence % 8)),
    ]
}

fn write(out: &mut Writer<'_>, hostile: &Hostile) {
    let payload = [7; 200];
    let channel = |n: u8| Channel::from_u8(n).unwrap();
    match *hostile {
        Hostile::Bytes(ref bytes) => out.put(bytes),
        Hostile::Ack(largest, length, delay) => {
            let first = largest.saturating_sub(length % 50);
            put_ack(out, delay, std::iter::once((first, largest)));
        }
        Hostile::Message(to, sequence, length) => put_message(out, channel(to), sequence, &payload[..length]),
        Hostile::Fragment(to, sequence, offset, total, length) => put_fragment(
            out,
            &Fragment { channel: channel(to), sequence, offset, total, payload: &payload[..length] },
        ),
        Hostile::Latest(to, key, sequence, length) => frame::put_latest(
            out,
            &frame::Latest { channel: channel(to), key, sequence, payload: &payload[..length] },
        ),
        Hostile::Path(false, byte) => frame::put_path_challenge(out, &[byte; 8]),
        Hostile::Path(true, byte) => frame::put_path_response(out, &[byte; 8]),
        Hostile::NewId(sequence, byte) => {
            let id = Guuid::new(1, [byte; 10]).with_shard(Guuid::new(1, [4; 10]).shard());
            frame::put_new_connection_id(
                out,
                &frame::NewConnectionId { sequence, id, reset_token: [byte; 16] },
            );
        }
        Hostile::RetireId(sequence) => frame::put_retire_connection_id(out, sequence),
        Hostile::Credit(None, limit) => frame::put_max_data(out, limit),
        Hostile::Credit(Some(to), limit) => {
            out.put_u8(frame::TYPE_MAX_CHANNEL_DATA);
            out.put_u8(to);
            out.put_varint(limit);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_hostile_peer_makes_a_node_panic_or_hoard(packets in prop::collection::vec(prop::collection::vec(hostile(), 1..4), 1..20)) {
        let mut connection = accepted();
        let mut sink = Count::default();
        let mut now = Time::ZERO;
        let mut out = [0; 1_500];
        for (number, frames) in packets.iter().enumerate() {
            now += Span::from_ms(3);
            let _ = connection.send(Channel::Sync, Bytes::from_static(b"an op"));
            let mut packet = [0; 1_500];
            let mut writer = Writer::new(&mut packet);
            for frame in frames {
                write(&mut writer, frame);
            }
            let length = writer.len();
            connection.amplification.is_validated = true;
            connection.handle_payload(now, number as u64 + 1, &packet[..length], &mut sink);
            connection.handle_timeout(now);
            while let Some(change) = connection.poll_id_change(now) {
                if let IdChange::Add { sequence, .. } = change {
                    connection.settle_id(sequence, (sequence % 2 == 0).then_some([1; 16]));
                }
            }
            prop_assert!(connection.mapped_ids().count() <= 2 + CONNECTION_IDS_MAX);
            for turn in 0.. {
                prop_assert!(turn < 50, "sends for ever");
                if connection.poll_transmit(now, &mut out).is_none() {
                    break;
                }
            }
            if let Some(at) = connection.poll_timeout() {
                prop_assert!(at > now, "a timer that is due again at once");
            }
        }
    }

    #[test]
    fn hostile_datagrams_make_an_endpoint_panic(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1_300), 1..8), kind in 0x11_u8..0x14) {
        let mut connection = accepted();
        let mut node = crate::Endpoint::new(Arc::new(Config::default()), crate::EndpointLimits::default(), [1; 32]);
        let from = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        for mut datagram in datagrams {
            for (at, byte) in [kind, 0, 0, 0].into_iter().enumerate() {
                if let Some(first) = datagram.get_mut(at) {
                    *first = byte;
                }
            }
            if let Some(id) = datagram.get_mut(16..32) {
                id.copy_from_slice(connection.id.as_bytes());
            }
            connection.handle_datagram(Time::ZERO, &mut datagram.clone(), &mut Count::default());
            node.handle_datagram(Now::default(), from, &mut datagram, &mut Count::default());
            prop_assert!(node.poll_transmit(Time::ZERO, &mut [0; 1_500]).is_none());
        }
        prop_assert_eq!(node.connections_count(), 0);
        prop_assert!(!connection.is_closed());
    }
}
