//! Datagrams in and out of everybody.

use std::net::SocketAddr;

use netem::{Direction, Mapping, PathDelivery};
use quantum::{ConnectionKey, Transmit};
use wire::{Ecn, Header, PacketType};

use super::World;
use super::inbox::{Arrival, Inbox};
use super::node::{address_of, client_at, world_time};
use super::taps::Shown;
use crate::datagram::Datagram;
use crate::invariants::closing::{self, EndWatch};
use crate::invariants::{Check, Invariant};
use crate::scenario::EcnPath;

/// Addresses of one client: as many as a word has bits.
const MAPPINGS_MAX: u32 = u64::BITS;

/// Who gets a datagram, or has sent it, has heard from the node at these addresses: bit per mapping.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Proof {
    pub(super) heard: u64,
    /// Something has changed the datagram on its way: it proves nothing unless it is taken nevertheless, as when only what
    /// is not authenticated was changed.
    pub(super) is_changed: bool,
}

impl Proof {
    const fn of(self, is_taken: bool) -> u64 {
        if self.is_changed && !is_taken { 0 } else { self.heard }
    }
}

/// The bit of an address.
pub(super) fn bit(mapping: Mapping) -> u64 {
    debug_assert!(mapping.0 < MAPPINGS_MAX, "an address for each bit");
    1 << (mapping.0 % MAPPINGS_MAX)
}

impl World {
    /// Whatever has come through the networks.
    pub(super) fn deliver(&mut self) -> Check {
        for client in 0..self.hosts.len() {
            if self.hosts[client].path.poll_timeout().is_none_or(|at| at > self.now) {
                continue;
            }
            while let Some(PathDelivery { direction, mapping, payload, .. }) =
                self.hosts[client].path.poll_packet(self.now)
            {
                let Datagram { number, mut bytes, sent, heard, is_damaged, ecn, .. } = payload;
                self.digest.word(number);
                let name = self.trace.is_on().then(|| {
                    let flight = crate::scenario::Ms(self.now.since(sent).as_us());
                    let damage = if is_damaged { ", damaged" } else { "" };
                    format!("{} after {flight}{damage}", self.trace.name_of(number))
                });
                match direction {
                    Direction::Up => {
                        let from = address_of(client, mapping);
                        self.trace.say(self.now, "node", || format!("gets {}", name.unwrap_or_default()));
                        let proof = Proof { heard, is_changed: is_damaged };
                        self.reach_node(client, from, ecn, &mut bytes, proof)?;
                    }
                    Direction::Down => {
                        self.trace.say(self.now, &format!("client {client}"), || {
                            format!("gets {}", name.unwrap_or_default())
                        });
                        let proof = Proof { heard: bit(mapping), is_changed: is_damaged };
                        self.reach_client(client, ecn, &mut bytes, proof)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A datagram reaches the node. `client` is whom it may concern; `proof` is at which of its addresses that client had
    /// heard from the node when it sent this.
    pub(super) fn reach_node(
        &mut self,
        client: usize,
        from: SocketAddr,
        ecn: Ecn,
        bytes: &mut [u8],
        proof: Proof,
    ) -> Check {
        self.has_happened = true;
        self.amplification.on_received(from, bytes.len());
        let mut inbox = std::mem::take(&mut self.inbox);
        let now = self.node.now(self.now);
        self.node.endpoint.handle_marked_datagram(now, from, ecn, bytes, &mut inbox);
        self.node.is_touched = true;
        let result = self.take_from_node(&inbox);
        inbox.clear();
        self.inbox = inbox;
        let is_taken = self.note_heard_by_node(client);
        let heard = proof.of(is_taken);
        for mapping in (0..MAPPINGS_MAX).filter(|mapping| heard & 1 << mapping != 0) {
            self.amplification.on_proof(address_of(client, Mapping(mapping)));
        }
        self.tell_node_counters();
        result
    }

    fn take_from_node(&mut self, inbox: &Inbox) -> Check {
        for arrival in &inbox.arrivals {
            match arrival {
                Arrival::Opened { key, session } => {
                    let attempt = self.attempts.iter().position(|attempt| attempt.session == *session);
                    let Some(attempt) = attempt else {
                        let seen = "the node opened a connection for a session that nobody has".to_owned();
                        return Err((Invariant::OneConnection, seen));
                    };
                    self.on_opened(attempt, *key)?;
                }
                Arrival::Message { key, channel, value_key, bytes } => {
                    let Some(&attempt) = self.node.by_key.get(key) else { continue };
                    if self.attempts[attempt].node_end.as_ref().is_some_and(EndWatch::is_over) {
                        return Err(closing::delivered_late(attempt, "node"));
                    }
                    self.on_message(
                        attempt,
                        Direction::Up,
                        *channel,
                        *value_key,
                        &inbox.bytes[bytes.clone()],
                    )?;
                }
            }
        }
        Ok(())
    }

    fn on_opened(&mut self, number: usize, key: ConnectionKey) -> Check {
        let is_first = self.attempts[number].node_said.is_none() && !self.attempts[number].is_torn;
        let attempt = &mut self.attempts[number];
        if attempt.node_key.is_some() {
            let seen = format!("connection {number} was opened twice");
            return Err((Invariant::OneConnection, seen));
        }
        attempt.node_key = Some(key);
        attempt.node_since = self.now;
        attempt.node_end = Some(EndWatch::new(self.now));
        self.node.by_key.insert(key, number);
        if is_first {
            self.plan_flows(number, Direction::Down);
        }
        Ok(())
    }

    /// Notes which of a client's connections have heard something new; returns whether any has.
    fn note_heard_by_node(&mut self, client: usize) -> bool {
        let Some(host) = self.hosts.get(client) else { return false };
        let mut any = false;
        for &number in &host.attempts {
            let attempt = &mut self.attempts[number];
            let connection = attempt.node_key.and_then(|key| self.node.endpoint.connection(key));
            let (Some(connection), Some(end)) = (connection, &mut attempt.node_end) else { continue };
            let received = connection.stats().datagrams_received;
            if received > attempt.node_heard {
                attempt.node_heard = received;
                end.heard = self.now;
                any = true;
            }
        }
        any
    }

    /// A datagram reaches a client: the connection that it names, or else the newest. `proof` is at which address it was
    /// meant to.
    pub(super) fn reach_client(&mut self, client: usize, ecn: Ecn, bytes: &mut [u8], proof: Proof) -> Check {
        self.has_happened = true;
        self.hosts[client].heard |= proof.of(false);
        let named = Header::parse(bytes).map(|(header, _)| header.connection).ok();
        let owner = named.and_then(|id| self.ids.get(&id));
        let live = |number: &&usize| self.attempts[**number].connection.is_some();
        let host = &self.hosts[client];
        let of_name = host.attempts.iter().rev().filter(live).find(|&&number| owner == Some(&number));
        let Some(&number) = of_name.or_else(|| host.attempts.iter().rev().find(live)) else {
            return Ok(());
        };
        let now = self.client_time(client);
        let mut inbox = std::mem::take(&mut self.inbox);
        let attempt = &mut self.attempts[number];
        attempt.is_touched = true;
        if let Some(connection) = &mut attempt.connection {
            connection.handle_marked_datagram(now, ecn, bytes, &mut inbox);
            let received = connection.stats().datagrams_received;
            if received > attempt.client_heard {
                attempt.client_heard = received;
                attempt.client_end.heard = self.now;
                self.hosts[client].heard |= proof.of(true);
            }
        }
        let result = self.take_from_client(number, &inbox);
        inbox.clear();
        self.inbox = inbox;
        self.tell_client_counters(number);
        result
    }

    fn take_from_client(&mut self, number: usize, inbox: &Inbox) -> Check {
        for arrival in &inbox.arrivals {
            let Arrival::Message { channel, value_key, bytes, .. } = arrival else { continue };
            if self.attempts[number].client_end.is_over() {
                return Err(closing::delivered_late(number, "client"));
            }
            self.on_message(number, Direction::Down, *channel, *value_key, &inbox.bytes[bytes.clone()])?;
        }
        Ok(())
    }

    pub(super) fn run_timers(&mut self) -> Check {
        for index in 0..self.live.len() {
            let number = self.live[index];
            if self.attempts[number].wake.is_some_and(|at| at <= self.now) {
                let now = self.client_time(self.attempts[number].client);
                let attempt = &mut self.attempts[number];
                attempt.is_touched = true;
                if let Some(connection) = &mut attempt.connection {
                    connection.handle_timeout(now);
                }
                self.tell_client_counters(number);
            }
        }
        if self.node.wake().is_some_and(|at| at <= self.now) {
            let now = self.node.now(self.now).mono;
            self.node.endpoint.handle_timeout(now);
            self.node.is_touched = true;
            self.tell_node_counters();
        }
        Ok(())
    }

    /// Lets everybody send who was touched, until nobody has anything to say.
    pub(super) fn flush(&mut self) -> Check {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut result = Ok(());
        let mut is_settled = false;
        while !is_settled && result.is_ok() {
            is_settled = true;
            for index in 0..self.live.len() {
                let number = self.live[index];
                if std::mem::take(&mut self.attempts[number].is_touched) && result.is_ok() {
                    is_settled = false;
                    result = self.flush_client(number, &mut buffer);
                }
            }
            if std::mem::take(&mut self.node.is_touched) && result.is_ok() {
                is_settled = false;
                result = self.flush_node(&mut buffer);
            }
        }
        self.buffer = buffer;
        let attempts = &self.attempts;
        self.live.retain(|&number| attempts[number].connection.is_some());
        result
    }

    fn flush_client(&mut self, number: usize, buffer: &mut [u8]) -> Check {
        self.take_client_events(number)?;
        let now = self.client_time(self.attempts[number].client);
        let train_max = self.scenario.train_datagrams_max;
        let attempt = &mut self.attempts[number];
        if let Some(connection) = &attempt.connection {
            attempt.client_window.before(connection);
        }
        while let Some(connection) = self.connection_of(number) {
            let Some(train) = connection.poll_transmit_train(now, buffer, train_max) else { break };
            self.leave_client(number, &buffer[..train.bytes], train)?;
        }
        self.take_client_events(number)?;
        self.tell_client_counters(number);
        self.client_packets.clear();
        let clock = self.scenario.clients[self.attempts[number].client].clock;
        let attempt = &mut self.attempts[number];
        if let Some(connection) = &attempt.connection {
            attempt.client_window.after(connection)?;
            attempt.wake = connection.poll_timeout().map(|at| world_time(at, clock));
            if connection.is_drained() {
                attempt.connection = None;
            }
        }
        Ok(())
    }

    fn take_client_events(&mut self, number: usize) -> Check {
        while let Some(event) = self.connection_of(number).and_then(quantum::Connection::poll_event) {
            self.on_client_event(number, event)?;
        }
        Ok(())
    }

    fn leave_client(&mut self, number: usize, train: &[u8], sizes: Transmit) -> Check {
        let client = self.attempts[number].client;
        let heard = self.hosts[client].heard;
        let from = address_of(client, self.hosts[client].path.mapping());
        for datagram in train.chunks(sizes.segment_bytes) {
            let shown = self.client_packets.take(datagram);
            let attempt = &self.attempts[number];
            if attempt.client_end.is_over() {
                closing::check_last_words(number, datagram, shown.as_ref().map(|shown| &shown.frames[..]))?;
            }
            check_size(datagram, self.client_config.datagram_bytes_max)?;
            if let (Ok((header, _)), Some(shown)) = (Header::parse(datagram), &shown) {
                self.ids.insert(header.connection, number);
                self.attempts[number].client_window.on_packet(datagram.len(), &shown.frames);
            }
            let name = self.attempts[number].name();
            let mut payload = self.datagram(&name, datagram, heard, shown.as_ref());
            self.show_attacker(Direction::Up, client, from, heard, datagram);
            if self.mark(&mut payload, sizes.ecn) {
                self.hosts[client].path.handle_up(self.now, payload);
            }
        }
        Ok(())
    }

    /// A datagram that goes into the network.
    fn datagram(&mut self, sender: &str, bytes: &[u8], heard: u64, shown: Option<&Shown>) -> Datagram {
        let number = self.datagrams;
        self.datagrams += 1;
        self.digest.bytes(bytes);
        self.trace.on_sent(self.now, number, sender, bytes, shown.map(|shown| &shown.frames[..]));
        let (sent, drops) = (self.now, self.drops.clone());
        let ecn = Ecn::NotEct;
        Datagram { number, bytes: bytes.to_vec(), sent, heard, is_damaged: false, ecn, drops }
    }

    /// Gives a datagram its mark, as the network leaves it; returns whether the network lets it pass.
    fn mark(&mut self, datagram: &mut Datagram, ecn: Ecn) -> bool {
        let is_healed = self.now >= self.scenario.heal_at;
        let path = if is_healed { EcnPath::Clean } else { self.scenario.ecn_path };
        let passes = path.carry(datagram.number, ecn).inspect(|&ecn| datagram.ecn = ecn).is_some();
        if !passes && self.trace.is_on() {
            let name = self.trace.name_of(datagram.number).to_owned();
            self.trace.say(self.now, "network", || format!("drops {name}, which is marked"));
        }
        passes
    }

    fn flush_node(&mut self, buffer: &mut [u8]) -> Check {
        self.take_node_events()?;
        for (&key, &number) in &self.node.by_key {
            if let Some(connection) = self.node.endpoint.connection(key) {
                self.attempts[number].node_window.before(connection);
            }
        }
        let now = self.node.now(self.now).mono;
        let train_max = self.scenario.train_datagrams_max;
        while let Some((to, train)) = self.node.endpoint.poll_transmit_train(now, buffer, train_max) {
            self.leave_node(to, &buffer[..train.bytes], train)?;
        }
        self.take_node_events()?;
        self.tell_node_counters();
        self.node.packets.clear();
        for (&key, &number) in &self.node.by_key {
            if let Some(connection) = self.node.endpoint.connection(key) {
                self.attempts[number].node_window.after(connection)?;
            }
        }
        self.node.rearm();
        Ok(())
    }

    fn take_node_events(&mut self) -> Check {
        while let Some((key, event)) = self.node.endpoint.poll_event() {
            if let Some(&attempt) = self.node.by_key.get(&key) {
                self.on_node_event(attempt, event)?;
            }
        }
        Ok(())
    }

    fn leave_node(&mut self, to: SocketAddr, train: &[u8], sizes: Transmit) -> Check {
        for datagram in train.chunks(sizes.segment_bytes) {
            let shown = self.node.packets.take(datagram);
            self.check_node_last_words(datagram, shown.as_ref())?;
            check_size(datagram, self.node.config.datagram_bytes_max)?;
            self.amplification.on_sent(to, datagram.len())?;
            let mut payload = self.datagram("node", datagram, 0, shown.as_ref());
            let passes = self.mark(&mut payload, sizes.ecn);
            match client_at(to) {
                Some((client, mapping)) if client < self.hosts.len() => {
                    self.show_attacker(Direction::Down, client, to, 0, datagram);
                    if passes {
                        self.hosts[client].path.handle_down(self.now, mapping, payload);
                    }
                }
                _ => self.trace.say(self.now, "attacker", || format!("gets what was sent to {to}")),
            }
        }
        Ok(())
    }

    fn check_node_last_words(&mut self, datagram: &[u8], shown: Option<&Shown>) -> Check {
        let Ok((header, PacketType::Data)) = Header::parse(datagram) else { return Ok(()) };
        let Some(&number) = self.ids.get(&header.connection) else { return Ok(()) };
        if let Some(shown) = shown {
            self.attempts[number].node_window.on_packet(datagram.len(), &shown.frames);
        }
        let is_over = self.attempts[number].node_end.as_ref().is_some_and(EndWatch::is_over);
        if !is_over {
            return Ok(());
        }
        closing::check_last_words(number, datagram, shown.map(|shown| &shown.frames[..]))
    }
}

/// No packet is longer than a datagram may be.
fn check_size(datagram: &[u8], bytes_max: usize) -> Check {
    if datagram.len() <= bytes_max {
        return Ok(());
    }
    Err((Invariant::DatagramSize, format!("a datagram of {} B, over {bytes_max}", datagram.len())))
}
