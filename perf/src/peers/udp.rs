//! The floor: datagrams of plain UDP, unencrypted, unreliable, by plain system calls.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use super::{ClientContext, Peer, ServerContext, wait_readable};
use crate::peer::{Client, Ready, Responder, Sent};
use crate::result::Waiting;

/// In the registry.
pub const PEER: Peer = Peer {
    name: "raw-udp",
    encrypted: false,
    reliable: false,
    packet_bytes_max: None,
    message_bytes_max: |_| DATAGRAM_BYTES_MAX,
    serve,
    connect,
    prepare_early: None,
    gather: None,
};

/// Largest message.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// What both sockets ask for to hold what comes while a side is away; the kernel gives no more than its own limit.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Messages taken by one [`Client::poll`] that is not to wait.
const MESSAGES_PER_POLL_MAX: usize = 32;

fn bind() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    options.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    Ok(socket)
}

fn serve(context: &ServerContext<'_>) -> io::Result<()> {
    let socket = bind()?;
    socket.set_nonblocking(context.waiting == Waiting::Polling)?;
    (context.ready)(Ready { address: socket.local_addr()?, secret: String::new() });
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut responder = Responder::default();
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                if let Some(reply) = responder.handle_message(&buffer[..length]) {
                    send_to(&socket, reply, from)?;
                }
            }
            Err(error) if is_momentary(&error) => {}
            Err(error) => return Err(error),
        }
        if context.waiting == Waiting::Polling {
            context.stalls.turn(Instant::now());
        }
    }
}

/// A datagram that finds no room is dropped, as UDP does.
fn send_to(socket: &UdpSocket, reply: &[u8], to: SocketAddr) -> io::Result<()> {
    match socket.send_to(reply, to) {
        Err(error) if !is_momentary(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Nothing there, no room, or an earlier datagram found nobody.
fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
}

fn connect(context: &ClientContext<'_>) -> io::Result<Box<dyn Client>> {
    let socket = bind()?;
    socket.connect(context.ready.address)?;
    socket.set_nonblocking(true)?;
    Ok(Box::new(UdpClient { socket, buffer: vec![0; DATAGRAM_BYTES_MAX] }))
}

struct UdpClient {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl UdpClient {
    /// Whether a message came.
    fn receive(&mut self, on_message: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        match self.socket.recv(&mut self.buffer) {
            Ok(length) => {
                on_message(&self.buffer[..length]);
                Ok(true)
            }
            Err(error) if is_momentary(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Client for UdpClient {
    fn send(&mut self, message: &[u8]) -> io::Result<Sent> {
        match self.socket.send(message) {
            Ok(_) => Ok(Sent::Taken),
            Err(error) if is_momentary(&error) => Ok(Sent::Full),
            Err(error) => Err(error),
        }
    }

    fn poll(&mut self, wait_until: Option<Instant>, on_message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        // The first one is handed over before the socket is asked for another, so that the clock stops then; but who
        // waits for one only must not pay for a second look.
        let Some(deadline) = wait_until else {
            return self.receive(on_message).map(drop);
        };
        if wait_readable(&self.socket, deadline)? {
            for _ in 0..MESSAGES_PER_POLL_MAX {
                if !self.receive(on_message)? {
                    break;
                }
            }
        }
        Ok(())
    }
}
