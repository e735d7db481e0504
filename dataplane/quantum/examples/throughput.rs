//! How many messages a second one core moves through a connection, both ends included.
//!
//! `cargo run --release -p quantum --example throughput -- [message bytes] [messages per turn]`

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use quantum::{Channel, Config, Connection, ConnectionKey, Endpoint, EndpointLimits, MessageSink, Now};
use wire::{Guuid, Span, Ticket, TicketKeyRing, Time};

const MESSAGES: usize = 4_000_000;

#[derive(Default)]
struct Counter {
    key: ConnectionKey,
    messages: usize,
    bytes: usize,
}

impl MessageSink for Counter {
    fn on_open(&mut self, from: ConnectionKey, _: &Ticket) {
        self.key = from;
    }

    fn on_message(&mut self, _: ConnectionKey, _: Channel, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let message_bytes: usize = arguments.next().map_or(Ok(60), |text| text.parse())?;
    let per_turn: usize = arguments.next().map_or(Ok(100), |text| text.parse())?;

    let ticket = Ticket {
        session_id: Guuid::NIL,
        writer_id: Guuid::NIL,
        psk: [1; 32],
        expires_unix_s: u64::MAX,
        grants: Vec::new(),
    };
    let keys = TicketKeyRing::new([(1, [2; 32])]);
    let sealed = keys.seal(&ticket, [3; 12])?;
    let config = Arc::new(Config::default());
    let mut node = Endpoint::new(config.clone(), EndpointLimits::default(), [4; 32]);
    node.set_ticket_keys(keys);
    let mut now = Now::default();
    let mut client = Connection::connect(now, config, Guuid::new(1, [5; 10]), &sealed, &ticket.psk, [6; 32])?;

    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let payload = Bytes::from(vec![7; message_bytes]);
    let (mut at_node, mut at_client) = (Counter::default(), Counter::default());
    let mut buffer = [0; 1_500];
    let mut queued = 0;
    let started = Instant::now();
    while at_node.messages < MESSAGES {
        now.mono += Span::from_us(20);
        for _ in 0..per_turn.min(MESSAGES - queued) {
            if client.send(Channel::Sync, payload.clone()).is_err() {
                break;
            }
            queued += 1;
        }
        while let Some(length) = client.poll_transmit(now.mono, &mut buffer) {
            node.handle_datagram(now, from, &mut buffer[..length], &mut at_node);
        }
        node.consume(at_node.key, Channel::Sync, std::mem::take(&mut at_node.bytes));
        node.handle_timeout(now.mono);
        while let Some((_, length)) = node.poll_transmit(now.mono, &mut buffer) {
            client.handle_datagram(now.mono, &mut buffer[..length], &mut at_client);
        }
        client.handle_timeout(now.mono);
    }
    let elapsed = started.elapsed();
    let rate = MESSAGES as f64 / elapsed.as_secs_f64();
    let packets = client.stats().datagrams_sent;
    println!(
        "{MESSAGES} messages of {message_bytes} B in {packets} packets: {rate:.0} messages/s, both ends on one core"
    );
    println!("lost {}, time in the machine {:?}", client.stats().packets_lost, now.mono.since(Time::ZERO));
    Ok(())
}
