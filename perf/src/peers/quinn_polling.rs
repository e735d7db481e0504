//! A socket for quinn that is looked at directly at each turn of a runtime that never sleeps.
//!
//! Asking the operating system whether a socket is ready, and then asking the socket again until it has nothing more,
//! costs two calls for each packet of a conversation: whoever spins needs neither.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use ::quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use ::quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

/// tokio, but for the sockets.
#[derive(Debug)]
pub(super) struct PollingRuntime;

impl Runtime for PollingRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Arc::new(PollingSocket {
            socket,
            state,
            is_drained: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
        }))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

#[derive(Debug)]
struct PollingSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    /// The last look brought less than it could have: another at once would find nothing.
    is_drained: AtomicBool,
    /// The last packet found no room.
    is_full: AtomicBool,
}

/// Has the task that asks woken at the next turn, after all others.
fn next_turn<T>(context: &mut Context<'_>) -> Poll<T> {
    let waiting = pin!(tokio::task::yield_now()).poll(context);
    debug_assert!(waiting.is_pending(), "who yields waits");
    Poll::Pending
}

impl AsyncUdpSocket for PollingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritablePoller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send((&self.socket).into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.is_full.store(true, Ordering::Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.is_drained.swap(false, Ordering::Relaxed) {
            return next_turn(context);
        }
        match self.state.recv((&self.socket).into(), buffers, meta) {
            Ok(count) => {
                self.is_drained.store(count < buffers.len(), Ordering::Relaxed);
                Poll::Ready(Ok(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => next_turn(context),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Says that the socket takes packets, unless the last one found no room: then the next turn tries again.
#[derive(Debug)]
struct WritablePoller(Arc<PollingSocket>);

impl UdpPoller for WritablePoller {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.is_full.swap(false, Ordering::Relaxed) { next_turn(context) } else { Poll::Ready(Ok(())) }
    }
}
