//! What hostile datagrams make a node send to an address that has shown nothing.

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use common::{Inbox, PSK, UNIX_S, client_address, keys, sealed_ticket};
use proptest::prelude::*;
use quantum::{Channel, Config, Connection, Endpoint, EndpointLimits, Now};
use wire::{Guuid, Span, Time};

const ADDRESSES: u16 = 3;
const CLIENTS: u8 = 3;

/// What an attacker does who has tickets, but receives nothing.
#[derive(Clone, Debug)]
enum Step {
    /// A first packet of one of his connections, or one of them again.
    First(u8),
    /// The same, changed at one place, or cut.
    Changed(u8, usize, u8),
    Cut(u8, usize),
    /// Bytes that begin like a packet of some version and type.
    Bytes(u8, u8, usize),
    /// The node's application has much to say.
    Send(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..CLIENTS).prop_map(Step::First),
        2 => (0..CLIENTS, 0_usize..1_200, 1_u8..=255).prop_map(|(n, at, flip)| Step::Changed(n, at, flip)),
        1 => (0..CLIENTS, 0_usize..1_200).prop_map(|(n, bytes)| Step::Cut(n, bytes)),
        3 => (any::<u8>(), 0..CLIENTS, 0_usize..1_400).prop_map(|(kind, n, bytes)| Step::Bytes(kind, n, bytes)),
        2 => (1_usize..5_000).prop_map(Step::Send),
        2 => (0_u64..3_000).prop_map(Step::Wait),
    ]
}

fn id(n: u8) -> Guuid {
    Guuid::new(UNIX_S * 1_000, [n; 10])
}

fn first_packets() -> Vec<Vec<u8>> {
    let first = |n: u8| {
        let now = Now { mono: Time::ZERO, unix_ms: UNIX_S * 1_000 };
        let config = Arc::new(Config::default());
        let mut client = Connection::connect(now, config, id(n), &sealed_ticket(), &PSK, [n; 32]).unwrap();
        client.send(Channel::Sync, Bytes::from_static(b"join")).unwrap();
        let mut buffer = vec![0; 1_500];
        let length = client.poll_transmit(Time::ZERO, &mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    };
    (0..CLIENTS).map(first).collect()
}

fn datagram(step: &Step, firsts: &[Vec<u8>]) -> Option<Vec<u8>> {
    match *step {
        Step::First(n) => Some(firsts[usize::from(n)].clone()),
        Step::Changed(n, at, flip) => {
            let mut changed = firsts[usize::from(n)].clone();
            changed[at] ^= flip;
            Some(changed)
        }
        Step::Cut(n, bytes) => Some(firsts[usize::from(n)][..bytes].to_vec()),
        Step::Bytes(kind, n, bytes) => {
            let mut datagram = [&[kind, 0, 0, 0][..], &[0; 12], id(n).as_bytes()].concat();
            datagram.resize(bytes, kind);
            Some(datagram)
        }
        Step::Send(_) | Step::Wait(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_spoofed_address_gets_more_than_three_times_what_it_sent(
        is_loaded in any::<bool>(),
        steps in prop::collection::vec((0..ADDRESSES, step()), 1..60),
    ) {
        let half_open_retry = if is_loaded { 1 } else { 256 };
        let limits = EndpointLimits { half_open_retry, ..EndpointLimits::default() };
        let mut node = Endpoint::new(Arc::new(Config::default()), limits, [5; 32]);
        node.set_ticket_keys(keys());
        let firsts = first_packets();
        let mut inbox = Inbox::default();
        let mut now = Now { mono: Time::from_us(1_000_000), unix_ms: UNIX_S * 1_000 };
        let (mut received, mut sent) = (HashMap::<SocketAddr, usize>::new(), HashMap::<SocketAddr, usize>::new());
        for (address, step) in steps {
            let from = client_address(address);
            if let Some(mut datagram) = datagram(&step, &firsts) {
                *received.entry(from).or_default() += datagram.len();
                node.handle_datagram(now, from, &mut datagram, &mut inbox);
            }
            if let Step::Send(bytes) = step {
                for (key, _) in &inbox.opened {
                    let _ = node.send(*key, Channel::Sync, vec![7; bytes].into());
                }
            }
            if let Step::Wait(ms) = step {
                now.mono += Span::from_ms(ms);
                now.unix_ms += ms;
                node.handle_timeout(now.mono);
            }
            let mut buffer = vec![0; 16 * 1_500];
            while let Some((to, train)) = node.poll_transmit_train(now.mono, &mut buffer, 16) {
                *sent.entry(to).or_default() += train.bytes;
            }
            for (to, bytes) in &sent {
                let allowed = 3 * received.get(to).copied().unwrap_or_default();
                prop_assert!(*bytes <= allowed, "{bytes} bytes to {to} for {}", allowed / 3);
            }
        }
    }
}
