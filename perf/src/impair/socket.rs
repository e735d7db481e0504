//! UDP sockets that move datagrams in batches, with the instants at which the kernel took them and their ECN marks.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt;

/// What one read may bring: a train of datagrams that the kernel glued together.
const TRAIN_BYTES_MAX: usize = 65_536;
/// Bytes of one train that we send: what a datagram's length field allows, with its headers.
const SEND_BYTES_MAX: usize = 65_000;
/// What the kernel may hold for us while we are away. It grants less to ordinary users.
const KERNEL_BUFFER_BYTES: usize = 16 << 20;

const _: () = assert!(SEND_BYTES_MAX < TRAIN_BYTES_MAX);

/// A socket and what its kernel can do.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Room for what one read brings; none by default.
#[derive(Default)]
pub(super) struct Batch {
    trains: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            trains: vec![vec![0; TRAIN_BYTES_MAX]; BATCH_SIZE],
            metas: vec![RecvMeta::default(); BATCH_SIZE],
        }
    }

    /// The first `count` trains, each with where it came from.
    pub(super) fn trains(&self, count: usize) -> impl Iterator<Item = (&RecvMeta, &[u8])> {
        let trains = self.metas.iter().zip(&self.trains).take(count);
        trains.map(|(meta, train)| (meta, &train[..meta.len.min(train.len())]))
    }
}

/// The datagrams of a train: all have the stride's length, except that the last may be shorter.
pub(super) fn datagrams<'t>(meta: &RecvMeta, train: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
    let empty = train.is_empty().then_some(train);
    empty.into_iter().chain(train.chunks(meta.stride.max(1)))
}

impl Socket {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Without the privilege to go beyond the system's limit, that limit.
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER_BYTES)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, KERNEL_BUFFER_BYTES));
        let _ = sockopt::set_socket_send_buffer_size_force(&socket, KERNEL_BUFFER_BYTES)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, KERNEL_BUFFER_BYTES));
        Ok(Self { socket, state })
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Reads what is there, without waiting: the number of trains. An error that an earlier datagram met on its way
    /// (nobody listens there) is none of this one's.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = {
            let mut trains = batch.trains.iter_mut();
            std::array::from_fn(|_| {
                IoSliceMut::new(trains.next().map_or(&mut [], |train| train.as_mut_slice()))
            })
        };
        match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut batch.metas) {
            Ok(count) => Ok(count),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable => Ok(0),
                _ => Err(error),
            },
        }
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.state.try_send(UdpSockRef::from(&self.socket), transmit)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Where datagrams go, and how they are marked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// Where to.
    pub(super) to: SocketAddr,
    /// Where from, if the socket has several addresses.
    pub(super) from: Option<IpAddr>,
    /// Congestion mark.
    pub(super) ecn: Option<EcnCodepoint>,
}

/// Datagrams for one target that may leave together. It must be flushed before another socket is used.
#[derive(Debug, Default)]
pub(super) struct Train {
    bytes: Vec<u8>,
    target: Option<Target>,
    datagrams: usize,
    /// Length of all but the last.
    stride: usize,
}

impl Train {
    /// Adds a datagram; sends the train first where they cannot travel together. Returns how many could not be sent.
    pub(super) fn push(&mut self, socket: &Socket, target: Target, datagram: &[u8]) -> u64 {
        let fits = self.target == Some(target)
            && self.datagrams < socket.state.max_gso_segments()
            && self.bytes.len() == self.stride * self.datagrams
            && (1..=self.stride).contains(&datagram.len())
            && self.bytes.len() + datagram.len() <= SEND_BYTES_MAX;
        let failed = if fits { 0 } else { self.flush(socket) };
        if self.datagrams == 0 {
            self.stride = datagram.len();
            self.target = Some(target);
        }
        self.bytes.extend_from_slice(datagram);
        self.datagrams += 1;
        failed
    }

    /// Sends what it holds. Returns how many datagrams could not be sent.
    pub(super) fn flush(&mut self, socket: &Socket) -> u64 {
        let Some(target) = self.target.take() else {
            return 0;
        };
        let transmit = |contents, segment_size| Transmit {
            destination: target.to,
            ecn: target.ecn,
            contents,
            segment_size,
            src_ip: target.from,
        };
        let is_train = self.datagrams > 1;
        let mut failed = 0;
        if socket.send(&transmit(&self.bytes, is_train.then_some(self.stride))).is_err() {
            // A kernel or a device that sends no trains, or a full buffer: one by one.
            failed = if is_train {
                let alone = self.bytes.chunks(self.stride);
                alone.filter(|datagram| socket.send(&transmit(datagram, None)).is_err()).count() as u64
            } else {
                1
            };
        }
        self.bytes.clear();
        self.datagrams = 0;
        failed
    }
}
