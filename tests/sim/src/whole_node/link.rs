//! The ways from clients to shards: connections, datagrams, events.

use bytes::Bytes;
use netem::Path;
use quantum::{Connection, ConnectionKey, Event, MessageSink, Now, SendError};
use wire::sync::Channel;
use wire::{Code, Ecn, Span, Time};

use super::{BUFFER_BYTES, World, unix_ms};
use crate::datagram::Datagram;
use crate::draw::Draw;
use crate::invariants::{Check, Invariant};

/// A client comes back after so long at first, then after twice as long each time.
pub(super) const BACKOFF_US: (u64, u64) = (5_000, 400_000);

/// The way from a client to a shard.
pub(super) struct Link {
    pub(super) client: usize,
    pub(super) shard: usize,
    pub(super) path: Path<Datagram>,
    pub(super) connection: Option<Connection>,
    pub(super) wake: Option<Time>,
    pub(super) is_touched: bool,
    pub(super) backoff_us: u64,
    pub(super) retry_at: Time,
    /// Whose part a document number of the node is.
    pub(super) numbers: Vec<(u32, usize)>,
    /// Presence of documents whose numbers are not known: it has overtaken the answer to the join.
    pub(super) early: Vec<(u32, Vec<u8>)>,
    /// Read and not given back yet.
    pub(super) unread: Vec<(Channel, usize)>,
}

impl Link {
    pub(super) const fn new(client: usize, shard: usize, path: Path<Datagram>) -> Self {
        Self {
            client,
            shard,
            path,
            connection: None,
            wake: None,
            is_touched: false,
            backoff_us: BACKOFF_US.0,
            retry_at: Time::ZERO,
            numbers: Vec::new(),
            early: Vec::new(),
            unread: Vec::new(),
        }
    }

    /// Hands the connection a message; false: it takes none now.
    pub(super) fn send(&mut self, channel: Channel, message: Bytes) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        match connection.send(channel, message) {
            Ok(()) => {
                self.is_touched = true;
                true
            }
            Err(SendError::Full | SendError::Closed | SendError::TooLarge { .. } | SendError::Deadline) => {
                false
            }
        }
    }
}

/// What a connection delivers.
#[derive(Default)]
pub(super) struct Inbox(Vec<(Channel, Vec<u8>)>);

impl MessageSink for Inbox {
    fn on_message(&mut self, _: ConnectionKey, channel: Channel, message: &[u8]) {
        self.0.push((channel, message.to_vec()));
    }
}

impl World {
    /// Whether there is a connection to send on; begins one when it is time.
    pub(super) fn open_link(&mut self, number: usize) -> bool {
        let now = self.now;
        let link = &self.links[number];
        if link.connection.is_some() {
            return true;
        }
        let (client, shard) = (link.client, link.shard);
        if link.retry_at > now {
            self.pumps.insert((link.retry_at, client));
            return false;
        }
        let id = self.guuid().with_shard(shard as u8);
        let entropy = self.random.bytes32();
        let process = &self.clients[client];
        let at = Now { mono: now, unix_ms: unix_ms(now) };
        let connection =
            Connection::connect(at, self.client_config.clone(), id, &process.ticket, &process.psk, entropy);
        let link = &mut self.links[number];
        link.connection = Some(connection.expect("a drawn configuration is valid"));
        link.is_touched = true;
        link.numbers.clear();
        link.early.clear();
        link.unread.clear();
        // A socket of its own.
        link.path.rebind();
        self.say_client(client, || format!("connects to shard {shard}"));
        true
    }

    /// A datagram reaches a client.
    pub(super) fn reach_client(&mut self, number: usize, ecn: Ecn, bytes: &mut [u8]) -> Check {
        let link = &mut self.links[number];
        let Some(connection) = &mut link.connection else { return Ok(()) };
        link.is_touched = true;
        let mut inbox = std::mem::take(&mut self.inbox);
        connection.handle_marked_datagram(self.now, ecn, bytes, &mut inbox);
        let result =
            inbox.0.drain(..).try_for_each(|(channel, message)| self.on_message(number, channel, &message));
        self.inbox = inbox;
        result?;
        self.take_events(number)
    }

    /// What was read is done with.
    pub(super) fn give_credit(&mut self, number: usize) {
        let link = &mut self.links[number];
        link.is_touched = true;
        if let Some(connection) = &mut link.connection {
            link.unread.drain(..).for_each(|(channel, bytes)| connection.consume(channel, bytes));
        }
    }

    /// What the connections of a client have to say themselves.
    pub(super) fn take_events(&mut self, number: usize) -> Check {
        while let Some(event) = self.links[number].connection.as_mut().and_then(Connection::poll_event) {
            let client = self.links[number].client;
            match event {
                Event::Connected | Event::Finishing => {}
                Event::Writable => self.pump_client(client),
                Event::Closed(reason) => {
                    let known = Code::from_u16(reason.code);
                    if matches!(
                        known,
                        Some(Code::MalformedMessage | Code::Protocol | Code::FlowControl) | None
                    ) {
                        return Err((Invariant::StatedReason, format!("a connection ends: {reason}")));
                    }
                    let shard = self.links[number].shard;
                    self.say_client(client, || format!("has lost its connection to shard {shard}: {reason}"));
                    self.lose_connection(number);
                }
            }
        }
        Ok(())
    }

    /// All clients notice at once that the node is gone.
    pub(super) fn lose_connections(&mut self) {
        let open = |link: &usize| self.links[*link].connection.is_some();
        for number in (0..self.links.len()).filter(open).collect::<Vec<_>>() {
            self.lose_connection(number);
        }
    }

    fn lose_connection(&mut self, number: usize) {
        let link = &mut self.links[number];
        let (client, shard) = (link.client, link.shard);
        link.connection = None;
        link.wake = None;
        let pause_us = self.random.between(link.backoff_us / 2, link.backoff_us);
        link.backoff_us = (link.backoff_us * 2).min(BACKOFF_US.1);
        link.retry_at = self.now + Span::from_us(pause_us);
        self.pumps.insert((link.retry_at, client));
        let now = self.now;
        let sessions = self.clients[client].sessions.iter_mut();
        sessions.filter(|session| session.shard == shard).for_each(|session| session.disconnect(now));
    }

    /// Timers and datagrams of a client's connection.
    pub(super) fn flush_link(&mut self, number: usize) -> Check {
        let now = self.now;
        if self.links[number].wake.is_some_and(|at| at <= now) {
            self.links[number].is_touched = true;
            if let Some(connection) = &mut self.links[number].connection {
                connection.handle_timeout(now);
            }
            self.take_events(number)?;
        }
        if !std::mem::take(&mut self.links[number].is_touched) {
            return Ok(());
        }
        let mut buffer = [0; BUFFER_BYTES];
        while let Some(length) = self.links[number]
            .connection
            .as_mut()
            .and_then(|connection| connection.poll_transmit(now, &mut buffer))
        {
            let datagram = self.datagram(&buffer[..length]);
            self.links[number].path.handle_up(now, datagram);
        }
        self.take_events(number)?;
        let link = &mut self.links[number];
        link.wake = link.connection.as_ref().and_then(Connection::poll_timeout);
        Ok(())
    }
}
