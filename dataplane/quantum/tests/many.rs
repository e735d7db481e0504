//! Many connections on one endpoint.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Inbox, UNIX_S, client_address, keys, sealed_ticket};
use quantum::{Channel, Config, Connection, ConnectionKey, Endpoint, EndpointLimits, Now};
use wire::{Guuid, Span, Time};

const CLIENTS: u16 = 1_000;

struct Crowd {
    node: Endpoint,
    clients: Vec<Connection>,
    at_node: Inbox,
    at_client: Vec<Inbox>,
    now: Time,
}

impl Crowd {
    fn new() -> Self {
        Self::with_limits(EndpointLimits::default())
    }

    fn with_limits(limits: EndpointLimits) -> Self {
        let config = Arc::new(Config::default());
        // All of them come in one turn.
        let all = usize::from(CLIENTS);
        let limits =
            EndpointLimits { half_open_retry: all, unproven_per_tick_max: u32::from(CLIENTS), ..limits };
        let mut node = Endpoint::new(config.clone(), limits, [1; 32]);
        node.set_ticket_keys(keys());
        let ticket = sealed_ticket();
        let connect = |n: u16| {
            let mut entropy = [3; 32];
            entropy[..2].copy_from_slice(&n.to_be_bytes());
            let id = Guuid::new(u64::from(n), [4; 10]);
            Connection::connect(Now::default(), config.clone(), id, &ticket, &common::PSK, entropy).unwrap()
        };
        let clients = (0..CLIENTS).map(connect).collect();
        let at_client = (0..CLIENTS).map(|_| Inbox::default()).collect();
        Self { node, clients, at_node: Inbox::default(), at_client, now: Time::from_us(1) }
    }

    /// The next packet of each of the clients is lost, and what follows at once arrives.
    fn lose_first(&mut self) {
        let mut buffer = [0; 1_500];
        let now = Now { mono: self.now, unix_ms: UNIX_S * 1_000 };
        for (n, client) in self.clients.iter_mut().enumerate() {
            let _ = client.poll_transmit(self.now, &mut buffer);
            while let Some(length) = client.poll_transmit(self.now, &mut buffer) {
                let from = client_address(n as u16);
                self.node.handle_datagram(now, from, &mut buffer[..length], &mut self.at_node);
            }
        }
    }

    /// One turn of everybody; returns to whom the node sent, in order.
    fn turn(&mut self) -> Vec<u16> {
        let mut buffer = [0; 1_500];
        let now = Now { mono: self.now, unix_ms: UNIX_S * 1_000 };
        for (n, client) in self.clients.iter_mut().enumerate() {
            client.handle_timeout(self.now);
            while let Some(length) = client.poll_transmit(self.now, &mut buffer) {
                let from = client_address(n as u16);
                self.node.handle_datagram(now, from, &mut buffer[..length], &mut self.at_node);
            }
        }
        self.node.handle_timeout(self.now);
        let mut order = Vec::new();
        while let Some((to, length)) = self.node.poll_transmit(self.now, &mut buffer) {
            let n = to.port() - client_address(0).port();
            order.push(n);
            let inbox = &mut self.at_client[usize::from(n)];
            self.clients[usize::from(n)].handle_datagram(self.now, &mut buffer[..length], inbox);
        }
        self.now += Span::from_us(500);
        order
    }

    /// Everybody has connected and is silent, and no timer is near; returns what came from each.
    fn settle(&mut self) -> Vec<(ConnectionKey, Channel, Vec<u8>)> {
        for client in &mut self.clients {
            client.send(Channel::Sync, Bytes::from_static(b"here")).unwrap();
        }
        for _ in 0..28 {
            self.turn();
        }
        self.now += Span::from_ms(1_000);
        assert!(self.turn().is_empty());
        std::mem::take(&mut self.at_node.messages)
    }
}

#[test]
fn connections_are_mixed_up() {
    let mut crowd = Crowd::new();
    for (n, client) in crowd.clients.iter_mut().enumerate() {
        client.send(Channel::Sync, Bytes::from(n.to_be_bytes().to_vec())).unwrap();
    }
    crowd.turn();
    assert_eq!(crowd.at_node.messages.len(), usize::from(CLIENTS));
    for (key, channel, message) in std::mem::take(&mut crowd.at_node.messages) {
        crowd.node.send(key, channel, message.into()).unwrap();
    }
    for _ in 0..8 {
        crowd.turn();
    }
    for (n, inbox) in crowd.at_client.iter().enumerate() {
        assert_eq!(inbox.messages[0].2, n.to_be_bytes());
        assert_eq!(inbox.messages.len(), 1);
    }
    for _ in 0..20 {
        crowd.turn();
    }
    crowd.now += Span::from_ms(1_000);
    assert!(crowd.turn().is_empty(), "idle connections are silent");
    let due = crowd.node.poll_timeout().unwrap();
    assert!(due > crowd.now + Span::from_ms(1_000), "and arm no timers");
}

#[test]
fn one_connection_keeps_the_others_waiting() {
    let mut crowd = Crowd::new();
    for _ in 0..8 {
        crowd.turn();
    }
    let keys: Vec<_> = crowd.at_node.opened.iter().map(|(key, _)| *key).collect();
    for number in 0..20 {
        crowd.node.send(keys[7], Channel::Sync, vec![number; 100_000].into()).unwrap();
    }
    crowd.node.send(keys[9], Channel::Sync, Bytes::from_static(b"short")).unwrap();
    let order = crowd.turn();
    let waited = order.iter().position(|&n| n == 9).unwrap();
    assert!(waited <= 8 && order.len() > 20, "{waited} datagrams of another connection before");
}

#[test]
fn a_driver_that_stops_sending_early_sleeps_over_it() {
    let mut crowd = Crowd::new();
    crowd.turn();
    let key = crowd.at_node.opened[3].0;
    crowd.node.send(key, Channel::Sync, Bytes::from_static(b"op")).unwrap();
    assert!(crowd.node.poll_timeout().is_some_and(|due| due <= crowd.now));
    crowd.turn();
    assert!(crowd.node.poll_timeout().is_some_and(|due| due >= crowd.now));
}

#[test]
fn a_message_for_everybody_keeps_the_others_waiting() {
    let mut crowd = Crowd::new();
    let present = crowd.settle();
    assert_eq!(present.len(), usize::from(CLIENTS));
    for (key, channel, _) in &present {
        crowd.node.send_behind(*key, *channel, Bytes::from_static(b"for all")).unwrap();
    }
    let (last, channel, _) = present[usize::from(CLIENTS) - 1];
    crowd.node.send(last, channel, Bytes::from_static(b"for one")).unwrap();
    let order = crowd.turn();
    assert_eq!(order[0], CLIENTS - 1, "who is sent something of its own");
    assert_eq!(order.len(), usize::from(CLIENTS), "one datagram to each, and all of it now");
    let messages: Vec<_> =
        crowd.at_client[usize::from(CLIENTS) - 1].messages.iter().map(|m| &m.2[..]).collect();
    assert_eq!(messages, [&b"for all"[..], b"for one"], "a channel keeps its order");
}

#[test]
fn what_can_wait_waits_as_long_as_anybody_else_sends() {
    let mut crowd = Crowd::new();
    let present = crowd.settle();
    let (waiting, others) = present.split_first().unwrap();
    crowd.node.send_behind(waiting.0, waiting.1, Bytes::from_static(b"later")).unwrap();
    for (key, channel, _) in others {
        crowd.node.send(*key, *channel, Bytes::from_static(b"now")).unwrap();
    }
    let order = crowd.turn();
    let at = order.iter().position(|&n| n == 0).unwrap();
    assert!(at > 0 && at < 32, "it left as number {at}");
}

#[test]
fn peers_that_leave_gaps_take_all_the_memory() {
    let limits = EndpointLimits { receive_buffer_bytes_max: 1 << 20, ..EndpointLimits::default() };
    let mut crowd = Crowd::with_limits(limits);
    for _ in 0..8 {
        crowd.turn();
    }
    // Each of these messages lacks its first packet, or waits for one that does.
    for client in crowd.clients.iter_mut().take(30) {
        for _ in 0..4 {
            client.send(Channel::Sync, vec![7; 20_000].into()).unwrap();
        }
    }
    crowd.clients[900].send(Channel::Sync, vec![7; 20_000].into()).unwrap();
    crowd.lose_first();
    let held: u64 = crowd.node.connections().map(|(found, _)| found.footprint().held_bytes as u64).sum();
    assert!((1 << 19..1 << 20).contains(&held), "{held} bytes");
    let closed = crowd.node.stats().receive_buffer_limit;
    assert!((4..30).contains(&closed), "{closed}");
    let is_open = |connection: &Connection| !connection.is_closed();
    let open = crowd.node.connections().filter(|(connection, _)| is_open(connection)).count() as u64;
    assert_eq!(open + closed, u64::from(CLIENTS), "nobody else");
    assert!(is_open(crowd.node.connection(crowd.at_node.opened[900].0).unwrap()), "who holds less");
    crowd.turn();
    crowd.turn();
    let events = crowd.clients.iter_mut().flat_map(|client| std::iter::from_fn(|| client.poll_event()));
    let overloaded = events.filter(|event| match event {
        quantum::Event::Closed(reason) => reason.code == wire::Code::Overloaded as u16,
        _ => false,
    });
    assert_eq!(overloaded.count() as u64, closed, "and they are told");
}

#[test]
fn peers_that_take_nothing_fill_the_memory_or_keep_others_from_theirs() {
    let limits = EndpointLimits { send_buffer_bytes_max: 1 << 20, ..EndpointLimits::default() };
    let mut crowd = Crowd::with_limits(limits);
    let present = crowd.settle();
    let large = || Bytes::from(vec![7; 60_000]);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..10 {
        for (key, channel, _) in &present[..20] {
            match crowd.node.send(*key, *channel, large()) {
                Ok(()) => taken += 1,
                Err(error) => {
                    assert_eq!(error, quantum::SendError::Full);
                    refused += 1;
                }
            }
        }
    }
    // Each may have its share, and what is left is first come, first served.
    assert!(taken >= 20 && refused > 100, "{taken} taken, {refused} refused");
    assert_eq!(crowd.node.stats().send_buffer_limit, refused);
    let queued = crowd.node.queued_bytes();
    assert!(queued <= (1 << 20) + 20 * (64 << 10), "{queued} bytes");
    let (reader, channel, _) = &present[500];
    crowd.node.send(*reader, *channel, Bytes::from_static(b"for who reads")).unwrap();
    for _ in 0..400 {
        crowd.turn();
    }
    assert_eq!(crowd.node.queued_bytes(), 0, "acknowledged, and still counted");
    let writable = std::iter::from_fn(|| crowd.node.poll_event());
    let writable = writable.filter(|(_, event)| *event == quantum::Event::Writable).count();
    assert!(writable >= 10, "{writable} are told that there is room again");
}
