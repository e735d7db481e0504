//! s2n-quic: QUIC by its own machine under tokio, one bidirectional stream.
//!
//! Its default TLS (s2n-tls, whose packet protection works in place) and as fast as its documentation allows: GSO and GRO are on, socket buffers and windows hold more than the path does,
//! the first round-trip estimate suits a short path. The congestion controller is its default, CUBIC.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use s2n_quic::client::Connect;
use s2n_quic::provider::{io as socket, limits::Limits, tls};
use s2n_quic::stream::{BidirectionalStream, Error as StreamError};
use s2n_quic::{Client as Endpoint, Connection, Server};

use super::certificate::{Identity, SERVER_NAME, certificate_of};
use super::driver::Driver;
use super::framing::STREAM_MESSAGE_BYTES_MAX;
use super::path::{IP_AND_UDP_HEADER_BYTES, SOCKET_BUFFER_BYTES};
use super::stream_client::{self, ByteStream, StreamClient};
use super::{ClientContext, Peer, ServerContext};
use crate::peer::{Client, Crowd, Ready};

/// One bidirectional stream: reliable and in order.
pub const PEER: Peer = Peer {
    name: "s2n-quic",
    encrypted: true,
    reliable: true,
    packet_bytes_max: Some(MTU_BYTES_MAX - IP_AND_UDP_HEADER_BYTES),
    message_bytes_max: |_| STREAM_MESSAGE_BYTES_MAX,
    serve,
    connect,
    prepare_early: None,
    gather: Some(gather),
};

/// The most that it takes for what it calls the MTU: a full packet with its headers.
const MTU_BYTES_MAX: u16 = 9_001;

/// Bytes that may be under way on a stream and on a connection, and that a sender holds until they are acknowledged:
/// with 8 MiB it moved 5 to 8.6 Gbit/s, with this 9.
const WINDOW_BYTES: u32 = 1 << 20;

/// Packets that a stream fills before another has its turn.
const STREAM_BATCH_PACKETS: u8 = 8;

/// Bytes that a client takes before it is full.
const PENDING_BYTES_MAX: usize = 256 << 10;

const _: () = assert!(PENDING_BYTES_MAX < WINDOW_BYTES as usize);

/// What it assumes of the round trip before the first one: ours are short.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(1);

/// How long a connection may idle: longer than any run of ours lets it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

fn serve(context: &ServerContext<'_>) -> io::Result<()> {
    let driver = Driver::new(context.waiting)?;
    let identity = Identity::generate()?;
    driver.serve(context.stalls, async {
        let mut server = server(&identity, context.packet_bytes)?;
        (context.ready)(Ready { address: server.local_addr()?, secret: identity.secret() });
        while let Some(mut connection) = server.accept().await {
            tokio::spawn(async move {
                while let Ok(Some(stream)) = connection.accept_bidirectional_stream().await {
                    tokio::spawn(stream_client::serve(Stream(stream)));
                }
            });
        }
        Ok(())
    })
}

fn connect(context: &ClientContext<'_>) -> io::Result<Box<dyn Client>> {
    let driver = Driver::new(context.waiting)?;
    let (stream, alive) = driver.run(async {
        let endpoint = endpoint(context)?;
        let mut connection =
            endpoint.connect(target(context.ready.address)).await.map_err(io::Error::other)?;
        let stream = connection.open_bidirectional_stream().await.map_err(io::Error::other)?;
        io::Result::Ok((Stream(stream), (connection, endpoint)))
    })?;
    Ok(Box::new(StreamClient::new(driver, stream, PENDING_BYTES_MAX, alive)))
}

fn gather(context: &ClientContext<'_>) -> io::Result<Box<dyn Crowd>> {
    let driver = Driver::new(context.waiting)?;
    let endpoint = driver.run(async { endpoint(context) })?;
    Ok(Box::new(Connections { driver, endpoint, server: context.ready.address, connections: Vec::new() }))
}

fn target(server: SocketAddr) -> Connect {
    Connect::new(server).with_server_name(SERVER_NAME)
}

fn server(identity: &Identity, packet_bytes: u16) -> io::Result<Server> {
    let tls = tls::default::Server::builder()
        .with_certificate(identity.certificate.as_str(), identity.key.as_str())
        .and_then(tls::default::server::Builder::build)
        .map_err(|error| io::Error::other(error.to_string()))?;
    Server::builder()
        .with_tls(tls)
        .map_err(io::Error::other)?
        .with_io(socket(packet_bytes)?)
        .map_err(io::Error::other)?
        .with_limits(limits()?)
        .map_err(io::Error::other)?
        .start()
        .map_err(io::Error::other)
}

fn endpoint(context: &ClientContext<'_>) -> io::Result<Endpoint> {
    let tls = tls::default::Client::builder()
        .with_certificate(certificate_of(&context.ready.secret)?.as_str())
        .and_then(tls::default::client::Builder::build)
        .map_err(|error| io::Error::other(error.to_string()))?;
    Endpoint::builder()
        .with_tls(tls)
        .map_err(io::Error::other)?
        .with_io(socket(context.packet_bytes)?)
        .map_err(io::Error::other)?
        .with_limits(limits()?)
        .map_err(io::Error::other)?
        .start()
        .map_err(io::Error::other)
}

fn socket(packet_bytes: u16) -> io::Result<socket::Default> {
    let mtu_bytes = packet_bytes + IP_AND_UDP_HEADER_BYTES;
    socket::Default::builder()
        .with_receive_address((Ipv4Addr::LOCALHOST, 0).into())?
        .with_send_buffer_size(SOCKET_BUFFER_BYTES)?
        .with_recv_buffer_size(SOCKET_BUFFER_BYTES)?
        .with_max_mtu(mtu_bytes)?
        .with_initial_mtu(mtu_bytes)?
        .build()
}

fn limits() -> io::Result<Limits> {
    let window = u64::from(WINDOW_BYTES);
    Limits::new()
        .with_data_window(window)
        .and_then(|limits| limits.with_bidirectional_local_data_window(window))
        .and_then(|limits| limits.with_bidirectional_remote_data_window(window))
        .and_then(|limits| limits.with_max_send_buffer_size(WINDOW_BYTES))
        .and_then(|limits| limits.with_stream_batch_size(STREAM_BATCH_PACKETS))
        .and_then(|limits| limits.with_initial_round_trip_time(INITIAL_ROUND_TRIP))
        .and_then(|limits| limits.with_max_idle_timeout(IDLE_TIMEOUT))
        .map_err(io::Error::other)
}

/// A stream of its.
struct Stream(BidirectionalStream);

impl ByteStream for Stream {
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        self.0.poll_send(bytes, context).map_err(StreamError::into)
    }

    fn poll_read(&mut self, context: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<io::Result<usize>> {
        self.0.poll_receive_vectored(chunks, context).map_ok(|(count, _)| count).map_err(StreamError::into)
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
            let attempt = endpoint.connect(target(server));
            async move { attempt.await.map_err(io::Error::other) }
        })
    }

    fn poll(&mut self) -> io::Result<()> {
        self.driver.turn(None, &mut |_| Poll::Pending)
    }
}
