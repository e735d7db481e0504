//! quinn: QUIC by the sans-I/O machine quinn-proto under tokio. Streams and datagrams.
//!
//! As fast as its documentation allows: GSO and GRO are on, the socket buffers and windows hold more than the path
//! does, the first round-trip estimate suits a short path, and its cipher is the one that we use ourselves. The
//! congestion controller is its default, CUBIC.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ::quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, Runtime, SendDatagramError, SendStream,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use bytes::Bytes;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{self, APPLICATION_PROTOCOL, Identity, SERVER_NAME};
use super::driver::Driver;
use super::framing::STREAM_MESSAGE_BYTES_MAX;
use super::path::SOCKET_BUFFER_BYTES;
use super::quinn_polling::PollingRuntime;
use super::stream_client::{self, ByteStream, StreamClient};
use super::{ClientContext, Peer, ServerContext};
use crate::peer::{Client, Crowd, EarlyConnector, MessageHeader, Ready, Request, Responder, Sent};
use crate::result::Waiting;

/// One bidirectional stream: reliable and in order.
pub const STREAM: Peer = Peer {
    name: "quinn-stream",
    encrypted: true,
    reliable: true,
    packet_bytes_max: Some(u16::MAX),
    message_bytes_max: |_| STREAM_MESSAGE_BYTES_MAX,
    serve,
    connect: connect_stream,
    prepare_early: Some(prepare_early),
    gather: Some(gather),
};

/// Datagrams: neither.
pub const DATAGRAM: Peer = Peer {
    name: "quinn-datagram",
    encrypted: true,
    reliable: false,
    packet_bytes_max: Some(u16::MAX),
    message_bytes_max: |packet_bytes| usize::from(packet_bytes) - DATAGRAM_OVERHEAD_BYTES,
    serve,
    connect: connect_datagram,
    prepare_early: None,
    gather: None,
};

/// Bytes of a packet that a datagram's message cannot have: the header, the frame's type and length, the tag.
const DATAGRAM_OVERHEAD_BYTES: usize = 52;

/// Bytes of datagrams that either side holds.
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;

/// Bytes of a stream and of a connection that a receiver lets under way: more than the path holds, less than falls out
/// of the processor's cache.
const RECEIVE_WINDOW_BYTES: u32 = 4 << 20;

/// Bytes that a sender holds until they are acknowledged: with 8 MiB it moved 5.6 to 7 Gbit/s, with this 7.3.
const SEND_WINDOW_BYTES: u64 = 1 << 20;

/// Bytes that a client takes before it is full.
const PENDING_BYTES_MAX: usize = 1 << 20;

/// What it assumes of the round trip before the first one: ours are short.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(1);

/// How long a server's ticket may take to come after its handshake.
const TICKET_WAIT: Duration = Duration::from_millis(100);

/// Serves streams and datagrams.
fn serve(context: &ServerContext<'_>) -> io::Result<()> {
    let (driver, runtime) = driver(context.waiting)?;
    let identity = Identity::generate()?;
    driver.serve(context.stalls, async {
        let endpoint =
            endpoint(runtime, Some(server_config(&identity, context.packet_bytes)?), context.packet_bytes)?;
        (context.ready)(Ready { address: endpoint.local_addr()?, secret: identity.secret() });
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                // What came with the first packet is answered before the client has shown its address.
                let begun = incoming.accept().map(quinn::Connecting::into_0rtt);
                if let Ok(Ok((connection, _))) = begun {
                    serve_connection(connection).await;
                }
            });
        }
        Ok(())
    })
}

fn connect_stream(context: &ClientContext<'_>) -> io::Result<Box<dyn Client>> {
    let (driver, runtime) = driver(context.waiting)?;
    let (endpoint, send, receive) = driver.run(async {
        let endpoint = client_endpoint(runtime, context)?;
        let connection = connect(&endpoint, context.ready.address).await?;
        let (send, receive) = connection.open_bi().await?;
        io::Result::Ok((endpoint, send, receive))
    })?;
    Ok(Box::new(StreamClient::new(driver, Stream { send, receive }, PENDING_BYTES_MAX, endpoint)))
}

/// 0-RTT: what a connection before agreed on.
struct Early {
    config: ClientConfig,
    server: SocketAddr,
    waiting: Waiting,
    packet_bytes: u16,
}

fn prepare_early(context: &ClientContext<'_>) -> io::Result<Box<dyn EarlyConnector>> {
    let config = client_config(&context.ready.secret, context.packet_bytes)?;
    let (server, waiting, packet_bytes) = (context.ready.address, context.waiting, context.packet_bytes);
    Ok(Box::new(Early { config, server, waiting, packet_bytes }))
}

impl EarlyConnector for Early {
    /// Makes a connection and waits for the ticket with which the next one resumes it: each is good for one.
    fn prepare(&mut self) -> io::Result<()> {
        let (driver, runtime) = driver(self.waiting)?;
        driver.run(async {
            let mut endpoint = endpoint(runtime, None, self.packet_bytes)?;
            endpoint.set_default_client_config(self.config.clone());
            let connection = connect(&endpoint, self.server).await?;
            tokio::time::sleep(TICKET_WAIT).await;
            connection.close(VarInt::from_u32(0), b"");
            endpoint.wait_idle().await;
            Ok(())
        })
    }

    fn connect(&mut self) -> io::Result<Box<dyn Client>> {
        let (driver, runtime) = driver(self.waiting)?;
        let (endpoint, send, receive) = driver.run(async {
            let mut endpoint = endpoint(runtime, None, self.packet_bytes)?;
            endpoint.set_default_client_config(self.config.clone());
            let connecting = endpoint.connect(self.server, SERVER_NAME).map_err(io::Error::other)?;
            let refused = |_| io::Error::other("quinn has no ticket to resume a connection with");
            let (connection, _) = connecting.into_0rtt().map_err(refused)?;
            let (send, receive) = connection.open_bi().await?;
            io::Result::Ok((endpoint, send, receive))
        })?;
        Ok(Box::new(StreamClient::new(driver, Stream { send, receive }, PENDING_BYTES_MAX, endpoint)))
    }
}

fn connect_datagram(context: &ClientContext<'_>) -> io::Result<Box<dyn Client>> {
    let (driver, runtime) = driver(context.waiting)?;
    let (endpoint, connection) = driver.run(async {
        let endpoint = client_endpoint(runtime, context)?;
        let connection = connect(&endpoint, context.ready.address).await?;
        io::Result::Ok((endpoint, connection))
    })?;
    Ok(Box::new(DatagramClient {
        driver,
        _endpoint: endpoint,
        connection,
        pending: Vec::new(),
        pending_bytes: 0,
    }))
}

fn gather(context: &ClientContext<'_>) -> io::Result<Box<dyn Crowd>> {
    let (driver, runtime) = driver(context.waiting)?;
    let endpoint = driver.run(async { client_endpoint(runtime, context) })?;
    Ok(Box::new(Connections { driver, endpoint, server: context.ready.address, connections: Vec::new() }))
}

async fn connect(endpoint: &Endpoint, server: SocketAddr) -> io::Result<Connection> {
    Ok(endpoint.connect(server, SERVER_NAME).map_err(io::Error::other)?.await?)
}

fn client_endpoint(runtime: Arc<dyn Runtime>, context: &ClientContext<'_>) -> io::Result<Endpoint> {
    let mut endpoint = endpoint(runtime, None, context.packet_bytes)?;
    endpoint.set_default_client_config(client_config(&context.ready.secret, context.packet_bytes)?);
    Ok(endpoint)
}

/// What drives its tasks, and what it knows its socket by.
fn driver(waiting: Waiting) -> io::Result<(Driver, Arc<dyn Runtime>)> {
    Ok(match waiting {
        Waiting::Polling => (Driver::polling_without_io()?, Arc::new(PollingRuntime)),
        Waiting::Blocking => (Driver::new(waiting)?, Arc::new(TokioRuntime)),
    })
}

fn endpoint(
    runtime: Arc<dyn Runtime>,
    server: Option<ServerConfig>,
    packet_bytes: u16,
) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    options.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(packet_bytes).map_err(io::Error::other)?;
    Endpoint::new(config, server, socket, runtime)
}

fn transport(packet_bytes: u16) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let window = VarInt::from_u32(RECEIVE_WINDOW_BYTES);
    transport
        .max_idle_timeout(None)
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(SEND_WINDOW_BYTES)
        .initial_rtt(INITIAL_ROUND_TRIP)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        .initial_mtu(packet_bytes)
        .mtu_discovery_config(None);
    Arc::new(transport)
}

fn server_config(identity: &Identity, packet_bytes: u16) -> io::Result<ServerConfig> {
    let certificate = certificate_der(&identity.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(io::Error::other)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(certificate::crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(io::Error::other)?;
    tls.alpn_protocols = vec![APPLICATION_PROTOCOL.to_vec()];
    tls.max_early_data_size = u32::MAX;
    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport(packet_bytes));
    Ok(config)
}

fn client_config(secret: &str, packet_bytes: u16) -> io::Result<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate_der(&certificate::certificate_of(secret)?)?).map_err(io::Error::other)?;
    let mut tls = rustls::ClientConfig::builder_with_provider(certificate::crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![APPLICATION_PROTOCOL.to_vec()];
    tls.enable_early_data = true;
    let tls = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(transport(packet_bytes));
    Ok(config)
}

fn certificate_der(pem: &str) -> io::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(io::Error::other)
}

async fn serve_connection(connection: Connection) {
    tokio::spawn(serve_datagrams(connection.clone()));
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(stream_client::serve(Stream { send, receive }));
    }
}

async fn serve_datagrams(connection: Connection) -> io::Result<()> {
    let mut responder = Responder::default();
    loop {
        let message = connection.read_datagram().await?;
        let reply = match MessageHeader::read(&message) {
            // It goes back as it is, without a copy.
            Some(MessageHeader { request: Request::Echo, .. }) => Some(message),
            _ => responder.handle_message(&message).map(Bytes::copy_from_slice),
        };
        if let Some(reply) = reply {
            connection.send_datagram(reply).map_err(datagram_error)?;
        }
    }
}

fn datagram_error(error: SendDatagramError) -> io::Error {
    match error {
        SendDatagramError::ConnectionLost(error) => error.into(),
        error => io::Error::new(io::ErrorKind::InvalidInput, error),
    }
}

/// The two halves of a bidirectional stream.
struct Stream {
    send: SendStream,
    receive: RecvStream,
}

impl ByteStream for Stream {
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        // These futures keep nothing between two polls, so each may be a new one.
        let written = pin!(self.send.write_chunks(std::slice::from_mut(bytes))).poll(context);
        written.map(|written| Ok(written.map(drop)?))
    }

    fn poll_read(&mut self, context: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<io::Result<usize>> {
        pin!(self.receive.read_chunks(chunks)).poll(context).map(|count| Ok(count?.unwrap_or(0)))
    }
}

/// Each message a datagram.
struct DatagramClient {
    driver: Driver,
    _endpoint: Endpoint,
    connection: Connection,
    pending: Vec<Bytes>,
    pending_bytes: usize,
}

impl Client for DatagramClient {
    fn send(&mut self, message: &[u8]) -> io::Result<Sent> {
        if self.pending_bytes + message.len() > self.connection.datagram_send_buffer_space() {
            return Ok(Sent::Full);
        }
        self.pending.push(Bytes::copy_from_slice(message));
        self.pending_bytes += message.len();
        Ok(Sent::Taken)
    }

    fn poll(&mut self, wait_until: Option<Instant>, on_message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let Self { driver, connection, pending, pending_bytes, .. } = self;
        // It lives as long as the turn: dropped, it would not be woken.
        let mut next = pin!(connection.read_datagram());
        driver.turn(wait_until, &mut |context| {
            *pending_bytes = 0;
            for message in pending.drain(..) {
                connection.send_datagram(message).map_err(datagram_error)?;
            }
            let mut any = false;
            loop {
                match next.as_mut().poll(context) {
                    Poll::Ready(message) => {
                        on_message(&message?);
                        next.set(connection.read_datagram());
                    }
                    Poll::Pending if any => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
                any = true;
            }
        })
    }
}

/// Connections that idle.
struct Connections {
    driver: Driver,
    endpoint: Endpoint,
    server: SocketAddr,
    connections: Vec<Connection>,
}

impl Crowd for Connections {
    fn grow(&mut self, count: usize) -> io::Result<()> {
        let (endpoint, server) = (&self.endpoint, self.server);
        self.driver.connect_all(count, &mut self.connections, || {
            let endpoint = endpoint.clone();
            async move { connect(&endpoint, server).await }
        })
    }

    fn poll(&mut self) -> io::Result<()> {
        self.driver.turn(None, &mut |_| Poll::Pending)?;
        match self.connections.iter().find_map(Connection::close_reason) {
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    }
}
