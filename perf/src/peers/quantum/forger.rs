//! First packets that a node must refuse, made beforehand.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use quantum::{Connection, ConnectionKey, MessageSink};
use rt::Clock;
use wire::Guuid;
use wire::header::HEADER_BYTES;
use wire::sync::Channel;

use super::setup::{Issuer, bind, config, entropy, now};
use crate::peers::ClientContext;

/// Different packets of a flood; they are sent again and again.
const PACKETS: usize = 512;
/// Connections whose first packets are sent again.
const REPLAYED: usize = 16;
/// Where the connection's id is in the header (`PROTOCOL.md`, section "Header").
const ID: std::ops::Range<usize> = 16..32;
/// Where the ticket's length is, behind a cookie of no bytes (`PROTOCOL.md`, section "Handshake").
const TICKET_LENGTH_OFFSET: usize = HEADER_BYTES + 1;
/// Where the ticket begins.
const TICKET_OFFSET: usize = TICKET_LENGTH_OFFSET + 2;
/// Bytes of the ticket's key id.
const KEY_ID_BYTES: usize = 4;
/// How long one connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is wrong with a first packet.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Its ticket is sealed with a key that nobody holds.
    UnknownKey,
    /// Its ticket names a key of the node and does not authenticate.
    ForgedTicket,
    /// Its ticket is genuine, stolen, and what follows does not authenticate.
    ForgedHandshake,
    /// All of it is genuine, and was sent before.
    Replayed,
}

impl Forgery {
    /// On the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown-key",
            Self::ForgedTicket => "forged-ticket",
            Self::ForgedHandshake => "forged-handshake",
            Self::Replayed => "replayed",
        }
    }
}

struct Nothing;

impl MessageSink for Nothing {
    fn on_message(&mut self, _: ConnectionKey, _: Channel, _: &[u8]) {}
}

/// First packets of a kind. Those that are replayed belong to connections that are made here and are idle then.
///
/// # Errors
/// The server cannot be spoken to.
pub fn forge(context: &ClientContext<'_>, forgery: Forgery) -> io::Result<Vec<Vec<u8>>> {
    let issuer = Issuer::parse(&context.ready.secret)?;
    let clock = Clock::new();
    let config = config(context.packet_bytes);
    if forgery == Forgery::Replayed {
        return (0..REPLAYED)
            .map(|_| complete(context, clock, issuer.connect(now(clock), &config)?))
            .collect();
    }
    let genuine = initial(clock, &mut issuer.connect(now(clock), &config)?)?;
    let ticket_bytes = u16::from_be_bytes([genuine[TICKET_LENGTH_OFFSET], genuine[TICKET_LENGTH_OFFSET + 1]]);
    let noise_offset = TICKET_OFFSET + usize::from(ticket_bytes);
    let spoiled = match forgery {
        Forgery::UnknownKey => TICKET_OFFSET..TICKET_OFFSET + KEY_ID_BYTES,
        Forgery::ForgedTicket => TICKET_OFFSET + KEY_ID_BYTES..noise_offset,
        Forgery::ForgedHandshake | Forgery::Replayed => noise_offset..genuine.len(),
    };
    let packet = |_| -> io::Result<Vec<u8>> {
        let mut packet = genuine.clone();
        packet[ID].copy_from_slice(Guuid::new(rt::unix_ms(), entropy()?).as_bytes());
        rt::entropy(&mut packet[spoiled.clone()]).map_err(io::Error::other)?;
        Ok(packet)
    };
    (0..PACKETS).map(packet).collect()
}

fn initial(clock: Clock, connection: &mut Connection) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; usize::from(crate::peers::PACKET_BYTES)];
    let length = connection.poll_transmit(clock.now(), &mut buffer);
    buffer.truncate(length.ok_or_else(|| io::Error::other("a client has no first packet"))?);
    Ok(buffer)
}

/// Makes the connection, and returns its first packet.
fn complete(context: &ClientContext<'_>, clock: Clock, mut connection: Connection) -> io::Result<Vec<u8>> {
    let socket: UdpSocket = bind()?;
    socket.connect(context.ready.address)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let first = initial(clock, &mut connection)?;
    socket.send(&first)?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; usize::from(crate::peers::PACKET_BYTES)];
    while !connection.is_established() {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if let Ok(length) = socket.recv(&mut buffer) {
            connection.handle_datagram(clock.now(), &mut buffer[..length], &mut Nothing);
        }
        connection.handle_timeout(clock.now());
        while let Some(length) = connection.poll_transmit(clock.now(), &mut buffer) {
            socket.send(&buffer[..length])?;
        }
    }
    Ok(first)
}
