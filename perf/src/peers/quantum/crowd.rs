//! Many connections on one socket.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quantum::{Channel, Config, Connection, ConnectionKey, Event, MessageSink};
use rt::{Clock, PacketRing, PacketRingConfig, Sent};
use wire::{Guuid, Header, Time};

use super::setup::{Issuer, bind, config, now};
use crate::peer::{Crowd, MESSAGE_HEADER_BYTES, MessageHeader, Request};
use crate::peers::ClientContext;

/// Handshakes under way at a time.
const HANDSHAKES_MAX: usize = 64;
/// How long one step of growing may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the echo that proves a connection on both sides has come.
#[derive(Default)]
struct Echoes(usize);

impl MessageSink for Echoes {
    fn on_message(&mut self, _: ConnectionKey, _: Channel, _: &[u8]) {
        self.0 += 1;
    }
}

struct QuantumCrowd {
    ring: PacketRing,
    server: SocketAddr,
    issuer: Issuer,
    config: Arc<Config>,
    clock: Clock,
    connections: HashMap<Guuid, Connection>,
    /// Those that something has come for, or that have just been made.
    touched: Vec<Guuid>,
    echoes: Echoes,
}

/// A crowd without connections.
pub(super) fn gather(context: &ClientContext<'_>) -> io::Result<Box<dyn Crowd>> {
    let ring = PacketRing::new(bind()?, PacketRingConfig::default()).map_err(io::Error::other)?;
    Ok(Box::new(QuantumCrowd {
        ring,
        server: context.ready.address,
        issuer: Issuer::parse(&context.ready.secret)?,
        config: config(context.packet_bytes),
        clock: Clock::new(),
        connections: HashMap::new(),
        touched: Vec::new(),
        echoes: Echoes::default(),
    }))
}

impl Crowd for QuantumCrowd {
    fn grow(&mut self, count: usize) -> io::Result<()> {
        let (mut begun, before) = (0, self.echoes.0);
        let mut last_echo = Instant::now();
        while self.echoes.0 - before < count {
            let done = self.echoes.0 - before;
            while begun < count && begun - done < HANDSHAKES_MAX {
                let connection = self.issuer.connect(now(self.clock), &self.config)?;
                self.touched.push(connection.id());
                self.connections.insert(connection.id(), connection);
                begun += 1;
            }
            self.turn()?;
            if self.echoes.0 - before > done {
                last_echo = Instant::now();
            } else if last_echo.elapsed() > PATIENCE {
                return Err(io::Error::other("connections of quantum are not established"));
            } else if self.touched.is_empty() {
                self.handle_timeouts(self.clock.now());
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> io::Result<()> {
        self.handle_timeouts(self.clock.now());
        self.turn()
    }
}

impl QuantumCrowd {
    /// Takes in what has come, and sends what those have to say that it was for.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        let Self { ring, connections, touched, echoes, .. } = self;
        ring.poll(|_, datagram| {
            let Ok((header, _)) = Header::parse(datagram) else { return };
            let id = header.connection;
            if let Some(connection) = connections.get_mut(&id) {
                connection.handle_datagram(now, datagram, echoes);
                touched.push(id);
            }
        })
        .map_err(io::Error::other)?;
        while let Some(id) = self.touched.pop() {
            self.settle(now, id)?;
        }
        self.ring.flush().map_err(io::Error::other)
    }

    fn settle(&mut self, now: Time, id: Guuid) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Connected => {
                    let mut message = [0; MESSAGE_HEADER_BYTES];
                    MessageHeader { request: Request::Echo, number: 0 }.write(&mut message);
                    let message = Bytes::copy_from_slice(&message);
                    connection.send(Channel::Sync, message).map_err(io::Error::other)?;
                }
                Event::Writable | Event::Finishing => {}
                Event::Closed(reason) => return Err(io::Error::other(reason.to_string())),
            }
        }
        let to = self.server;
        loop {
            let sent =
                self.ring.send(|buffer| connection.poll_transmit(now, buffer).map(|bytes| (bytes, to)));
            match sent.map_err(io::Error::other)? {
                Sent::Queued => {}
                Sent::Nothing | Sent::Full => return Ok(()),
            }
        }
    }

    fn handle_timeouts(&mut self, now: Time) {
        for (id, connection) in &mut self.connections {
            if connection.poll_timeout().is_some_and(|due| due <= now) {
                connection.handle_timeout(now);
                self.touched.push(*id);
            }
        }
    }
}
