//! What both ends agree on: settings, ticket keys, and how errors are told.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use quantum::{Config, Connection, Now};
use rt::{Clock, SocketOptions};
use wire::{Guuid, Ticket, TicketKeyRing};

/// What a client's socket asks for to hold what comes while it is away; the kernel gives no more than its own limit.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Largest message.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The id of the one key that seals tickets.
const TICKET_KEY_ID: u32 = 1;
/// Bytes of that key.
const TICKET_KEY_BYTES: usize = 32;

/// The settings of both ends: the product's own but for the datagram's size.
pub(super) fn config(packet_bytes: u16) -> Arc<Config> {
    Arc::new(Config { datagram_bytes_max: usize::from(packet_bytes), ..Config::default() })
}

/// A client's socket.
pub(super) fn bind() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    options.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    Ok(socket)
}

/// A server's socket, as a node opens it.
pub(super) fn bind_server() -> io::Result<UdpSocket> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut group = rt::bind_group(any, 1, &SocketOptions::default()).map_err(io::Error::other)?;
    group.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Random bytes.
pub(super) fn entropy<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rt::entropy(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Both clocks.
pub(super) fn now(clock: Clock) -> Now {
    Now { mono: clock.now(), unix_ms: rt::unix_ms() }
}

/// The control plane of a run: what seals tickets here is told to the client in the open.
pub(super) struct Issuer {
    key: [u8; TICKET_KEY_BYTES],
}

impl Issuer {
    /// With a new key.
    pub(super) fn generate() -> io::Result<Self> {
        Ok(Self { key: entropy()? })
    }

    /// From what [`secret`](Self::secret) said.
    pub(super) fn parse(secret: &str) -> io::Result<Self> {
        let digits =
            |at: usize| secret.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let mut key = [0; TICKET_KEY_BYTES];
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = digits(at).ok_or_else(|| io::Error::other("the server's secret is no ticket key"))?;
        }
        Ok(Self { key })
    }

    /// The key in hexadecimal.
    pub(super) fn secret(&self) -> String {
        self.key.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key as a node holds it.
    pub(super) fn keys(&self) -> TicketKeyRing {
        TicketKeyRing::new([(TICKET_KEY_ID, self.key)])
    }

    /// A connection of a client with a ticket of its own.
    pub(super) fn connect(&self, now: Now, config: &Arc<Config>) -> io::Result<Connection> {
        let session_id = Guuid::new(now.unix_ms, entropy()?);
        let ticket = Ticket {
            session_id,
            writer_id: session_id.writer(),
            psk: entropy()?,
            expires_unix_s: u64::MAX,
            grants: Vec::new(),
        };
        let sealed = self.keys().seal(&ticket, entropy()?).map_err(io::Error::other)?;
        let id = Guuid::new(now.unix_ms, entropy()?);
        Connection::connect(now, Arc::clone(config), id, &sealed, &ticket.psk, entropy()?)
            .map_err(io::Error::other)
    }
}
