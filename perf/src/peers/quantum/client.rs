//! The client: one connection on a packet ring of its own.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quantum::{Channel, Connection, ConnectionKey, Event, MessageSink, SendError};
use rt::{Clock, PacketRing, PacketRingConfig, Sent as RingSent, Train};
use wire::Time;

use super::setup::{Issuer, bind, config, now};
use crate::peer::{Client, EarlyConnector, Sent};
use crate::peers::ClientContext;

/// Datagrams sent in one turn, so that what comes in is never kept waiting long.
const DATAGRAMS_PER_TURN: usize = 256;
/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hands messages on, and counts what is to be given back as credit.
struct Inbox<'a> {
    on_message: &'a mut dyn FnMut(&[u8]),
    messages: usize,
    bytes: usize,
}

impl MessageSink for Inbox<'_> {
    fn on_message(&mut self, _: ConnectionKey, _: Channel, message: &[u8]) {
        (self.on_message)(message);
        self.messages += 1;
        self.bytes += message.len();
    }
}

struct QuantumClient {
    connection: Connection,
    ring: PacketRing,
    server: SocketAddr,
    clock: Clock,
    is_connected: bool,
    /// Whether the connection may have something to send.
    is_ready: bool,
    /// When the connection wants to be called, though nothing comes.
    due: Option<Time>,
}

/// Connects; returns when the server has answered.
pub(super) fn connect(context: &ClientContext<'_>) -> io::Result<Box<dyn Client>> {
    let issuer = Issuer::parse(&context.ready.secret)?;
    let mut client = begin(&issuer, context.ready.address, context.packet_bytes)?;
    let give_up = Instant::now() + PATIENCE;
    while !client.is_connected {
        if Instant::now() > give_up {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.turn(&mut |_| {})?;
    }
    Ok(Box::new(client))
}

/// A connection that has sent nothing yet.
fn begin(issuer: &Issuer, server: SocketAddr, packet_bytes: u16) -> io::Result<QuantumClient> {
    let socket: UdpSocket = bind()?;
    socket.connect(server)?;
    let ring = PacketRing::new(socket, PacketRingConfig::default()).map_err(io::Error::other)?;
    let clock = Clock::new();
    let connection = issuer.connect(now(clock), &config(packet_bytes))?;
    Ok(QuantumClient { connection, ring, server, clock, is_connected: false, is_ready: true, due: None })
}

/// Nothing has to be agreed on before but the ticket, which comes from elsewhere.
struct Early {
    issuer: Issuer,
    server: SocketAddr,
    packet_bytes: u16,
}

pub(super) fn prepare_early(context: &ClientContext<'_>) -> io::Result<Box<dyn EarlyConnector>> {
    let issuer = Issuer::parse(&context.ready.secret)?;
    Ok(Box::new(Early { issuer, server: context.ready.address, packet_bytes: context.packet_bytes }))
}

impl EarlyConnector for Early {
    fn connect(&mut self) -> io::Result<Box<dyn Client>> {
        Ok(Box::new(begin(&self.issuer, self.server, self.packet_bytes)?))
    }
}

impl QuantumClient {
    /// Sends out and takes in what there is; returns how many messages came.
    fn turn(&mut self, on_message: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let now = self.clock.now();
        // What was given to be sent does not wait for a look at the socket.
        if self.is_ready {
            self.transmit(now)?;
        }
        let mut inbox = Inbox { on_message, messages: 0, bytes: 0 };
        let connection = &mut self.connection;
        let polled = self
            .ring
            .poll(|arrival, datagram| {
                connection.handle_marked_datagram(now, arrival.ecn, datagram, &mut inbox);
            })
            .map_err(io::Error::other)?;
        let (messages, bytes) = (inbox.messages, inbox.bytes);
        let is_due = self.due.is_some_and(|due| due <= now);
        if polled.datagrams == 0 && !is_due {
            return Ok(0);
        }
        if bytes > 0 {
            self.connection.consume(Channel::Sync, bytes);
        }
        if is_due {
            self.connection.handle_timeout(now);
        }
        self.transmit(now)?;
        self.take_events()?;
        Ok(messages)
    }

    fn take_events(&mut self) -> io::Result<()> {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::Writable | Event::Finishing => {}
                Event::Closed(reason) => return Err(io::Error::other(reason.to_string())),
            }
        }
        Ok(())
    }

    fn transmit(&mut self, now: Time) -> io::Result<()> {
        let mut datagrams = 0;
        self.is_ready = true;
        while datagrams < DATAGRAMS_PER_TURN {
            let (connection, to) = (&mut self.connection, self.server);
            let datagrams_max = self.ring.train_datagrams_max();
            let sent = self.ring.send_train(|buffer| {
                let train = connection.poll_transmit_train(now, buffer, datagrams_max)?;
                datagrams += train.datagrams;
                let (bytes, segment_bytes) = (train.bytes, train.segment_bytes);
                Some(Train { to, bytes, segment_bytes, ecn: train.ecn })
            });
            match sent.map_err(io::Error::other)? {
                RingSent::Queued => {}
                RingSent::Nothing => {
                    self.is_ready = false;
                    break;
                }
                RingSent::Full => break,
            }
        }
        self.due = self.connection.poll_timeout();
        self.ring.flush().map_err(io::Error::other)
    }
}

impl Client for QuantumClient {
    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.connection.stats().fields().collect()
    }

    fn send(&mut self, message: &[u8]) -> io::Result<Sent> {
        match self.connection.send(Channel::Sync, Bytes::copy_from_slice(message)) {
            Ok(()) => {
                self.is_ready = true;
                Ok(Sent::Taken)
            }
            Err(SendError::Full) => Ok(Sent::Full),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn poll(&mut self, wait_until: Option<Instant>, on_message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let messages = self.turn(on_message)?;
        let Some(deadline) = wait_until.filter(|_| messages == 0) else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        let due = self.due.map(|due| due.since(self.clock.now()).as_duration());
        let until = due.map_or(left, |due| due.min(left));
        self.ring.wait(Some(until), || true).map_err(io::Error::other)?;
        self.turn(on_message).map(drop)
    }
}
