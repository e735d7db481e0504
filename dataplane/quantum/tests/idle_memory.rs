//! What a connection costs when nothing happens.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{UNIX_S, client_address, connect, keys};
use heap::live_bytes;
use quantum::{Channel, Config, Connection, ConnectionKey, Endpoint, EndpointLimits, MessageSink, Now};
use wire::{Span, Time};

/// An idle connection of a node may take so much of the heap.
const IDLE_BYTES_MAX: i64 = 4 << 10;

/// What was delivered and is to be consumed; it takes its memory beforehand.
struct Taken(Vec<(ConnectionKey, Channel, usize)>);

impl MessageSink for Taken {
    fn on_message(&mut self, from: ConnectionKey, channel: Channel, message: &[u8]) {
        assert!(self.0.len() < self.0.capacity());
        self.0.push((from, channel, message.len()));
    }
}

#[global_allocator]
static ALLOCATOR: heap::CountingAllocator = heap::CountingAllocator;

/// Has `clients` say something and fall silent; the bytes that the node keeps for them.
fn node_bytes(clients: u8, mut speak: impl FnMut(&mut Connection)) -> i64 {
    let config = Arc::new(Config::default());
    let mut node = Endpoint::new(config.clone(), EndpointLimits::default(), [1; 32]);
    node.set_ticket_keys(keys());
    let mut now = Time::from_us(1_000_000);
    let mut all: Vec<_> = (0..clients).map(|n| connect(now, &config, n + 1)).collect();
    let (mut at_node, mut at_client) = (Taken(Vec::with_capacity(1_000)), Taken(Vec::with_capacity(1_000)));
    let mut kept = 0;
    let mut buffer = [0; 1_500];
    all.iter_mut().for_each(&mut speak);
    for _ in 0..2_000 {
        now += Span::from_ms(1);
        let unix_now = Now { mono: now, unix_ms: UNIX_S * 1_000 };
        for (n, client) in all.iter_mut().enumerate() {
            client.handle_timeout(now);
            while let Some(length) = client.poll_transmit(now, &mut buffer) {
                let from = client_address(n as u16);
                let before = live_bytes();
                node.handle_datagram(unix_now, from, &mut buffer[..length], &mut at_node);
                kept += live_bytes() - before;
            }
        }
        let before = live_bytes();
        for (key, channel, bytes) in at_node.0.drain(..) {
            node.consume(key, channel, bytes);
        }
        node.handle_timeout(now);
        kept += live_bytes() - before;
        loop {
            let before = live_bytes();
            let sent = node.poll_transmit(now, &mut buffer);
            while node.poll_event().is_some() {}
            kept += live_bytes() - before;
            let Some((to, length)) = sent else { break };
            let n = to.port() - client_address(0).port();
            all[usize::from(n)].handle_datagram(now, &mut buffer[..length], &mut at_client);
        }
    }
    assert!(all.iter().all(Connection::is_established));
    kept
}

#[test]
fn an_idle_connection_takes_more_than_its_share() {
    let speak = |client: &mut Connection| {
        for channel in [Channel::Sync, Channel::Presence] {
            client.send(channel, Bytes::from_static(b"here")).unwrap();
        }
    };
    // What all of them share goes out; what grows by doubling is full both times.
    let each = (node_bytes(128, speak) - node_bytes(64, speak)) / 64;
    println!("{each} bytes");
    assert!((1_000..=IDLE_BYTES_MAX).contains(&each), "{each} bytes");
}
