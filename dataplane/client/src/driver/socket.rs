//! One connection's UDP socket: whole batches in and out, with GSO and GRO where the kernel has them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::{UdpSocket, lookup_host};
use wire::Ecn;

/// The largest batch that one buffer takes.
pub(super) const BATCH_BYTES_MAX: usize = 64 << 10;
/// The longest train that one call sends: an IP packet of 65,535 bytes less its headers, IPv6 and extensions included.
pub(super) const SEND_BYTES_MAX: usize = 65_000;
/// Buffers for one call to receive.
const RECEIVE_BUFFERS: usize = 8;
/// What the kernel is asked to keep for us; it may give less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

const _: () = assert!(RECEIVE_BUFFERS <= quinn_udp::BATCH_SIZE);
const _: () = assert!(SEND_BYTES_MAX >= wire::limits::DATAGRAM_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX >= SEND_BYTES_MAX);
const _: () = assert!(SOCKET_BUFFER_BYTES >= BATCH_BYTES_MAX);

/// Memory to receive into; empty by default.
#[derive(Default)]
pub(super) struct ReceiveBuffers {
    bytes: Vec<u8>,
    metas: Vec<RecvMeta>,
}

impl ReceiveBuffers {
    pub(super) fn new() -> Self {
        let bytes = vec![0; RECEIVE_BUFFERS * BATCH_BYTES_MAX];
        Self { bytes, metas: vec![RecvMeta::default(); RECEIVE_BUFFERS] }
    }

    /// The datagrams of the first `filled` buffers, and their ECN bits.
    pub(super) fn datagrams(&mut self, filled: usize) -> impl Iterator<Item = (Ecn, &mut [u8])> {
        let buffers = self.bytes.chunks_mut(BATCH_BYTES_MAX).zip(&self.metas).take(filled);
        buffers.flat_map(|(buffer, meta)| {
            let ecn = meta.ecn.map_or(Ecn::NotEct, |bits| Ecn::from_tos(bits as u8));
            buffer[..meta.len].chunks_mut(meta.stride.max(1)).map(move |datagram| (ecn, datagram))
        })
    }
}

/// A socket that hears one node only.
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    peer: SocketAddr,
    /// The ECN bits that the kernel sets unless told otherwise.
    ecn: Ecn,
    /// Batches that the kernel had no room for. Whoever sends stops when there is one.
    unsent: VecDeque<Unsent>,
}

/// A batch, the size of its datagrams, and their ECN bits.
type Unsent = (Vec<u8>, usize, Ecn);

impl Socket {
    /// Opens a socket to `address` (HOST:PORT), the first of a name's addresses that can be had.
    pub(super) async fn connect(address: String) -> io::Result<Self> {
        let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for peer in lookup_host(&address).await? {
            match Self::open(peer).await {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn open(peer: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match peer {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let io = UdpSocket::bind(any).await?;
        io.connect(peer).await?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        // Larger buffers are a wish: a kernel that refuses leaves its own.
        let _wished = state.set_recv_buffer_size(UdpSockRef::from(&io), SOCKET_BUFFER_BYTES);
        let _wished = state.set_send_buffer_size(UdpSockRef::from(&io), SOCKET_BUFFER_BYTES);
        // Nearly everything that is sent has these bits.
        let tos = u32::from(Ecn::Ect0 as u8);
        let marks = if peer.is_ipv4() { io.set_tos_v4(tos) } else { io.set_tclass_v6(tos) };
        let ecn = if marks.is_ok() { Ecn::Ect0 } else { Ecn::NotEct };
        Ok(Self { io, state, peer, ecn, unsent: VecDeque::new() })
    }

    /// How many datagrams of one size one call can send.
    pub(super) fn segments_max(&self) -> usize {
        self.state.max_gso_segments().max(1)
    }

    /// Receives into `buffers`; returns how many were filled.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut ReceiveBuffers,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.io.poll_recv_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            let mut chunks = buffers.bytes.chunks_mut(BATCH_BYTES_MAX);
            let mut slices: [IoSliceMut<'_>; RECEIVE_BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let metas = &mut buffers.metas;
            let mut last = None;
            let received = self.io.try_io(Interest::READABLE, || {
                match self.state.recv(UdpSockRef::from(&self.io), &mut slices, metas) {
                    // The call itself has seen that there is no more: another one need not be told so.
                    Ok(filled) if filled < RECEIVE_BUFFERS => {
                        last = Some(filled);
                        Err(ErrorKind::WouldBlock.into())
                    }
                    received => received,
                }
            });
            match received {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Some(filled) = last {
                        return Poll::Ready(Ok(filled));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Sends what the kernel had no room for. Pending: still no room.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((batch, segment, ecn)) = self.unsent.front() {
            match self.io.poll_send_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ready) => ready?,
            }
            if self.try_send(batch, *segment, *ecn)? {
                self.unsent.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends `batch`, datagrams of `segment` bytes of which the last may be shorter, with these ECN bits, or keeps it for
    /// [`Self::poll_flush`].
    pub(super) fn send(&mut self, batch: &[u8], segment: usize, ecn: Ecn) -> io::Result<()> {
        if !batch.is_empty() && (self.is_blocked() || !self.try_send(batch, segment, ecn)?) {
            self.unsent.push_back((batch.to_vec(), segment, ecn));
        }
        Ok(())
    }

    /// Whether [`Self::poll_flush`] has something to do.
    pub(super) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn try_send(&self, batch: &[u8], segment: usize, ecn: Ecn) -> io::Result<bool> {
        let is_single = batch.len() <= segment;
        let sent = if is_single && ecn == self.ecn {
            // By the socket's own address, whose route is known: the kernel looks up any other one every time.
            self.io.try_send(batch).map(drop)
        } else {
            let transmit = Transmit {
                destination: self.peer,
                ecn: EcnCodepoint::from_bits(ecn as u8),
                contents: batch,
                segment_size: (!is_single).then_some(segment),
                src_ip: None,
            };
            let send = || self.state.try_send(UdpSockRef::from(&self.io), &transmit);
            self.io.try_io(Interest::WRITABLE, send)
        };
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err(error),
            // As good as lost on the way: the transport sends it again.
            Err(error) => {
                tracing::debug!(peer = %self.peer, %error, "datagrams not sent");
                Ok(true)
            }
        }
    }
}
